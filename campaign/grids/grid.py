"""The grid: axes become tasks, or exclusions with their reason; nothing disappears silently.

Pure but for reading model folders. Every point is either a task, an exclusion, or the same as
another point.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path

from campaign.catalogue.catalog import Catalog
from campaign.catalogue.flags import problems as option_problems
from campaign.catalogue.folder import is_folder
from campaign.configuration.points import NGRAM, Models, engines, loadings, workloads
from campaign.configuration.reader import nearest
from campaign.configuration.settings import Axes, Settings
from campaign.grids.fit import Grid, engine_misfit, workload_misfit
from campaign.grids.keys import Keys
from campaign.grids.lengths import resolved
from campaign.grids.proposals import Reason
from db.errors import ConfigError
from db.identity import engine_digest
from db.records import Board, EngineSpec, Exclusion, ModelSpec, Task, Weights, Workload
from workers.shapes.shape import Shape, shape_of

__all__ = ["Grid", "expand"]

HERE = "here"
#: What a GPU's own name begins with, where a board's slug could stand.
UUIDS = ("GPU-", "MIG-")


@dataclass(slots=True, kw_only=True)
class _Point:
    """One engine of the grid and the workloads asked of it, in order."""

    engine: EngineSpec
    board: Board
    shape: Shape | None
    draft: Shape | None
    workloads: dict[Workload, None] = field(default_factory=dict)


def expand(
    settings: Settings,
    catalog: Catalog,
    here: Sequence[Board],
    commits: Mapping[str, str] | None = None,
    absent: Mapping[str, str] | None = None,
) -> Grid:
    """Return the tasks and exclusions of a campaign.

    `here` are the boards found on this machine; `commits` maps the names of hub models with real
    weights to their resolved commit; `absent` the backends, traces and hub models that cannot be
    had where it runs to what brings them. Order: replicate by replicate, shuffled inside by the
    run's seed. Raises ConfigError naming every unknown model, board, length and option.
    """
    problems: list[str] = []
    models = _models(settings, catalog, commits or {}, problems)
    problems += _namesakes(settings)
    boards = _boards(settings, catalog, here, problems)
    problems += _wrong_boards(settings, catalog, here)
    settings = resolved(settings, problems)
    problems += _wrong_options(settings)
    if problems:
        raise ConfigError("\n".join(problems))
    points = _points(settings, models, boards)
    exclusions: list[Exclusion] = []
    chosen: list[tuple[str, EngineSpec, Workload]] = []
    for digest, point in points.items():
        misfits = _misfits(point, absent or {}, settings.meter.gates.get("batch_reached", 0.0))
        exclusions += _exclusions(point, misfits, settings.replicates)
        chosen += [(digest, point.engine, w) for w in point.workloads if w not in misfits]
    kinds = {board.slug: board for found in boards.values() for board in found}
    tasks = tuple(_tasks(settings, chosen))
    return Grid(tasks=tasks, exclusions=tuple(exclusions), boards=kinds)


def _models(
    settings: Settings, catalog: Catalog, commits: Mapping[str, str], problems: list[str]
) -> dict[tuple[str, str], ModelSpec]:
    found: dict[tuple[str, str], ModelSpec] = {}
    for name, weights in models_asked(settings.blocks.values()):
        try:
            model = catalog.model(name, weights)
        except ConfigError as error:
            problems += [] if str(error) in problems else [str(error)]
            continue
        if model.weights is Weights.REAL and model.folder is None:
            model = replace(model, commit=commits.get(model.name))
        found[name, weights] = model
    return found


def models_asked(blocks: Iterable[Axes]) -> tuple[tuple[str, str], ...]:
    """Return every (name, weights) that some block asks for, drafts included, each once."""
    return tuple({
        pair: None
        for axes in blocks
        for pair in product((*axes.model, *_drafts(axes)), axes.weights)
    })  # fmt: skip


def _drafts(axes: Axes) -> list[str]:
    return [name for name in axes.speculation if name is not None and name != NGRAM]


def _namesakes(settings: Settings) -> list[str]:
    """Return a line for every folder that rows would call as another one: queries would mix them.

    A model and a draft have columns of their own.
    """
    lines: list[str] = []
    blocks = settings.blocks.values()
    for asked in ([n for axes in blocks for n in axes.model],
                  [n for axes in blocks for n in _drafts(axes)]):  # fmt: skip
        first: dict[str, tuple[Path, str]] = {}
        for name in filter(is_folder, dict.fromkeys(asked)):
            folder = Path(name).expanduser().resolve()
            other, called = first.setdefault(folder.name, (folder, name))
            if other != folder:
                lines.append(f"model: {called} and {name} would both be called {folder.name} in "
                             "rows: rename one of these folders")  # fmt: skip
    return lines


def _wrong_options(settings: Settings) -> list[str]:
    """Return a line for every option that its backend does not take, each once."""
    return list(dict.fromkeys(
        line
        for axes in settings.blocks.values()
        for backend, version in product(axes.backend, axes.version)
        for name, values in axes.options[backend].items()
        for value in values
        for line in option_problems(backend, version, {name: value})
    ))  # fmt: skip


def _boards(
    settings: Settings, catalog: Catalog, here: Sequence[Board], problems: list[str]
) -> dict[str, tuple[Board, ...]]:
    found = {board.slug: board for board in here}
    boards = {HERE: tuple(here)}
    for name in settings.boards:
        try:
            if name != HERE:
                boards[name] = (found.get(name) or catalog.board(name),)
        except ConfigError as error:
            problems.append(str(error))
    if HERE in settings.boards and not found:
        problems.append("board here: no board was found; name one of the catalogue")
    return boards


def _wrong_boards(settings: Settings, catalog: Catalog, here: Sequence[Board]) -> list[str]:
    """Return a line for every slug of a setting that is no board's, or that nothing heeds."""
    known = [board.slug for board in (*catalog.boards(), *here)]
    named = {
        "cluster.boards": settings.cluster.boards,
        "run.price_per_gpu_hour": settings.run.price_per_gpu_hour,
        "meter.calibration": [s for s in settings.meter.calibration if not s.startswith(UUIDS)],
    }
    problems = [
        f"{path}.{slug}: no such board{nearest(slug, known)}"
        for path, slugs in named.items()
        for slug in slugs
        if slug not in known and not slug.startswith("cpu:")
    ]
    if settings.cluster.kind == "local" and settings.cluster.boards and not problems:
        problems.append("cluster.boards: has no use with cluster=local, which takes the boards of "
                        "this machine; leave it out, or add cluster=ray")  # fmt: skip
    return problems


def _points(
    settings: Settings,
    models: Mapping[tuple[str, str], ModelSpec],
    boards: Mapping[str, tuple[Board, ...]],
) -> dict[str, _Point]:
    """Return the engines of every block by digest, each with its workloads, no point twice."""
    points: dict[str, _Point] = {}
    shapes = _Shapes()
    for axes in settings.blocks.values():
        asked = workloads(axes)
        for (name, weights), slug in product(product(axes.model, axes.weights), axes.board):
            draft = partial(_draft, models, weights)
            for board, mode in product(boards[slug], axes.mode):
                for loading, part in loadings(mode, asked).items():
                    for engine in engines(axes, models[name, weights], board, loading, draft):
                        point = points.setdefault(
                            engine_digest(engine), shapes.point(engine, board)
                        )
                        point.workloads.update(dict.fromkeys(part))
    return points


def _draft(models: Models, weights: str, name: str) -> ModelSpec:
    return models[name, weights]


class _Shapes:
    """The shape of each model, worked out once."""

    def __init__(self) -> None:
        self._found: dict[int, Shape | None] = {}

    def point(self, engine: EngineSpec, board: Board) -> _Point:
        """Return an engine as a point without workloads."""
        draft = self._of(engine.draft) if engine.draft is not None else None
        return _Point(engine=engine, board=board, shape=self._of(engine.model), draft=draft)

    def _of(self, model: ModelSpec) -> Shape | None:
        if id(model) not in self._found:
            self._found[id(model)] = shape_of(model.name, model.architecture)
        return self._found[id(model)]


def _misfits(
    point: _Point, absent: Mapping[str, str], batch_reached: float
) -> dict[Workload, Reason]:
    """Return the workloads of an engine that cannot work, with the reason."""
    engine, board, shape, draft = point.engine, point.board, point.shape, point.draft
    whole = engine_misfit(engine, board, shape, draft)
    if whole is None and engine.backend in absent:
        whole = "not_installed", absent[engine.backend]
    found = {
        workload: whole
        or workload_misfit(engine, workload, board, shape, batch_reached)
        or (("not_fetched", absent[workload.lengths]) if workload.lengths in absent else None)
        for workload in point.workloads
    }
    return {workload: reason for workload, reason in found.items() if reason is not None}


def _exclusions(
    point: _Point, misfits: Mapping[Workload, Reason], replicates: int
) -> Iterator[Exclusion]:
    """Yield one exclusion per workload, or one for all where none works for the same reason."""
    reasons = {reason for reason, _ in misfits.values()}
    if len(misfits) == len(point.workloads) and len(reasons) == 1:
        reason, detail = next(iter(misfits.values()))
        points = len(misfits) * replicates
        yield Exclusion(engine=point.engine, workload=None, reason=reason, detail=detail,
                        points=points)  # fmt: skip
        return
    for workload, (reason, detail) in misfits.items():
        yield Exclusion(engine=point.engine, workload=workload, reason=reason, detail=detail,
                        points=replicates)  # fmt: skip


def _tasks(
    settings: Settings, chosen: Sequence[tuple[str, EngineSpec, Workload]]
) -> Iterator[Task]:
    """Yield the tasks replicate by replicate, each in an order of its own."""
    keys = Keys(settings.protocol, settings.reality)
    endings = [keys.ending(workload) for _, _, workload in chosen]
    for replicate in range(settings.replicates):
        key_of = {digest: keys.of(digest, replicate) for digest in {one[0] for one in chosen}}
        order = list(range(len(chosen)))
        random.Random(f"{settings.run.seed}:{replicate}").shuffle(order)  # noqa: S311
        for place in order:
            digest, engine, workload = chosen[place]
            yield Task(key=key_of[digest](endings[place]), engine=engine, workload=workload,
                       protocol=settings.protocol, reality=settings.reality,
                       replicate=replicate)  # fmt: skip
