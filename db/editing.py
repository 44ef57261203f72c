"""What an edit of a campaign's grid brought and took away, and which tasks of it still wait.

Nothing here changes a task: one that is no longer asked for stays in the store with its results.
Everything here runs inside a transaction the caller opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from db.campaigns import read_protocol
from db.records import EngineSpec, Reality, Task
from db.store import rows, statements
from db.workloads import read_workload

SQL = statements("editing.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Tasks that a campaign asks for anew and no longer; `measured` ones among the latter."""

    added: int
    dropped: int
    measured: int

    @property
    def words(self) -> str:
        """What changed, in a line; empty if nothing did."""
        tasks = "task" if self.added == 1 else "tasks"
        parts = [f"{self.added} {tasks} added"] if self.added else []
        if self.dropped:
            kept = f", {self.measured} of them measured and kept" if self.measured else ""
            parts.append(f"{self.dropped} no longer in it{kept}")
        return ", ".join(parts)


def edited(connection: Connection, campaign_id: int, change: Callable[[], object]) -> Edit | None:
    """Return what `change` did to the tasks of a campaign; None if it had none before."""
    values = {"campaign_id": campaign_id}
    connection.exec_driver_sql(SQL["note"], values)
    change()
    found = rows(connection, SQL["compare"], values)[0]
    connection.exec_driver_sql(SQL["forget"])
    if not found.before:
        return None
    return Edit(added=found.added, dropped=found.dropped, measured=found.measured)


def waiting_tasks(
    connection: Connection, campaign_id: int, engine_id: int, engine: EngineSpec
) -> list[Task]:
    """Return the tasks of an engine that a campaign could claim now."""
    values = {"campaign_id": campaign_id, "engine_id": engine_id}
    found = rows(connection, SQL["waiting"], values)
    asked = {row.protocol_id for row in found}
    protocols = {protocol: read_protocol(connection, protocol) for protocol in asked}
    return [
        Task(
            key=row.key,
            engine=engine,
            workload=read_workload(row),
            protocol=protocols[row.protocol_id],
            reality=Reality(row.reality),
            replicate=row.replicate,
        )
        for row in found
    ]
