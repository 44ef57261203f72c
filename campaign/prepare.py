"""From settings to a campaign in the store: find the boards, expand the grid, enqueue.

Everything that can be refused is refused here, before anything starts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

from campaign.calibrated import store_corrections
from campaign.catalog import Catalog, load_catalog
from campaign.commits import hub_models, resolve
from campaign.fit import require_runnable
from campaign.fleet import LocalBoards
from campaign.grid import Grid, expand
from campaign.here import absent_here, boards_here, reality_here, threads_here
from campaign.hours import Efforts
from campaign.lengths import keep_traces
from campaign.outlook import check_budget, describe
from campaign.settings import BudgetSettings, Settings
from campaign.tabular import count_of
from db.campaigns import (
    create_campaign,
    done_keys,
    engine_id,
    enqueue,
    frozen_commits,
    progress,
    write_exclusions,
)
from db.costs import measured_costs
from db.embedded import default_folder
from db.errors import ConfigError
from db.place import Place, opened
from db.records import Board, EngineSpec, Reality, Task
from db.store import Store
from workers.engines.registry import Limits
from workers.rig import RigPlan

NO_BUDGET = BudgetSettings(hours=None, gpu_hours=None, kwh=None, price=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """An engine of the campaign: how its sessions are equipped, and estimates in seconds.

    `task_s` is the mean of its tasks.
    """

    engine: EngineSpec
    rig: RigPlan
    task_s: float
    load_s: float

    def fits(self, slots: Mapping[str, int]) -> bool:
        """Whether a cluster with these boards could ever hold it."""
        return slots.get(self.engine.board, 0) >= self.engine.board_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A campaign in the store; `engines` by their id there.

    `logs` is the folder of its sessions' logs, `news` says where it stands.
    """

    id: int
    name: str
    reality: Reality
    engines: Mapping[int, Work]
    boards: LocalBoards
    logs: Path
    news: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A grid that something here can run."""

    settings: Settings
    grid: Grid
    boards: LocalBoards
    kinds: Mapping[str, Board]

    def enqueue(self, store: Store) -> Campaign:
        """Write campaign, tasks and exclusions in one transaction; measured tasks stay measured."""
        settings, grid = self.settings, self.grid
        folder = default_folder()
        with store.begin() as connection:
            measured = partial(measured_costs, connection)
            efforts = Efforts(grid.boards, store_corrections(grid, measured))
            if settings.budget != NO_BUDGET:
                done = done_keys(connection, [task.key for task in grid.tasks])
                plan = describe(settings, grid, self.boards.counts, done, efforts)
                check_budget(settings, plan)
            keep_traces(settings)
            campaign_id = create_campaign(
                connection, settings.campaign, settings.owner, settings.resolved
            )
            enqueue(connection, campaign_id, grid.tasks)
            write_exclusions(connection, campaign_id, grid.exclusions)
            engines = {
                engine_id(connection, tasks[0].engine): self._work(tasks, folder, efforts)
                for tasks in _by_engine(grid.tasks)
            }
            found = progress(connection, campaign_id)
        states: Counter[str] = Counter()
        for engine in found.values():
            states.update(engine.states)
        return Campaign(
            id=campaign_id,
            name=settings.campaign,
            reality=settings.reality,
            engines=engines,
            boards=self.boards,
            logs=folder / "logs",
            news=_news(settings.campaign, states, grid),
        )

    def _work(self, tasks: Sequence[Task], folder: Path, efforts: Efforts) -> Work:
        """Return how the sessions of these tasks' engine are equipped."""
        meter, engine = self.settings.meter, tasks[0].engine
        workloads = [task.workload for task in tasks]
        limits = Limits(
            context_tokens=max(w.input_tokens + w.output_tokens for w in workloads),
            batch_size=max(w.batch_size * w.beams for w in workloads),
        )
        return Work(
            engine=engine,
            task_s=fmean(efforts.task(task).seconds for task in tasks),
            load_s=efforts.load(engine, self.settings.protocol).seconds,
            rig=RigPlan(
                limits=limits,
                meters=meter.names,
                interval_s=meter.interval_s,
                calibration=meter.calibration,
                gates=meter.gates,
                weights_folder=str(folder / "weights"),
                board=self.kinds.get(engine.board, Board(slug=engine.board)),
            ),
        )


def prepare(settings: Settings, place: Place) -> Prepared:
    """Expand the grid against what is here; raises Infeasible if nothing of it can run here."""
    catalog = load_catalog(Path(settings.catalog) if settings.catalog else None)
    settings = replace(settings, reality=reality_here(settings))
    here, counts = boards_here(settings, catalog)
    commits, lost = _commits(settings, catalog, place)
    grid = expand(settings, catalog, here, commits, absent_here(settings) | lost)
    if lost and not grid.tasks:
        raise ConfigError(min(lost.values()))
    require_runnable(grid, counts)
    _require_meters(settings, grid)
    gpus = (
        0
        if settings.cluster.kind == "simulated"
        else sum(count for slug, count in counts.items() if not slug.startswith("cpu:"))
    )
    boards = LocalBoards(counts=counts, gpus=gpus, threads=threads_here())
    kinds = {board.slug: board for board in here}
    return Prepared(settings=settings, grid=grid, boards=boards, kinds=kinds)


def _commits(
    settings: Settings, catalog: Catalog, place: Place
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the commits of real weights, and the models without one with what the hub said.

    Asks store and hub only if there are any.
    """
    commits: dict[str, str] = {}
    lost: dict[str, str] = {}
    names = hub_models(settings, catalog)
    if not names:
        return commits, lost
    with opened(place) as store:
        frozen = store.store.retrying(lambda c: frozen_commits(c, settings.campaign))
    for name in names:
        try:
            commits |= resolve([name], frozen)
        except ConfigError as error:
            lost[name] = str(error)
    return commits, lost


def _by_engine(tasks: Sequence[Task]) -> list[list[Task]]:
    groups: dict[int, list[Task]] = {}
    for task in tasks:
        groups.setdefault(id(task.engine), []).append(task)
    return list(groups.values())


def _require_meters(settings: Settings, grid: Grid) -> None:
    """Raise ConfigError where a meter that was asked for cannot be on a board of the grid."""
    blind = {
        task.engine.board
        for task in grid.tasks
        if task.engine.board.startswith("cpu:") and task.engine.backend != "simulated"
    }
    if blind and "nvml" in settings.meter.names:
        raise ConfigError(f"meter: nvml needs a GPU, and {min(blind)} has none: use meter=auto")


def _news(name: str, states: Mapping[str, int], grid: Grid) -> str:
    """Return where the campaign stands, in a line."""
    total, done = len(grid.tasks), states.get("done", 0)
    left = states.get("pending", 0) + states.get("leased", 0)
    words = [f"{name}: {count_of(total, 'task')}"]
    words.append(f"{done} already measured" if done else "none measured yet")
    words.append(f"{left} left" if left else "nothing left to measure")
    excluded = sum(e.points for e in grid.exclusions)
    if excluded:
        words.append(f"{count_of(excluded, 'point')} excluded ({'; '.join(_reasons(grid))})")
    return ", ".join(words)


def _reasons(grid: Grid) -> list[str]:
    """Return why points are excluded: the detail where it is the same for all of a reason."""
    details: dict[str, set[str]] = {}
    for exclusion in grid.exclusions:
        details.setdefault(exclusion.reason, set()).add(exclusion.detail)
    return [min(found) if len(found) == 1 else reason for reason, found in sorted(details.items())]
