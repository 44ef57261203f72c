"""The lease statements: who may write a task, when, and what a lost reply or a dead owner costs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import pytest
from psycopg.errors import DivisionByZero
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from db.embedded import EmbeddedPostgres
from db.errors import LeaseLost
from db.leases import LeasePolicy, Leases
from db.mending import Selection, retry
from db.records import Outcome, TaskState
from db.results import close_session
from db.store import Store, together
from tests.store.scenarios import FIRST, SCENARIOS, SECOND, Holder
from tests.store.world import BOOT, ENGINE, World, ground, measurement, reading, repeat, task

T = TypeVar("T")
pytestmark = pytest.mark.store


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store) as found:
        yield found


@pytest.fixture
def world(store: Store) -> World:
    return World(store, [FIRST, SECOND])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_two_sessions_in_every_order(scenario: str, world: World) -> None:
    SCENARIOS[scenario](world)


# ---- budgets -----------------------------------------------------------------------------------


def test_faults_are_counted_until_the_budget_is_spent(world: World) -> None:
    for state in (TaskState.PENDING, TaskState.PENDING, TaskState.QUARANTINED):
        assert Holder(world).fault(world.leases) is state
    task = world.sql("select * from tasks order by ordinal")[0]
    assert (task.faults, task.attempts, task.reason) == (3, 3, "faulted:deadline")


def test_losses_are_counted_until_the_budget_is_spent(world: World) -> None:
    for state in ("pending", "pending", "quarantined"):
        lost = Holder(world, expired=True)
        assert world.reap() == 1
        assert world.state(lost.task_id) == state
    task = world.sql("select * from tasks order by ordinal")[0]
    assert (task.losses, task.attempts, task.reason) == (3, 3, "lost")


def test_a_burial_is_a_loss(world: World) -> None:
    leases = world.under(LeasePolicy(max_lost=1))
    dead = Holder(world)
    assert leases.bury([dead.session]) == 1
    assert world.state(dead.task_id) == "quarantined"
    assert world.one("select outcome from sessions where id = %(id)s", id=dead.session) == "lost"
    assert leases.bury([dead.session]) == 0


def test_voided_measurements_are_counted_and_their_windows_kept(world: World) -> None:
    for state in (TaskState.PENDING, TaskState.QUARANTINED):
        held = Holder(world)
        given = world.leases.give_back(
            held.lease,
            held.session,
            Outcome.INVALID,
            kind="throttled_thermal",
            measurement=measurement(marks=["short_window"]),
        )
        assert given is state
    task = world.sql("select * from tasks order by ordinal")[0]
    assert (task.invalids, task.reason) == (2, "invalid:throttled_thermal")
    assert world.one("select count(*) from windows") == 2
    assert world.counted() == []


def test_a_permanent_fault_quarantines_at_once(world: World) -> None:
    held = Holder(world)
    given = world.leases.give_back(
        held.lease, held.session, Outcome.FAULTED, kind="context_too_long", permanent=True
    )
    assert given is TaskState.QUARANTINED
    assert world.task(held.task_id).reason == "faulted:context_too_long"


def test_a_release_is_free_even_when_a_budget_is_spent(world: World) -> None:
    assert Holder(world).fault(world.leases) is TaskState.PENDING
    held = Holder(world)
    strict = world.under(LeasePolicy(max_faults=1, max_invalid=1))
    assert strict.give_back(held.lease, held.session, Outcome.RELEASED) is TaskState.PENDING
    task = world.task(held.task_id)
    assert (task.faults, task.losses, task.invalids, task.attempts) == (1, 0, 0, 2)


def test_one_kind_of_failure_spends_no_budget_of_another(world: World) -> None:
    policy = LeasePolicy(max_faults=2, max_invalid=2)
    leases = world.under(policy)
    held = Holder(world)
    assert held.fault(leases) is TaskState.PENDING
    held = Holder(world)
    given = leases.give_back(held.lease, held.session, Outcome.INVALID, kind="gpu_lost")
    assert given is TaskState.PENDING
    held = Holder(world, expired=True)
    assert world.reap(max_lost=2) == 1
    assert world.state(held.task_id) == "pending"


def test_people_give_a_quarantined_task_its_budgets_back(world: World) -> None:
    held = Holder(world, expired=True)
    assert world.reap(max_lost=1) == 1
    assert len(retry(world.store, Selection(keys=[held.claim.key]))) == 1
    again = Holder(world)
    assert again.task_id == held.task_id
    assert world.task(held.task_id).losses == 0
    assert held.finish(world.leases) is Outcome.SUPERSEDED


# ---- waiting, excluding, quarantining ----------------------------------------------------------


def test_a_faulted_task_waits_before_it_is_claimed_again(world: World) -> None:
    leases = world.under(LeasePolicy(retry_delay_s=3600.0))
    first = Holder(world)
    first.fault(leases)
    delay_s = "select extract(epoch from not_before - now())::float from tasks where id = %(id)s"
    assert 3000 < world.one(delay_s, id=first.task_id) <= 3600
    assert Holder(world).task_id != first.task_id
    assert world.nothing_to_claim()
    world.sql("update tasks set not_before = now() where id = %(id)s", id=first.task_id)
    assert Holder(world).task_id == first.task_id


def test_nothing_else_waits(world: World) -> None:
    leases = world.under(LeasePolicy(retry_delay_s=3600.0))
    first = Holder(world)
    leases.give_back(first.lease, first.session, Outcome.INVALID, kind="gpu_lost")
    assert Holder(world).task_id == first.task_id


def test_an_engine_that_cannot_load_takes_its_pending_tasks_out(store: Store) -> None:
    other = replace(ENGINE, dtype="float16")
    tasks = [task(1), task(2), task(4), task(1, engine=other)]
    world = World(store, tasks)
    done, held = Holder(world), Holder(world)
    done.finish(world.leases)
    reason = "engine:out_of_memory"
    assert world.leases.quarantine_engine(world.campaign_id, world.engine_id, reason) == 1
    states = world.sql("select state, reason from tasks order by ordinal")
    assert [tuple(row) for row in states] == [
        ("done", None),
        ("leased", None),
        ("quarantined", reason),
        ("pending", None),
    ]
    assert held.finish(world.leases) is Outcome.OK


def test_the_engine_is_quarantined_for_the_campaign_that_saw_it_fail(store: Store) -> None:
    world = World(store, [task(1)])
    other = world.campaign("other", [task(2)])
    assert world.leases.quarantine_engine(other, world.engine_id, "engine:dtype") == 1
    assert world.one("select batch_size from tasks where state = 'quarantined'") == 2


def test_only_what_is_provably_larger_is_excluded(store: Store) -> None:
    other = replace(ENGINE, dtype="float16")
    failed = task(4, input_tokens=64, output_tokens=32)
    larger = [
        task(8, input_tokens=64, output_tokens=32),
        task(4, input_tokens=128, output_tokens=32),
        task(8, input_tokens=128, output_tokens=64),
    ]
    kept = [
        replace(failed, key="v1:equal, another replicate", replicate=1),
        task(8, input_tokens=64, output_tokens=32, prefix_tokens=32),
        task(8, input_tokens=64, output_tokens=32, decoding="beam", beams=4),
        task(8, input_tokens=32, output_tokens=32),  # a larger batch of shorter prompts
        task(2, input_tokens=64, output_tokens=32),
        task(8, input_tokens=64, output_tokens=32, engine=other),
    ]
    world = World(store, [failed, *larger, *kept])
    held = Holder(world)
    once = world.under(LeasePolicy(max_faults=2))
    held.fault(once, "out_of_memory")
    assert world.leases.exclude_larger(held.task_id) == 0, "it may still succeed"
    again = Holder(world)
    again.fault(once, "out_of_memory")
    assert again.task_id == held.task_id
    assert world.leases.exclude_larger(held.task_id) == 3
    excluded = world.sql("select key, reason from tasks where state = 'excluded'")
    assert {row.key for row in excluded} == {t.key for t in larger}
    assert {row.reason for row in excluded} == {"out_of_memory"}


def test_what_is_larger_under_the_same_load_is_excluded(store: Store) -> None:
    load = {"arrival": "poisson", "rate_rps": 2.0, "requests": 100}
    failed = task(4, **load)
    others = [task(8), task(8, **load), task(8, **{**load, "rate_rps": 4.0})]
    world = World(store, [failed, *others])
    held = Holder(world)
    held.fault(world.leases, "out_of_memory", permanent=True)
    assert world.leases.exclude_larger(held.task_id) == 1
    assert world.one("select key from tasks where state = 'excluded'") == others[1].key


def test_what_is_measured_or_held_is_never_excluded(store: Store) -> None:
    world = World(store, [task(2), task(4), task(1)])
    Holder(world).finish(world.leases)
    Holder(world)
    smallest = Holder(world)
    smallest.fault(world.leases, "out_of_memory", permanent=True)
    assert world.leases.exclude_larger(smallest.task_id) == 0


# ---- who may claim what ------------------------------------------------------------------------


def test_a_session_claims_what_its_campaign_asks_for_in_order(store: Store) -> None:
    world = World(store, [task(4), task(1), task(2)])
    other = world.campaign("other", [task(2), task(8)])
    claimed = [Holder(world).claim.workload.batch_size for _ in range(3)]
    assert claimed == [4, 1, 2]
    assert world.nothing_to_claim()
    found = world.leases.claim(other, world.engine_id, world.session())
    assert found is not None
    assert found.workload.batch_size == 8


def test_a_claim_says_everything_there_is_to_measure(world: World) -> None:
    claim = Holder(world).claim
    assert (claim.key, claim.workload, claim.protocol, claim.reality, claim.replicate) == (
        FIRST.key,
        FIRST.workload,
        FIRST.protocol,
        FIRST.reality,
        FIRST.replicate,
    )


def test_a_claim_taken_back_before_its_reply_was_sent_again_claims_anew(world: World) -> None:
    """The store was away for longer than a lease."""
    session = world.session()

    class Reaped(Store):
        def retrying(self, work: Callable[[Connection], T], *, single: bool = False) -> T:
            if not world.outcomes(first_id):
                super().retrying(work, single=single)  # its reply is lost
                world.sql("update tasks set lease_expires_at = '-infinity' where state = 'leased'")
                assert world.reap() == 1
            return super().retrying(work, single=single)

    first_id = world.one("select min(id) from tasks")
    away = Reaped(world.store.url)
    found = Leases(away, LeasePolicy()).claim(world.campaign_id, world.engine_id, session)
    away.close()
    assert found is not None
    assert world.outcomes(found.task_id) == ["lost", None]
    world.leases.beat(found.lease_id)


def test_a_finish_that_is_refused_claims_nothing(world: World) -> None:
    held = Holder(world)
    never = measurement(repeat(0, replace(reading(), ended_ns=reading().started_ns)))
    with pytest.raises(IntegrityError, match="positive_duration"):
        world.leases.finish_and_claim(held.lease, never, world.wanted(held.session))
    assert [row.state for row in world.sql("select state from tasks order by ordinal")] == [
        "leased", "pending",
    ]  # fmt: skip


def test_what_is_sent_together_is_one_transaction(world: World) -> None:
    sent = ("update tasks set attempts = 9", {}), ("select 1 / 0", {})
    with pytest.raises(DivisionByZero), world.store.begin(single=True) as connection:
        together(connection, *sent)
    assert world.one("select max(attempts) from tasks") == 0


def test_a_next_task_that_cannot_be_read_is_given_back(world: World) -> None:
    held = Holder(world)
    world.sql("update tasks set workload = '{\"tempo\": 3}' where state = 'pending'")
    assert held.finish_and_claim(world, world.leases) == (Outcome.OK, None)
    found = world.sql("select state, faults + losses + invalids from tasks order by ordinal")
    assert [tuple(row) for row in found] == [("done", 0), ("pending", 0)]


def test_a_lease_nobody_ever_opened_writes_nothing(world: World) -> None:
    with pytest.raises(LeaseLost, match="no attempt was ever opened"):
        world.leases.finish(uuid.uuid4(), world.session(), measurement())


def test_open_sessions_are_those_of_the_host_that_have_not_ended(world: World) -> None:
    alive, ended = world.session(), world.session()
    with world.store.begin() as connection:
        close_session(connection, ended, "ended")
    assert [row.id for row in world.leases.open_sessions(BOOT)] == [alive]
    assert world.leases.open_sessions("another host") == []


def test_text_that_postgres_cannot_keep_costs_no_attempt(world: World) -> None:
    held = Holder(world)
    error = "Traceback:\n\0\udcff\t\\N"
    world.leases.give_back(held.lease, held.session, Outcome.FAULTED, kind="x", error=error)
    assert world.one("select error from attempts") == "Traceback:\n\N{REPLACEMENT CHARACTER}?\t\\N"
