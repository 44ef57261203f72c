"""How long an attempt, and a batch of it, may take until it is taken for one that hangs.

Pure. An estimate, and generous: whoever outlives it is killed, three times and for good.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from db.leases import Claim
from db.records import Board, EngineSpec, Workload
from workers.effort import Unit, effort_of, pace, unit_of
from workers.shapes.shape import shape_of

#: How many times the estimate a task may take, its warm-up and windows as many as its protocol
#: allows: of the default's 3 to 10 windows 6.7 times what a plan says of it. Of 495 published runs
#: (docs/estimate.md) 45 took more than twice the estimate of a batch, none more than 5.3 times.
TIMES = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Seconds that an attempt may take, and those in which no batch of it need end."""

    whole_s: float
    still_s: float


class Allowance:
    """The limits of an engine's tasks on a board: `least_s`, longer where the estimate is."""

    def __init__(self, engine: EngineSpec, board: Board, least_s: float) -> None:
        """Know the engine; a workload is estimated when it first comes."""
        self._engine = engine
        self._board = board
        self._least_s = least_s
        self._units: dict[Workload, Unit | None] = {}

    def of(self, claim: Claim) -> Limit:
        """Return how long an attempt at a task may take, and a batch of it."""
        if claim.workload not in self._units:
            self._units[claim.workload] = self._unit(claim.workload)
        unit = self._units[claim.workload]
        allowed = claim.protocol
        allowed = replace(allowed, warmup_agree=allowed.warmup_max, repeats=allowed.repeats_max)
        batch_s = 0.0 if unit is None else unit.batch_s
        return Limit(
            whole_s=self._limit_s(effort_of(allowed, unit).seconds), still_s=self._limit_s(batch_s)
        )

    def _limit_s(self, estimated_s: float) -> float:
        return max(self._least_s, TIMES * estimated_s * pace(self._engine))

    def _unit(self, workload: Workload) -> Unit | None:
        model = self._engine.model
        shape = shape_of(model.name, model.architecture)
        return None if shape is None else unit_of(self._engine, shape, self._board, workload)
