"""Driving a campaign: dispatch its engines until nothing is left, then show the result.

The store is the only memory: whatever happened before, the driver asks it what is left, so the
same command is the resume. It dispatches engines, never tasks; sessions claim those.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType

from campaign.fleet import Fleet, Flight
from campaign.live import Live, Snapshot
from campaign.outcome import show_outcome
from campaign.prepare import Campaign, Work, prepare
from campaign.schedule import Waiting, schedule
from campaign.settings import Settings
from campaign.tabular import count_of
from db.campaigns import Progress, joules, progress
from db.errors import StoreUnavailable
from db.leases import LeasePolicy, Leases
from db.place import Place, opened
from db.store import Store
from workers.process import boot_id, is_alive
from workers.session import Assignment, Ending, Report

log = logging.getLogger("campaign.driver")

#: Loads of one engine that may fail before its remaining tasks are quarantined.
MAX_LOADS = 2
#: Sessions in a row that gave up waiting for the store before the run does.
MAX_STORES_AWAY = 2


def drive(settings: Settings, *, as_json: bool) -> int:
    """Run a campaign to its end; returns the exit code."""
    place = Place(
        url=settings.store.url, reader_url=settings.store.reader_url, folder=settings.store.path
    )
    prepared = prepare(settings, place)
    with opened(place) as store:
        campaign = prepared.enqueue(store.store)
        with Live() as live, _ray_words_aside(campaign.logs):
            live.say(campaign.news)
            interrupted = Driver(settings, campaign, place, store.store, live).run()
        complete = show_outcome(store.store, campaign, as_json=as_json)
    if interrupted:
        return 130
    return 0 if complete else 4


@contextmanager
def _ray_words_aside(logs: Path) -> Iterator[None]:
    """Send what Ray prints on stdout, which is for data, to a file beside the sessions' logs."""
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / "ray.log").open("a", encoding="utf-8") as file, redirect_stdout(file):
        yield


class Driver:
    """Dispatches a campaign's engines to boards until nothing is left that could run here."""

    def __init__(
        self, settings: Settings, campaign: Campaign, place: Place, store: Store, live: Live
    ) -> None:
        """Prepare the fleet; Ray starts only if there is something to measure."""
        self._settings = settings
        self._campaign = campaign
        self._place = place
        self._store = store
        self._live = live
        self._leases = Leases(store, _policy(settings))
        self._fleet = Fleet(
            settings.cluster.address, campaign.boards, settings.cluster.creation_deadline_s
        )
        self._interrupts = 0
        self._draining = False
        self._woken = threading.Event()
        self._failed_loads: Counter[int] = Counter()
        self._unfit: set[int] = set()
        self._stores_away = 0
        self._began_s = time.monotonic()
        self._done_before = 0

    def run(self) -> bool:
        """Drain the campaign; returns whether a person interrupted it."""
        self._take_back()
        found = self._progress()
        self._done_before = _count(found, "done")
        if not any(p.unfinished for p in found.values()):
            return False
        self._fleet.start()
        store_answers = True
        try:
            with self._listening():
                while self._step():
                    pass
        except StoreUnavailable:
            store_answers = False
            raise
        finally:
            self._leave(store_answers=store_answers)
        return self._interrupts > 0

    def _step(self) -> bool:
        """Take back, show, dispatch, wait for a session to end; returns whether to go on."""
        self._take_back()
        found = self._progress()
        self._show(found)
        if self._interrupts == 0:
            self._dispatch(found)
        elif not self._draining:
            self._draining = True
            self._live.say("finishing the tasks in work; once more to give them back at once")
            self._fleet.stop_sessions()
        for flight, report in self._fleet.landed(timeout_s=1.0):
            self._land(flight, report)
        if self._interrupts > 1:
            return False
        if self._fleet.flights:
            return True
        if self._interrupts or not self._hopeful(self._progress()):
            return False
        self._woken.wait(0.5)
        return True

    def _progress(self) -> dict[int, Progress]:
        return self._store.retrying(lambda c: progress(c, self._campaign.id))

    def _take_back(self) -> None:
        """Reap expired leases; bury sessions of this host whose process is dead, at once."""
        self._leases.reap()
        sessions = self._leases.open_sessions(boot_id())
        dead = [s.id for s in sessions if not is_alive(s.pid, s.pid_started_s)]
        if dead:
            self._leases.bury(dead)

    def _hopeful(self, found: Mapping[int, Progress]) -> bool:
        """Whether an engine that could run here has unfinished tasks."""
        slots = self._fleet.slots()
        return any(
            p.unfinished and i not in self._unfit and self._campaign.engines[i].fits(slots)
            for i, p in found.items()
        )

    def _dispatch(self, found: Mapping[int, Progress]) -> None:
        free = Counter(self._fleet.slots())
        holders: Counter[int] = Counter()
        for flight in self._fleet.flights:
            engine = flight.assignment.engine
            free[engine.board] -= engine.board_count
            holders[flight.assignment.engine_id] += 1
        waiting = [
            self._waiting(i, p, holders[i]) for i, p in found.items() if i not in self._unfit
        ]
        for engine_id in schedule(waiting, free):
            work = self._campaign.engines[engine_id]
            self._live.say(f"loading {work.engine.label}")
            self._fleet.launch(self._assignment(work, engine_id))

    def _waiting(self, engine_id: int, found: Progress, holders: int) -> Waiting:
        work = self._campaign.engines[engine_id]
        return Waiting(
            engine_id=engine_id,
            board=work.engine.board,
            board_count=work.engine.board_count,
            claimable=found.claimable,
            remaining_s=found.claimable * work.task_s,
            load_s=work.load_s,
            holders=holders,
        )

    def _assignment(self, work: Work, engine_id: int) -> Assignment:
        settings, session_id = self._settings, uuid.uuid4()
        return Assignment(
            session_id=session_id,
            campaign_id=self._campaign.id,
            engine_id=engine_id,
            engine=work.engine,
            reality=self._campaign.reality,
            place=self._place,
            policy=self._leases.policy,
            rig=work.rig,
            idle_s=settings.protocol.idle_s,
            task_deadline_s=settings.store.task_deadline_s,
            lock_wait_s=settings.cluster.board_wait_s,
            transcript=str(self._campaign.logs / f"{session_id}.log"),
        )

    def _land(self, flight: Flight, report: Report) -> None:
        """Settle a session that ended: its leases, and what its engine deserves."""
        job = flight.assignment
        self._stores_away = self._stores_away + 1 if report.ending is Ending.STORE_AWAY else 0
        if report.ending in (Ending.DRAINED, Ending.STOPPED):
            self._failed_loads.pop(job.engine_id, None)
            return
        if self._stores_away >= MAX_STORES_AWAY:
            raise StoreUnavailable(report.error)
        self._leases.bury([job.session_id])
        self._live.say(f"{job.engine.label}: {report.kind or report.ending}: {report.error}")
        if report.ending is Ending.UNFIT:
            self._unfit.add(job.engine_id)
            return
        if report.ending is Ending.STORE_AWAY:
            return
        if report.kind == "actor_died" and self._leases.attempted(job.session_id):
            return  # the task in work counts it, as a loss or as a fault
        self._failed_loads[job.engine_id] += 1
        if report.permanent or self._failed_loads[job.engine_id] >= MAX_LOADS:
            reason = f"engine:{report.kind or report.ending}"
            count = self._leases.quarantine_engine(self._campaign.id, job.engine_id, reason)
            self._live.say(f"{job.engine.label}: {count_of(count, 'task')} quarantined")

    def _show(self, found: Mapping[int, Progress]) -> None:
        measured, estimated = self._store.retrying(lambda c: joules(c, self._campaign.id))
        done = _count(found, "done")
        left = sum(p.unfinished for p in found.values())
        here = done - self._done_before
        pace_s = (time.monotonic() - self._began_s) / here if here else None
        self._live.show(
            Snapshot(
                campaign=self._campaign.name,
                done=done,
                failed=_count(found, "quarantined") + _count(found, "excluded"),
                left=left,
                measuring=tuple(f.assignment.engine.label for f in self._fleet.flights),
                energy_j=measured,
                energy_estimated_j=estimated,
                reality=self._campaign.reality,
                eta_s=None if pace_s is None else pace_s * left,
            )
        )

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Count Ctrl-C and SIGTERM: once drains, twice releases. Ray's handlers come before."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._interrupt) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupts += 1
        self._woken.set()

    def _leave(self, *, store_answers: bool) -> None:
        """Kill what still runs, give its leases back free of charge, and leave Ray.

        What cannot be given back is taken back by the next run.
        """
        sessions = [flight.assignment.session_id for flight in self._fleet.flights]
        self._fleet.shutdown()
        if not store_answers:
            return
        if sessions:
            self._leases.release(sessions)
        self._take_back()


def _count(found: Mapping[int, Progress], state: str) -> int:
    return sum(p.states.get(state, 0) for p in found.values())


def _policy(settings: Settings) -> LeasePolicy:
    store = settings.store
    return LeasePolicy(
        lease_s=store.lease_s,
        beat_s=store.beat_s,
        max_faults=store.max_faults,
        max_lost=store.max_lost,
        max_invalid=store.max_invalid,
        retry_delay_s=store.retry_delay_s,
    )
