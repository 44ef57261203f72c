"""What measured batches took, for comparing the estimate with.

Owns the reading statement of costs.sql. Never writes, and knows nothing of any estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection, Row

from db.records import EngineSpec, ModelSpec, Weights, Workload
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
            engine=_engine(row),
            workload=read_workload(row),
            batch_s=row.batch_s,
            energy_j=row.energy_j,
        )
        for row in found
    ]


def _engine(row: Row[Any]) -> EngineSpec:
    return EngineSpec(
        model=ModelSpec(
            name=row.model,
            weights=Weights(row.weights),
            architecture={
                name: tuple(value) if isinstance(value, list) else value
                for name, value in row.architecture.items()
            },
            commit=row.model_commit,
        ),
        backend=row.backend,
        board=row.board,
        board_count=row.board_count,
        version=row.backend_version,
        dtype=row.dtype,
        quantization=row.quantization,
        tensor_parallel=row.tensor_parallel,
        threads=row.threads,
        options=row.options,
    )
