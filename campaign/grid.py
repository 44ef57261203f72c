"""The grid: axes become tasks, or exclusions with their reason; nothing disappears silently.

Pure but for reading model folders. Every point is either a task, an exclusion, or the same as
another point.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from campaign.catalog import Catalog
from campaign.fit import Grid, Reason, engine_misfit, workload_misfit
from campaign.settings import Axes, Settings
from db.errors import ConfigError
from db.identity import engine_digest, task_key
from db.records import Board, EngineSpec, Exclusion, ModelSpec, Task, Weights, Workload
from workers.shape import Shape, shape_of

__all__ = ["Grid", "expand"]

HERE = "here"
AUTO = "auto"


@dataclass(slots=True, kw_only=True)
class _Point:
    """One engine of the grid and the workloads asked of it, in order."""

    engine: EngineSpec
    board: Board
    shape: Shape | None
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
    weights to their resolved commit; `absent` the backends that are not installed where it runs to
    what installs them. Order: replicate by replicate, shuffled inside by the run's seed.
    Raises ConfigError naming every unknown model and board.
    """
    problems: list[str] = []
    models = _models(settings, catalog, commits or {}, problems)
    boards = _boards(settings, catalog, here, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    points = _points(settings, models, boards)
    exclusions: list[Exclusion] = []
    chosen: list[tuple[str, EngineSpec, Workload]] = []
    for digest, point in points.items():
        misfits = _misfits(point, absent or {})
        exclusions += _exclusions(point, misfits, settings.replicates)
        chosen += [(digest, point.engine, w) for w in point.workloads if w not in misfits]
    return Grid(tasks=tuple(_tasks(settings, chosen)), exclusions=tuple(exclusions))


def _models(
    settings: Settings, catalog: Catalog, commits: Mapping[str, str], problems: list[str]
) -> dict[tuple[str, str], ModelSpec]:
    found: dict[tuple[str, str], ModelSpec] = {}
    asked = {pair: None for a in settings.blocks.values() for pair in product(a.model, a.weights)}
    for name, weights in asked:
        try:
            model = catalog.model(name, weights)
        except ConfigError as error:
            problems += [] if str(error) in problems else [str(error)]
            continue
        if model.weights is Weights.REAL and model.folder is None:
            model = replace(model, commit=commits.get(model.name))
        found[name, weights] = model
    return found


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


def _points(
    settings: Settings,
    models: Mapping[tuple[str, str], ModelSpec],
    boards: Mapping[str, tuple[Board, ...]],
) -> dict[str, _Point]:
    """Return the engines of every block by digest, each with its workloads, no point twice."""
    points: dict[str, _Point] = {}
    for axes in settings.blocks.values():
        workloads = [
            Workload(input_tokens=i, output_tokens=o, batch_size=b)
            for i, o, b in product(axes.input_tokens, axes.output_tokens, axes.batch_size)
        ]
        for pair, name in product(product(axes.model, axes.weights), axes.board):
            for board in boards[name]:
                for engine in _engines(axes, models[pair], board):
                    shape = shape_of(engine.model.name, engine.model.architecture)
                    point = points.setdefault(
                        engine_digest(engine), _Point(engine=engine, board=board, shape=shape)
                    )
                    point.workloads.update(dict.fromkeys(workloads))
    return points


def _engines(axes: Axes, model: ModelSpec, board: Board) -> Iterator[EngineSpec]:
    """Yield the engines of a model on a board: backends, number formats, parallelism, flags."""
    for backend in axes.backend:
        flags = axes.options[backend]
        for version, dtype, quantization, parallel, threads, values in product(
            axes.version, axes.dtype, axes.quantization, axes.tensor_parallel, axes.threads,
            product(*flags.values()),
        ):  # fmt: skip
            yield EngineSpec(
                model=model,
                backend=backend,
                board=board.slug,
                board_count=1 if board.is_cpu else parallel,
                version=version,
                dtype=board.dtype if dtype == AUTO else dtype,
                quantization=quantization,
                tensor_parallel=parallel,
                threads=threads or _threads(board),
                options=dict(zip(flags, values, strict=True)),
            )


def _threads(board: Board) -> int | None:
    """Return the number of threads a CPU board names, so that every backend gets the same."""
    last = board.slug.rpartition(":")[2]
    return int(last) if board.is_cpu and last.isdigit() else None


def _misfits(point: _Point, absent: Mapping[str, str]) -> dict[Workload, Reason]:
    """Return the workloads of an engine that cannot work, with the reason."""
    whole = engine_misfit(point.engine, point.board, point.shape)
    if whole is None and point.engine.backend in absent:
        whole = "not_installed", absent[point.engine.backend]
    found = {
        workload: whole or workload_misfit(point.engine, workload, point.board, point.shape)
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
    for replicate in range(settings.replicates):
        order = list(chosen)
        random.Random(f"{settings.run.seed}:{replicate}").shuffle(order)  # noqa: S311
        for digest, engine, workload in order:
            key = task_key(digest, workload, settings.protocol, settings.reality, replicate)
            yield Task(key=key, engine=engine, workload=workload, protocol=settings.protocol,
                       reality=settings.reality, replicate=replicate)  # fmt: skip
