"""What of a campaign falls short, gate by gate: what `check` shows.

Owns the reading statements of checking.sql. Never writes; knows nothing of how it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from db.standing import Named
from db.store import rows, statements

SQL = statements("checking.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One engine x workload that a gate found wanting; counts as in `Shortfall`."""

    engine: str
    workload: str
    protocol: str
    results: int = 0
    attempts: int = 0
    quarantined: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """What one gate found in a campaign.

    `results` are accepted and marked, `attempts` were voided, and `quarantined` tasks have no
    result because of that. Attempts of a task that has one by now are history.
    """

    gate: str
    results: int
    attempts: int
    quarantined: int
    points: Sequence[Point]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A campaign with what falls short in it; `results` of its `tasks` are accepted."""

    name: str
    tasks: int
    results: int
    gates: Sequence[Shortfall]


def checked(connection: Connection, campaign: Named) -> Checked:
    """Return what falls short in a campaign, the gate with most to measure again first."""
    values = {"campaign_id": campaign.id}
    by_gate: dict[str, list[Point]] = {}
    for statement in ("voided", "marked"):
        for row in rows(connection, SQL[statement], values):
            by_gate.setdefault(row.gate, []).append(_point(row._asdict()))
    (total,) = rows(connection, SQL["results"], values)
    found = (_shortfall(gate, points) for gate, points in by_gate.items())
    return Checked(
        name=campaign.name,
        tasks=total.tasks,
        results=total.results,
        gates=sorted(found, key=lambda gate: (-gate.quarantined, -gate.results, gate.gate)),
    )


def _point(row: dict[str, Any]) -> Point:
    tp = f" tp{row['tensor_parallel']}" if row["tensor_parallel"] > 1 else ""
    return Point(
        engine=f"{row['backend']} {row['model']}{tp} on {row['board']}",
        workload=row["workload"],
        protocol=row["protocol"],
        results=row.get("results", 0),
        attempts=row.get("attempts", 0),
        quarantined=row.get("quarantined", 0),
    )


def _shortfall(gate: str, points: Sequence[Point]) -> Shortfall:
    return Shortfall(
        gate=gate,
        results=sum(point.results for point in points),
        attempts=sum(point.attempts for point in points),
        quarantined=sum(point.quarantined for point in points),
        points=points,
    )
