"""What a grid adds up to: tasks, exclusions, hours, energy, price, and what a budget allows.

Pure. Hours and energy are estimates; what is not known is None, never zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from campaign.fit import Grid
from campaign.flags import unchecked
from campaign.hours import BoardTotal, Efforts, totals, weights_on_disk_bytes
from campaign.settings import Settings
from db.errors import Infeasible
from db.identity import engine_digest
from db.records import EngineSpec, Exclusion, Reality, Task, Weights

J_PER_KWH = 3.6e6
EXPECTED = "expected: loading, warm-up, measured and idle windows"
SIMULATED = "none: simulated boards do not wait"

Plan = Mapping[str, object]


def describe(
    settings: Settings,
    grid: Grid,
    counts: Mapping[str, int],
    done: set[str] | None = None,
    efforts: Efforts | None = None,
) -> Plan:
    """Return the plan as data; `done` are the keys already measured, None if nobody asked.

    `counts` are the boards that are here. Everything that costs is of what is left; `efforts`
    estimate it, from first principles unless they are given.
    """
    left = [task for task in grid.tasks if task.key not in (done or ())]
    engines = _by_engine(grid.tasks)
    real = [e.model for e in engines.values() if e.model.weights is Weights.REAL]
    return {
        "campaign": settings.campaign,
        "tasks": len(grid.tasks),
        "done": None if done is None else len(grid.tasks) - len(left),
        "excluded": excluded_points(grid.exclusions),
        "engines": len(engines),
        "boards": dict(Counter(task.engine.board for task in grid.tasks)),
        "here": dict(counts),
        **_cost(settings, grid, _totals(settings, grid, left, efforts), counts),
        "weights_gb": round(weights_on_disk_bytes(grid.tasks) / 1e9, 3),
        "reality": str(settings.reality),
        "protocol": settings.protocol.name,
        "energy": settings.protocol.energy,
        "models": sorted({e.model.name for e in engines.values()}),
        "backends": sorted({e.backend for e in engines.values()}),
        "unresolved": sorted({m.name for m in real if m.commit is None}),
        "unchecked": _unchecked(engines.values()),
        "exclusions": [_excluded(exclusion) for exclusion in grid.exclusions],
    }


def excluded_points(exclusions: Sequence[Exclusion]) -> dict[str, int]:
    """Return how many points cannot work, by reason."""
    found: Counter[str] = Counter()
    for exclusion in exclusions:
        found[exclusion.reason] += exclusion.points
    return dict(found)


def _excluded(exclusion: Exclusion) -> dict[str, object]:
    return {
        "engine": exclusion.engine.label,
        "workload": None if exclusion.workload is None else exclusion.workload.label,
        "reason": exclusion.reason,
        "detail": exclusion.detail,
        "points": exclusion.points,
    }


def _unchecked(engines: Iterable[EngineSpec]) -> list[str]:
    """Return a line for every pinned version whose options nobody can check here."""
    pinned = {(engine.backend, engine.version) for engine in engines}
    return sorted({line for pair in pinned if (line := unchecked(*pair)) is not None})


def _by_engine(tasks: Sequence[Task]) -> dict[str, EngineSpec]:
    specs = {id(task.engine): task.engine for task in tasks}
    return {engine_digest(engine): engine for engine in specs.values()}


# ---- what it costs ---------------------------------------------------------------------------


def _totals(
    settings: Settings, grid: Grid, left: Sequence[Task], efforts: Efforts | None
) -> dict[str, BoardTotal]:
    if settings.reality is Reality.SIMULATED:
        return {}
    return totals(left, efforts or Efforts(grid.boards), settings.run.boards_per_node)


def _cost(
    settings: Settings, grid: Grid, found: Mapping[str, BoardTotal], counts: Mapping[str, int]
) -> dict[str, object]:
    """Return hours, energy, price and carbon of what is left, by board and in all."""
    run = settings.run
    boards = {
        slug: _board(total, counts.get(slug, 0), run.price_per_gpu_hour.get(slug))
        for slug, total in found.items()
    }
    wall = {slug: board["wall_hours"] or 0.0 for slug, board in boards.items()}
    simulated = settings.reality is Reality.SIMULATED
    kwh = _added(board["kwh"] for board in boards.values())
    carbon = run.carbon_intensity_g_per_kwh
    return {
        "estimate": SIMULATED if simulated else EXPECTED,
        "estimated_hours": None if simulated else max(wall.values(), default=0.0),
        "board_hours": wall,
        "engine_loads": None if simulated else sum(total.loads for total in found.values()),
        "gpu_hours": None if simulated else _rounded(sum(t.board_h for t in found.values())),
        "kwh": kwh,
        "kwh_ceiling": _added(board["kwh_ceiling"] for board in boards.values()),
        "tasks_without_energy": sum(total.blind for total in found.values()),
        "price": _added(board["price"] for board in boards.values()),
        "boards_without_price": sorted(s for s, b in boards.items() if b["price"] is None),
        "carbon_g": None if kwh is None or carbon is None else _rounded(kwh * carbon),
        "by_board": boards,
        "isolation": _isolation(settings, grid, found),
    }


def _board(total: BoardTotal, here: int, price: float | None) -> dict[str, float | None]:
    """Return the totals of one kind of board; of one that is not here a single group is taken."""
    boards = max(here, total.largest)
    known = total.blind < total.tasks
    return {
        "tasks": total.tasks,
        "engine_loads": total.loads,
        "gpu_hours": _rounded(total.board_h),
        "boards": boards,
        "wall_hours": _rounded(max(total.longest_h, total.board_h / boards)),
        "kwh": _rounded(total.joules / J_PER_KWH) if known else None,
        "kwh_ceiling": _rounded(total.ceiling_j / J_PER_KWH) if total.ceiling_j else None,
        "price": None if price is None else _rounded(price * total.board_h),
    }


def _isolation(
    settings: Settings, grid: Grid, found: Mapping[str, BoardTotal]
) -> dict[str, object]:
    """Return what a node of its own for each session would idle: what sharing nodes saves."""
    idle_w = {slug: grid.boards[slug].idle_w for slug in found if slug in grid.boards}
    known = all(idle_w.get(slug) is not None for slug in found)
    joules = [total.idled_h * 3600 * (idle_w.get(slug) or 0.0) for slug, total in found.items()]
    return {
        "boards_per_node": settings.run.boards_per_node,
        "idled_gpu_hours": _rounded(sum(total.idled_h for total in found.values())),
        "idled_kwh": _rounded(sum(joules) / J_PER_KWH) if known else None,
    }


def _added(values: Iterable[object]) -> float | None:
    """Return the sum of what is known; None where nothing is."""
    known = [v for v in values if isinstance(v, float)]
    return _rounded(sum(known)) if known else None


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


# ---- budget ----------------------------------------------------------------------------------

#: Bounds of `budget` -> what the plan says of them, and its unit.
BOUNDS = {
    "hours": ("estimated_hours", "h"),
    "gpu_hours": ("gpu_hours", "GPU-hours"),
    "kwh": ("kwh", "kWh"),
    "price": ("price", "of the currency of its prices"),
}


def _lacking(name: str, plan: Plan) -> str | None:
    """Return what is not known of the sum that a budget bounds; None if all of it is."""
    if name == "kwh" and plan["tasks_without_energy"]:
        return f"{plan['tasks_without_energy']} tasks have no estimate of energy"
    boards = plan["boards_without_price"]
    if name == "price" and isinstance(boards, list) and boards:
        return f"no run.price_per_gpu_hour of {', '.join(boards)}"
    return None


def check_budget(settings: Settings, plan: Plan) -> None:
    """Raise Infeasible, in one line, if what is left of a plan takes more than the budget."""
    if settings.reality is Reality.SIMULATED:
        return
    over = []
    for name, (key, unit) in BOUNDS.items():
        bound, value = getattr(settings.budget, name), plan[key]
        if bound is None:
            continue
        if isinstance(value, float) and value > bound:
            over.append(f"the plan takes {value:.4g} {unit}, more than budget.{name}={bound:g}")
        elif lacking := _lacking(name, plan):
            over.append(f"budget.{name}={bound:g} cannot be checked: {lacking}")
    if over:
        raise Infeasible(f"{'; '.join(over)}; narrow an axis or raise the budget")
