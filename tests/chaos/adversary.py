"""A seeded adversary: kills, stops and lets go on whatever a campaign stands on.

Owns what is attacked and the count of it. It judges nothing (tests/chaos/verdict.py does), except
what only it can see: whether work in hand outlives an absence of the store. The seed draws its
choices; what meets them is up to the machine.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

import psutil

from tests.chaos.host import Host
from tests.chaos.server import Server
from workers.killpoints import POINTS
from workers.process import is_alive


class Attack(StrEnum):
    """What is done to whom."""

    KILL_ACTOR = "kill actor"
    PAUSE_ACTOR = "pause actor"
    KILL_RAYLET = "kill raylet"
    PAUSE_RAYLET = "pause raylet"
    KILL_DRIVER = "kill driver"
    PAUSE_DRIVER = "pause driver"
    STOP_SERVER = "stop server"
    OUTAGE = "outage"


#: How often each is chosen. An outage has its own moments; a Ray takes seconds to start again.
WEIGHTS = {
    Attack.KILL_ACTOR: 60,
    Attack.PAUSE_ACTOR: 12,
    Attack.KILL_RAYLET: 2,
    Attack.PAUSE_RAYLET: 6,
    Attack.KILL_DRIVER: 4,
    Attack.PAUSE_DRIVER: 8,
    Attack.STOP_SERVER: 10,
}
#: Points at which a session has work in hand.
IN_HAND = ("claimed", "in_window", "measured")
#: An attack on whom nobody held.
ANYWHERE = "anywhere"
#: Tasks that are handed out where nobody has one left: one for each board.
FEW = 3
#: Seconds between two looks at every result.
LOOK_S = 2.0
#: Seconds for what must happen on its own.
PATIENCE_S = 240.0

OPEN_SESSIONS = """
select id, engine_id, pid, pid_started_s,
       exists (select from attempts a where a.session_id = s.id) as attempted
  from sessions s where outcome is null
"""
OPEN_ATTEMPTS = """
select a.id, s.pid, s.pid_started_s from attempts a join sessions s on s.id = a.session_id
 where a.outcome is null
"""
CLOSED = "select id, outcome, kind from attempts where id = any(%(ids)s) and outcome is not null"
#: No session may claim these yet: the last tasks of every engine.
KEEP_BACK = """
update tasks set not_before = now() + interval '1 day' where id in (
    select id from tasks where state = 'pending' and not_before is null
     order by ordinal desc, id desc limit %(count)s)
returning id
"""
HAND_OUT = """
update tasks set not_before = null where id in (
    select id from tasks where not_before is not null order by ordinal, id limit %(count)s)
returning id
"""
ACCEPTED = "select id, task_id, lease_id, session_id, closed_at from attempts where outcome = 'ok'"
STATES = """
select state, not_before is not null as kept, count(*) as tasks from tasks group by 1, 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """How much is attacked: hits of each point, and absences of the store with work in hand."""

    hits: int
    outages: int
    lease_s: float


class Adversary:
    """Attacks the hosts and the server of one campaign until the goal is reached."""

    def __init__(self, seed: int, goal: Goal, hosts: Sequence[Host], server: Server) -> None:
        """Draw from the seed; nothing is attacked yet."""
        self._chance = Random(seed)
        self._goal, self._hosts, self._server = goal, hosts, server
        self.counts: Counter[tuple[str, Attack]] = Counter()
        self.exits: Counter[tuple[int, str]] = Counter()
        self.violations: list[str] = []
        self.saved: Counter[str] = Counter()
        self._seen: dict[int, Any] = {}
        self._paused: dict[psutil.Process, tuple[float, Host]] = {}
        self._doomed: dict[psutil.Process, float] = {}
        self._began_s = time.monotonic()
        self.diary: list[str] = []
        self._next_s: dict[Host, float] = dict.fromkeys(hosts, 0.0)
        self._anywhere_s = time.monotonic() + 8.0
        self._sessions: Sequence[Any] = ()
        self.done = self.tasks = self.outages = 0
        self._looked_s = 0.0
        self._began = False

    # ---- progress --------------------------------------------------------------------------------

    def hits(self, point: str) -> int:
        """Return how many processes were attacked while they were held at a point."""
        return sum(count for (where, _), count in self.counts.items() if where == point)

    def total(self, attack: Attack) -> int:
        """Return how often something was attacked in this way."""
        return sum(count for (_, how), count in self.counts.items() if how is attack)

    @property
    def is_satisfied(self) -> bool:
        """Whether every point was hit as often as asked, and every attack made."""
        return (
            all(self.hits(point) >= self._goal.hits for point in POINTS)
            and all(self.total(attack) for attack in Attack)
            and self.outages >= self._goal.outages
        )

    @property
    def _share(self) -> float:
        """The part of the goal that is reached."""
        hits = sum(min(self.hits(point), self._goal.hits) for point in POINTS)
        made = sum(bool(self.total(attack)) for attack in Attack) + self.outages
        wanted = self._goal.hits * len(POINTS) + len(Attack) + self._goal.outages
        return (hits + made) / wanted

    # ---- one step --------------------------------------------------------------------------------

    def step(self) -> None:
        """See how things stand, restore what is due, attack where somebody is held, or anywhere."""
        self.revive()
        if time.monotonic() > self._looked_s + LOOK_S:
            self.observe()
        self._restore()
        self._sessions = self._server.ask(OPEN_SESSIONS)
        if self._outage_is_due():
            self._outage()
            return
        for host in self._hosts:
            self._attack_held(host)
        if time.monotonic() > self._anywhere_s:
            self._anywhere_s = time.monotonic() + self._chance.uniform(3.0, 9.0)
            self._attack_anywhere(self._chance.choice(self._hosts))

    def revive(self) -> None:
        """Start dead drivers again: that is the resume."""
        for host in self._hosts:
            code = host.ended()
            if code is not None:
                self._note_exit(host, code)
            if host.process is None or code is not None:
                host.start(self._point_for(host))

    def _note_exit(self, host: Host, code: int) -> None:
        if code in (0, -signal.SIGKILL):
            words = "killed" if code else "the campaign was done"
        else:
            words = "its raylet was attacked" if host.wounded else host.last_words[:160]
        self.exits[code, words] += 1
        if "Traceback" in host.errors.read_text(errors="replace"):
            self.violations.append(f"a driver ended with a traceback: {host.errors}")

    def observe(self) -> None:
        """Count the tasks; what was accepted once must stay as it was accepted."""
        self._looked_s = time.monotonic()
        found = self._server.ask(STATES)
        for state in {row.state for row in found} & {"quarantined", "excluded"}:
            raise AssertionError(f"tasks are {state}: nothing here is at fault")
        self.tasks = sum(row.tasks for row in found)
        self.done = sum(row.tasks for row in found if row.state == "done")
        self._keep_back(sum(row.tasks for row in found if row.kept))
        accepted = {row.id: tuple(row) for row in self._server.ask(ACCEPTED)}
        for attempt, row in self._seen.items():
            if accepted.get(attempt) != row:
                self.violations.append(f"accepted attempt {row} became {accepted.get(attempt)}")
        self._seen = accepted

    def _keep_back(self, kept: int) -> None:
        """Let the work last as long as the attacks: it ends only after the goal is reached.

        A tenth of the tasks is there from the start, seven more with what is reached of the goal.
        Beyond that a few come at a time, and only once those before are done; they meet the
        adversary where it holds whoever comes.
        """
        wanted = 0 if self.is_satisfied else int(self.tasks * (0.9 - 0.7 * self._share))
        if kept and self.done + kept == self.tasks:
            wanted = min(wanted, kept - FEW)
        if not self._began:
            self._began = self.tasks > 0
            self._server.ask(KEEP_BACK, count=wanted)
        elif kept > wanted:
            self._server.ask(HAND_OUT, count=kept - wanted)

    def _restore(self, *, all_of_them: bool = False) -> None:
        """Let go on who has been stopped for long enough."""
        for process, (until_s, host) in list(self._paused.items()):
            if all_of_them or time.monotonic() > until_s:
                del self._paused[process]
                self._signal(process, signal.SIGCONT)
                host.let_go()
        for driver, until_s in list(self._doomed.items()):
            if all_of_them or time.monotonic() > until_s:
                del self._doomed[driver]
                self._signal(driver, signal.SIGKILL)

    def calm(self) -> None:
        """Attack nobody any more; everyone who is left goes on."""
        self._restore(all_of_them=True)
        for host in self._hosts:
            if host.point:
                host.let_go()

    # ---- at a kill point -------------------------------------------------------------------------

    def _attack_held(self, host: Host) -> None:
        """Attack who is held; where nobody is, see to it that somebody will be."""
        now_s = time.monotonic()
        living = {process.pid for process in host.offspring()}
        host.look(living)
        if self.is_satisfied:
            host.let_go()
            return
        if now_s < self._next_s[host]:
            return
        if (point := self._point_for(host)) != host.point:
            host.move_to(point)
        if not host.is_armed:
            host.arm()
        elif host.held:
            self._strike(host, self._chosen(host))
            host.let_go()
        elif host.point == "loaded":
            self._unload(host, living)
        else:
            return
        self._next_s[host] = now_s + self._chance.uniform(0.1, 1.2)

    def _point_for(self, host: Host) -> str:
        """Return where a host is to be held: at its point until that was hit enough."""
        elsewhere = {other.point for other in self._hosts if other is not host}
        short = [point for point in POINTS if self.hits(point) < self._goal.hits]
        free = [point for point in short if point not in elsewhere]
        if host.point in short:
            return host.point
        if free:
            return min(free, key=self.hits)
        return host.point if host.point in IN_HAND else self._chance.choice(IN_HAND)

    def _unload(self, host: Host, living: Collection[int]) -> None:
        """Kill a session that measures, so that another one loads."""
        measuring = [s.pid for s in self._sessions if s.pid in living and s.attempted]
        if measuring and self._do(host, Attack.KILL_ACTOR, self._chance.choice(measuring)):
            self._note(ANYWHERE, Attack.KILL_ACTOR)

    def _chosen(self, host: Host) -> Attack:
        """Draw an attack, one that was not made yet first; a second failed load is by design."""
        weights = dict(WEIGHTS)
        if host.point == "loaded" and self._engine(host.held[0]) in host.failed_loads:
            del weights[Attack.KILL_ACTOR]
        if host.point == "measured" and not self.counts[host.point, Attack.PAUSE_ACTOR]:
            return Attack.PAUSE_ACTOR  # who sleeps here wakes up with a result for a task of others
        unmade = [attack for attack in weights if not self.total(attack)]
        kinds = unmade or list(weights)
        return self._chance.choices(kinds, [weights[kind] for kind in kinds])[0]

    def _engine(self, pid: int) -> int | None:
        return next((s.engine_id for s in self._sessions if s.pid == pid), None)

    def _strike(self, host: Host, attack: Attack) -> bool:
        """Attack a host whose sessions are held; each who is held then counts as a hit."""
        held = host.held[:1] if attack in (Attack.KILL_ACTOR, Attack.PAUSE_ACTOR) else host.held[:]
        point = host.point
        if not held:
            return False
        if attack is Attack.KILL_ACTOR and point == "loaded":
            host.failed_loads.add(self._engine(held[0]) or 0)
        if not self._do(host, attack, held[0]):
            return False
        self._note(point, attack, len(held))
        return True

    def _note(self, place: str, attack: Attack, count: int = 1) -> None:
        self.counts[place, attack] += count
        self.diary.append(f"{time.monotonic() - self._began_s:.1f} s {attack} at {place} x{count}")

    def _attack_anywhere(self, host: Host) -> None:
        attack = self._chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        living = {process.pid for process in host.offspring()}
        ours = [s.pid for s in self._sessions if s.pid in living and s.attempted]
        if ours and self._do(host, attack, self._chance.choice(ours)):
            self._note(ANYWHERE, attack)

    # ---- the attacks -----------------------------------------------------------------------------

    def _do(self, host: Host, attack: Attack, actor: int) -> bool:
        """Make an attack; returns whether there was somebody to attack."""
        if attack is Attack.STOP_SERVER:
            self._stop_server(host)
            return True
        verb, _, noun = attack.partition(" ")
        found = {"raylet": host.raylet, "driver": lambda: host.process}
        try:
            target = found[noun]() if noun in found else psutil.Process(actor)
        except psutil.NoSuchProcess:
            return False
        if target is None or (verb == "pause" and target in self._paused):
            return False
        host.wounded |= noun == "raylet"
        if verb == "kill":
            if noun == "raylet":  # its node is dying: the driver follows, if it does not end itself
                self._doomed[host.process] = time.monotonic() + self._chance.uniform(1.0, 10.0)
            return self._signal(target, signal.SIGKILL)
        # Who has a result in hand sleeps until others have its task, and wakes up to write it.
        least = 2.0 if noun == "actor" and host.point == "measured" else 0.25
        pause_s = self._chance.uniform(least, 4.0) * self._goal.lease_s
        self._paused[target] = time.monotonic() + pause_s, host
        for other in self._hosts:  # who goes on takes over what the paused one holds
            if other is not host and other.is_armed and noun == "actor":
                other.let_go()
                self._next_s[other] = time.monotonic() + pause_s
        return self._signal(target, signal.SIGSTOP)

    def _signal(self, process: psutil.Process, number: signal.Signals) -> bool:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            return False
        return True

    def _stop_server(self, host: Host) -> None:
        """Stop the server under whoever is held, who goes on meanwhile, and start it again."""
        self.observe()
        self._server.stop()
        host.let_go()
        time.sleep(self._chance.uniform(0.0, 1.5))
        self._server.start()
        self.observe()

    # ---- the store away for three leases ---------------------------------------------------------

    def _outage_is_due(self) -> bool:
        due = self._share * (self._goal.outages + 1) >= self.outages + 1
        wanted = self.outages < self._goal.outages
        return wanted and due and any(h.held and h.point in IN_HAND for h in self._hosts)

    def _outage(self) -> None:
        """Take the store away for three leases; what the living had in hand must not be lost."""
        self.outages += 1
        for host in self._hosts:
            self._note(host.point, Attack.OUTAGE, len(host.held))
        whole = [host for host in self._hosts if host.process not in self._doomed]
        self._restore(all_of_them=True)
        living = {process.pid for host in whole for process in host.offspring()}
        open_now = self._server.ask(OPEN_ATTEMPTS)
        hand = [a.id for a in open_now if a.pid in living and is_alive(a.pid, a.pid_started_s)]
        self._server.stop()
        for host in self._hosts:
            host.let_go()
        time.sleep(3 * self._goal.lease_s)
        self._server.start()
        self._server.reap(self._goal.lease_s)
        ends_s = time.monotonic() + PATIENCE_S
        while len(closed := self._server.ask(CLOSED, ids=hand)) < len(hand):
            if time.monotonic() > ends_s:
                self.violations.append(f"attempts {hand} not all closed after an outage: {closed}")
                return
            self._server.reap(self._goal.lease_s)
            time.sleep(0.05)
        self.saved.update(row.outcome for row in closed)
        self.violations += [
            f"attempt {row.id}, in hand in an outage, ended {row.outcome} ({row.kind})"
            for row in closed
            if (row.outcome, row.kind) != ("ok", None)  # a kind tells that it was taken back before
        ]
