"""Driving a campaign: dispatch its engines until nothing is left, then show the result.

The store is the only memory: whatever happened before, the driver asks it what is left, so the
same command is the resume. It dispatches engines, never tasks; sessions claim those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path

from campaign.cluster.berths import berth_id, homeless_lines
from campaign.cluster.nodes import RayDied
from campaign.cluster.rollcall import joined
from campaign.cluster.roster import Roster
from campaign.configuration.settings import Settings
from campaign.running.assignments import Assignments
from campaign.running.endings import Endings
from campaign.running.fleet import Fleet
from campaign.running.interrupts import Interrupts
from campaign.running.ledger import Ledger
from campaign.running.live import Live
from campaign.running.outcome import show_outcome
from campaign.running.prepare import begun
from campaign.running.schedule import schedule
from campaign.running.spooled import deliver, policy_of
from campaign.running.stop import Stop
from campaign.running.timebox import Timebox
from campaign.running.unread import let_go
from campaign.running.work import Campaign
from db.errors import ConfigError, Infeasible, StoreUnavailable
from db.leases import Leases
from db.place import Place
from db.presence import Presence
from db.progress import Progress
from db.records import TaskState
from db.store import Store
from workers.assignment import Assignment, Ending, Report
from workers.process import boot_id, is_alive, sheltered


def drive(settings: Settings, *, as_json: bool) -> int:
    """Run a campaign to its end; returns the exit code."""
    known = settings.store
    place = Place(
        url=known.url, reader_url=known.reader_url, folder=known.path, patience_s=known.patience_s
    )
    if place.url is None:  # named in full: a session may have another home
        place = replace(place, folder=str(place.embedded_folder.expanduser().absolute()))
    with ExitStack() as nodes:
        roster = nodes.enter_context(joined(settings))
        with begun(settings, place, roster) as (opened, campaign):
            with Live() as live, _ray_words_aside(campaign.logs):
                live.say(campaign.news)
                stopped = Driver(settings, campaign, place, opened, live, roster).run()
            nodes.close()  # Ray prints no more: stdout is for data
            if stopped is Stop.STORE_AWAY:
                return stopped.exit_code
            let_go()
            complete = show_outcome(opened, campaign, as_json=as_json)
    if stopped is not None:
        return stopped.exit_code
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
        self,
        settings: Settings,
        campaign: Campaign,
        place: Place,
        store: Store,
        live: Live,
        roster: Roster | None = None,
    ) -> None:
        """Prepare the fleet; Ray starts only if there is something to measure."""
        self._campaign = campaign
        self._store = store
        self._live = live
        self._leases = Leases(store, policy_of(settings))
        boards = {work.engine.board for work in campaign.engines.values()}
        self._fleet = Fleet(settings.cluster, campaign.boards, boards, roster)
        self._interrupts = Interrupts(settings.run.grace_s, store.hurry)
        self._draining = False
        self._endings = Endings(store, self._leases, campaign, self._fleet.berths, live)
        self._timebox = Timebox(settings.run)
        self._assignments = Assignments(
            settings=settings, campaign=campaign, place=place, store=store, timebox=self._timebox
        )
        self._out_of_time: set[int] = set()
        self._presence = Presence(self._leases.policy)
        self._ledger = Ledger(store, campaign)
        self._done_before = 0
        self._left_out: set[str] = set()
        self._stuck = False

    def run(self) -> Stop | None:
        """Drain the campaign; returns what ended that, None if its tasks did."""
        deliver(self._leases, self._live.say)
        self._take_back()
        found = self._ledger.look()
        self._done_before = found.count(TaskState.DONE)
        if not found.unfinished:
            return None
        if self._timebox.over:
            self._live.say("the time of this run is over: the same command goes on in another")
            return Stop.OUT_OF_TIME
        with ExitStack() as leaving:
            leaving.callback(self._leave)
            with sheltered():  # Ray puts handlers of its own into this process
                self._fleet.start()
                leaving.enter_context(self._interrupts.listening())
            stopped = self._worked()
        if self._stuck and stopped is None:
            raise Infeasible("nothing here can run what is left: see the lines above")
        return stopped

    def _worked(self) -> Stop | None:
        """Step until nothing is left to do; returns what ended that before."""
        try:
            while self._step():
                pass
            left = self._ledger.look(fresh=True).unfinished
        except StoreUnavailable as error:
            self._live.say(f"{error}; the run ends, and keeps what it measures")
            self._store.hurry.set()
            self._drain()
            return Stop.STORE_AWAY
        except RayDied as error:
            self._live.say(f"{error}: the same command goes on with a new one")
            return Stop.RAY_DIED
        if self._interrupts.asked:
            return Stop.INTERRUPTED
        if left and (self._timebox.over or self._out_of_time):
            self._live.say("no time for what is left: the same command goes on with it")
            return Stop.OUT_OF_TIME
        return None

    def _drain(self) -> None:
        """Let the sessions finish what they measure, and keep it where the store does not."""
        self._fleet.stop_sessions()
        while self._fleet.flights and not self._hurried:
            for flight, report in self._fleet.landed(timeout_s=1.0):
                self._live.say(flight.news("" if report.error else report.ending, report.error))

    @property
    def _hurried(self) -> bool:
        """Whether nothing may be finished any more: told twice, or out of time."""
        return self._interrupts.pressed or self._timebox.over

    def _step(self) -> bool:
        """Take back, show, dispatch, wait for a session to end; returns whether to go on."""
        self._take_back()
        self._fleet.berths.look()
        self._say_left_out(self._ledger.look())
        if not self._interrupts.asked:
            self._dispatch()
        elif not self._draining:
            self._draining = True
            self._live.say("finishing the tasks in work; once more to give them back at once")
            self._fleet.stop_sessions()
        self._show()
        for flight, report in self._fleet.landed(timeout_s=1.0):
            self._ledger.landed(flight.assignment.engine_id)
            self._heed(flight.assignment, report)
            self._endings.settle(flight, report)
        if self._hurried:
            return False
        if self._fleet.flights:
            return True
        found = self._ledger.look(fresh=True)
        if self._interrupts.asked or not self._hopeful(found):
            self._say_left_out(found)
            done = found.count(TaskState.DONE)
            self._stuck = found.unfinished > 0 and done == self._done_before
            return False
        self._store.hurry.wait(0.5)  # set by a signal
        return True

    def _heed(self, job: Assignment, report: Report) -> None:
        """Learn from the end of a session what concerns the whole run."""
        self._timebox.learn(job.engine, report.slowness, report.load_s)
        if report.ending is Ending.OUT_OF_TIME:
            self._out_of_time.add(job.engine_id)
        elif report.ending is Ending.REFUSED:
            raise ConfigError(report.error)
        elif report.ending is Ending.STORE_AWAY:
            deliver(self._leases, self._live.say)

    def _take_back(self) -> None:
        """Reap expired leases; bury sessions of this host whose process is dead, at once.

        Nothing is reaped until the store has answered for one lease: after an absence the owners
        of expired leases may live, and beat as soon as it answers.
        """
        sessions = self._leases.open_sessions(boot_id())
        dead = [s.id for s in sessions if not is_alive(s.pid, s.pid_started_s)]
        if dead:
            self._endings.bury(dead)
        if self._presence.lasts():
            self._leases.reap()

    def _hopeful(self, found: Progress) -> bool:
        """Whether an engine that could run here has unfinished tasks."""
        return any(self._could_hold(engine_id) for engine_id in found.left)

    def _say_left_out(self, found: Progress) -> None:
        """Say what has no node to go to, once."""
        homeless = [
            (work.engine.board, work.engine.board_count, left.unfinished)
            for i, left in found.left.items() if (work := self._campaign.engines.get(i))
            and i not in self._out_of_time and not self._could_hold(i)
        ]  # fmt: skip
        for line in homeless_lines(homeless):
            if line not in self._left_out:
                self._left_out.add(line)
                self._live.say(line)

    def _could_hold(self, engine_id: int) -> bool:
        """Whether it is of this run's grid, has time for a task, and a node to go to."""
        work = self._campaign.engines.get(engine_id)
        if work is None or engine_id in self._out_of_time:
            return False
        return self._fleet.berths.could_hold(engine_id, work.engine)

    def _dispatch(self) -> None:
        waiting = list(self._ledger.waiting(self._holders(), self._avoided))
        for chosen in schedule(waiting, self._fleet.room()) if waiting else ():
            job = self._assignments.of(chosen.engine_id)
            work = self._campaign.engines[chosen.engine_id]
            if not self._timebox.admits(work, job.deadline):
                self._out_of_time.add(chosen.engine_id)
            elif flight := self._fleet.launch(job, chosen.node):
                self._live.say(f"loading {flight.label}")

    def _holders(self) -> Counter[int]:
        return Counter(flight.assignment.engine_id for flight in self._fleet.flights)

    def _avoided(self, engine_id: int) -> Collection[str] | None:
        """Return the berths that an engine does not go to; None where it can go nowhere."""
        if not self._could_hold(engine_id):
            return None
        board = self._campaign.engines[engine_id].engine.board
        return [berth_id(node, board) for node in self._fleet.berths.avoided(engine_id)]

    def _show(self) -> None:
        measuring = tuple(flight.label for flight in self._fleet.flights)
        boards: Counter[str] = Counter()
        for berth in self._fleet.berths.by_id.values():
            boards[berth.board] += berth.boards
        shown = self._ledger.snapshot(measuring, self._holders(), boards)
        self._live.show(replace(shown, ends_s=self._timebox.left_s))

    def _leave(self) -> None:
        """Kill what still runs, give its leases back free of charge, and leave Ray.

        What cannot be given back is taken back by the next run.
        """
        sessions = [flight.assignment.session_id for flight in self._fleet.flights]
        self._fleet.shutdown()
        try:
            if sessions:
                self._leases.hasty().release(sessions)
            self._take_back()
        except StoreUnavailable as error:
            self._live.say(f"{error}; the next run takes back what is held")
