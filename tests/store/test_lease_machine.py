"""Any order of claims, beats, ends and losses, against a model small enough to be read."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from db.embedded import EmbeddedPostgres
from db.errors import LeaseLost
from db.leases import LeasePolicy
from db.mending import Selection, retry, void
from db.records import Outcome, TaskState
from db.store import Store
from tests.store.world import World, ground, measurement, reading, repeat, task

pytestmark = pytest.mark.store

POLICY = LeasePolicy(max_faults=2, max_lost=2, max_invalid=2)
TASKS = [task(1), task(2), task(4)]
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


@dataclass
class ModelTask:
    """A task as it should be."""

    key: str
    state: str = "pending"
    tries: list[Try] = field(default_factory=list)
    faults: int = 0
    losses: int = 0
    invalids: int = 0

    def open_again(self) -> None:
        self.state = "pending"
        self.faults = self.losses = self.invalids = 0

    def fail(self, outcome: str, most: int, *, permanent: bool = False) -> None:
        name = COUNTED[outcome]
        setattr(self, name, getattr(self, name) + 1)
        ends = permanent or getattr(self, name) >= most
        self.state = "quarantined" if ends else "pending"


class Machine(RuleBasedStateMachine):
    """Four sessions on three tasks; every lease that ever was may be used at any time."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.store, TASKS)
        self.leases = self.world.under(POLICY)
        self.sessions = [self.world.session() for _ in range(4)]
        self.buried: set[uuid.UUID] = set()
        self.tasks = [ModelTask(t.key) for t in TASKS]
        self.tries: list[Try] = []

    def pick(self, number: int) -> Try:
        return self.tries[number % len(self.tries)]

    def held_by(self, session: uuid.UUID) -> list[Try]:
        return [t for t in self.tries if t.outcome is None and t.session == session]

    @rule(who=st.integers(0, 3))
    def claim(self, who: int) -> None:
        session = self.sessions[who]
        found = self.leases.claim(self.world.campaign_id, self.world.engine_id, session)
        expected = next((t for t in self.tasks if t.state == "pending"), None)
        assert (found.key if found else None) == (expected.key if expected else None)
        if found is not None and expected is not None:
            energy_j = 10.0 + len(self.tries)
            made = Try(expected, session, found.lease_id, energy_j)
            expected.state = "leased"
            expected.tries.append(made)
            self.tries.append(made)

    @precondition(lambda self: self.tries)
    @rule(number=st.integers(0, 99))
    def beat(self, number: int) -> None:
        chosen = self.pick(number)
        try:
            self.leases.beat(chosen.lease)
        except LeaseLost:
            assert chosen.outcome is not None
        else:
            assert chosen.outcome is None

    @precondition(lambda self: self.tries)
    @rule(number=st.integers(0, 99))
    def finish(self, number: int) -> None:
        chosen = self.pick(number)
        done = measurement(repeat(0, reading(chosen.energy_j)))
        decided = self.leases.finish(chosen.lease, chosen.session, done)
        if chosen.outcome in (None, "lost", "released"):
            newest = chosen.task.tries[-1] is chosen and chosen.task.state != "done"
            chosen.outcome = "ok" if newest else "superseded"
            chosen.windows = 1
            if newest:
                chosen.task.state = "done"
        assert decided == chosen.outcome

    @precondition(lambda self: self.tries)
    @rule(
        number=st.integers(0, 99),
        outcome=st.sampled_from([Outcome.FAULTED, Outcome.INVALID, Outcome.RELEASED]),
        permanent=st.booleans(),
    )
    def give_back(self, number: int, outcome: Outcome, permanent: bool) -> None:
        chosen = self.pick(number)
        if outcome is Outcome.RELEASED:
            permanent = False
        given = self.leases.give_back(
            chosen.lease, chosen.session, outcome, kind="why", permanent=permanent
        )
        if chosen.outcome is None:
            chosen.outcome = str(outcome)
            if outcome is Outcome.RELEASED:
                chosen.task.state = "pending"
            else:
                chosen.task.fail(str(outcome), 2, permanent=permanent)
        elif chosen.outcome != outcome:
            assert given is None
            return
        last = chosen.task.tries[-1] is chosen
        assert given == TaskState(chosen.task.state if last else "pending")

    @rule(numbers=st.sets(st.integers(0, 99), max_size=3))
    def reap(self, numbers: set[int]) -> None:
        expired = {id(t): t for n in numbers if self.tries for t in [self.pick(n)]}
        self.world.expire(*(t.lease for t in expired.values()))
        held = [t for t in expired.values() if t.outcome is None]
        assert self.world.reap(max_lost=2) == len(held)
        self.lose(held)

    @rule(who=st.integers(0, 3))
    def bury(self, who: int) -> None:
        held = self.held_by(self.sessions[who])
        assert self.leases.bury([self.sessions[who]]) == len(held)
        self.lose(held)

    def lose(self, held: list[Try]) -> None:
        for each in held:
            each.outcome = "lost"
            each.task.fail("lost", 2)

    @rule(who=st.integers(0, 3))
    def release(self, who: int) -> None:
        held = self.held_by(self.sessions[who])
        assert self.leases.release([self.sessions[who]]) == len(held)
        for each in held:
            each.outcome = "released"
            each.task.state = "pending"

    @rule(which=st.integers(0, 2))
    def void(self, which: int) -> None:
        chosen = self.tasks[which]
        voided = void(self.store, Selection(keys=[chosen.key]), "noisy")
        assert len(voided) == (chosen.state == "done")
        if voided:
            for each in chosen.tries:
                each.voided |= each.outcome == "ok"
            chosen.open_again()

    @rule(which=st.integers(0, 2))
    def retry(self, which: int) -> None:
        chosen = self.tasks[which]
        again = retry(self.store, Selection(keys=[chosen.key]))
        assert len(again) == (chosen.state == "quarantined")
        if again:
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
            """select t.state,
                      count(a.id) filter (where a.outcome = 'ok' and a.voided_at is null) as accepted,
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


def test_any_order_of_events_leaves_a_consistent_store(store: Store) -> None:
    class Here(Machine):
        pass

    Here.store = store
    bounded = settings(
        max_examples=20,
        stateful_step_count=25,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_machine(Here, settings=bounded)
