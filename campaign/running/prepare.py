"""From settings to a campaign in the store: expand the grid and enqueue, or find it as it was.

Everything that can be refused is refused here, before anything starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from statistics import fmean

from campaign.catalogue.catalog import Catalog
from campaign.cluster.roster import Roster
from campaign.configuration.settings import BudgetSettings, Settings
from campaign.forecast.calibrated import store_corrections
from campaign.forecast.hours import Efforts
from campaign.forecast.outlook import check_budget, describe
from campaign.grids.commits import Commits, hub_models, resolve
from campaign.grids.fit import require_runnable
from campaign.grids.grid import Grid, expand
from campaign.grids.lengths import keep_traces
from campaign.running.news import news
from campaign.running.site import Site, look_around
from campaign.running.work import Campaign, Work, equipped
from campaign.storeroom import is_there
from db.campaigns import (
    create_campaign,
    done_keys,
    engine_id,
    enqueue,
    frozen_commits,
    write_exclusions,
)
from db.costs import measured_costs
from db.editing import edited
from db.embedded import default_folder
from db.errors import ConfigError
from db.grids import Enrolled, Expected, Recalled, recall, remember
from db.leases import LeasePolicy, Leases
from db.place import Place, opened
from db.progress import progress
from db.records import EngineSpec, Task
from db.store import Store
from workers.engines.registry import Limits

NO_BUDGET = BudgetSettings(hours=None, gpu_hours=None, kwh=None, price=None)
#: Tasks of an engine whose estimates make its mean. They come in a random order.
SAMPLE = 200
#: Estimates of single workloads that are kept with a campaign, a few MB at most.
MOST_WORKS = 40_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A grid that something here can run, and the commits of its hub models."""

    site: Site
    grid: Grid
    commits: Commits

    def enqueue(self, store: Store) -> Campaign:
        """Write campaign, tasks and exclusions in one transaction; measured tasks stay measured.

        Engines whose weights cannot be had are quarantined after it, with what the hub said.
        """
        settings, grid = self.site.settings, self.grid
        with store.begin() as connection:
            measured = partial(measured_costs, connection)
            efforts = Efforts(grid.boards, store_corrections(grid, measured))
            if settings.budget != NO_BUDGET:
                left = replace(grid, tasks=self._loadable())
                done = done_keys(connection, [task.key for task in left.tasks])
                plan = describe(settings, left, self.site.counts, done, efforts)
                check_budget(settings, plan)
            keep_traces(settings)
            campaign_id = create_campaign(
                connection, settings.campaign, settings.owner, settings.resolved
            )
            edit = edited(
                connection, campaign_id, lambda: enqueue(connection, campaign_id, grid.tasks)
            )
            write_exclusions(connection, campaign_id, grid.exclusions)
            engines: list[tuple[Enrolled, EngineSpec]] = []
            works: list[Expected] = []
            by_engine = _by_engine(grid.tasks)
            for tasks in by_engine:
                number = engine_id(connection, tasks[0].engine)
                engines.append((_enrolled(number, tasks, efforts), tasks[0].engine))
                sample = islice(tasks, min(SAMPLE, MOST_WORKS // len(by_engine)))
                works += _expected(number, sample, efforts)
            digest = self.site.grid_digest(self.commits)
            remember(connection, campaign_id, digest, [enrolled for enrolled, _ in engines], works)
        self._quarantine(store, campaign_id, {e.engine_id: spec for e, spec in engines})
        states = _states(store, campaign_id)
        words = news(settings.campaign, states, grid.exclusions, self.commits.lost.values())
        if edit is not None and edit.words:
            words += f"; the grid was edited: {edit.words}"
        return _campaign(self.site, campaign_id, engines, words)

    def _loadable(self) -> tuple[Task, ...]:
        """Return the tasks of engines whose weights can be had."""
        return tuple(task for task in self.grid.tasks if self.commits.missing(task.engine) is None)

    def _quarantine(
        self, store: Store, campaign_id: int, engines: Mapping[int, EngineSpec]
    ) -> None:
        """Quarantine the tasks of engines whose weights cannot be had.

        A session that claims one before finds no commit, and does the same.
        """
        leases = Leases(store, LeasePolicy())
        for engine, spec in engines.items():
            why = self.commits.missing(spec)
            if why is not None:
                leases.quarantine_engine(campaign_id, engine, f"engine:missing_weights: {why}")


@contextmanager
def begun(
    settings: Settings, place: Place, roster: Roster | None = None
) -> Iterator[tuple[Store, Campaign]]:
    """Open the store with the campaign in it; a grid that it knows is not expanded again.

    What can be refused is, before a store is made. `roster` are the nodes of a cluster, where one
    was joined. Raises Infeasible if nothing of the grid can run here.
    """
    site = look_around(settings, roster)
    commits = _commits(site.settings, site.catalog, place)
    prepared = None if is_there(place) else _expanded(site, commits)
    with opened(place, writing=True) as store:
        known = store.store
        campaign = _resumed(site, commits, known) if prepared is None else None
        if campaign is None:
            campaign = (prepared or _expanded(site, commits)).enqueue(known)
        yield known, campaign


def prepare(settings: Settings, place: Place, roster: Roster | None = None) -> Prepared:
    """Expand the grid against what is here; raises Infeasible if nothing of it can run here.

    `roster` are the nodes of a cluster, where one was joined.
    """
    site = look_around(settings, roster)
    return _expanded(site, _commits(site.settings, site.catalog, place))


def _expanded(site: Site, commits: Commits) -> Prepared:
    grid = expand(site.settings, site.catalog, site.here, commits.known, site.absent)
    require_runnable(grid, site.counts, claimed=site.settings.cluster.kind == "simulated")
    if commits.away and all(commits.missing(task.engine) for task in grid.tasks):
        raise ConfigError(min(commits.lost.values()))
    _require_meters(site.settings, grid)
    return Prepared(site=site, grid=grid, commits=commits)


def _resumed(site: Site, commits: Commits, store: Store) -> Campaign | None:
    """Return the campaign as an earlier run left it; None where its grid has to be expanded.

    A budget needs every task's estimate, weights that are lost need every engine.
    """
    settings, digest = site.settings, site.grid_digest(commits)
    if digest is None or settings.budget != NO_BUDGET or commits.lost:
        return None
    found: Recalled | None = store.retrying(lambda c: recall(c, settings.campaign, digest))
    if found is None or not any(
        spec.board_count <= site.counts.get(spec.board, 0) for _, spec in found.engines
    ):
        return None
    folders = {commit: model.folder for commit, model in site.folders.items()}
    engines = [(enrolled, _located(spec, folders)) for enrolled, spec in found.engines]
    words = news(settings.campaign, _states(store, found.id), found.exclusions)
    return _campaign(site, found.id, engines, words)


def _located(engine: EngineSpec, folders: Mapping[str | None, str | None]) -> EngineSpec:
    """Return an engine with the folders of this host: no part of its identity, so never stored."""
    model = replace(engine.model, folder=folders.get(engine.model.commit))
    draft = engine.draft and replace(engine.draft, folder=folders.get(engine.draft.commit))
    return replace(engine, model=model, draft=draft)


def _campaign(
    site: Site, campaign_id: int, engines: Sequence[tuple[Enrolled, EngineSpec]], words: str
) -> Campaign:
    settings, home, kinds = site.settings, default_folder(), site.kinds
    return Campaign(
        id=campaign_id,
        name=settings.campaign,
        reality=settings.reality,
        engines={
            found.engine_id: Work(
                engine=spec,
                rig=equipped(
                    settings, kinds, spec,
                    Limits(context_tokens=found.context_tokens, batch_size=found.batch_size), home,
                ),
                tasks=found.tasks,
                task_s=found.task_s,
                load_s=found.load_s,
            )
            for found, spec in engines
        },
        boards=site.boards,
        logs=home / "logs",
        news=words,
    )  # fmt: skip


def _enrolled(number: int, tasks: Sequence[Task], efforts: Efforts) -> Enrolled:
    """Return an engine with what its sessions are estimated to take, by a sample of its tasks."""
    workloads = {id(task.workload): task.workload for task in tasks}.values()
    return Enrolled(
        engine_id=number,
        tasks=len(tasks),
        task_s=fmean(efforts.task(task).seconds for task in islice(tasks, SAMPLE)),
        load_s=efforts.load(tasks[0].engine, tasks[0].protocol).seconds,
        context_tokens=max(w.input_tokens + w.output_tokens for w in workloads),
        batch_size=max(w.batch_size * w.beams for w in workloads),
    )


def _expected(number: int, tasks: Iterable[Task], efforts: Efforts) -> Iterator[Expected]:
    """Yield what the workloads of some tasks of an engine are estimated to take."""
    for workload, task in {task.workload: task for task in tasks}.items():
        seconds = efforts.task(task).seconds
        yield Expected(engine_id=number, workload=workload, seconds=seconds)


def _states(store: Store, campaign_id: int) -> Mapping[str, int]:
    """Return the tasks of a campaign by state."""
    return store.retrying(lambda c: progress(c, campaign_id)).states


def _commits(settings: Settings, catalog: Catalog, place: Place) -> Commits:
    """Return the commits of real weights; asks store and hub only if there are any."""
    names = hub_models(settings, catalog)
    if not names:
        return Commits()
    with opened(place) as store:
        frozen = store.store.retrying(lambda c: frozen_commits(c, settings.campaign))
    return resolve(names, frozen)


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
