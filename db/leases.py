"""Claim, beat, finish, give back, reap: the only statements that move a task between states.

Each method is one transaction and may be sent again when a reply was lost: it then returns what had
been decided. It is one statement of leases.sql, but for one that voids, and for a finish that
claims what comes next.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from db.errors import ConfigError, LeaseLost
from db.readings import Measurement
from db.records import MeasurementProtocol, Outcome, Reality, TaskState, Workload
from db.results import windows_values, with_windows, write_windows
from db.storable import storable_text
from db.store import Store, rows, statements, together
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


class Wanted(TypedDict):
    """Whose next task to lease, as `Leases.claim` takes it."""

    campaign_id: int
    engine_id: int
    session_id: uuid.UUID
    keys: Sequence[str] | None
    replicate: int | None


class Leases:
    """The lease statements of one store under one policy."""

    def __init__(self, store: Store, policy: LeasePolicy) -> None:
        """Keep both; nothing is sent yet."""
        self._store = store
        self.policy = policy

    @property
    def patience_s(self) -> float:
        """How long a store that is away is waited for."""
        return self._store.patience_s

    @property
    def where(self) -> str:
        """How people know the store."""
        return self._store.where

    def hasty(self) -> Leases:
        """Return the same leases, for which nobody waits longer than from beat to beat."""
        return Leases(self._store.within(self.policy.beat_s), self.policy)

    def claim(
        self,
        campaign_id: int,
        engine_id: int,
        session_id: uuid.UUID,
        keys: Sequence[str] | None = None,
        replicate: int | None = None,
    ) -> Claim | None:
        """Lease the next pending task of an engine; None without one.

        Of these `keys` and this `replicate`, where they are given.
        """
        wanted = Wanted(campaign_id=campaign_id, engine_id=engine_id, session_id=session_id,
                        keys=keys, replicate=replicate)  # fmt: skip
        try:
            return self._claim(wanted, uuid.uuid4())
        except IntegrityError:  # opened, its reply lost, and taken back before it was sent again
            return self._claim(wanted, uuid.uuid4())

    def _claim(self, wanted: Wanted, lease_id: uuid.UUID) -> Claim | None:
        values = self._claiming(wanted, lease_id)

        def work(connection: Connection) -> Claim | None:
            return _claimed(rows(connection, SQL["claim"], values), lease_id)

        return self._store.retrying(work)  # what this program cannot read, it does not claim

    def _claiming(self, wanted: Wanted, lease_id: uuid.UUID) -> dict[str, object]:
        return {**wanted, "lease_id": lease_id, "lease_s": self.policy.lease_s}

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
        values = _finishing(lease_id, session_id, measurement)

        def work(connection: Connection) -> Outcome:
            written = rows(connection, with_windows(SQL["finish"]), values)
            return _finished(connection, written, lease_id)

        return self._store.retrying(work, single=True)

    def finish_and_claim(
        self, lease_id: uuid.UUID, measurement: Measurement, wanted: Wanted
    ) -> tuple[Outcome, Claim | None]:
        """Write a measurement and lease the next task: both or neither, in one message and commit.

        Sent again it leases the same task. Without a claim none is known: there is no task, or the
        two could not be done together.
        """
        session_id, following = wanted["session_id"], uuid.uuid5(lease_id, "next")
        both = (
            (with_windows(SQL["finish"]), _finishing(lease_id, session_id, measurement)),
            (SQL["claim"], self._claiming(wanted, following)),
        )

        def work(connection: Connection) -> tuple[Outcome, list[Any]]:
            written, found = together(connection, *both)
            return _finished(connection, written, lease_id), found

        try:
            outcome, found = self._store.retrying(work, single=True)
        except psycopg.Error:  # of one of them: the measurement is not to pay for the claim
            return self.finish(lease_id, session_id, measurement), None
        try:
            return outcome, _claimed(found, following)
        except ConfigError:  # what this program cannot read, it gives back
            self.release([session_id])
            return outcome, None

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

        The windows of a voided measurement are kept with the attempt, also where it comes so late
        that it is superseded.
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
            rows(connection, SQL["hold"], {"lease_id": lease_id})
            closed = rows(connection, SQL["give_back"], values)
            if not closed:
                decided = _decided(connection, lease_id)
                return TaskState(decided.state) if decided.outcome == outcome else None
            if measurement is not None:
                write_windows(connection, measurement.windows, session_id, closed[0].id)
            return None if closed[0].state is None else TaskState(closed[0].state)

        return self._store.retrying(work)

    def require(self, lease_id: uuid.UUID, session_id: uuid.UUID, key: str) -> None:
        """Raise LeaseLost unless this session opened an attempt of this task with the lease."""
        known = self._send("known", {"lease_id": lease_id})
        if not known:
            raise LeaseLost(f"no attempt was ever opened with lease {lease_id}")
        if (known[0].session_id, known[0].key) != (session_id, key):
            raise LeaseLost(f"lease {lease_id} opened an attempt of {known[0].key}, not of {key}")

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
        return self._store.retrying(lambda c: rows(c, SQL[name], values), single=True)


def _finishing(
    lease_id: uuid.UUID, session_id: uuid.UUID, measurement: Measurement
) -> dict[str, object]:
    return {
        "lease_id": lease_id,
        "warmup_batches": measurement.warmup_batches,
        "marks": list(measurement.marks),
        **windows_values(measurement.windows, session_id),
    }


def _finished(connection: Connection, written: Sequence[Any], lease_id: uuid.UUID) -> Outcome:
    """Return what a finish counts as, now or when its attempt was closed."""
    return Outcome((written[0] if written else _decided(connection, lease_id)).outcome)


def _claimed(found: Sequence[Any], lease_id: uuid.UUID) -> Claim | None:
    """Return the task that was leased, if one was; ConfigError for what cannot be read."""
    if not found:
        return None
    row = found[0]
    return Claim(
        task_id=row.id,
        key=row.key,
        lease_id=lease_id,
        workload=read_workload(row),
        protocol=MeasurementProtocol(name=row.protocol, **row.numbers),
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
