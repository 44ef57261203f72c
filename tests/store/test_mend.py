"""The verbs `void` and `retry`: what becomes pending, what stays, and who may be in the way."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from campaign.cli import main
from db import mending
from db.embedded import EmbeddedPostgres
from db.leases import LeasePolicy
from db.mending import Selection, retry, void
from db.records import Outcome, TaskState
from db.store import Store, rows
from tests.store.filled import Filled, filled
from tests.store.interleaving import Hand, Stage, stage
from tests.store.world import World, ground, measurement, task

pytestmark = pytest.mark.store

EVERYTHING = Selection()


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "mending") as found:
        yield found


@pytest.fixture
def world(store: Store) -> World:
    return World(store, [task(1), task(2)])


@pytest.fixture
def scene(world: World) -> Iterator[Stage]:
    with stage(world) as found:
        yield found


def measure(world: World, *marks: str) -> int:
    """Measure the next task; returns its id."""
    session = world.session()
    claim = world.claim(session)
    assert world.leases.finish(claim.lease_id, session, measurement(marks=marks)) is Outcome.OK
    return claim.task_id


def quarantine(world: World, *, faults: int = 1, gate: str | None = None) -> int:
    """Fail the next task for good, by faults or by a gate; returns its id."""
    strict = world.under(LeasePolicy(max_faults=faults, max_invalid=faults))
    outcome = Outcome.INVALID if gate else Outcome.FAULTED
    for _ in range(faults):
        session = world.session()
        claim = world.claim(session, strict)
        strict.give_back(claim.lease_id, session, outcome, kind=gate or "deadline")
    assert world.state(claim.task_id) == "quarantined"
    return claim.task_id


def send(hand: Hand, statement: str, **values: Any) -> Any:
    """Start a mending statement on a hand's open transaction; returns its future rows."""
    chosen = {**EVERYTHING.values, "reason": "proof", **values}
    return hand.start(lambda: hand.retrying(lambda c: rows(c, statement, chosen)))


# ---- void --------------------------------------------------------------------------------------


def test_a_voided_result_stays_marked_and_no_longer_counts(world: World) -> None:
    measured = measure(world)
    (mended,) = void(world.store, EVERYTHING, "fan off")
    assert (mended.was, mended.campaigns) == (TaskState.DONE, ("proof",))
    assert world.counted() == []
    assert world.outcomes(measured) == ["ok"]
    (kept,) = world.sql("select * from attempts")
    assert (kept.void_reason, kept.voided_at is not None) == ("fan off", True)
    assert world.one("select count(*) from windows") == 1


def test_a_voided_task_is_measured_again_and_only_the_new_result_counts(world: World) -> None:
    first = measure(world)
    void(world.store, EVERYTHING, "fan off")
    assert measure(world) == first
    assert world.outcomes(first) == ["ok", "ok"]
    assert len(world.counted()) == 1
    void(world.store, EVERYTHING, "fan still off")
    reasons = world.sql("select void_reason from attempts order by number")
    assert [row.void_reason for row in reasons] == ["fan off", "fan still off"]


def test_what_is_not_done_is_left_alone(world: World) -> None:
    quarantined = quarantine(world)
    held = world.claim(world.session())
    assert void(world.store, EVERYTHING, "all of it") == ()
    assert (world.state(quarantined), world.state(held.task_id)) == ("quarantined", "leased")


def test_filters_count_together(world: World) -> None:
    marked, plain = measure(world, "short_window"), measure(world)
    keys = {t: world.task(t).key for t in (marked, plain)}
    for nothing in (
        Selection(keys=[keys[plain]], gate="short_window"),
        Selection(gate="interval_wide"),
        Selection(model="another"),
        Selection(campaign_id=world.campaign_id + 1),
    ):
        assert void(world.store, nothing, "no") == ()
    both = Selection(gate="short_window", model="llama-small", campaign_id=world.campaign_id)
    assert [m.key for m in void(world.store, both, "yes")] == [keys[marked]]
    assert world.state(plain) == "done"


def test_a_dry_run_says_the_same_and_changes_nothing(world: World) -> None:
    measure(world)
    before = world.sql("select * from tasks"), world.sql("select * from attempts")
    would = void(world.store, EVERYTHING, "fan off", dry_run=True)
    assert (world.sql("select * from tasks"), world.sql("select * from attempts")) == before
    assert void(world.store, EVERYTHING, "fan off") == would
    assert len(would) == 1


def test_a_second_send_of_the_voided_measurement_does_not_bring_it_back(world: World) -> None:
    session = world.session()
    claim = world.claim(session)
    world.leases.finish(claim.lease_id, session, measurement())
    void(world.store, EVERYTHING, "fan off")
    world.leases.finish(claim.lease_id, session, measurement())
    assert world.counted() == []
    assert world.state(claim.task_id) == "pending"


# ---- retry -------------------------------------------------------------------------------------


def test_a_quarantined_task_gets_its_whole_budget_back(world: World) -> None:
    failed = quarantine(world, faults=3)
    (mended,) = retry(world.store, EVERYTHING)
    assert mended.was is TaskState.QUARANTINED
    fresh = world.task(failed)
    assert (fresh.state, fresh.reason, fresh.not_before) == ("pending", None, None)
    assert (fresh.faults, fresh.losses, fresh.invalids, fresh.attempts) == (0, 0, 0, 3)
    assert measure(world) == failed
    assert world.outcomes(failed) == ["faulted"] * 3 + ["ok"]


def test_retry_leaves_results_alone_unless_a_gate_is_named(world: World) -> None:
    marked, plain = measure(world, "short_window"), measure(world)
    assert retry(world.store, EVERYTHING) == ()
    (mended,) = retry(world.store, Selection(gate="short_window"))
    assert (mended.key, mended.was) == (world.task(marked).key, TaskState.DONE)
    assert (world.state(marked), world.state(plain)) == ("pending", "done")
    reason = world.one("select void_reason from attempts where voided_at is not null")
    assert reason == "retry: short_window"


def test_retry_with_a_gate_takes_what_that_gate_voided_and_nothing_else(store: Store) -> None:
    world = World(store, [task(1), task(2), task(4)])
    voided, failed = quarantine(world, gate="no_energy"), quarantine(world)
    marked = measure(world, "no_energy")
    assert retry(world.store, Selection(gate="short_window")) == ()
    mended = retry(world.store, Selection(gate="no_energy"))
    assert {m.was for m in mended} == {TaskState.QUARANTINED, TaskState.DONE}
    found = [world.state(each) for each in (voided, marked, failed)]
    assert found == ["pending", "pending", "quarantined"]


def test_retry_takes_the_named_tasks_only(world: World) -> None:
    first, second = quarantine(world), quarantine(world)
    retry(world.store, Selection(keys=[world.task(second).key]))
    assert (world.state(first), world.state(second)) == ("quarantined", "pending")


def test_retry_leaves_a_task_alone_that_somebody_measures(world: World) -> None:
    held = world.claim(world.session())
    before = world.task(held.task_id)
    assert retry(world.store, Selection(keys=[held.key])) == ()
    assert world.task(held.task_id) == before
    world.leases.beat(held.lease_id)


# ---- two at once -------------------------------------------------------------------------------


def late_finish(world: World) -> tuple[uuid.UUID, uuid.UUID, int]:
    """A task given up as lost whose owner lives and will send its result after all."""
    session = world.session()
    claim = world.claim(session)
    world.expire(claim.lease_id)
    world.reap(max_lost=1)
    assert world.state(claim.task_id) == "quarantined"
    return claim.lease_id, session, claim.task_id


def retry_against_a_late_finish(scene: Stage, statement: str) -> tuple[str, int]:
    """Retry while a late result is being written; returns the task's state and its results."""
    lease, session, late = late_finish(scene.world)
    writer, mender = scene.hand(), scene.hand()
    assert scene.leases(writer).finish(lease, session, measurement()) is Outcome.OK
    changed = send(mender, statement)
    scene.waits(mender)
    writer.commit()
    changed.result()
    mender.commit()
    return scene.world.state(late), len(scene.world.counted())


def test_retry_does_not_undo_a_result_that_arrives_meanwhile(scene: Stage) -> None:
    assert retry_against_a_late_finish(scene, mending.SQL["retry"]) == ("done", 1)


def test_without_its_lock_retry_would_undo_that_result(scene: Stage) -> None:
    blind = mending.SQL["retry"].replace("for update of t", "")
    assert retry_against_a_late_finish(scene, blind) == ("pending", 1)


def test_two_voids_at_once_void_once(scene: Stage) -> None:
    measured = measure(scene.world)
    first, second = scene.hand(), scene.hand()
    assert len(send(first, mending.SQL["void"], reason="first").result()) == 1
    later = send(second, mending.SQL["void"], reason="second")
    scene.waits(second)
    first.commit()
    assert later.result() == []
    second.commit()
    assert scene.world.one("select void_reason from attempts") == "first"
    assert scene.world.state(measured) == "pending"


def void_against_a_new_result(scene: Stage, statement: str) -> tuple[str, list[str | None]]:
    """Void a result while it is voided and measured anew; returns state and void reasons."""
    world = scene.world
    measured, session = measure(world), world.session()
    first, second = scene.hand(), scene.hand()
    send(first, statement, reason="first").result()
    later = send(second, statement, reason="second")
    scene.waits(second)
    leases = scene.leases(first)
    claim = leases.claim(world.campaign_id, world.engine_id, session)
    assert claim is not None
    assert claim.task_id == measured
    assert leases.finish(claim.lease_id, session, measurement()) is Outcome.OK
    first.commit()
    later.result()
    second.commit()
    voids = world.sql("select void_reason from attempts order by number")
    return world.state(measured), [row.void_reason for row in voids]


def test_a_void_that_waited_does_not_take_the_result_that_came_since(scene: Stage) -> None:
    found = void_against_a_new_result(scene, mending.SQL["void"])
    assert found == ("done", ["first", None])


def test_without_its_second_look_void_would_lose_that_result(scene: Stage) -> None:
    blind = mending.SQL["void"].replace("chosen.attempt_id and a.voided_at is null",
                                        "chosen.attempt_id")  # fmt: skip
    assert void_against_a_new_result(scene, blind) == ("pending", ["second", None])


def test_a_void_does_not_wait_for_a_measurement_in_progress(scene: Stage) -> None:
    measure(scene.world)
    session = scene.world.session()
    writer, mender = scene.hand(), scene.hand()
    claim = scene.leases(writer).claim(scene.world.campaign_id, scene.world.engine_id, session)
    assert claim is not None
    changed = send(mender, mending.SQL["void"])
    assert len(scene.at_once(mender, changed)) == 1
    mender.commit()
    writer.commit()
    assert scene.world.state(claim.task_id) == "leased"


def test_a_claim_passes_by_a_task_that_is_being_voided(scene: Stage) -> None:
    world = scene.world
    voided = measure(world)
    mender = scene.hand()
    assert len(send(mender, mending.SQL["void"]).result()) == 1
    other = world.claim(world.session())
    assert other.task_id != voided
    assert world.nothing_to_claim()
    mender.commit()
    assert world.claim(world.session()).task_id == voided


# ---- on the command line -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(embedded_store: EmbeddedPostgres) -> Iterator[Filled]:
    with filled(embedded_store, "mending_verbs") as found:
        yield found


Printed = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["void"], "needs --reason"),
        (["void", "--reason", "  ", "--gate", "short_window"], "needs --reason"),
        (["void", "--reason", "x"], "void what?"),
        (["void", "--reason", "x", "zz"], "zz is no task key"),
        (["void", "--reason", "x", "v1:%"], "is no task key"),
        (["void", "--reason", "x", "0123456789"], "names no task"),
        (["void", "--reason", "x", "--campaign", "quikstart"], "did you mean quickstart?"),
        (["void", "--reason", "x", "--model", "llama-smal"], "did you mean llama-small"),
        (["void", "--reason", "x", "--gate", "short_windo"], "did you mean short_window?"),
        (["retry", "--reason", "x"], "takes no --reason"),
        (["retry", "--campain", "x"], "no such option"),
    ],
)
def test_what_would_be_a_guess_is_refused(
    words: list[str], said: str, shop: Filled, capsys: Printed
) -> None:
    assert main([*words, *shop.here]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert shop.value("select count(*) from attempts where voided_at is not null") == 0


def test_the_verbs_say_what_they_changed(shop: Filled, capsys: Printed) -> None:
    key = shop.key("state = 'quarantined'")
    assert main(["retry", key[:15], "--dry-run", "--json", *shop.here]) == 0
    would = json.loads(capsys.readouterr().out)
    assert (would["pending"], would["voided"], would["dry_run"]) == (1, 0, True)
    assert [task["key"] for task in would["tasks"]] == [key]
    assert main(["retry", key[:15], *shop.here]) == 0
    said = capsys.readouterr()
    assert "pending again: 1 task; voided: 0 results" in said.err
    assert said.out == ""
    assert main(["retry", key[:15], *shop.here]) == 0
    assert "1 of the named tasks left alone: not quarantined" in capsys.readouterr().err
    void_it = ["void", "--gate", "short_window", "--reason", "x", "--json", *shop.here]
    assert main(void_it) == 0
    assert json.loads(capsys.readouterr().out)["voided"] == 2
