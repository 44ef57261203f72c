"""`campaign plan`: what a campaign would measure, what it leaves out, and how long it takes.

Starts nothing, loads no engine and asks the store only with ``--store``. Its hours are a lower
bound from the protocol's windows; loading and warming up come on top.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from campaign.catalog import Catalog, load_catalog
from campaign.config import load
from campaign.fit import Grid, require_runnable
from campaign.grid import expand
from campaign.here import boards_here, reality_here
from campaign.settings import Settings
from db.errors import Infeasible
from db.identity import engine_digest
from db.readings import PhaseMethod
from db.records import Board, EngineSpec, MeasurementProtocol, Reality, Task, Weights

IDLE_WINDOWS = 3  # board empty, model resident, and at the end
BOUND = "lower bound: measured and idle windows only, without loading and warm-up"

Plan = Mapping[str, object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `plan`."""
    parser.add_argument("--store", action="store_true", help="count what is already measured")
    parser.add_argument("--config", action="store_true", help="print the resolved configuration")
    parser.add_argument("--tasks", action="store_true", help="list every task with its key")


def main(args: argparse.Namespace) -> int:
    """Print the plan: JSON on stdout, or text on stderr. Raises Infeasible over budget."""
    settings = load(args.overrides)
    if args.config:
        print(_as_json(settings.resolved) if args.json else settings.resolved, end="")
        return 0
    settings = replace(settings, reality=reality_here(settings))
    catalog = load_catalog(Path(settings.catalog) if settings.catalog else None)
    here, counts = boards_here(settings, catalog)
    if args.store:
        grid, done = _asked(settings, catalog, here)
    else:
        grid, done = expand(settings, catalog, here), None
    plan = describe(settings, grid, counts, done)
    if args.tasks:
        plan = {**plan, "task_list": [_line(task) for task in grid.tasks]}
    if args.json:
        print(json.dumps(plan, indent=2))
    else:
        _show(plan)
    if not grid.tasks:
        require_runnable(grid, counts)
    check_budget(settings, plan)
    return 0


def describe(
    settings: Settings, grid: Grid, counts: Mapping[str, int], done: set[str] | None
) -> Plan:
    """Return the plan as data; `done` are the keys already measured, None if nobody asked."""
    left = [task for task in grid.tasks if task.key not in (done or ())]
    engines = _by_engine(grid.tasks)
    excluded: Counter[str] = Counter()
    for exclusion in grid.exclusions:
        excluded[exclusion.reason] += exclusion.points
    real = [e.model for e in engines.values() if e.model.weights is Weights.REAL]
    hours = _board_hours(left, counts)
    simulated = settings.reality is Reality.SIMULATED
    return {
        "campaign": settings.campaign,
        "tasks": len(grid.tasks),
        "done": None if done is None else len(grid.tasks) - len(left),
        "excluded": dict(excluded),
        "engines": len(engines),
        "boards": dict(Counter(task.engine.board for task in grid.tasks)),
        "here": dict(counts),
        "estimated_hours": None if simulated else round(max(hours.values(), default=0.0), 4),
        "board_hours": {} if simulated else {b: round(h, 4) for b, h in hours.items()},
        "estimate": "none: simulated boards do not wait" if simulated else BOUND,
        "reality": str(settings.reality),
        "protocol": settings.protocol.name,
        "energy": settings.protocol.energy,
        "models": sorted({e.model.name for e in engines.values()}),
        "backends": sorted({e.backend for e in engines.values()}),
        "unresolved": sorted({m.name for m in real if m.commit is None}),
        "exclusions": [
            {
                "engine": e.engine.label,
                "workload": None if e.workload is None else e.workload.label,
                "reason": e.reason,
                "detail": e.detail,
                "points": e.points,
            }
            for e in grid.exclusions
        ],
    }


def _by_engine(tasks: Sequence[Task]) -> dict[str, EngineSpec]:
    specs = {id(task.engine): task.engine for task in tasks}
    return {engine_digest(engine): engine for engine in specs.values()}


def task_seconds(protocol: MeasurementProtocol) -> float:
    """Return the least seconds that the windows of a task take."""
    windows = 2 if protocol.phases in (PhaseMethod.PREFILL_RUN, "both") else 1
    return windows * protocol.repeats * protocol.window_s


def _board_hours(tasks: Sequence[Task], counts: Mapping[str, int]) -> dict[str, float]:
    """Return the least hours per kind of board, with all boards of the kind at work."""
    seconds: dict[str, float] = defaultdict(float)
    sessions: dict[tuple[int, int], EngineSpec] = {}
    for task in tasks:
        seconds[task.engine.board] += task_seconds(task.protocol) * task.engine.board_count
        sessions[id(task.engine), task.replicate] = task.engine
    if tasks:
        idle_s = IDLE_WINDOWS * tasks[0].protocol.idle_s
        for engine in sessions.values():
            seconds[engine.board] += idle_s * engine.board_count
    return {board: s / 3600 / max(1, counts.get(board, 1)) for board, s in seconds.items()}


def check_budget(settings: Settings, plan: Plan) -> None:
    """Raise Infeasible if the least a plan takes is more than the budget of the run."""
    hours, budget = plan["estimated_hours"], settings.run.max_hours
    if isinstance(hours, float) and budget is not None and hours > budget:
        raise Infeasible(
            f"the plan takes at least {hours:.2f} h, more than run.max_hours={budget:g}; "
            "narrow an axis or raise the budget"
        )


def _asked(
    settings: Settings, catalog: Catalog, here: Sequence[Board]
) -> tuple[Grid, set[str] | None]:
    """Return the grid with the commits the campaign was created with, and the keys measured.

    A store that is not there yet has measured nothing, and is not made by asking.
    """
    from campaign.storeroom import is_there
    from db.campaigns import done_keys, frozen_commits
    from db.place import Place, opened

    store = settings.store
    place = Place(url=store.url, reader_url=store.reader_url, folder=store.path)
    if not is_there(place):
        return expand(settings, catalog, here), set()
    with opened(place) as found, found.store.begin() as connection:
        commits = frozen_commits(connection, settings.campaign)
        grid = expand(settings, catalog, here, commits)
        return grid, done_keys(connection, [task.key for task in grid.tasks])


def _line(task: Task) -> dict[str, object]:
    return {"key": task.key, "engine": task.engine.label, "workload": task.workload.label,
            "replicate": task.replicate}  # fmt: skip


def _as_json(resolved: str) -> str:
    import yaml

    return json.dumps(yaml.safe_load(resolved), indent=2) + "\n"


def _show(plan: Plan) -> None:
    """Print the plan for people on stderr."""

    def listed(name: str) -> str:
        value = plan[name]
        if isinstance(value, Mapping):
            value = [f"{key} ({count})" for key, count in value.items()]
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    hours = plan["estimated_hours"]
    took = f"at least {hours:.2f} h" if isinstance(hours, float) else "none"
    done = "not asked (--store)" if plan["done"] is None else plan["done"]
    rows = [
        ("tasks", f"{plan['tasks']}, {plan['engines']} engines"),
        ("measured", done),
        ("boards", listed("boards")),
        ("here", listed("here")),
        ("models", listed("models")),
        ("backends", listed("backends")),
        ("protocol", f"{plan['protocol']}, energy {plan['energy']}, {plan['reality']}"),
        ("time", f"{took} ({plan['estimate']})"),
        ("excluded", listed("excluded") or "nothing"),
    ]
    if plan["unresolved"]:
        rows.append(("unresolved", f"{listed('unresolved')}: the commit is looked up by run"))
    print(f"campaign {plan['campaign']}", file=sys.stderr)
    for name, text in rows:
        print(f"  {name:<10} {text}", file=sys.stderr)
    for exclusion in plan["exclusions"] if isinstance(plan["exclusions"], list) else []:
        where = exclusion["workload"] or "every workload"
        print(f"    {exclusion['reason']}: {exclusion['engine']}, {where}: {exclusion['detail']}",
              file=sys.stderr)  # fmt: skip
    for task in plan.get("task_list") or []:  # type: ignore[attr-defined]
        print(f"  {task['key'][:15]}  {task['engine']}  {task['workload']}", file=sys.stderr)
