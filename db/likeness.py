"""Measured points as the values they were asked for, so that new ones can be compared with them.

Owns the reading statements of likeness.sql. Never writes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from db.engines import read_engine
from db.records import EngineSpec, Workload
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
    engines = {row.id: read_engine(row) for row in rows(connection, SQL["engines"], asked)}
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
