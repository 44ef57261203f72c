"""Claim, beat, finish, give back, reap: the only statements that move a task between states.

Each method is one statement of leases.sql in one transaction, and may be sent again when a reply
was lost: it then returns what was decided the first time.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from db.campaigns import read_protocol
from db.errors import LeaseLost
from db.readings import Measurement
from db.records import MeasurementProtocol, Outcome, Reality, TaskState, Workload
from db.results import write_windows
from db.storable import storable_text
from db.store import Store, rows, statements
from db.workloads import read_workload

SQL = statements("leases.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasePolicy:
    """How long a lease holds and how often a task may fail.

    A task is quarantined at the `max_*`-th attempt of that kind; `retry_delay_s` is waited
    before a faulted task is claimed again.
    """

    lease_s: float = 90.0
    beat_s: float = 15.0
    max_faults: int = 3
    max_lost: int = 3
    max_invalid: int = 2
    retry_delay_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A leased task: what to measure, and the token to write it with."""

    task_id: int
    key: str
    lease_id: uuid.UUID
    workload: Workload
    protocol: MeasurementProtocol
    reality: Reality
    replicate: int


class Leases:
    """The lease statements of one store under one policy."""

    def __init__(self, store: Store, policy: LeasePolicy) -> None:
        """Keep both; nothing is sent yet."""
        self._store = store
        self.policy = policy

    def claim(self, campaign_id: int, engine_id: int, session_id: uuid.UUID) -> Claim | None:
        """Lease the next pending task of an engine; None when there is none now."""
        try:
            return self._claim(campaign_id, engine_id, session_id)
        except IntegrityError:  # opened, its reply lost, and taken back before it was sent again
            return self._claim(campaign_id, engine_id, session_id)

    def _claim(self, campaign_id: int, engine_id: int, session_id: uuid.UUID) -> Claim | None:
        lease_id = uuid.uuid4()
        values = {
            "campaign_id": campaign_id,
            "engine_id": engine_id,
            "session_id": session_id,
            "lease_id": lease_id,
            "lease_s": self.policy.lease_s,
        }

        def work(connection: Connection) -> Claim | None:
            found = rows(connection, SQL["claim"], values)
            return _claim(connection, found[0], lease_id) if found else None

        return self._store.retrying(work)

    def beat(self, lease_id: uuid.UUID) -> None:
        """Extend a lease; raises LeaseLost when it is no longer held."""
        values = {"lease_id": lease_id, "lease_s": self.policy.lease_s}
        if not self._send("beat", values):
            raise LeaseLost(f"lease {lease_id} was reaped or settled elsewhere")

    def finish(
        self, lease_id: uuid.UUID, session_id: uuid.UUID, measurement: Measurement
    ) -> Outcome:
        """Write a measurement; returns OK if it is the task's result, else SUPERSEDED.

        Returns the outcome it had before if the attempt had been closed by its own session.
        """
        values = {
            "lease_id": lease_id,
            "warmup_batches": measurement.warmup_batches,
            "marks": list(measurement.marks),
        }

        def work(connection: Connection) -> Outcome:
            written = rows(connection, SQL["finish"], values)
            if not written:
                return Outcome(_decided(connection, lease_id).outcome)
            write_windows(connection, measurement.windows, session_id, written[0].id)
            return Outcome(written[0].outcome)

        return self._store.retrying(work)

    def give_back(
        self,
        lease_id: uuid.UUID,
        session_id: uuid.UUID,
        outcome: Outcome,
        *,
        kind: str | None = None,
        error: str | None = None,
        permanent: bool = False,
        measurement: Measurement | None = None,
    ) -> TaskState | None:
        """Close an attempt without a result; returns the task's state, None if no longer ours.

        The windows of a voided measurement are kept with the attempt.
        """
        policy = self.policy
        values = {
            "lease_id": lease_id,
            "outcome": str(outcome),
            "kind": kind,
            "error": storable_text(error),
            "permanent": permanent,
            "marks": list(measurement.marks) if measurement else [],
            "delay_s": policy.retry_delay_s if outcome is Outcome.FAULTED else 0.0,
            "max_faults": policy.max_faults,
            "max_invalid": policy.max_invalid,
        }

        def work(connection: Connection) -> TaskState | None:
            closed = rows(connection, SQL["give_back"], values)
            if not closed:
                decided = _decided(connection, lease_id)
                return TaskState(decided.state) if decided.outcome == outcome else None
            if measurement is not None:
                write_windows(connection, measurement.windows, session_id, closed[0].id)
            return TaskState(closed[0].state)

        return self._store.retrying(work)

    def reap(self) -> int:
        """Take back expired leases; returns how many."""
        return len(
            self._send("reap", {"lease_s": self.policy.lease_s, "max_lost": self.policy.max_lost})
        )

    def bury(self, sessions: Sequence[uuid.UUID]) -> int:
        """Take back what sessions known to be dead hold; returns how many leases."""
        values = {"sessions": list(sessions), "max_lost": self.policy.max_lost}
        return len(self._send("bury", values))

    def attempted(self, session_id: uuid.UUID) -> bool:
        """Whether a session has claimed any task."""
        return bool(self._send("attempted", {"session_id": session_id}))

    def release(self, sessions: Sequence[uuid.UUID]) -> int:
        """Give back, free of charge, what the sessions hold; returns how many leases."""
        return len(self._send("release", {"sessions": list(sessions)}))

    def quarantine_engine(self, campaign_id: int, engine_id: int, reason: str) -> int:
        """Quarantine an engine's remaining tasks of a campaign; returns how many."""
        values = {"campaign_id": campaign_id, "engine_id": engine_id, "reason": reason}
        return len(self._send("quarantine_engine", values))

    def exclude_larger(self, task_id: int) -> int:
        """Exclude what is provably larger than a task that ran out of memory; returns how many."""
        return len(self._send("exclude_larger", {"task_id": task_id}))

    def open_sessions(self, boot: str) -> list[Any]:
        """Return (id, pid, pid_started_s) of the sessions of a host that have not ended."""
        return self._send("open_sessions", {"boot": boot})

    def _send(self, name: str, values: dict[str, Any]) -> list[Any]:
        return self._store.retrying(lambda connection: rows(connection, SQL[name], values))


def _claim(connection: Connection, row: sa.Row[Any], lease_id: uuid.UUID) -> Claim:
    return Claim(
        task_id=row.id,
        key=row.key,
        lease_id=lease_id,
        workload=read_workload(row),
        protocol=read_protocol(connection, row.protocol_id),
        reality=Reality(row.reality),
        replicate=row.replicate,
    )


def _decided(connection: Connection, lease_id: uuid.UUID) -> sa.Row[Any]:
    """Return (outcome, state) of the attempt of a lease and its task."""
    known = rows(connection, SQL["decided"], {"lease_id": lease_id})
    if not known:
        raise LeaseLost(f"no attempt was ever opened with lease {lease_id}")
    decided: sa.Row[Any] = known[0]
    return decided
