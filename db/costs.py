"""What measured batches took, for comparing the estimate with.

Owns the reading statement of costs.sql. Never writes, and knows nothing of any estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from db.engines import read_engine
from db.records import EngineSpec, Workload
from db.store import rows, statements
from db.workloads import read_workload

SQL = statements("costs.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCost:
    """One accepted measurement on a real board: what one of its batches took, idle power included.

    `energy_j` is None where no joules were measured.
    """

    engine: EngineSpec
    workload: Workload
    batch_s: float
    energy_j: float | None


def measured_costs(connection: Connection, board: str, backend: str) -> list[MeasuredCost]:
    """Return the accepted real measurements of batches on a board (its slug) and a backend."""
    found = rows(connection, SQL["measured"], {"board": board, "backend": backend})
    return [
        MeasuredCost(
            engine=read_engine(row),
            workload=read_workload(row),
            batch_s=row.batch_s,
            energy_j=row.energy_j,
        )
        for row in found
    ]
