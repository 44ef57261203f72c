"""What the store's measurements say of the estimate, for every kind of board a grid names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from campaign.grids.fit import Grid
from workers.costs.calibration import Correction, corrections

if TYPE_CHECKING:  # at run time it brings the database libraries along
    from db.costs import MeasuredCost

#: (board slug, backend) -> correction.
Corrections = Mapping[tuple[str, str], Correction]


#: What an estimate rests on: no measurement, those of some boards and backends, or those of all.
PHYSICS, PARTLY, CALIBRATED = "physics", "partly calibrated", "calibrated"


def sources(grid: Grid, known: Corrections) -> dict[str, str]:
    """Return what the seconds of a plan rest on (`source`), and its joules (`energy_source`).

    A row without joules corrects the seconds alone.
    """
    pairs = {(task.engine.board, task.engine.backend) for task in grid.tasks}
    found = [known[pair] for pair in pairs if pair in known]
    return {
        "source": _source([bool(one.rows) for one in found], len(pairs)),
        "energy_source": _source([bool(one.energy_rows) for one in found], len(pairs)),
    }


def _source(corrected: Collection[bool], pairs: int) -> str:
    if not any(corrected):
        return PHYSICS
    return CALIBRATED if sum(corrected) == pairs else PARTLY


def store_corrections(
    grid: Grid, measured_costs: Callable[[str, str], Iterable[MeasuredCost]]
) -> Corrections:
    """Return the corrections of the grid's boards and backends that were measured before.

    `measured_costs` tells what was measured on a board with a backend.
    """
    pairs = {(task.engine.board, task.engine.backend) for task in grid.tasks}
    measured = (
        (one, grid.boards[board])
        for board, backend in sorted(pairs)
        for one in measured_costs(board, backend)
    )
    return corrections(measured)
