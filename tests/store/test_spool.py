"""Attempts that end while the store is away: sent once it is back, and counted once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from db.embedded import EmbeddedPostgres
from db.leases import LeasePolicy
from db.place import Place
from db.records import Outcome
from db.store import Store
from tests.store.scenarios import FIRST, SECOND, Holder
from tests.store.test_session import ask, assignment, options
from tests.store.wire import Wire
from tests.store.world import World, ground, measurement, reading, repeat
from workers.assignment import Assignment, Ending, Report
from workers.session import Session
from workers.spool import Delivery, Ended, Spool, read

pytestmark = pytest.mark.store


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "spool") as found:
        yield found


@pytest.fixture
def world(store: Store) -> World:
    return World(store, [FIRST, SECOND])


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def ended(world: World, held: Holder, outcome: Outcome = Outcome.OK, **changes: object) -> Ended:
    done = measurement(repeat(0, reading(7.0))) if outcome is not Outcome.FAULTED else None
    kind = None if outcome is Outcome.OK else "why"
    made = Ended(
        task_id=held.task_id, key=held.claim.key, lease_id=held.lease, session_id=held.session,
        outcome=outcome, measurement=done, kind=kind, store=world.store.where,
    )  # fmt: skip
    return replace(made, **changes)


def deliver(world: World, spool: Spool, **policy: int) -> Delivery:
    return spool.deliver(world.under(LeasePolicy(**policy)), world.store.where)


# ---- what it counts as -------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["held", "reaped", "buried", "released"])
def test_a_measurement_counts_while_nobody_else_has_begun(
    world: World, spool: Spool, before: str
) -> None:
    a = Holder(world)
    spool.keep(ended(world, a))
    if before == "reaped":
        world.expire(a.lease)
        assert world.reap() == 1
    elif before == "buried":
        assert world.leases.bury([a.session]) == 1
    elif before == "released":
        assert world.leases.release([a.session]) == 1
    assert deliver(world, spool) == Delivery(outcomes={"ok": 1})
    assert world.counted() == [(a.claim.key, 7.0)]
    assert spool.files() == []


def test_a_measurement_that_comes_after_anothers_is_kept_and_never_counted(
    world: World, spool: Spool
) -> None:
    a = Holder(world, expired=True)
    spool.keep(ended(world, a))
    assert world.reap() == 1
    b = Holder(world)
    assert b.task_id == a.task_id
    assert deliver(world, spool) == Delivery(outcomes={"superseded": 1})
    b.finish(world.leases, 10.0)
    assert world.outcomes(a.task_id) == ["superseded", "ok"]
    assert world.counted() == [(a.claim.key, 10.0)]
    assert world.one("select count(*) from windows") == 2
    assert spool.files() == []


@pytest.mark.parametrize("outcome", [Outcome.INVALID, Outcome.FAULTED])
def test_a_void_or_a_fault_is_no_loss_either(world: World, spool: Spool, outcome: Outcome) -> None:
    a = Holder(world, expired=True)
    spool.keep(ended(world, a, outcome))
    assert world.reap() == 1
    assert deliver(world, spool) == Delivery(outcomes={str(outcome): 1})
    task = world.task(a.task_id)
    faulted = outcome is Outcome.FAULTED
    assert (task.losses, task.faults, task.invalids) == (0, int(faulted), int(not faulted))
    assert world.outcomes(a.task_id) == [outcome]
    assert world.one("select count(*) from windows") == int(not faulted)


def test_out_of_memory_excludes_what_is_larger_when_it_is_told_late(
    world: World, spool: Spool
) -> None:
    a = Holder(world, expired=True)
    spool.keep(ended(world, a, Outcome.FAULTED, kind="out_of_memory", permanent=True))
    assert world.reap() == 1
    deliver(world, spool)
    assert world.one("select reason from tasks where state = 'excluded'") == "out_of_memory"


def test_sent_twice_is_counted_once(world: World, spool: Spool) -> None:
    for outcome in (Outcome.OK, Outcome.INVALID, Outcome.FAULTED):
        a = Holder(world)
        path = spool.keep(ended(world, a, outcome))
        whole = path.read_bytes()
        assert deliver(world, spool).problems == ()
        rows = world.sql("select id, outcome, closed_at from attempts order by id")
        windows = world.one("select count(*) from windows")
        path.write_bytes(whole)
        assert deliver(world, spool) == Delivery(outcomes={str(outcome): 1})
        assert world.sql("select id, outcome, closed_at from attempts order by id") == rows
        assert world.one("select count(*) from windows") == windows
        assert spool.files() == []


def test_two_processes_send_the_same_spool(world: World, spool: Spool) -> None:
    held = [Holder(world), Holder(world)]
    for each in held:
        spool.keep(ended(world, each))
    sent: list[Delivery] = []
    threads = [threading.Thread(target=lambda: sent.append(deliver(world, spool))) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [d.problems for d in sent] == [(), ()]
    assert len(world.counted()) == 2
    assert world.one("select count(*) from windows") == 2
    assert spool.files() == []


# ---- what cannot be sent stays -----------------------------------------------------------------


def test_a_damaged_file_is_named_and_stays_and_the_others_go(world: World, spool: Spool) -> None:
    broken = spool.keep(ended(world, Holder(world)))
    broken.write_bytes(broken.read_bytes()[:100])
    spool.keep(ended(world, Holder(world)))
    sent = deliver(world, spool)
    assert sent.outcomes == {"ok": 1}
    (problem,) = sent.problems
    assert problem.startswith(f"{broken}: is no whole JSON document")
    assert spool.files() == [broken]


def test_what_the_stores_rules_refuse_stays(world: World, spool: Spool) -> None:
    a = Holder(world)
    path = spool.keep(ended(world, a, measurement=measurement(repeat(0, reading(-1.0)))))
    (problem,) = deliver(world, spool).problems
    assert "the store refuses it" in problem
    assert "windows_energy_is_measured_check" in problem
    assert "\n" not in problem
    assert (spool.files(), world.state(a.task_id)) == ([path], "leased")


def test_a_file_of_another_task_or_session_writes_nothing(world: World, spool: Spool) -> None:
    a, b = Holder(world), Holder(world)
    spool.keep(ended(world, a, key=b.claim.key))
    spool.keep(ended(world, b, session_id=a.session))
    sent = deliver(world, spool)
    assert (len(sent.problems), len(spool.files())) == (2, 2)
    assert world.counted() == []


def test_attempts_of_another_store_wait_for_it(world: World, spool: Spool) -> None:
    a = Holder(world)
    other = ended(world, a, lease_id=uuid.uuid4(), store="in /elsewhere")
    spool.keep(other)
    assert deliver(world, spool) == Delivery(outcomes={}, elsewhere=1)
    spool.keep(replace(other, store=world.store.where))  # this store, restored from before
    (problem,) = deliver(world, spool).problems
    assert "no attempt was ever opened with lease" in problem
    assert len(spool.files()) == 1


INGEST = """
import os, sys
from pathlib import Path
from db.leases import LeasePolicy, Leases
from db.store import Store
from workers.spool import Spool

point, folder, url = sys.argv[1:]
if point == "sent":  # the store has it, the file is still there
    Path.unlink = lambda path, missing_ok=False: os.kill(os.getpid(), 9)
else:  # the store was told half of it
    import db.leases
    db.leases.write_windows = lambda *_: os.kill(os.getpid(), 9)
store = Store(url)
Spool(Path(folder)).deliver(Leases(store, LeasePolicy()), store.where)
"""


@pytest.mark.parametrize(("point", "outcome"), [("sent", Outcome.OK), ("half", Outcome.INVALID)])
def test_killed_in_the_middle_it_goes_on_the_next_time(
    world: World, spool: Spool, point: str, outcome: Outcome
) -> None:
    a = Holder(world)
    spool.keep(ended(world, a, outcome))
    command = [sys.executable, "-c", INGEST, point, str(spool.folder), world.store.url]
    killed = subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    assert killed.returncode == -signal.SIGKILL
    assert len(spool.files()) == 1
    assert deliver(world, spool) == Delivery(outcomes={str(outcome): 1})
    assert world.counted() == ([(a.claim.key, 7.0)] if outcome is Outcome.OK else [])
    assert world.one("select count(*) from windows") == 1


# ---- a session whose store goes away -----------------------------------------------------------


class Outage:
    """A session on a wire that is cut when it reaches a point; `then` says what happens next."""

    def __init__(self, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        World(store)
        folder.chmod(0o755)
        self.store, self.spool = store, Spool(folder / "spool")
        self.wire = Wire(store.url, folder)
        self._patch = monkeypatch
        self.running: Session | None = None

    def session(self, job: Assignment, at: str, then: Callable[[], None]) -> Report:
        place = Place(url=self.wire.url, patience_s=job.place.patience_s)
        session = self.running = Session(
            replace(job, place=place, spool=str(self.spool.folder)), ()
        )

        def reach(point: str) -> None:
            if point == at:
                self._patch.setattr("workers.attempts.reach", lambda _: None)
                self.wire.cut()
                then()

        self._patch.setattr("workers.attempts.reach", reach)
        return session.run()


@pytest.fixture
def outage(store: Store, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outage]:
    made = Outage(store, place, monkeypatch)
    yield made
    made.wire.cut()


def job(store: Store, *, patience_s: float, beat_s: float = 0.2, **more: object) -> Assignment:
    made = assignment(store, **more)
    policy = LeasePolicy(lease_s=1.0, beat_s=beat_s, retry_delay_s=0.0)
    return replace(made, policy=policy, place=replace(made.place, patience_s=patience_s))


def when(spool: Spool, then: Callable[[], None]) -> Callable[[], None]:
    """Start waiting for a spooled attempt, to do something then."""

    def wait() -> None:
        while not spool.files():
            done.wait(0.01)
        then()

    done = threading.Event()
    return lambda: threading.Thread(target=wait, daemon=True).start()


def test_a_session_waits_for_the_store_with_its_measurement_safe_and_goes_on(
    outage: Outage,
) -> None:
    seen: list[Ended] = []

    def mend() -> None:
        seen.append(read(outage.spool.files()[0]))
        outage.wire.mend()

    then = when(outage.spool, mend)
    report = outage.session(job(outage.store, patience_s=60.0), "measured", then)
    assert (report.ending, report.outcomes) == (Ending.DRAINED, {"ok": 3}), report
    assert [one.outcome for one in seen] == [Outcome.OK]
    assert outage.spool.files() == []
    assert ask(outage.store, "select outcome, count(*) from attempts group by 1") == [("ok", 3)]


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [({}, "ok"), ({"zero_length": True}, "invalid"), ({"oom_above_batch": 0}, "faulted")],
)
def test_gone_for_three_leases_with_work_in_hand_no_attempt_is_lost(
    outage: Outage, behaviour: dict[str, object], outcome: str
) -> None:
    """The store stays away for longer than a session waits, and reaps when it is back."""
    store, engine = outage.store, options(**behaviour)
    task = job(store, patience_s=1.0, engine=engine, batches=(1,))
    report = outage.session(task, "claimed", lambda: None)
    assert report.ending is Ending.STORE_AWAY
    assert "the next run sends it" in str(report.error)
    (path,) = outage.spool.files()
    assert read(path).outcome == outcome
    world = World.__new__(World)  # the same store, as it is
    world.store = store
    world.sql("update tasks set lease_expires_at = now() - interval '2 seconds'")  # three leases
    assert world.reap() == 1
    assert ask(store, "select outcome from attempts") == [("lost",)]
    assert deliver(world, outage.spool) == Delivery(outcomes={outcome: 1})
    assert ask(store, "select outcome from attempts") == [(outcome,)]
    assert ask(store, "select sum(losses) from tasks") == [(1 if outcome == "ok" else 0,)]
    count = ask(store, "select count(*) from measurements")
    assert count == [(1 if outcome == "ok" else 0,)]


def test_the_next_session_of_the_host_sends_what_the_last_one_kept(outage: Outage) -> None:
    lost = outage.session(job(outage.store, patience_s=1.0), "measured", lambda: None)
    assert (lost.ending, len(outage.spool.files())) == (Ending.STORE_AWAY, 1)
    outage.wire.mend()
    again = replace(job(outage.store, patience_s=60.0), spool=str(outage.spool.folder))
    report = Session(again, ()).run()
    assert report.outcomes == {"ok": 2}
    assert outage.spool.files() == []
    assert ask(outage.store, "select outcome, count(*) from attempts group by 1") == [("ok", 3)]


def test_a_session_that_is_to_stop_does_not_wait_for_the_store(
    outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver gives up: whatever patience is left, the measurement is kept and that is all."""
    monkeypatch.setattr("db.store.HURRY_S", 0.2)

    def stop() -> None:
        assert outage.running is not None
        outage.running.stop()

    report = outage.session(job(outage.store, patience_s=3600.0), "measured", stop)
    assert report.ending is Ending.STORE_AWAY
    assert len(outage.spool.files()) == 1


def test_a_session_that_is_to_stop_does_not_wait_for_a_store_that_it_never_saw(
    outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.store.HURRY_S", 0.2)
    made = job(outage.store, patience_s=3600.0)
    outage.wire.cut()
    session = Session(replace(made, place=replace(made.place, url=outage.wire.url)), ())
    session.stop()
    assert session.run().ending is Ending.STORE_AWAY


def test_a_spool_that_cannot_be_written_costs_nothing_if_the_store_comes_back(
    outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        outage.wire.mend()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Spool, "keep", full)
    report = outage.session(job(outage.store, patience_s=60.0), "measured", lambda: None)
    assert (report.ending, report.outcomes) == (Ending.DRAINED, {"ok": 3})


# ---- the verb ----------------------------------------------------------------------------------


@pytest.fixture
def home(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAMPAIGN_HOME", str(place))
    return place


def ingest(store: Store, *words: str, expect: int = 0) -> tuple[dict[str, object], str]:
    command = [sys.executable, "-m", "campaign", "ingest", "--json", *words,
               f"store.url='{store.url}'"]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == expect, done.stderr
    return json.loads(done.stdout), done.stderr


def test_the_verb_sends_the_spool_of_this_host_or_a_folder(world: World, home: Path) -> None:
    spool = Spool(home / "spool")
    assert ingest(world.store)[0]["files"] == 0
    a, b = Holder(world), Holder(world)
    spool.keep(ended(world, a))
    data, said = ingest(world.store)
    assert data["sent"] == {"ok": 1}
    assert "1 spooled attempt sent to the store: 1 ok" in said
    other = Spool(home / "copied")
    path = other.keep(ended(world, b))
    path.write_text("{")
    data, said = ingest(world.store, str(other.folder), expect=4)
    assert (data["files"], data["sent"]) == (1, {})
    assert f"{path}: is no whole JSON document" in said
    assert path.exists()
    assert len(world.counted()) == 1


def test_the_verb_refuses_what_is_no_folder(world: World, home: Path) -> None:
    command = [sys.executable, "-m", "campaign", "ingest", str(home / "nothing")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, f"campaign: {home}/nothing is no folder\n")
