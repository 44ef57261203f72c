"""Measured points as the values they were asked for, so that new ones can be compared with them.

Owns the reading statements of likeness.sql. Never writes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection, Row

from db.records import EngineSpec, ModelSpec, Weights, Workload
from db.store import rows, statements
from db.workloads import read_workload

SQL = statements("likeness.sql")
#: The most points that are read, the latest of a store that holds more.
MOST = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPoint:
    """A task that is done; `protocol` holds the numbers it was asked to be measured with."""

    key: str
    engine: EngineSpec
    workload: Workload
    protocol: Mapping[str, object]
    reality: str
    replicate: int


def measured_points(connection: Connection, backends: Collection[str]) -> list[MeasuredPoint]:
    """Return the measured tasks of some backends; those of one engine share its object."""
    asked = {"backends": sorted(backends), "most": MOST}
    engines = {row.id: _engine(row) for row in rows(connection, SQL["engines"], asked)}
    return [
        MeasuredPoint(
            key=row.key,
            engine=engines[row.engine_id],
            workload=read_workload(row),
            protocol=row.numbers,
            reality=row.reality,
            replicate=row.replicate,
        )
        for row in rows(connection, SQL["points"], asked)
    ]


def _engine(row: Row[Any]) -> EngineSpec:
    return EngineSpec(
        model=ModelSpec(
            name=row.model,
            weights=Weights(row.weights),
            architecture=_tuples(row.architecture),
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
        mode=row.mode,
        speculation=row.speculation,
        speculative_tokens=row.speculative_tokens,
        draft=None if row.draft is None else _draft(row.draft),
        power_limit_w=row.power_limit_w,
    )


def _draft(stored: Mapping[str, Any]) -> ModelSpec:
    return ModelSpec(
        name=stored["name"],
        weights=Weights(stored["weights"]),
        architecture=_tuples(stored.get("architecture") or {}),
        commit=stored.get("commit"),
    )


def _tuples(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """Return an architecture with its lists as the tuples they were written from."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in architecture.items()}
