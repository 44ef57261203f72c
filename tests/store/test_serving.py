"""A whole session under load: what it writes, from the engine's tokens to the view of serving."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from db.campaigns import create_campaign, engine_id, enqueue
from db.embedded import EmbeddedPostgres
from db.identity import engine_digest, task_key
from db.leases import LeasePolicy
from db.place import Place
from db.records import Board, EngineSpec, MeasurementProtocol, Reality, Task, Workload
from db.store import Store
from tests.store.world import ENGINE, ground
from tests.unit.scripted import ScriptedEngine, Stopwatch
from workers.assignment import Assignment, Report
from workers.clock import MonotonicClock
from workers.engines.limits import Limits
from workers.rig import Rig, RigPlan
from workers.session import Session
from workers.validity import Gates
from workers.workloads.latency import deadlines_of

pytestmark = pytest.mark.store

BOARD = Board(slug="rtx-a6000")
ONLINE = replace(ENGINE, mode="online")
PROTOCOL = MeasurementProtocol(
    name="quick", window_s=0.3, repeats=2, repeats_max=2, interval_target=1.0, warmup_max=3,
    warmup_agree=2, warmup_tolerance=0.5, idle_s=0.1, phases="steps",
)  # fmt: skip
CLOSED = Workload(input_tokens=32, output_tokens=8, batch_size=4, arrival="closed")
POISSON = replace(CLOSED, arrival="poisson", rate_rps=60.0, requests=20)


@pytest.fixture
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "serving") as made:
        yield made


def run(
    store: Store, monkeypatch: pytest.MonkeyPatch, *workloads: Workload, **engine: Any
) -> Report:
    """A session of these tasks on a scripted engine."""
    digest = engine_digest(ONLINE)
    tasks = [
        Task(
            key=task_key(digest, work, PROTOCOL, Reality.SIMULATED, 0), engine=ONLINE,
            workload=work, protocol=PROTOCOL, reality=Reality.SIMULATED,
        )
        for work in workloads
    ]  # fmt: skip
    with store.begin() as connection:
        campaign_id = create_campaign(connection, "serving", "tester", "")
        enqueue(connection, campaign_id, tasks)
        number = engine_id(connection, ONLINE)

    def rig(plan: RigPlan, spec: EngineSpec, gpu_uuids: object) -> Rig:
        return Rig(
            engine=ScriptedEngine(**engine), meter=Stopwatch(), clock=MonotonicClock(),
            gates=Gates(short_window_s=0.01, generator_late=1e9), prefix_caching=False,
            deadlines=deadlines_of(plan.goodput),
        )  # fmt: skip

    monkeypatch.setattr("workers.session.open_rig", rig)
    job = Assignment(
        session_id=uuid.uuid4(),
        campaign_id=campaign_id,
        engine_id=number,
        engine=ONLINE,
        reality=Reality.SIMULATED,
        place=Place(url=store.url),
        policy=LeasePolicy(retry_delay_s=0.0, max_invalid=1, max_faults=1),
        rig=RigPlan(
            limits=Limits(context_tokens=64, batch_size=4), meters=("auto",), interval_s=0.1,
            calibration={}, gates={}, weights_folder="/dev/null/weights", board=BOARD,
            goodput={"ttft": 10_000.0},
        ),
        idle_s=0.1,
        task_deadline_s=600.0,
        lock_wait_s=5.0,
    )  # fmt: skip
    return Session(job, ()).run()


def ask(store: Store, sql: str) -> list[Any]:
    with store.begin() as connection:
        return list(connection.exec_driver_sql(sql))


def test_a_session_under_load_writes_what_the_view_of_serving_shows(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = run(store, monkeypatch, CLOSED, POISSON)
    assert report.outcomes == {"ok": 2}, report.error
    closed, poisson = ask(store, "select * from serving order by arrival")
    assert (closed.arrival, closed.batch_size, closed.repeats) == ("closed", 4, 2)
    assert closed.straddling > 0
    assert closed.running_mean == pytest.approx(4.0, abs=0.4)
    assert 0 < closed.ttft_p50_s <= closed.ttft_p99_s < closed.e2e_p99_s
    assert closed.tpot_p50_s > 0
    assert closed.requests_per_s > 0
    assert closed.goodput_rps == pytest.approx(closed.requests_per_s)
    deadlines = ask(store, "select distinct latencies -> 'deadlines_ms' from measurements")
    assert [row[0] for row in deadlines] == [{"ttft": 10_000.0}], "as counted, of every repeat"
    joules = closed.joules_per_output_token * closed.output_tokens_per_s
    assert joules == pytest.approx(100, rel=0.01), "the board draws 100 W"
    assert (poisson.arrival, poisson.requests, poisson.straddling) == ("poisson", 40, 0)


def test_the_windows_hold_counters_latencies_and_phases_that_were_mixed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store, monkeypatch, CLOSED)
    windows = ask(store, "select * from windows where kind = 'repeat' order by ordinal")
    assert len(windows) == 2
    for window in windows:
        assert window.batches == 0
        assert window.counters["engine_steps"] > 0
        told = {"ttft_s", "tpot_s", "itl_s", "e2e_s", "late_s", "deadlines_ms"}
        assert set(window.latencies) == told
        assert set(window.latencies["itl_s"]) == {"mean", "p50", "p90", "p95", "p99"}
    phases = ask(store, "select distinct phase, energy_j, reasons from phases order by 1")
    assert [tuple(row) for row in phases] == [
        ("decode", None, ["phases_mixed"]), ("prefill", None, ["phases_mixed"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "state", "kind"),
    [
        ({"fail_at": 30}, "quarantined", "out_of_memory"),
        ({"places": 2}, "quarantined", "batch_not_reached"),
    ],
)
def test_what_fails_under_load_is_an_attempt_with_its_kind(
    store: Store, monkeypatch: pytest.MonkeyPatch, engine: dict[str, Any], state: str, kind: str
) -> None:
    run(store, monkeypatch, CLOSED, **engine)
    assert [tuple(row) for row in ask(store, "select state from tasks")] == [(state,)]
    assert {row.kind for row in ask(store, "select kind from attempts")} == {kind}
