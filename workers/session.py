"""One session: a board group locked, an engine loaded, its tasks drained, everything written.

Order: board lock → board empty → load → model resident → tasks until none remain → resident
again. A session never raises for what happens to an engine or a task: it writes what happened
and reports how it ended. It never measures without the board lock and a lease.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from db.campaigns import progress
from db.errors import (
    CampaignError,
    EngineFault,
    InvalidMeasurement,
    LeaseLost,
    NodeUnfit,
    StoreUnavailable,
    TaskFault,
)
from db.leases import Claim, LeasePolicy, Leases
from db.place import Place, opened
from db.records import EngineSpec, Outcome, Reality, Window, WindowKind
from db.results import close_session, describe_session, open_session, write_windows
from db.store import Store
from workers.boardlock import BoardLock
from workers.heart import Heart
from workers.killpoints import reach
from workers.process import this_process
from workers.protocol import idle, measure
from workers.rig import Rig, RigPlan, open_rig

log = logging.getLogger("campaign.session")

#: How much of the engine's stderr is kept.
TAIL_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Everything a session needs to know; travels to the actor.

    `idle_s` is the length of the idle windows, `task_deadline_s` bounds an attempt, `lock_wait_s`
    how long to wait for the board, `stderr` the file the process' stderr goes to.
    """

    session_id: uuid.UUID
    campaign_id: int
    engine_id: int
    engine: EngineSpec
    reality: Reality
    place: Place
    policy: LeasePolicy
    rig: RigPlan
    idle_s: float
    task_deadline_s: float
    lock_wait_s: float
    stderr: str | None = None


class Ending(StrEnum):
    """How a session ended; the comment is what the driver does next."""

    DRAINED = "drained"  # no task of the engine is left to claim
    STOPPED = "stopped"  # asked to: nothing
    ENGINE_FAILED = "engine_failed"  # try again, or quarantine the engine
    UNFIT = "unfit"  # never dispatch to this board again in this run
    FAILED = "failed"  # a defect or a store that stays away: tell the person


@dataclass(slots=True, kw_only=True)
class Report:
    """What the driver learns of a session; the store has the details."""

    ending: Ending = Ending.DRAINED
    kind: str | None = None
    error: str | None = None
    permanent: bool = False
    outcomes: dict[str, int] = field(default_factory=dict)
    load_s: float | None = None

    def count(self, outcome: Outcome) -> None:
        """Count an attempt by its outcome."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1


class Session:
    """Runs one assignment in the calling process and thread."""

    def __init__(self, assignment: Assignment, gpu_uuids: Sequence[str]) -> None:
        """Name the work and the GPUs of the group; nothing is touched yet."""
        self._job = assignment
        self._gpu_uuids = tuple(gpu_uuids)
        self._stop = threading.Event()
        self.report = Report()

    def stop(self) -> None:
        """Ask the session to end after the task it is measuring; safe from another thread."""
        self._stop.set()

    def run(self) -> Report:
        """Hold the board, load, drain, and report; errors end in the report and the store."""
        try:
            with opened(self._job.place) as place:
                self._hold_board(place.store)
        except CampaignError as error:
            self._ended(Ending.FAILED, error)
        return self.report

    def _hold_board(self, store: Store) -> None:
        job = self._job
        boards = self._gpu_uuids or (job.engine.board,)
        lock = BoardLock(() if job.engine.backend == "simulated" else boards)
        deadline_s = time.monotonic() + job.lock_wait_s
        while not lock.acquire():
            if self._stop.is_set() or not self._claimable(store):
                return
            if time.monotonic() > deadline_s:
                message = f"{job.engine.board} is held by another session of this host"
                self._ended(Ending.UNFIT, NodeUnfit(message))
                return
            time.sleep(0.2)
        try:
            if self._claimable(store):
                self._hold_engine(store)
        finally:
            lock.release()

    def _claimable(self, store: Store) -> bool:
        job = self._job
        found = store.retrying(lambda c: progress(c, job.campaign_id)).get(job.engine_id)
        return found is not None and found.claimable > 0

    def _hold_engine(self, store: Store) -> None:
        """Open the session's row, load, drain; close the row whatever happens."""
        job, outcome, words = self._job, "ended", None
        rig = open_rig(job.rig, job.engine, self._gpu_uuids)
        try:
            self._check_reality(rig)
            store.retrying(
                lambda c: open_session(
                    c,
                    job.session_id,
                    campaign_id=job.campaign_id,
                    engine_id=job.engine_id,
                    owner=this_process(),
                    gpu_uuids=self._gpu_uuids,
                    meter=rig.meter.name,
                    reality=rig.meter.reality,
                )
            )
            self._load(store, rig)
            self._drain(store, rig)
        except EngineFault as fault:
            outcome, words = "failed", traceback.format_exc()
            self._ended(Ending.ENGINE_FAILED, fault)
            self.report.kind, self.report.permanent = fault.kind, fault.permanent
        except NodeUnfit as unfit:
            outcome, words = "failed", str(unfit)
            self._ended(Ending.UNFIT, unfit)
        except Exception as error:  # noqa: BLE001 - a defect: written with its traceback, then reported
            outcome, words = "failed", traceback.format_exc()
            self._ended(Ending.FAILED, error)
        finally:
            rig.engine.close()
            rig.meter.shutdown()
            tail = self._stderr_tail()
            store.retrying(
                lambda c: close_session(c, job.session_id, outcome, error=words, stderr_tail=tail)
            )

    def _check_reality(self, rig: Rig) -> None:
        """Refuse to fill a task of one reality with numbers of another."""
        if rig.meter.reality is not self._job.reality:
            raise NodeUnfit(f"the meter here is {rig.meter.reality}, the task {self._job.reality}")

    def _load(self, store: Store, rig: Rig) -> None:
        """Meter the empty board, the load and the resident model; write what the engine says."""
        job = self._job
        windows = [idle(rig, job.idle_s, WindowKind.IDLE_EMPTY)]
        rig.engine.prepare()
        rig.meter.open()
        try:
            loaded = rig.engine.load()
        finally:
            reading = rig.meter.close()
        windows.append(Window(kind=WindowKind.LOAD, ordinal=0, reading=reading))
        self.report.load_s = reading.duration_s
        windows.append(idle(rig, job.idle_s, WindowKind.IDLE_RESIDENT))
        rig.meter.freeze_processes()

        store.retrying(lambda c: describe_session(c, job.session_id, loaded, windows))
        reach("loaded")

    def _drain(self, store: Store, rig: Rig) -> None:
        """Claim and measure tasks until none remain or the session is asked to stop."""
        job = self._job
        leases = Leases(store, job.policy)
        while not self._stop.is_set():
            claim = leases.claim(job.campaign_id, job.engine_id, job.session_id)
            if claim is None:
                break
            reach("claimed")
            self.report.count(self._attempt(leases, rig, claim))
        last = idle(rig, job.idle_s, WindowKind.IDLE_END)
        store.retrying(lambda c: write_windows(c, [last], job.session_id, None))
        if self._stop.is_set():
            self.report.ending = Ending.STOPPED

    def _attempt(self, leases: Leases, rig: Rig, claim: Claim) -> Outcome:
        """Measure one claimed task and write how it ended."""
        session_id = self._job.session_id
        try:
            with Heart(leases, claim, session_id, self._job.task_deadline_s) as heart:
                measurement = measure(rig, claim, heart.check)
                reach("measured")
                outcome = leases.finish(claim.lease_id, session_id, measurement)
            reach("written")
            return outcome
        except LeaseLost as error:
            log.warning("lease_lost task=%s %s", claim.key, error)
            return Outcome.LOST
        except InvalidMeasurement as invalid:
            leases.give_back(
                claim.lease_id,
                session_id,
                Outcome.INVALID,
                kind=invalid.gate,
                error=str(invalid),
                measurement=invalid.measurement,
            )
            return Outcome.INVALID
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - an unknown exception is this task's fault
            self._fault(leases, claim, error)
            return Outcome.FAULTED

    def _fault(self, leases: Leases, claim: Claim, error: Exception) -> None:
        """Write a faulted attempt with its traceback; an unknown exception is a fault, too."""
        known = error if isinstance(error, TaskFault) else TaskFault("unexpected", str(error))
        leases.give_back(
            claim.lease_id,
            self._job.session_id,
            Outcome.FAULTED,
            kind=known.kind,
            error="".join(traceback.format_exception(error)) + self._stderr_tail(),
            permanent=known.permanent,
        )
        if known.kind == "out_of_memory":
            leases.exclude_larger(claim.task_id)

    def _ended(self, ending: Ending, error: BaseException) -> None:
        self.report.ending = ending
        self.report.error = str(error)

    def _stderr_tail(self) -> str:
        """Return the last 16 KB of the session's stderr; empty if it was not captured."""
        if self._job.stderr is None:
            return ""
        with Path(self._job.stderr).open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - TAIL_BYTES))
            return stream.read().decode(errors="replace").replace("\0", "")
