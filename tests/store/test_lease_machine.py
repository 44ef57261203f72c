"""Any order of claims, beats, ends and losses, against a model small enough to be read."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from sqlalchemy.exc import IntegrityError

from db import leases
from db.embedded import EmbeddedPostgres
from db.errors import LeaseLost
from db.leases import Claim, LeasePolicy
from db.mending import Selection, retry, void
from db.records import Outcome, TaskState
from db.store import Store
from tests.store.test_lease_mutants import MUTANTS
from tests.store.world import World, ground, measurement, reading, repeat, task

pytestmark = pytest.mark.store

POLICY = LeasePolicy(max_faults=2, max_lost=2, max_invalid=2)
TASKS = [task(1), task(2)]
NUMBER = st.integers(0, 7)  # of an attempt, the newest first
WHO = st.integers(0, 1)  # of two sessions

#: Mutants that need no two statements at once, so that the machine must find them.
FOUND = ["no_fence", "finish_by_state_only", "release_is_final"]
COUNTED = {"faulted": "faults", "lost": "losses", "invalid": "invalids"}


@dataclass
class Try:
    """An attempt as it should be."""

    task: ModelTask
    session: uuid.UUID
    lease: uuid.UUID
    energy_j: float
    outcome: str | None = None
    voided: bool = False
    windows: int = 0
    following: uuid.UUID | None = None


@dataclass
class ModelTask:
    """A task as it should be."""

    key: str
    state: str = "pending"
    tries: list[Try] = field(default_factory=list)
    faults: int = 0
    losses: int = 0
    invalids: int = 0
    mended: int = 0

    def may_end(self, chosen: Try) -> bool:
        """Whether this attempt is the newest one, and neither settled nor taken back by people."""
        newest = self.tries[-1] is chosen and len(self.tries) > self.mended
        return newest and self.state != "done"

    def open_again(self) -> None:
        self.mended = len(self.tries)
        self.state = "pending"
        self.faults = self.losses = self.invalids = 0

    def fail(self, outcome: str, most: int, *, permanent: bool = False) -> None:
        name = COUNTED[outcome]
        setattr(self, name, getattr(self, name) + 1)
        ends = permanent or getattr(self, name) >= most
        self.state = "quarantined" if ends else "pending"


class Machine(RuleBasedStateMachine):
    """Two sessions on two tasks; every lease that ever was may be used at any time."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.store, TASKS)
        self.leases = self.world.under(POLICY)
        self.sessions = [self.world.session() for _ in range(2)]
        self.tasks = [ModelTask(t.key) for t in TASKS]
        self.tries: list[Try] = []

    def pick(self, number: int, *outcomes: str | None) -> Try:
        """An attempt: of these outcomes, if there is one, and now and then any."""
        chosen = [t for t in self.tries if t.outcome in outcomes and number < 6] or self.tries
        return chosen[-1 - number % len(chosen)]

    def held_by(self, session: uuid.UUID) -> list[Try]:
        return [t for t in self.tries if t.outcome is None and t.session == session]

    @rule(who=WHO)
    def claim(self, who: int) -> None:
        session = self.sessions[who]
        found = self.leases.claim(self.world.campaign_id, self.world.engine_id, session)
        self.claimed(found, session)

    def claimed(self, found: Claim | None, session: uuid.UUID) -> None:
        """Check and note what a session claimed."""
        expected = next((t for t in self.tasks if t.state == "pending"), None)
        assert (found.key if found else None) == (expected.key if expected else None)
        if found is not None and expected is not None:
            energy_j = 10.0 + len(self.tries)
            made = Try(expected, session, found.lease_id, energy_j)
            expected.state = "leased"
            expected.tries.append(made)
            self.tries.append(made)

    @precondition(lambda self: self.tries)
    @rule(number=NUMBER)
    def beat(self, number: int) -> None:
        chosen = self.pick(number)
        try:
            self.leases.beat(chosen.lease)
        except LeaseLost:
            assert chosen.outcome is not None
        else:
            assert chosen.outcome is None

    @precondition(lambda self: self.tries)
    @rule(number=NUMBER)
    def finish(self, number: int) -> None:
        chosen = self.pick(number, None, "lost", "released")
        done = measurement(repeat(0, reading(chosen.energy_j)))
        self.finished(self.leases.finish(chosen.lease, chosen.session, done), chosen)

    @precondition(lambda self: self.tries)
    @rule(number=NUMBER)
    def finish_and_claim(self, number: int) -> None:
        chosen = self.pick(number, None, "lost", "released")
        done = measurement(repeat(0, reading(chosen.energy_j)))
        wanted = self.world.wanted(chosen.session)
        decided, found = self.leases.finish_and_claim(chosen.lease, done, wanted)
        self.finished(decided, chosen)
        following = [t for t in self.tries if chosen.following == t.lease]
        if not following:
            self.claimed(found, chosen.session)
            chosen.following = found.lease_id if found else None
        elif following[0].outcome is None:
            assert found is not None
            assert found.lease_id == chosen.following
        else:
            assert found is None

    def finished(self, decided: Outcome, chosen: Try) -> None:
        """Check and note what a measurement counts as."""
        if chosen.outcome in (None, "lost", "released"):
            newest = chosen.task.may_end(chosen)
            chosen.outcome = "ok" if newest else "superseded"
            chosen.windows = 1
            if newest:
                chosen.task.state = "done"
        assert decided == chosen.outcome

    @precondition(lambda self: self.tries)
    @rule(
        number=NUMBER,
        outcome=st.sampled_from([Outcome.FAULTED, Outcome.INVALID, Outcome.RELEASED]),
        permanent=st.booleans(),
    )
    def give_back(self, number: int, outcome: Outcome, permanent: bool) -> None:
        chosen = self.pick(number, None, "lost", "released")
        if outcome is Outcome.RELEASED:
            permanent = False
        given = self.leases.give_back(
            chosen.lease, chosen.session, outcome, kind="why", permanent=permanent
        )
        task = chosen.task
        late = chosen.outcome in ("lost", "released") and chosen.outcome != outcome
        if late and not task.may_end(chosen):
            chosen.outcome = "superseded"
            assert given is None
            return
        if chosen.outcome is None or late:
            task.losses = max(0, task.losses - (chosen.outcome == "lost"))
            chosen.outcome = str(outcome)
            if outcome is Outcome.RELEASED:
                task.state = "pending"
            else:
                task.fail(str(outcome), 2, permanent=permanent)
        elif chosen.outcome != outcome:
            assert given is None
            return
        last = chosen.task.tries[-1] is chosen
        assert given == TaskState(chosen.task.state if last else "pending")

    @precondition(lambda self: self.tries)
    @rule(number=NUMBER, how=st.sampled_from(["reap", "bury", "release"]))
    def take_back(self, number: int, how: str) -> None:
        session = self.pick(number, None).session
        held = self.held_by(session)
        self.world.expire(*(each.lease for each in held))
        if how == "reap":
            assert self.world.reap(max_lost=2) == len(held)
        elif how == "bury":
            assert self.leases.bury([session]) == len(held)
        else:
            assert self.leases.release([session]) == len(held)
        for each in held:
            if how == "release":
                each.outcome, each.task.state = "released", "pending"
            else:
                each.outcome = "lost"
                each.task.fail("lost", 2)

    @rule(which=st.integers(0, 1), how=st.sampled_from(["void", "retry"]))
    def mend(self, which: int, how: str) -> None:
        chosen = self.tasks[which]
        selection = Selection(keys=[chosen.key])
        if how == "void":
            mended, wanted = void(self.store, selection, "noisy"), "done"
        else:
            mended, wanted = retry(self.store, selection), "quarantined"
        assert len(mended) == (chosen.state == wanted)
        if mended:
            for each in chosen.tries:
                each.voided |= each.outcome == "ok"
            chosen.open_again()

    @invariant()
    def tasks_are_what_their_attempts_made_them(self) -> None:
        found = self.world.sql("select * from tasks order by ordinal")
        for row, each in zip(found, self.tasks, strict=True):
            assert (row.state, row.attempts) == (each.state, len(each.tries))
            assert (row.faults, row.losses, row.invalids) == (
                each.faults,
                each.losses,
                each.invalids,
            )

    @invariant()
    def a_task_is_done_if_and_only_if_it_has_one_result(self) -> None:
        found = self.world.sql(
            """select t.state, count(a.result_lease_id) as accepted,
                      count(a.id) filter (where a.outcome is null) as held
                 from tasks t left join attempts a on a.task_id = t.id group by t.id"""
        )
        for row in found:
            assert row.accepted == (row.state == "done")
            assert row.held == (row.state == "leased")

    @invariant()
    def every_attempt_ended_once(self) -> None:
        found = self.world.sql(
            """select a.lease_id, a.outcome, a.voided_at is not null as voided,
                      (select count(*) from windows w where w.attempt_id = a.id) as windows
                 from attempts a"""
        )
        assert {(r.lease_id, r.outcome, r.voided, r.windows) for r in found} == {
            (t.lease, t.outcome, t.voided, t.windows) for t in self.tries
        }

    @invariant()
    def only_accepted_windows_count(self) -> None:
        accepted = [t for t in self.tries if t.outcome == "ok" and not t.voided]
        assert self.world.counted() == sorted((t.task.key, t.energy_j) for t in accepted)


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store) as found:
        yield found


def play(store: Store, *phases: Phase) -> None:
    class Here(Machine):
        pass

    Here.store = store
    bounded = settings(
        max_examples=40,
        stateful_step_count=30,
        phases=phases,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_machine(Here, settings=bounded)


def test_any_order_of_events_leaves_a_consistent_store(store: Store) -> None:
    play(store, Phase.generate, Phase.shrink)


@pytest.mark.parametrize("name", FOUND)
def test_the_machine_finds_a_broken_statement(
    name: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "SQL", MUTANTS[name].sql())
    with pytest.raises((AssertionError, IntegrityError)):
        play(store, Phase.generate)
