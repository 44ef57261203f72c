"""What people may change by hand: void results, and give failed tasks another chance.

Owns the two statements of mending.sql. Never deletes a row, never touches a leased task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from db.records import TaskState
from db.standing import find
from db.store import Store, rows, statements

SQL = statements("mending.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which tasks are meant: all given conditions together; None asks for nothing."""

    keys: Sequence[str] | None = None
    campaign_id: int | None = None
    model: str | None = None
    gate: str | None = None

    @property
    def values(self) -> dict[str, Any]:
        """Parameters of the statements."""
        return {
            "keys": None if self.keys is None else list(self.keys),
            "campaign_id": self.campaign_id,
            "model": self.model,
            "gate": self.gate,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """A task that is pending again. `was` is its state before, ``done`` or ``quarantined``."""

    key: str
    was: TaskState
    engine: str
    workload: str
    replicate: int
    campaigns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a selection may name: campaigns with their id, models, gates that fired."""

    campaigns: Mapping[str, int]
    models: Sequence[str]
    gates: Sequence[str]


def known(store: Store) -> Known:
    """Return what a selection may name in this store."""
    with store.begin() as connection:
        return Known(
            campaigns={row.name: row.id for row in rows(connection, SQL["campaigns"], {})},
            models=[row.model for row in rows(connection, SQL["models"], {})],
            gates=[row.gate for row in rows(connection, SQL["gates"], {})],
        )


def keys(store: Store, prefix: str) -> list[str]:
    """Return the keys of tasks that begin so, at most five."""
    with store.begin() as connection:
        return [str(task["key"]) for task in find(connection, prefix)[0]]


def void(
    store: Store, selection: Selection, reason: str, *, dry_run: bool = False
) -> tuple[Mended, ...]:
    """Void accepted results: their tasks are pending again, their rows stay with the reason."""
    return _mend(store, SQL["void"], {**selection.values, "reason": reason}, dry_run=dry_run)


def retry(store: Store, selection: Selection, *, dry_run: bool = False) -> tuple[Mended, ...]:
    """Make quarantined tasks pending; with a gate, those it voided and the results it marked."""
    values = {**selection.values, "reason": f"retry: {selection.gate}"}
    return _mend(store, SQL["retry"], values, dry_run=dry_run)


def _mend(
    store: Store, statement: str, values: dict[str, Any], *, dry_run: bool
) -> tuple[Mended, ...]:
    """Run one statement; a dry run is the same statement, taken back."""
    with store.begin() as connection:
        within = connection.begin_nested()
        was = {row.id: TaskState(row.was) for row in rows(connection, statement, values)}
        if dry_run:
            within.rollback()
        return _described(connection, was)


def _described(connection: Connection, was: dict[int, TaskState]) -> tuple[Mended, ...]:
    return tuple(
        Mended(
            key=row.key,
            was=was[row.id],
            engine=f"{row.backend} {row.model} on {row.board}",
            workload=row.workload,
            replicate=row.replicate,
            campaigns=tuple(row.campaigns),
        )
        for row in rows(connection, SQL["describe"], {"ids": list(was)})
    )
