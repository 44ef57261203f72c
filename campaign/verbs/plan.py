"""`campaign plan`: what a campaign would measure, what it leaves out, and what it would take.

Starts nothing, loads no engine and asks the store only with ``--store`` or ``--explain``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from campaign.catalogue.catalog import Catalog, load_catalog
from campaign.cluster.here import boards_here, reality_here
from campaign.configuration.config import load
from campaign.configuration.settings import Settings
from campaign.forecast.calibrated import Corrections, sources, store_corrections
from campaign.forecast.hours import Efforts
from campaign.forecast.outlook import Plan, check_budget, describe
from campaign.forecast.planshow import show
from campaign.grids.explain import explained
from campaign.grids.fit import Grid, require_runnable
from campaign.grids.grid import expand
from db.records import Board, Task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `plan`."""
    parser.add_argument("--store", action="store_true", help="count what is already measured")
    parser.add_argument(
        "--explain", action="store_true",
        help="name the field that makes a point look new; implies --store",
    )  # fmt: skip
    parser.add_argument("--config", action="store_true", help="print the resolved configuration")
    parser.add_argument(
        "--list", "--tasks", dest="list", action="store_true",
        help="list every task with its key, estimated seconds and joules",
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Print the plan: JSON on stdout, or text on stderr. Raises Infeasible over budget."""
    settings = load(args.overrides)
    if args.config:
        print(_as_json(settings.resolved) if args.json else settings.resolved, end="")
        return 0
    settings = replace(settings, reality=reality_here(settings))
    catalog = load_catalog(Path(settings.catalog) if settings.catalog else None)
    here, counts = boards_here(settings, catalog)
    known = _Known()
    if args.store or args.explain:
        known = _asked(settings, catalog, here, explain=args.explain)
    grid = known.grid or expand(settings, catalog, here)
    efforts = Efforts(grid.boards, known.corrections)
    plan = describe(settings, grid, counts, known.done, efforts)
    plan = {**plan, **sources(grid, known.corrections)}
    if known.news is not None:
        plan = {**plan, "new": known.news}
    if args.list:
        plan = {**plan, "task_list": [_line(task, efforts) for task in grid.tasks]}
    if args.json:
        print(json.dumps(plan, indent=2))
    else:
        show(plan)
    if not grid.tasks:
        require_runnable(grid, counts)
    check_budget(settings, plan)
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What the store knows: the grid with frozen commits, what is measured, why the rest is new."""

    grid: Grid | None = None
    done: set[str] | None = None
    corrections: Corrections = field(default_factory=dict)
    news: list[Mapping[str, object]] | None = None


def _asked(settings: Settings, catalog: Catalog, here: Sequence[Board], *, explain: bool) -> _Known:
    """Ask the store; one that is not there yet has measured nothing, and is not made by asking."""
    from campaign.storeroom import is_there
    from db.campaigns import done_keys, frozen_commits
    from db.costs import measured_costs
    from db.likeness import measured_points
    from db.place import Place, opened

    store = settings.store
    place = Place(url=store.url, reader_url=store.reader_url, folder=store.path)
    if not is_there(place):
        return _Known(done=set(), news=[] if explain else None)
    with opened(place) as found, found.store.begin() as connection:
        commits = frozen_commits(connection, settings.campaign)
        grid = expand(settings, catalog, here, commits)
        done = done_keys(connection, [task.key for task in grid.tasks])
        left = [task for task in grid.tasks if task.key not in done]
        backends = {task.engine.backend for task in left}
        return _Known(
            grid=grid,
            done=done,
            corrections=store_corrections(grid, partial(measured_costs, connection)),
            news=explained(measured_points(connection, backends), left) if explain else None,
        )


def _line(task: Task, efforts: Efforts) -> Plan:
    effort = efforts.task(task)
    return {
        "key": task.key,
        "engine": task.engine.label,
        "workload": task.workload.label,
        "replicate": task.replicate,
        "seconds": round(effort.seconds, 3),
        "joules": None if effort.energy_j is None else round(effort.energy_j, 1),
        "at_most": effort.at_most,
    }


def _as_json(resolved: str) -> str:
    import yaml

    return json.dumps(yaml.safe_load(resolved), indent=2) + "\n"
