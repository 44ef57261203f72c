"""A whole session on a simulated board: what it writes when things go well and when they do not."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from campaign.catalogue.catalog import load_catalog
from db.campaigns import create_campaign, engine_id, enqueue
from db.errors import EngineFault
from db.leases import LeasePolicy, Leases
from db.place import Place
from db.records import EngineSpec, Reality
from tests.store.world import ENGINE, ground, task
from workers import attempts
from workers.assignment import Assignment, Ending
from workers.attempts import SLACK_S
from workers.boardlock import BoardLock
from workers.boards import FoundBoard
from workers.engines.limits import Limits
from workers.rig import RigPlan
from workers.session import Session

CATALOG = load_catalog()
LLAMA = replace(ENGINE, model=CATALOG.model("meta-llama/Llama-3.1-8B"), dtype="bfloat16")


@pytest.fixture
def store(embedded_store):
    with ground(embedded_store, "session") as made:
        yield made


def assignment(
    store, engine: EngineSpec = LLAMA, *, batches=(1, 2, 4), replicates=1, **changes
) -> Assignment:
    tasks = [task(b, engine=engine, input_tokens=64, output_tokens=16, replicate=r)
             for r in range(replicates) for b in batches]  # fmt: skip
    with store.begin() as connection:
        campaign_id = create_campaign(connection, "session", "tester", "")
        enqueue(connection, campaign_id, tasks)
        number = engine_id(connection, engine)
    plan = RigPlan(
        limits=Limits(context_tokens=128, batch_size=4),
        meters=("auto",),
        interval_s=0.1,
        calibration={},
        gates={},
        weights_folder="/dev/null/weights",
        board=CATALOG.board("rtx-a6000"),
    )
    job = Assignment(
        session_id=uuid.uuid4(),
        campaign_id=campaign_id,
        engine_id=number,
        engine=engine,
        reality=Reality.SIMULATED,
        place=Place(url=store.url),
        policy=LeasePolicy(retry_delay_s=0.0),
        rig=plan,
        idle_s=1.0,
        task_deadline_s=600.0,
        lock_wait_s=5.0,
    )
    return replace(job, **changes)


def run(job: Assignment):
    return Session(job, ()).run()


def ask(store, sql: str) -> list[tuple]:
    with store.begin() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def options(**behaviour) -> EngineSpec:
    return replace(LLAMA, options=behaviour)


def test_a_session_drains_its_engine_and_writes_what_was_done(store):
    report = run(assignment(store))
    assert (report.ending, report.outcomes) == (Ending.DRAINED, {"ok": 3})
    assert ask(store, "select state, count(*) from tasks group by 1") == [("done", 3)]
    kinds = ask(store, "select kind, count(*) from windows group by 1 order by 1")
    assert kinds == [
        ("idle_empty", 1), ("idle_end", 1), ("idle_resident", 1), ("load", 1), ("repeat", 9),
    ]  # fmt: skip
    assert ask(store, "select bool_and(warmup_batches >= 2) from attempts") == [(True,)]
    assert ask(store, "select outcome, resolved ->> 'engine', ended_at is null from sessions") == [
        ("ended", "simulated", False)
    ]
    assert ask(store, "select meter from sessions") == [("roofline",)]
    rows = ask(store, "select distinct reality, energy_method, repeats from measurements")
    assert rows == [("simulated", "roofline", 3)]


def test_a_session_writes_the_phases_of_every_repeat(store):
    run(assignment(store, batches=(2,)))
    found = ask(
        store,
        "select phase, method, repeats, energy_j > 0, timing_uncertainty_j, tokens, reasons"
        " from phase_energy order by 1",
    )
    [(batches,)] = ask(store, "select sum(batches) from windows where kind = 'repeat'")
    assert found == [
        ("decode", "steps", 3, True, None, batches * 2 * 15, []),
        ("prefill", "steps", 3, True, None, batches * 2 * 64, []),
    ]


def test_a_second_session_of_a_drained_engine_loads_nothing(store):
    run(assignment(store))
    again = run(assignment(store))
    assert (again.ending, again.load_s) == (Ending.DRAINED, None)
    assert ask(store, "select count(*) from sessions") == [(1,)]


def test_a_task_that_was_claimed_before_the_stop_and_not_begun_is_given_back(store, monkeypatch):
    session = Session(assignment(store), ())
    monkeypatch.setattr(attempts, "reach", lambda at: at == "written" and session.stop())
    report = session.run()
    assert (report.ending, report.outcomes) == (Ending.STOPPED, {"ok": 1})
    assert ask(store, "select outcome from attempts order by id") == [("ok",), ("released",)]
    assert ask(store, "select state, sum(losses + faults) from tasks group by 1 order by 1") == [
        ("done", 0), ("pending", 0),
    ]  # fmt: skip


def test_another_replicate_is_another_session(store):
    job = assignment(store, batches=(1, 2), replicates=2)
    for session in (job, replace(job, session_id=uuid.uuid4())):
        report = run(session)
        assert (report.ending, report.outcomes) == (Ending.DRAINED, {"ok": 2})
    held = ask(store, "select count(distinct t.replicate), count(*) from attempts a"
                      " join tasks t on t.id = a.task_id group by a.session_id")  # fmt: skip
    assert held == [(1, 2), (1, 2)]


def test_an_engine_that_cannot_load_says_why_and_leaves_its_tasks_unclaimed(store):
    report = run(assignment(store, options(fail_load="missing_weights")))
    assert (report.ending, report.kind) == (Ending.ENGINE_FAILED, "missing_weights")
    assert ask(store, "select count(*) from attempts") == [(0,)]
    [(outcome, error)] = ask(store, "select outcome, error from sessions")
    assert outcome == "failed"
    assert "told to fail while loading" in error


def test_an_engine_that_cannot_even_be_opened_fails_like_one_that_cannot_load(store):
    report = run(assignment(store, options(no_such_option=1)))
    assert report.ending is Ending.ENGINE_FAILED
    assert ask(store, "select outcome from sessions") == [("failed",)]


def test_out_of_memory_quarantines_the_task_and_excludes_only_what_is_larger(store):
    job = assignment(store, options(oom_above_batch=1), batches=(1, 2, 4))
    report = run(job)  # they come in this order, and none is held back after a fault
    assert report.ending is Ending.DRAINED  # an engine that is known to be as it was goes on
    states = dict(ask(store, "select batch_size, state from tasks"))
    assert states == {1: "done", 2: "quarantined", 4: "excluded"}
    assert ask(store, "select distinct t.batch_size from attempts a join tasks t"
                      " on t.id = a.task_id order by 1") == [(1,), (2,)]  # fmt: skip
    [(kind, error)] = ask(
        store, "select distinct kind, left(error, 9) from attempts where kind is not null"
    )
    assert (kind, error) == ("out_of_memory", "Traceback")


def test_answers_of_the_wrong_length_void_the_measurement(store):
    report = run(assignment(store, options(zero_length=True), batches=(1,)))
    assert report.outcomes == {"invalid": 2}
    assert ask(store, "select state, reason from tasks") == [
        ("quarantined", "invalid:wrong_token_count")
    ]
    assert ask(store, "select count(*) from measurements") == [(0,)]


def test_a_session_never_fills_real_tasks_with_simulated_numbers(store):
    report = run(assignment(store, reality=Reality.REAL))
    assert report.ending is Ending.UNFIT
    assert ask(store, "select count(*) from attempts") == [(0,)]


def test_a_stopped_session_ends_after_no_task_more(store):
    session = Session(assignment(store), ())
    session.stop()
    report = session.run()
    assert report.ending is Ending.STOPPED
    assert ask(store, "select count(*) from attempts") == [(0,)]


def test_a_lease_taken_away_in_mid_measurement_writes_nothing(store, monkeypatch):
    job = assignment(store, batches=(1,))
    leases = Leases(store, job.policy)

    def reach(point):
        if point == "claimed":  # the lease is given away while the session is about to measure
            leases.release([job.session_id])
            other = uuid.uuid4()
            with store.begin() as connection:
                connection.exec_driver_sql(
                    "insert into sessions (id, campaign_id, engine_id, host, boot, pid,"
                    " pid_started_s, meter, reality) select %s, campaign_id, engine_id, 'h', 'b',"
                    " 1, 1, 'm', 'simulated' from sessions",
                    (other,),
                )
            assert leases.claim(job.campaign_id, job.engine_id, other) is not None

    monkeypatch.setattr("workers.attempts.reach", reach)
    report = run(job)
    assert report.outcomes == {"superseded": 1}
    assert ask(store, "select state from tasks") == [("leased",)]
    assert ask(store, "select count(*) from measurements") == [(0,)]


def test_a_session_never_measures_on_a_board_that_another_one_holds(store, tmp_path, monkeypatch):
    monkeypatch.setenv("CAMPAIGN_LOCKS", str(tmp_path))
    held = BoardLock(["cpu:any:1"])
    assert held.acquire()
    nonsense = replace(LLAMA.model, architecture={"model_type": "nonsense"})  # fails if opened
    real = replace(LLAMA, backend="transformers", board="cpu:any:1", model=nonsense)
    report = run(assignment(store, real, reality=Reality.REAL, lock_wait_s=0.0))
    assert report.ending is Ending.UNFIT
    assert "held by another session" in report.error
    assert ask(store, "select count(*) from sessions") == [(0,)]


def test_a_session_without_the_board_its_tasks_name_measures_nothing(store, tmp_path, monkeypatch):
    monkeypatch.setenv("CAMPAIGN_LOCKS", str(tmp_path))
    nonsense = replace(LLAMA.model, architecture={"model_type": "nonsense"})  # fails if opened
    real = replace(LLAMA, backend="transformers", model=nonsense)
    report = run(assignment(store, real, reality=Reality.REAL))
    assert report.ending is Ending.UNFIT
    assert "this session was given no GPU" in report.error


def test_a_machine_of_another_cpu_measures_nothing(store, tmp_path, monkeypatch):
    def opened(*_):
        raise EngineFault("opened", "the rig was opened")

    monkeypatch.setenv("CAMPAIGN_LOCKS", str(tmp_path))
    monkeypatch.setattr("workers.group.discover", lambda _: [FoundBoard(slug="cpu:own:2", name="")])
    monkeypatch.setattr("workers.session.open_rig", opened)
    real = replace(LLAMA, backend="transformers", board="cpu:other:384")
    report = run(assignment(store, real, reality=Reality.REAL))
    assert (report.ending, report.kind) == (Ending.UNFIT, "wrong_board")
    assert report.error == "cpu:other:384 is asked for, this machine holds cpu:own:2"
    own = run(assignment(store, replace(real, board="cpu:own:2"), reality=Reality.REAL))
    assert (own.ending, own.kind) == (Ending.ENGINE_FAILED, "opened")


def test_a_simulated_cpu_may_be_any(store):
    report = run(assignment(store, replace(LLAMA, board="cpu:other:384"), batches=(1,)))
    assert (report.ending, report.outcomes) == (Ending.DRAINED, {"ok": 1})


def test_the_board_lock_keeps_a_second_session_out(tmp_path):
    first, second = (BoardLock(["GPU-b", "GPU-a"], tmp_path) for _ in range(2))
    assert first.acquire()
    assert not second.acquire()
    assert BoardLock(["GPU-c"], tmp_path).acquire()
    first.release()
    assert second.acquire()


def test_a_group_that_is_partly_taken_holds_nothing(tmp_path):
    taken, group, rest = (
        BoardLock(n, tmp_path) for n in (["GPU-b"], ["GPU-a", "GPU-b"], ["GPU-a"])
    )
    assert taken.acquire()
    assert not group.acquire()
    assert rest.acquire()


def test_a_task_that_kills_its_engine_fails_no_other(store):
    job = assignment(store, options(dies_at_batch=2), batches=(1, 2, 4))
    endings = []
    while ask(store, "select 1 from tasks where state = 'pending'"):
        endings.append(run(replace(job, session_id=uuid.uuid4())).ending)
    assert endings == [Ending.BROKEN] * 3 + [Ending.DRAINED]
    assert ask(store, "select batch_size, state, reason, faults from tasks order by 1") == [
        (1, "done", None, 0), (2, "quarantined", "faulted:engine_error", 3), (4, "done", None, 0),
    ]  # fmt: skip
    windows = "select s.error is null, count(w.id) from sessions s left join windows w"
    idle = f"{windows} on w.session_id = s.id and w.kind = 'idle_end' group by s.id order by 2"
    assert ask(store, idle) == [(False, 0)] * 3 + [(True, 1)]


def test_a_task_that_is_estimated_to_take_longer_than_its_deadline_may(store, monkeypatch):
    ended = []
    monkeypatch.setattr("workers.heart.os.killpg", lambda *who: ended.append(who))
    engine = options(pace=0.02)
    policy = LeasePolicy(retry_delay_s=0.0, beat_s=0.02)
    report = run(assignment(store, engine, policy=policy, task_deadline_s=0.1))
    assert (report.outcomes, ended) == ({"ok": 3}, [])


def test_the_guard_is_told_of_each_batch_that_ended(store):
    job = assignment(store, options(pace=0.02), batches=(1,), task_deadline_s=0.1)
    allowed = []
    Session(job, (), allow=allowed.append).run()
    ((batches,),) = ask(store, "select sum(w.batches) + max(a.warmup_batches) from windows w "
                               "join attempts a on a.id = w.attempt_id")  # fmt: skip
    a_batch = [seconds for seconds in allowed if 0.0 < seconds - SLACK_S < 0.11]
    assert len(a_batch) > batches
