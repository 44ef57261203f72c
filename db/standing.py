"""How the campaigns of a store stand: what `status` and `logs` show.

Owns the reading statements of standing.sql. Never writes; knows nothing of how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Connection

from db.grids import Pacing, pacing
from db.records import Reality, TaskState
from db.store import Store, rows, statements

SQL = statements("standing.sql")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Joules:
    """Energy of accepted windows by where it comes from, joules; None where there is none.

    `measured_j` is of real boards, `simulated_j` of simulated ones, `external_j` of imported
    rows. `estimated_j` was modelled beside them and is part of none. Windows without any are
    counted in `windows_without_energy`.
    """

    measured_j: float | None
    simulated_j: float | None
    external_j: float | None
    estimated_j: float | None
    windows_without_energy: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStanding:
    """The tasks of one engine. `failed` are quarantined ones, `reasons` counts why.

    `excluded` are tasks that a run found infeasible, with their reasons in `exclusions`.
    """

    engine_id: int
    engine: str
    done: int
    left: int
    failed: int
    excluded: int
    reasons: Mapping[str, int]
    exclusions: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One campaign: its tasks by state, its engines, its joules, who is running, what failed."""

    name: str
    owner: str
    created_at: datetime
    tasks: Mapping[str, int]
    exclusions: Mapping[str, int]
    engines: Sequence[EngineStanding]
    joules: Joules
    running: Sequence[Row]
    errors: Sequence[Row]


@contextmanager
def snapshot(store: Store) -> Iterator[Connection]:
    """Open a read-only transaction in which every statement sees the store at one moment."""
    with store.begin() as connection:
        connection.exec_driver_sql("set transaction isolation level repeatable read, read only")
        yield connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A campaign of the store."""

    id: int
    name: str
    owner: str
    created_at: datetime


def campaigns(connection: Connection) -> dict[str, Named]:
    """Return the campaigns of a store by name, oldest first."""
    found = (Named(**row._asdict()) for row in rows(connection, SQL["campaigns"], {}))
    return {campaign.name: campaign for campaign in found}


def standing(connection: Connection, campaign: Named, *, newest: int) -> Standing:
    """Return how a campaign stands, with its `newest` errors."""
    values = {"campaign_id": campaign.id, "newest": newest}
    tasks = rows(connection, SQL["tasks"], values)
    engines = _engines(tasks)
    states = dict.fromkeys(map(str, TaskState), 0)
    for row in tasks:
        states[row.state] += row.tasks
    exclusions = {row.reason: row.points for row in rows(connection, SQL["exclusions"], values)}
    for engine in engines:
        for reason, count in engine.exclusions.items():
            exclusions[reason] = exclusions.get(reason, 0) + count
    return Standing(
        name=campaign.name,
        owner=campaign.owner,
        created_at=campaign.created_at,
        tasks=states,
        exclusions=exclusions,
        engines=engines,
        joules=_joules(rows(connection, SQL["joules"], values)),
        running=[row._asdict() for row in rows(connection, SQL["running"], values)],
        errors=[_last_line(row._asdict()) for row in rows(connection, SQL["errors"], values)],
    )


def paced_standing(
    connection: Connection, campaign: Named, *, newest: int
) -> tuple[Standing, Pacing]:
    """Return how a campaign stands, and what tells how long the rest will take."""
    return standing(connection, campaign, newest=newest), pacing(connection, campaign.id)


def find(connection: Connection, prefix: str) -> tuple[list[Row], list[Row]]:
    """Return the tasks whose key, and the sessions whose id, begins with `prefix` (at most 5)."""
    key = prefix if prefix.startswith("v") else f"v1:{prefix}"
    tasks = rows(connection, SQL["find_tasks"], {"prefix": key})
    sessions = rows(connection, SQL["find_sessions"], {"prefix": prefix})
    return [row._asdict() for row in tasks], [row._asdict() for row in sessions]


def attempts(
    connection: Connection, *, task_id: int | None = None, session_id: UUID | None = None
) -> list[Row]:
    """Return the attempts of a task or of a session, oldest first, with their session's end."""
    values = {"task_id": task_id, "session_id": session_id}
    return [row._asdict() for row in rows(connection, SQL["attempts"], values)]


def _engines(found: Sequence[Any]) -> list[EngineStanding]:
    by_engine: dict[int, list[Any]] = {}
    for row in found:
        by_engine.setdefault(row.engine_id, []).append(row)
    return [_engine(of_one) for of_one in by_engine.values()]


def _engine(found: Sequence[Any]) -> EngineStanding:
    first = found[0]
    tp = f" tp{first.tensor_parallel}" if first.tensor_parallel > 1 else ""

    def of(*states: TaskState) -> int:
        return sum(row.tasks for row in found if row.state in states)

    def why(state: TaskState) -> dict[str, int]:
        return {row.reason: row.tasks for row in found if row.state == state}

    return EngineStanding(
        engine_id=first.engine_id,
        engine=f"{first.backend} {first.model}{tp} on {first.board}",
        done=of(TaskState.DONE),
        left=of(TaskState.PENDING, TaskState.LEASED),
        failed=of(TaskState.QUARANTINED),
        excluded=of(TaskState.EXCLUDED),
        reasons=why(TaskState.QUARANTINED),
        exclusions=why(TaskState.EXCLUDED),
    )


def _joules(found: Sequence[Any]) -> Joules:
    by_reality = {row.reality: row.energy_j for row in found}
    estimates = [r.energy_estimated_j for r in found if r.energy_estimated_j is not None]
    return Joules(
        measured_j=by_reality.get(Reality.REAL),
        simulated_j=by_reality.get(Reality.SIMULATED),
        external_j=by_reality.get(Reality.EXTERNAL),
        estimated_j=sum(estimates) if estimates else None,
        windows_without_energy=sum(row.windows_without_energy for row in found),
    )


def _last_line(row: dict[str, Any]) -> Row:
    """Return a failure with the last line of its traceback instead of all of it."""
    lines = (row["error"] or "").strip().splitlines()
    return {**row, "error": lines[-1].strip() if lines else None}
