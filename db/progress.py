"""How far a campaign is: its tasks by state, what is left of each engine, its joules so far.

Owns the counting statements of progress.sql, which the driver sends again and again: they read
what is left, and of what is done nothing but how much it is. Never writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from db.records import TaskState
from db.store import rows, statements

SQL = statements("progress.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Tasks of one engine that are pending or leased; `claimable` are pending, not held back."""

    unfinished: int = 0
    claimable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Tasks of a campaign by state, and what is `left` of each engine, by its id.

    States and engines without any are not there.
    """

    states: Mapping[str, int]
    left: Mapping[int, Left]

    def count(self, *states: TaskState) -> int:
        """Return the tasks in these states."""
        return sum(self.states.get(state, 0) for state in states)

    @property
    def unfinished(self) -> int:
        """Tasks that are pending or leased."""
        return self.count(TaskState.PENDING, TaskState.LEASED)


def progress(connection: Connection, campaign_id: int) -> Progress:
    """Return the progress of a campaign."""
    states: dict[str, int] = {}
    left: dict[int, Left] = {}
    for row in rows(connection, SQL["progress"], {"campaign_id": campaign_id}):
        if row.tasks:
            states[row.state] = states.get(row.state, 0) + row.tasks
        if row.state in (TaskState.PENDING, TaskState.LEASED):
            known = left.get(row.engine_id, Left())
            left[row.engine_id] = Left(
                unfinished=known.unfinished + row.tasks,
                claimable=known.claimable + row.claimable,
            )
    return Progress(states=states, left=left)


def is_claimable(connection: Connection, campaign_id: int, engine_id: int) -> bool:
    """Whether a campaign has a task of an engine that could be claimed now."""
    values = {"campaign_id": campaign_id, "engine_id": engine_id}
    return bool(rows(connection, SQL["claimable"], values))


def joules(connection: Connection, campaign_id: int) -> tuple[float | None, float | None]:
    """Return (measured, estimated) joules of a campaign's accepted windows; None where none is."""
    found = rows(connection, SQL["joules"], {"campaign_id": campaign_id})[0]
    return found.energy_j, found.energy_estimated_j
