"""What happens to a board in mid-measurement, from the driver's library to the row: a whole session
with the real NVML binding on the stand-in library, a simulated engine at a quarter of its pace.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from db.embedded import EmbeddedPostgres
from db.leases import LeasePolicy
from db.records import EngineSpec
from db.store import Store
from tests.nvml.curve import StandinGpu
from tests.store.test_session import CATALOG, LLAMA, assignment
from tests.store.world import ground
from workers.assignment import Report
from workers.engines.simulated import open_simulated
from workers.meters.accuracy import Accuracy
from workers.meters.select import open_meter
from workers.rig import Rig, RigPlan
from workers.session import Session
from workers.validity import Gates

pytestmark = [pytest.mark.store, pytest.mark.nvml, pytest.mark.alone]

A = "GPU-aaaaaaaa-0000-0000-0000-000000000000"
#: A quarter of a real second for each of the engine's.
SMALL = replace(LLAMA, model=CATALOG.model("HuggingFaceTB/SmolLM2-135M"), options={"pace": 0.25})
SAMPLES_ONLY = {"counter": 0}
#: Seconds into the first window of the repeats.
SOON = 0.3
BLIND = {"counter": 0, "instant": 0, "average": 0, "legacy": 0}

Metered = Callable[..., Report]


@pytest.fixture
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "metered") as made:
        yield made


@pytest.fixture
def metered(
    store: Store,
    standin: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Metered:
    """A function that runs a session of one task on a board.

    The board's events count from the first window of the repeats, which is held open for `hold_s`
    beyond `SOON`.
    """
    monkeypatch.setattr("workers.engines.simulated.START_S", 1.0)
    trigger = tmp_path / "trigger"

    def run(
        board: Mapping[str, Any],
        *,
        hold_s: float = 0.0,
        calibration: Mapping[str, float] | None = None,
    ) -> Report:
        standin(StandinGpu(uuid=A, **board), trigger=trigger)

        def rig(plan: RigPlan, spec: EngineSpec, gpu_uuids: object) -> Rig:
            engine, _, clock = open_simulated(spec, plan.board, seed=1)
            accuracy = Accuracy(plan.calibration, board=plan.board.slug)
            meter = open_meter(["nvml"], [A], accuracy=accuracy)
            gates = Gates(short_window_s=0.1)
            return Rig(engine=engine, meter=meter, clock=clock, gates=gates, prefix_caching=False)

        monkeypatch.setattr("workers.session.open_rig", rig)
        # NVML in this very process does not see the stand-in; tests/ray has both.
        monkeypatch.setattr("workers.session.verify", lambda *_: None)
        monkeypatch.setattr("workers.session.wait_until_empty", lambda *_: None)

        def hold(point: str) -> None:
            if point == "in_window" and not trigger.exists():
                (tmp_path / "fired").write_text(repr(time.monotonic()))
                (tmp_path / "fired").rename(trigger)
                time.sleep(SOON + hold_s + 0.3)

        monkeypatch.setattr("workers.protocol.reach", hold)
        job = assignment(store, SMALL, batches=(4,), idle_s=1.0)
        plan = replace(job.rig, calibration=calibration or {})
        policy = LeasePolicy(retry_delay_s=0.0, max_invalid=1)
        return Session(replace(job, rig=plan, policy=policy), [A]).run()

    return run


def ask(store: Store, sql: str) -> list[Any]:
    with store.begin() as connection:
        return list(connection.exec_driver_sql(sql))


def gpu_rows(store: Store) -> list[Any]:
    return ask(
        store,
        "select w.energy_j, w.energy_method, w.reasons, w.sensor_accuracy, g.energy_j as gpu_j,"
        " g.method, g.counter_j, g.integrated_j, g.integrated_uncertainty_j, g.reasons as why,"
        " g.sensor_accuracy as sensor"
        " from windows w join gpu_energies g on g.window_id = w.id"
        " where w.kind = 'repeat' order by w.ordinal",
    )


def test_a_good_board_gives_rows_with_both_methods_and_their_uncertainties(
    store: Store, metered: Metered
) -> None:
    report = metered({"low_w": 250.0}, calibration={"rtx-a6000": 0.04})
    assert report.outcomes == {"ok": 1}, report
    rows = gpu_rows(store)
    assert len(rows) == 3
    for row in rows:
        assert (row.energy_method, row.method, row.reasons, row.why) == (
            "nvml_counter", "counter", [], [],
        )  # fmt: skip
        assert row.counter_j == pytest.approx(row.integrated_j, rel=0.02)
        assert row.integrated_uncertainty_j is not None
        assert (row.sensor_accuracy, row.sensor) == (pytest.approx(0.04), 0.04)
    (found,) = ask(store, "select * from measurements")
    assert (found.reality, found.sensor_accuracy) == ("simulated", pytest.approx(0.04))
    # 250 W whatever the board does: nothing is left above idle.
    assert found.idle_empty_w == pytest.approx(250.0, rel=0.02)
    assert found.energy_net_j == pytest.approx(0.0, abs=0.05 * found.energy_j)
    assert found.net_joules_per_output_token == pytest.approx(
        found.energy_net_j / found.output_tokens_total
    )
    kinds = ask(store, "select kind, count(*) from windows where attempt_id is null group by 1")
    assert dict(map(tuple, kinds)) == {
        "idle_empty": 1, "load": 1, "idle_resident": 1, "idle_end": 1,
    }  # fmt: skip


def test_without_a_calibration_the_sensors_accuracy_is_not_known_and_the_driver_is(
    store: Store, metered: Metered
) -> None:
    metered({})
    ((software,),) = ask(store, "select software from sessions")
    assert software["nvidia_driver"] == "0.0.standin"
    assert software["kernel"]
    assert {(row.sensor_accuracy, row.sensor) for row in gpu_rows(store)} == {(None, None)}
    assert ask(store, "select sensor_accuracy from measurements") == [(None,)]


@pytest.mark.parametrize(
    ("board", "gate"),
    [
        ({"throttle": 0x40}, "throttled_thermal"),
        ({"throttle": 0x80}, "throttled_thermal"),
    ],
)
def test_a_throttled_board_voids_and_its_windows_stay(
    board: Mapping[str, Any], gate: str, store: Store, metered: Metered
) -> None:
    assert metered(board).outcomes == {"invalid": 1}
    assert ask(store, "select outcome, kind from attempts") == [("invalid", gate)]
    assert len(gpu_rows(store)) == 3
    assert ask(store, "select * from measurements") == []


def test_samples_count_where_there_is_no_counter(store: Store, metered: Metered) -> None:
    metered({**SAMPLES_ONLY, "low_w": 250.0})
    for row in gpu_rows(store):
        assert (row.energy_method, row.method, row.counter_j) == (
            "nvml_integrated", "integrated", None,
        )  # fmt: skip
        assert row.why == ["no_counter"]
        assert row.energy_j > 0


def test_a_board_that_reports_nothing_has_null_energy_and_says_why(
    store: Store, metered: Metered
) -> None:
    assert metered(BLIND).outcomes == {"ok": 1}
    for row in gpu_rows(store):
        assert (row.energy_j, row.energy_method, row.gpu_j) == (None, None, None)
        assert set(row.why) == {"no_counter", "no_power_sensor"}
        assert set(row.reasons) >= set(row.why)
    assert "no_energy" in ask(store, "select marks from measurements")[0].marks
    assert ask(store, "select energy_j, energy_net_j from measurements") == [(None, None)]


def test_a_board_that_is_lost_in_mid_measurement_voids_and_leaves_null(
    store: Store, metered: Metered
) -> None:
    assert metered({"lost_at": SOON}).outcomes == {"invalid": 1}
    assert ask(store, "select outcome, kind from attempts") == [("invalid", "gpu_lost")]
    lost = [row for row in gpu_rows(store) if row.gpu_j is None]
    assert lost
    for row in lost:
        assert (row.energy_j, row.why) == (None, ["gpu_lost"])
    assert ask(store, "select state, reason from tasks") == [("quarantined", "invalid:gpu_lost")]


@pytest.mark.parametrize(("sensor", "kept"), [({}, True), ({**BLIND, "counter": 1}, False)])
def test_a_counter_that_is_reset_is_replaced_by_samples_or_voids(
    sensor: Mapping[str, Any], kept: bool, store: Store, metered: Metered
) -> None:
    report = metered({**sensor, "reset_at": SOON})
    reset = [row for row in gpu_rows(store) if "counter_reset" in row.why]
    assert reset
    for row in reset:
        assert row.counter_j is None
        assert row.method == ("integrated" if kept else None)
        assert (row.gpu_j is None) == (not kept)
    assert report.outcomes == ({"ok": 1} if kept else {"invalid": 1})
    if not kept:
        assert ask(store, "select kind from attempts") == [("counter_reset",)]


def test_a_sensor_that_stands_still_without_a_counter_gives_null(
    store: Store, metered: Metered
) -> None:
    moving = {"curve": "ramp", "low_w": 100.0, "high_w": 600.0, "period_s": 3.0}
    metered({**SAMPLES_ONLY, **moving, "stale_at": SOON}, hold_s=1.5)
    first, *_ = gpu_rows(store)
    assert (first.energy_j, first.gpu_j, first.integrated_j) == (None, None, None)
    assert "sensor_stale" in first.why
    assert "no_energy" in ask(store, "select marks from measurements")[0].marks


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        (lambda at: {"stuck_at": at}, "counter_stuck"),
        (lambda at: {"failures": (("energy", 999, at, 0.0),)}, "nvml_error_999"),
    ],
    ids=["stuck", "error"],
)
def test_a_counter_that_fails_in_mid_measurement_leaves_the_samples_and_its_reason(
    failing: Callable[[float], Mapping[str, Any]], reason: str, store: Store, metered: Metered
) -> None:
    assert metered(failing(SOON)).outcomes == {"ok": 1}
    first, *_ = gpu_rows(store)
    assert reason in first.why
    assert (first.method, first.counter_j) == ("integrated", None)
    assert first.energy_j == pytest.approx(first.integrated_j)


def test_a_process_that_joins_voids(store: Store, metered: Metered) -> None:
    board = {"processes": ((101, 1, 0.0, 0.0), (202, 1, SOON, 0.0))}
    assert metered(board).outcomes == {"invalid": 1}
    assert ask(store, "select kind, error from attempts") == [
        ("foreign_process", "processes 202 used the group's GPUs")
    ]
