"""What the store's measurements say of the estimate, for every kind of board a grid names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from campaign.grids.fit import Grid
from workers.costs.calibration import Correction, corrections

if TYPE_CHECKING:  # at run time it brings the database libraries along
    from db.costs import MeasuredCost

#: (board slug, backend) -> correction.
Corrections = Mapping[tuple[str, str], Correction]


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
