"""What is left of a grid costs: hours, joules, price and carbon, by kind of board and in all.

Pure. Estimates, never measurements; what is not known is None, never zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from math import ceil

from campaign.configuration.settings import Settings
from campaign.forecast.hours import Efforts
from campaign.forecast.totals import BoardTotal, totals
from campaign.grids.fit import Grid
from db.records import Reality, Task

J_PER_KWH = 3.6e6
EXPECTED = "expected: loading, warm-up, as few windows as the protocol takes, idle windows"
SIMULATED = "none: simulated boards do not wait"


def bill(
    settings: Settings,
    grid: Grid,
    left: Sequence[Task],
    counts: Mapping[str, int],
    efforts: Efforts | None,
) -> dict[str, object]:
    """Return hours, energy, price and carbon of what is left, by board and in all.

    `counts` are the boards that are here; `efforts` estimate, from first principles unless given.
    """
    found = _totals(settings, grid, left, counts, efforts)
    run, blind, bounded = settings.run, Counter[str](), Counter[str]()
    for total in found.values():
        blind += total.blind
        bounded += total.bounded
    boards = {
        slug: _board(
            total, counts.get(slug, 0), run.price_per_gpu_hour.get(slug),
            _boards_per_node(settings, counts, slug) if _alone(settings) else None,
        )
        for slug, total in found.items()
    }  # fmt: skip
    wall = {slug: board["wall_hours"] or 0.0 for slug, board in boards.items()}
    simulated = settings.reality is Reality.SIMULATED
    kwh = _added(board["kwh"] for board in boards.values())
    carbon = run.carbon_intensity_g_per_kwh
    return {
        "estimate": SIMULATED if simulated else EXPECTED,
        "estimated_hours": None if simulated else _wall_h(settings, wall, counts),
        "board_hours": wall,
        "engine_loads": None if simulated else sum(total.loads for total in found.values()),
        "gpu_hours": None if simulated else _rounded(sum(t.board_h for t in found.values())),
        "kwh": kwh,
        "kwh_ceiling": _added(board["kwh_ceiling"] for board in boards.values()),
        "tasks_without_energy": sum(blind.values()),
        "without_energy": dict(blind),
        "tasks_at_most": sum(bounded.values()),
        "at_most": dict(bounded),
        "price": _added(board["price"] for board in boards.values()),
        "boards_without_price": sorted(s for s, b in boards.items() if b["price"] is None),
        "carbon_g": None if kwh is None or carbon is None else _rounded(kwh * carbon),
        "by_board": boards,
        "isolation": _isolation(settings, grid, found, counts),
    }


def _totals(
    settings: Settings,
    grid: Grid,
    left: Sequence[Task],
    counts: Mapping[str, int],
    efforts: Efforts | None,
) -> dict[str, BoardTotal]:
    if settings.reality is Reality.SIMULATED:
        return {}
    per_node = partial(_boards_per_node, settings, counts)
    return totals(left, efforts or Efforts(grid.boards), per_node)


def _wall_h(settings: Settings, wall: Mapping[str, float], counts: Mapping[str, int]) -> float:
    """Return the hours until all kinds are done; those of this machine take turns if alone on it.

    What is not here is somewhere else, at the same time.
    """
    shares = settings.cluster.kind == "local" and _alone(settings)
    here_h = sum(hours for slug, hours in wall.items() if shares and slug in counts)
    return max((_rounded(here_h), *wall.values()))


def _boards_per_node(settings: Settings, counts: Mapping[str, int], slug: str) -> int:
    """Return how many boards a node holds: this machine those that are here, another is assumed."""
    if slug.startswith("cpu:"):
        return 1
    here = counts.get(slug) if settings.cluster.kind == "local" else None
    return here or settings.run.boards_per_node


def _alone(settings: Settings) -> bool:
    """Whether each session has a node of its own."""
    return settings.cluster.isolation == "node"


def _board(
    total: BoardTotal, here: int, price: float | None, per_node: int | None
) -> dict[str, float | None]:
    """Return the totals of one kind of board; of one that is not here a single group is taken.

    `per_node` says how many are in a node where one takes a single session; else it is None.
    """
    boards = max(here, total.largest)
    if per_node is None:
        worked_h = total.board_h / boards
    else:
        worked_h = total.session_h / ceil(boards / max(per_node, total.largest))
    known = total.blind.total() < total.tasks
    return {
        "tasks": total.tasks,
        "engine_loads": total.loads,
        "gpu_hours": _rounded(total.board_h),
        "boards": boards,
        "wall_hours": _rounded(max(total.longest_h, worked_h)),
        "kwh": _rounded(total.joules / J_PER_KWH) if known else None,
        "kwh_ceiling": _rounded(total.ceiling_j / J_PER_KWH) if total.ceiling_j else None,
        "price": None if price is None else _rounded(price * total.board_h),
    }


def _isolation(
    settings: Settings,
    grid: Grid,
    found: Mapping[str, BoardTotal],
    counts: Mapping[str, int],
) -> dict[str, object]:
    """Return what boards idle, or would, beside sessions that have a node of their own."""
    idle_w = {slug: grid.boards[slug].idle_w for slug in found if slug in grid.boards}
    known = all(idle_w.get(slug) is not None for slug, total in found.items() if total.idled_h)
    joules = [total.idled_h * 3600 * (idle_w.get(slug) or 0.0) for slug, total in found.items()]
    return {
        "isolation": settings.cluster.isolation,
        "boards_per_node": {slug: _boards_per_node(settings, counts, slug) for slug in found},
        "idled_gpu_hours": _rounded(sum(total.idled_h for total in found.values())),
        "idled_kwh": _rounded(sum(joules) / J_PER_KWH) if known else None,
    }


def _added(values: Iterable[object]) -> float | None:
    """Return the sum of what is known; None where nothing is."""
    known = [v for v in values if isinstance(v, float)]
    return _rounded(sum(known)) if known else None


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
