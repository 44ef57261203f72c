"""What measurements say of the estimate: how far it is off on a board and a backend.

Pure: compares, corrects and forgets. Never stores anything, and never changes a constant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import exp, log
from statistics import median
from typing import TYPE_CHECKING

from db.records import Board
from workers.costs.cost import Cost, estimate
from workers.costs.group import Phase
from workers.costs.speculation import assumption
from workers.shapes.shape import shape_of

if TYPE_CHECKING:  # at run time it brings the database libraries along
    from db.costs import MeasuredCost

#: Rows after which the measurements weigh as much as the physics.
HALF_TRUSTED_ROWS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Factors on estimated seconds and joules, and the measurements that they rest on.

    `rows` were timed; of `energy_rows` there are joules, too.
    """

    seconds: float = 1.0
    joules: float = 1.0
    rows: int = 0
    energy_rows: int = 0


AS_COMPUTED = Correction()


def corrections(
    measured: Iterable[tuple[MeasuredCost, Board]],
) -> Mapping[tuple[str, str], Correction]:
    """Return the correction of each (board slug, backend) that was measured.

    The median of measured over estimated, in both; with few rows it is drawn towards 1. Rows that
    cannot be estimated count for nothing, nor those whose estimate assumes something of the text.
    """
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    joules: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one, board in measured:
        where = (one.engine.board, one.engine.backend)
        shape = shape_of(one.engine.model.name, one.engine.model.architecture)
        cost = shape and estimate(one.engine, shape, board, one.workload)
        if not cost or assumption(one.engine) is not None:
            continue
        seconds[where].append(one.batch_s / cost.e2e_s)
        if one.energy_j is not None and cost.energy_j is not None:
            joules[where].append(one.energy_j / cost.energy_j)
    return {
        where: Correction(
            seconds=_shrunk(ratios),
            joules=_shrunk(joules[where]) if joules[where] else 1.0,
            rows=len(ratios),
            energy_rows=len(joules[where]),
        )
        for where, ratios in seconds.items()
    }


def corrected(cost: Cost, correction: Correction) -> Cost:
    """Return a cost with its seconds and joules multiplied by a correction's factors."""
    watts = correction.joules / correction.seconds

    def phase(one: Phase) -> Phase:
        power_w = None if one.power_w is None else one.power_w * watts
        return replace(one, seconds=one.seconds * correction.seconds, power_w=power_w)

    return replace(cost, prefill=phase(cost.prefill), decode=phase(cost.decode))


def _shrunk(ratios: list[float]) -> float:
    """Return the median ratio, drawn towards 1 on a logarithmic scale where rows are few."""
    trust = len(ratios) / (len(ratios) + HALF_TRUSTED_ROWS)
    return exp(trust * log(median(ratios)))
