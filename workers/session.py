"""One session: a board group locked, an engine loaded, its tasks drained, everything written.

Order: board lock → board empty → load → model resident → tasks until none remain → resident
again. A session never raises for what happens to an engine or a task: it writes what happened
and reports how it ended. It never measures without the board lock and a lease.
"""

from __future__ import annotations

import platform
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from db.errors import CampaignError, ConfigError, EngineFault, NodeUnfit, StoreUnavailable
from db.leases import Leases
from db.place import opened
from db.progress import is_claimable
from db.readings import Window, WindowKind
from db.records import Reality
from db.results import close_session, describe_session, open_session, write_windows
from db.store import Store
from workers.allowance import Allowance
from workers.assignment import Assignment, Ending, Report
from workers.attempts import SLACK_S, Attempts
from workers.boardlock import BoardLock
from workers.deadline import Timekeeper
from workers.engines.registry import require_board
from workers.group import WrongBoard, verify, verify_cpu, wait_until_empty
from workers.heart import Heart
from workers.killpoints import reach
from workers.process import this_process
from workers.protocol import idle
from workers.rig import Rig, open_rig
from workers.spool import Spool
from workers.transcript import tail


class Session:
    """Runs one assignment in the calling process and thread."""

    def __init__(
        self,
        assignment: Assignment,
        gpu_uuids: Sequence[str],
        idle_uuids: Sequence[str] = (),
        allow: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Name the work and the GPUs of the group; nothing is touched yet.

        `idle_uuids` are GPUs beside it that nobody is to measure on meanwhile; `allow` tells
        whoever ends a session that hangs how many seconds more this one may take.
        """
        self._job = assignment
        self._gpu_uuids = tuple(gpu_uuids)
        self._idle_uuids = tuple(idle_uuids)
        self._allow = allow
        self._stop = threading.Event()
        self.report = Report()

    def stop(self) -> None:
        """Ask the session to end after the task it is measuring; safe from another thread.

        What the store does not take then stays in the spool.
        """
        self._stop.set()

    def run(self) -> Report:
        """Hold the board, load, drain, and report; errors end in the report and the store."""
        job = self._job
        self._allow(job.lock_wait_s + job.empty_wait_s + job.task_deadline_s + SLACK_S)
        try:
            with opened(job.place, patient=True, hurry=self._stop) as place:
                self._hold_board(place.store)
        except StoreUnavailable as error:
            self._ended(Ending.STORE_AWAY, error)
        except NodeUnfit as unfit:
            self._ended(Ending.UNFIT, unfit)
        except ConfigError as error:
            self._ended(Ending.REFUSED, error)
        except CampaignError as error:
            self._ended(Ending.FAILED, error)
        return self.report

    def _hold_board(self, store: Store) -> None:
        job = self._job
        claimed = job.engine.backend == "simulated" and not self._gpu_uuids
        boards = (*self._gpu_uuids, *self._idle_uuids) or (job.engine.board,)
        lock = BoardLock(() if claimed else boards)
        deadline_s = time.monotonic() + job.lock_wait_s
        while not lock.acquire():
            if self._stop.is_set() or not self._claimable(store):
                return
            if time.monotonic() > deadline_s:
                raise NodeUnfit(f"{job.engine.board} is held by another session of this host")
            time.sleep(0.2)
        try:
            if self._claimable(store):
                wait_until_empty(self._gpu_uuids, job.empty_wait_s)
                self._hold_engine(store)
        finally:
            lock.release()

    def _claimable(self, store: Store) -> bool:
        job = self._job
        return store.retrying(lambda c: is_claimable(c, job.campaign_id, job.engine_id))

    def _hold_engine(self, store: Store) -> None:
        """Open the session's row, load, drain; the row is closed unless the store stays away."""
        job, outcome, words = self._job, "ended", None
        self._open_row(store)
        try:
            with ExitStack() as stack:
                rig = self._open_rig(stack)
                self._load(store, rig)
                self._drain(store, rig, stack)
            words = self.report.error  # of an engine that a task may have broken
        except EngineFault as fault:
            outcome, words = "failed", traceback.format_exc()
            self._ended(Ending.ENGINE_FAILED, fault)
            self.report.kind, self.report.permanent = fault.kind, fault.permanent
        except NodeUnfit as unfit:
            outcome, words = "failed", str(unfit)
            self._ended(Ending.UNFIT, unfit)
            self.report.kind = "wrong_board" if isinstance(unfit, WrongBoard) else None
        except StoreUnavailable:
            raise  # whoever finds the session's process gone closes its row
        except Exception as error:  # noqa: BLE001 - a defect: written with its traceback
            outcome, words = "failed", traceback.format_exc()
            if self.report.ending is not Ending.BROKEN:  # a broken engine may not close either
                self._ended(Ending.FAILED, error)
        last = tail(job.transcript)
        store.retrying(
            lambda c: close_session(c, job.session_id, outcome, error=words, stderr_tail=last)
        )

    def _open_row(self, store: Store) -> None:
        job = self._job
        store.retrying(
            lambda c: open_session(
                c,
                job.session_id,
                campaign_id=job.campaign_id,
                engine_id=job.engine_id,
                owner=this_process(),
                gpu_uuids=self._gpu_uuids,
                meter="+".join(job.rig.meters),
                reality=job.reality,
            )
        )

    def _open_rig(self, stack: ExitStack) -> Rig:
        """Open engine and meter on the board the tasks name, in their reality, or refuse."""
        spec = self._job.engine
        claimed = spec.backend == "simulated" and not self._gpu_uuids
        if not claimed and spec.board.startswith("cpu:"):
            verify_cpu(spec.board)
        elif not claimed:
            verify(self._gpu_uuids, self._job.rig.board, spec.board_count, spec.power_limit_w)
        rig = open_rig(self._job.rig, self._job.engine, self._gpu_uuids)
        stack.callback(rig.meter.shutdown)
        stack.callback(rig.engine.close)
        if rig.meter.reality is not self._job.reality:
            raise NodeUnfit(f"the meter here is {rig.meter.reality}, the task {self._job.reality}")
        return rig

    def _load(self, store: Store, rig: Rig) -> None:
        """Meter the empty board, the load and the resident model; write what the engine says."""
        job = self._job
        self._allow(job.task_deadline_s + SLACK_S)
        windows = [idle(rig, job.idle_s, WindowKind.IDLE_EMPTY)]
        rig.engine.prepare()
        self._allow(job.task_deadline_s + SLACK_S)
        rig.meter.open()
        try:
            loaded = rig.engine.load()
        finally:
            reading = rig.meter.close()
        if job.reality is Reality.REAL:
            require_board(job.engine, loaded)
        windows.append(Window(kind=WindowKind.LOAD, ordinal=0, reading=reading))
        self.report.load_s = reading.duration_s
        windows.append(idle(rig, job.idle_s, WindowKind.IDLE_RESIDENT))
        rig.meter.freeze_processes()
        software = {"kernel": platform.release(), **rig.meter.software, **loaded.software}
        described = replace(loaded, software=software)
        store.retrying(
            lambda c: describe_session(c, job.session_id, described, windows, rig.meter.name)
        )
        reach("loaded")

    def _drain(self, store: Store, rig: Rig, stack: ExitStack) -> None:
        """Measure tasks of one replicate until none remain or the session is asked to stop."""
        job = self._job
        leases, spool = Leases(store, job.policy), Spool(Path(job.spool)) if job.spool else None
        keeper = Timekeeper(job.deadline)
        if spool is not None:
            spool.deliver(leases, store.where)  # of other sessions on this host
        heart = stack.enter_context(Heart(leases, spool))
        attempts = Attempts(
            leases=leases,
            heart=heart,
            rig=rig,
            campaign_id=job.campaign_id,
            engine_id=job.engine_id,
            session_id=job.session_id,
            stopped=self._stop,
            allowance=Allowance(job.engine, job.rig.board, job.task_deadline_s),
            transcript=job.transcript,
            store=store.where,
            spool=spool,
            keeper=keeper,
            allow=self._allow,
        )
        while (outcome := attempts.next()) is not None:
            self.report.count(outcome)
        self.report.slowness = keeper.slowness
        if (broken := attempts.broken) is not None:  # nor is it known what would idle now
            self.report.ending, self.report.kind = Ending.BROKEN, broken.kind
            self.report.error = " ".join(str(broken).split())
            return
        self._allow(job.idle_s + 2 * store.patience_s + SLACK_S)
        last = idle(rig, job.idle_s, WindowKind.IDLE_END)
        store.retrying(lambda c: write_windows(c, [last], job.session_id, None))
        if self._stop.is_set():
            self.report.ending = Ending.STOPPED
        elif keeper.fitting() == [] and self._claimable(store):
            self.report.ending = Ending.OUT_OF_TIME

    def _ended(self, ending: Ending, error: BaseException) -> None:
        self.report.ending = ending
        self.report.error = str(error)
