"""What a grid adds up to: tasks, exclusions, hours, energy, price, and what a budget allows.

Pure. Hours and energy are estimates; what is not known is None, never zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from campaign.catalogue.flags import unchecked
from campaign.configuration.settings import Settings
from campaign.forecast.bill import bill
from campaign.forecast.hours import Efforts
from campaign.forecast.totals import weights_on_disk_bytes
from campaign.grids.fit import Grid
from db.errors import Infeasible
from db.identity import engine_digest
from db.records import EngineSpec, Exclusion, Reality, Task, Weights

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
        **bill(settings, grid, left, counts, efforts),
        "weights": sorted({str(e.model.weights) for e in engines.values()}),
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
    without = plan["without_energy"]
    if name == "kwh" and isinstance(without, Mapping) and without:
        reasons = "; ".join(f"of {count}, {why}" for why, count in without.items())
        return f"{plan['tasks_without_energy']} tasks have no estimate of energy: {reasons}"
    boards = plan["boards_without_price"]
    if name == "price" and isinstance(boards, list) and boards:
        return f"no run.price_per_gpu_hour of {', '.join(boards)}"
    return None


def _up_to(plan: Plan) -> str:
    """Return the words before a sum in which some tasks stand with the most they can take."""
    return "up to " if plan["tasks_at_most"] else ""


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
            over.append(f"the plan takes {_up_to(plan)}{value:.4g} {unit}, more than "
                        f"budget.{name}={bound:g}")  # fmt: skip
        elif lacking := _lacking(name, plan):
            over.append(f"budget.{name}={bound:g} cannot be checked: {lacking}")
    if over:
        raise Infeasible(f"{'; '.join(over)}; narrow an axis or raise the budget")
