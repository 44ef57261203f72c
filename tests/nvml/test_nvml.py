"""The NVML meter on known power curves, through the real binding and the stand-in library."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from db.errors import NodeUnfit
from db.records import Reality
from tests.nvml.curve import StandinGpu
from workers.meters.gpureport import parse_report
from workers.meters.nvml import NvmlMeter

pytestmark = pytest.mark.nvml

A, B, C = (f"GPU-{letter * 8}-0000-0000-0000-000000000000" for letter in "abc")
SQUARE = {"curve": "square", "low_w": 90.0, "high_w": 640.0, "period_s": 0.137, "duty": 0.3}


@pytest.fixture
def meter_of(closing):
    return lambda *uuids, **options: closing(NvmlMeter(uuids, **options))


def window_of(meter, seconds=0.5, during=None, *, follow=False):
    """Meter a window of at least `seconds`; `during` runs inside it."""
    started_ns = meter.open(follow=follow)
    if during:
        during()
    time.sleep(max(0.0, seconds - (time.monotonic_ns() - started_ns) / 1e9))
    ended_ns = time.monotonic_ns()
    meter.begin_close()
    return meter.finish_close(started_ns, ended_ns)


def exact_j(gpu, window):
    return gpu.energy_j(window.started_ns, window.ended_ns)


@pytest.fixture
def stage(standin, tmp_path):
    """A function that puts up boards whose events count from `fire`, however busy it is here."""
    return lambda *gpus: standin(*gpus, trigger=tmp_path / "trigger")


@pytest.fixture
def fire(tmp_path):
    """A function that lets the events of a stage begin, and waits for so many seconds."""

    def begin(wait_s):
        (tmp_path / "fired").write_text(repr(time.monotonic()))
        (tmp_path / "fired").rename(tmp_path / "trigger")
        time.sleep(wait_s)

    return begin


# ---- accuracy ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tick_s", [0.02, 0.1])
@pytest.mark.parametrize("curve", ["constant", "square", "ramp", "burst"])
def test_a_window_from_tick_to_tick_is_within_a_thousandth_and_better_than_polling(
    standin, meter_of, curve, tick_s
):
    (gpu,) = standin(StandinGpu(uuid=A, **{**SQUARE, "curve": curve}, tick_s=tick_s,
                                latency_us=15.0))  # fmt: skip
    meter = meter_of(A, aligned=True)
    for _ in range(3):
        window = window_of(meter)
        (found,) = window.gpus
        truth_j = exact_j(gpu, window)
        assert found.method == "counter"
        assert abs(found.energy_j - truth_j) <= 1e-3 * truth_j
        if curve == "square":  # a sensor that sees a quarter of the time misses what it misses
            assert abs(found.counter_j - truth_j) < abs(found.integrated_j - truth_j)


@pytest.mark.parametrize(
    ("curve", "relative"), [("constant", 1e-3), ("ramp", 1e-3), ("square", None), ("burst", None)]
)
def test_a_window_that_ends_between_ticks_is_within_its_uncertainty(
    standin, meter_of, curve, relative
):
    period_s = {"ramp": 20.0, "constant": 1e6}.get(curve, 0.137)
    shape = {**SQUARE, "curve": curve, "period_s": period_s}
    (gpu,) = standin(StandinGpu(uuid=A, **shape, tick_s=0.1))
    meter = meter_of(A)
    for seconds in (0.5, 0.533, 0.581):
        window = window_of(meter, seconds)
        (found,) = window.gpus
        truth_j = exact_j(gpu, window)
        error_j = abs(found.energy_j - truth_j)
        assert error_j <= 1.5 * found.timing_uncertainty_j + 0.01
        teeth = {ns // round(period_s * 1e9)
                 for ns in (window.started_ns, window.ended_ns + 200_000_000)}  # fmt: skip
        if relative is not None and len(teeth) == 1:  # a ramp's drop may fall into the last tick
            assert error_j <= relative * truth_j + 0.01


@pytest.mark.parametrize("held", [0, 1])
def test_ticks_that_come_late_are_in_the_uncertainty(standin, meter_of, held):
    """Whether their value is of the moment or of when they were due, nobody can see."""
    gpus = standin(*(StandinGpu(uuid=u, **SQUARE, tick_s=0.05, tick_phase_s=0.003 + 0.017 * i,
                                tick_jitter_s=0.004, tick_held=held)
                     for i, u in enumerate((A, B, C))))  # fmt: skip
    meter = meter_of(A, B, C)
    covered = 0
    for _ in range(3):
        window = window_of(meter)
        for gpu, found in zip(gpus, window.gpus, strict=True):
            error_j = abs(found.energy_j - exact_j(gpu, window))
            assert found.method == "counter"
            covered += error_j <= 1.5 * found.timing_uncertainty_j + 0.01
    assert covered >= 7  # of 9: the first ticks watched may happen to be in time


def test_both_methods_of_a_window_are_kept_with_their_ratio(standin, meter_of):
    standin(StandinGpu(uuid=A, low_w=250.0))
    (found,) = window_of(meter_of(A)).gpus
    assert found.counter_j == pytest.approx(found.integrated_j, rel=1e-3)
    assert found.ratio == pytest.approx(found.counter_j / found.integrated_j)
    assert found.samples >= 3
    assert found.mean_w == pytest.approx(250.0, rel=1e-3)
    assert len(found.trace.watts) == len(found.trace.offsets_s) >= 3
    assert all(0 <= offset <= 1.5 for offset in found.trace.offsets_s)


@pytest.mark.parametrize(
    ("limit_w", "default_w", "reasons"),
    [(350.0, 700.0, ("limit_not_default",)), (700.0, 700.0, ()), (699.6, 700.0, ())],
)
def test_a_limit_that_somebody_chose_is_told_from_the_boards_own(
    standin, meter_of, limit_w, default_w, reasons
):
    standin(StandinGpu(uuid=A, limit_w=limit_w, default_limit_w=default_w))
    (found,) = window_of(meter_of(A)).gpus
    assert (found.power_limit_w, found.reasons) == (limit_w, reasons)


def test_the_state_of_the_board_is_read(standin, meter_of):
    standin(StandinGpu(uuid=A, temperature_c=71, limit_w=350.0, throttle=0x04 | 0x40))
    (found,) = window_of(meter_of(A)).gpus
    assert (found.temperature_c, found.power_limit_w) == (71.0, 350.0)
    assert (found.sm_clock_mhz, found.memory_clock_mhz) == (1980.0, 2619.0)
    assert found.utilization_pct == 90.0
    assert found.throttle_reasons == ("sw_power_cap", "hw_thermal")


@pytest.mark.parametrize(
    ("fields", "chosen"),
    [
        ({}, "instant"),
        ({"instant": 0}, "average"),
        ({"instant": 0, "average": 0}, "legacy"),
    ],
)
def test_the_power_field_that_was_read_is_recorded(standin, meter_of, fields, chosen):
    standin(StandinGpu(uuid=A, **fields))
    (found,) = window_of(meter_of(A)).gpus
    assert found.power_field == chosen
    assert found.integrated_j is not None


def test_the_driver_of_the_stand_in_makes_it_simulated_and_another_one_real(standin, meter_of):
    standin(StandinGpu(uuid=A))
    assert meter_of(A).reality is Reality.SIMULATED
    standin(StandinGpu(uuid=A), driver="580.65.06")
    meter = meter_of(A)
    assert (meter.reality, meter.driver) == (Reality.REAL, "580.65.06")


# ---- which GPUs --------------------------------------------------------------------------------


def test_only_the_group_is_metered_and_siblings_stand_apart(standin, meter_of):
    gpus = standin(StandinGpu(uuid=A, low_w=100.0), StandinGpu(uuid=B, low_w=400.0),
                   StandinGpu(uuid=C, low_w=60.0, counter=0))  # fmt: skip
    window = window_of(meter_of(B))
    found = {g.uuid: g for g in window.gpus}
    assert {u: g.sibling for u, g in found.items()} == {A: True, B: False, C: True}
    for gpu in gpus:
        truth_j = exact_j(gpu, window)
        width_j = found[gpu.uuid].timing_uncertainty_j
        assert found[gpu.uuid].energy_j == pytest.approx(truth_j, abs=width_j + 0.01)
    assert (found[A].method, found[C].method) == ("counter", "integrated")


def test_a_group_of_several_boards_shares_one_window(standin, meter_of):
    gpus = standin(*(StandinGpu(uuid=u, **SQUARE, tick_s=0.1, tick_phase_s=0.0113 + 0.03 * i)
                     for i, u in enumerate((A, B, C))))  # fmt: skip
    window = window_of(meter_of(A, B, C))
    for gpu, found in zip(gpus, window.gpus, strict=True):
        truth_j = exact_j(gpu, window)
        assert found.method == "counter"
        assert abs(found.energy_j - truth_j) <= 1.5 * found.timing_uncertainty_j + 0.01


def test_an_unknown_gpu_is_refused_with_what_is_here(standin):
    standin(StandinGpu(uuid=A))
    with pytest.raises(NodeUnfit, match=f"{B} is lost or not on this machine.*{A}"):
        NvmlMeter([B])


def test_a_mig_board_gives_null_with_the_reason(standin, meter_of):
    standin(StandinGpu(uuid=A, mig=1))
    meter = meter_of(A)
    assert meter.why_not == ("mig",)
    (found,) = window_of(meter).gpus
    assert (found.energy_j, found.reasons) == (None, ("mig",))


def test_foreign_processes_are_those_not_frozen_even_if_gone_again(stage, fire, meter_of):
    stage(StandinGpu(uuid=A, processes=((101, 1, 0.0, 0.0), (202, 1, 0.3, 1.5))))
    meter = meter_of(A)
    assert meter.foreign_processes() == ()
    meter.freeze_processes()
    window_of(meter)
    assert meter.foreign_processes() == ()
    window_of(meter, during=lambda: fire(2.0))
    assert meter.foreign_processes() == (202,)
    assert meter.foreign_processes() == ()


@pytest.mark.parametrize("code", [3, 4], ids=["not supported", "no permission"])
def test_processes_that_may_not_be_listed_are_unknown(standin, meter_of, code):
    standin(StandinGpu(uuid=A), StandinGpu(uuid=B, failures=(("processes", code, 1.0, 0.0),)))
    meter = meter_of(A, B)
    meter.freeze_processes()
    assert meter.foreign_processes() is None
    meter = meter_of(A)  # a sibling's do not matter
    meter.freeze_processes()
    assert meter.foreign_processes() == ()


def test_a_process_that_is_seen_is_foreign_whatever_cannot_be_listed(stage, fire, meter_of):
    stage(StandinGpu(uuid=A, processes=((202, 1, 0.1, 0.0),)),
          StandinGpu(uuid=B, failures=(("processes", 4, 0.1, 0.0),)))  # fmt: skip
    meter = meter_of(A, B)
    meter.freeze_processes()
    assert meter.foreign_processes() == ()
    fire(0.2)
    assert meter.foreign_processes() == (202,)


def test_processes_unknown_when_they_were_frozen_stay_so(stage, fire, meter_of):
    stage(StandinGpu(uuid=A, processes=((101, 1, 0.0, 0.0),),
                     failures=(("processes", 4, 0.0, 0.1),)))  # fmt: skip
    meter = meter_of(A)
    meter.freeze_processes()
    fire(0.2)
    assert meter.foreign_processes() is None  # 101 may have been there
    meter.freeze_processes()
    assert meter.foreign_processes() == ()


@pytest.mark.parametrize(("there", "known"), [((), False), (((7, 1, 0.0, 0.0),), False),
                                              (((7, 1, 0.1, 0.0),), True)])  # fmt: skip
def test_a_list_that_does_not_show_the_engine_itself_shows_nobody_for_sure(
    standin, fire, tmp_path, meter_of, there, known
):
    """Behind a driver that is no stand-in's: on one nothing computes."""
    standin(StandinGpu(uuid=A, processes=there), driver="575.57.08", trigger=tmp_path / "trigger")
    meter = meter_of(A)
    fire(0.2)  # the engine is loaded
    meter.freeze_processes()
    assert meter.foreign_processes() == (() if known else None)


def test_processes_not_listed_in_a_window_are_unknown_once(stage, fire, meter_of):
    stage(StandinGpu(uuid=A, failures=(("processes", 4, 0.3, 1.6),)))
    meter = meter_of(A)
    meter.freeze_processes()
    window_of(meter, during=lambda: fire(1.7))
    assert meter.foreign_processes() is None
    assert meter.foreign_processes() == ()


@pytest.mark.parametrize(("bits", "words"), [(0, ()), (0x40, ("hw_thermal",))])
def test_throttling_that_the_driver_does_not_tell_of_is_unknown_and_not_none(
    stage, fire, meter_of, bits, words
):
    stage(StandinGpu(uuid=A, throttle=bits, failures=(("state", 3, 0.1, 0.0),)))
    meter = meter_of(A)
    (found,) = window_of(meter).gpus
    assert (found.throttle_reasons, found.reasons) == (words, ())
    fire(0.2)
    (found,) = window_of(meter).gpus
    assert (found.throttle_reasons, found.reasons) == ((), ("throttling_unknown",))
    assert found.method == "counter"


# ---- failures ----------------------------------------------------------------------------------


def test_without_a_counter_the_samples_count(standin, meter_of):
    (gpu,) = standin(StandinGpu(uuid=A, counter=0, low_w=220.0))
    window = window_of(meter_of(A))
    (found,) = window.gpus
    assert (found.method, found.counter_j, found.ratio) == ("integrated", None, None)
    assert found.energy_j == pytest.approx(exact_j(gpu, window), rel=1e-3)
    assert found.reasons == ("no_counter",)


def test_a_counter_that_is_reset_falls_back_to_the_samples(stage, fire, meter_of):
    (gpu,) = stage(StandinGpu(uuid=A, low_w=220.0, reset_at=0.4))
    meter = meter_of(A)
    window = window_of(meter, during=lambda: fire(0.7))
    (found,) = window.gpus
    assert (found.method, found.counter_j) == ("integrated", None)
    assert found.energy_j == pytest.approx(exact_j(gpu, window), rel=1e-3)
    assert "counter_reset" in found.reasons
    (after,) = window_of(meter).gpus
    assert (after.method, after.reasons) == ("counter", ())


def test_a_reset_that_the_counter_has_made_up_for_is_noticed(stage, fire, meter_of):
    """Between two resets the counter passes the value that it had when the window was opened."""
    (gpu,) = stage(StandinGpu(uuid=A, reset_at=0.1, reset_every_s=2.0))
    meter = meter_of(A)
    fire(0.2)
    window = window_of(meter, seconds=3.5)
    (found,) = window.gpus
    assert (found.method, found.reasons) == ("integrated", ("counter_reset",))
    assert found.energy_j == pytest.approx(exact_j(gpu, window), rel=1e-3)


def test_a_gpu_lost_in_mid_window_is_null_and_its_sibling_is_not(stage, fire, meter_of):
    stage(StandinGpu(uuid=A, lost_at=0.4), StandinGpu(uuid=B))
    meter = meter_of(A, B)
    window = window_of(meter, during=lambda: fire(0.7))
    found = {g.uuid: g for g in window.gpus}
    assert (found[A].energy_j, found[A].reasons) == (None, ("gpu_lost",))
    assert found[B].method == "counter"
    again = {g.uuid: g for g in window_of(meter).gpus}
    assert again[A].reasons == ("gpu_lost",)
    assert again[B].energy_j > 0


@pytest.mark.parametrize("counter", [0, 1])
def test_without_a_power_sensor_only_the_counter_is_left(standin, meter_of, counter):
    standin(StandinGpu(uuid=A, counter=counter, instant=0, average=0, legacy=0))
    meter = meter_of(A)
    (found,) = window_of(meter).gpus
    assert found.integrated_j is None
    assert "no_power_sensor" in found.reasons
    assert (found.energy_j is None) == (counter == 0)
    assert meter.why_not == (() if counter else ("no_power_sensor",))


def test_a_counter_that_never_ticks_is_not_believed(standin, meter_of):
    standin(StandinGpu(uuid=A, tick_s=1e9, low_w=220.0))
    (found,) = window_of(meter_of(A)).gpus
    assert (found.method, found.reasons) == ("integrated", ("counter_stuck",))


def lengths_of(meter, *, follow):
    """Meter a window of 0.7 s; returns it, its start's age at the return, and what it took, s."""
    asked_s = time.monotonic()
    started_ns = meter.open(follow=follow)
    opened_s = time.monotonic()
    time.sleep(0.7)
    ended_ns = time.monotonic_ns()
    meter.begin_close()
    window = meter.finish_close(started_ns, ended_ns)
    return window, opened_s - started_ns / 1e9, time.monotonic() - asked_s


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize(
    ("latency_us", "tick_s"), [(450.0, 0.02), (600.0, 0.02), (1000.0, 0.1), (3000.0, 0.1)]
)
def test_slow_calls_widen_the_edges_and_not_the_window(
    standin, meter_of, latency_us, tick_s, follow
):
    (gpu,) = standin(StandinGpu(uuid=A, **SQUARE, latency_us=latency_us, tick_s=tick_s))
    meter, methods = meter_of(A), set()
    for _ in range(3):
        window, age_s, took_s = lengths_of(meter, follow=follow)
        (found,) = window.gpus
        assert abs(found.energy_j - exact_j(gpu, window)) <= 1.5 * found.timing_uncertainty_j + 0.01
        assert age_s < 1.0  # milliseconds
        assert took_s < 6.0  # a second, and two in the first window
        methods.add(found.method)
    assert "counter" in methods  # not time and again missed beside busy processes


@pytest.mark.parametrize(
    ("latency_us", "tick_s"),
    [(3000.0, 0.02), (600.0, 0.002), (300.0, 0.0001), (50.0, 0.0001), (300.0, 0.0)],
)
@pytest.mark.parametrize("follow", [False, True])
def test_ticks_that_calls_are_too_slow_to_count_leave_the_samples_at_once(
    standin, meter_of, latency_us, tick_s, follow
):
    (gpu,) = standin(StandinGpu(uuid=A, **SQUARE, latency_us=latency_us, tick_s=tick_s))
    window, age_s, took_s = lengths_of(meter_of(A), follow=follow)
    (found,) = window.gpus
    assert (found.method, found.counter_j) == ("integrated", None)
    assert found.reasons == ("edge_unresolved",)
    assert abs(found.energy_j - exact_j(gpu, window)) <= 1.5 * found.timing_uncertainty_j
    assert age_s < 1.0
    assert took_s < 4.0


def test_a_board_that_keeps_the_others_waiting_does_not_make_their_window_longer(standin, meter_of):
    """One's ticks cannot be counted, the other's do not come: its edge is seconds old by then."""
    standin(StandinGpu(uuid=A, latency_us=600.0, tick_s=0.001),
            StandinGpu(uuid=B, latency_us=600.0, tick_s=1e9))  # fmt: skip
    window, age_s, _ = lengths_of(meter_of(A, B), follow=False)
    assert age_s < 1.0
    assert [g.reasons for g in window.gpus] == [("edge_unresolved",), ("counter_stuck",)]


def test_boards_too_slow_to_be_watched_together_are_watched_one_by_one(standin, meter_of):
    gpus = standin(*(StandinGpu(uuid=u, low_w=300.0, latency_us=200.0, tick_s=0.05,
                                tick_phase_s=0.00137 + 0.011 * i)
                     for i, u in enumerate((A, B, C, A[:-1] + "1"))))  # fmt: skip
    meter = meter_of(*(g.uuid for g in gpus))
    # An edge may be missed beside busy processes, but not time and again.
    window = next(w for w in (window_of(meter) for _ in range(4))
                  if [g.method for g in w.gpus] == ["counter"] * 4)  # fmt: skip
    for gpu, found in zip(gpus, window.gpus, strict=True):
        truth_j = exact_j(gpu, window)
        assert abs(found.energy_j - truth_j) <= 1.5 * found.timing_uncertainty_j


def test_a_window_too_short_for_samples_still_counts(standin, meter_of):
    standin(StandinGpu(uuid=A))
    (found,) = window_of(meter_of(A), seconds=0.0).gpus
    assert found.integrated_j is None
    assert found.energy_j is None or found.energy_j > 0


def test_a_sensor_that_stops_is_no_measurement_without_a_counter(stage, fire, meter_of):
    """Its last value goes on being read, under a time stamp that stands."""
    stage(StandinGpu(uuid=A, counter=0, **SQUARE, stale_at=0.3), StandinGpu(uuid=B, counter=0))
    meter = meter_of(A, B)
    window = window_of(meter, during=lambda: fire(1.8))
    found = {g.uuid: g for g in window.gpus}
    assert (found[A].energy_j, found[A].integrated_j) == (None, None)
    assert found[A].reasons == ("no_counter", "sensor_stale")
    assert found[B].energy_j > 0  # a steady reading whose stamp moves is one
    (again, _) = window_of(meter).gpus
    assert again.reasons == ("no_counter", "sensor_stale")


def test_a_sensor_that_stood_for_a_while_is_noticed_even_if_it_goes_on(stage, fire, meter_of):
    stage(StandinGpu(uuid=A, counter=0, **SQUARE, failures=(("power", 999, 0.3, 1.5),)))
    meter = meter_of(A)
    (found,) = window_of(meter, during=lambda: fire(1.9)).gpus
    assert (found.energy_j, found.reasons) == (None, ("no_counter", "sample_gap"))


def test_samples_that_stand_while_the_counter_disagrees_are_not_believed(standin, meter_of):
    """A driver may stamp every read: then the counter tells."""
    gpu = StandinGpu(uuid=A, **{**SQUARE, "period_s": 300.0, "duty": 0.999}, instant=0, average=0,
                     stale_at=0.5)  # fmt: skip
    standin(gpu)
    (found,) = window_of(meter_of(A), seconds=1.3).gpus
    assert (found.power_field, found.method) == ("legacy", "counter")
    assert (found.integrated_j, found.reasons) == (None, ("sensor_stale",))


@pytest.mark.parametrize(
    ("what", "counter", "expected"),
    [
        ("energy", 1, ("integrated", ("nvml_error_999",))),
        ("power", 1, ("counter", ("sample_gap",))),
        ("power", 0, (None, ("no_counter", "sample_gap"))),
        ("fields", 0, (None, ("no_counter", "sample_gap"))),
        ("state", 1, ("counter", ("throttling_unknown",))),
        ("processes", 1, ("counter", ())),
        ("all", 1, (None, ("nvml_error_999", "sample_gap", "throttling_unknown"))),
    ],
)
def test_a_query_that_breaks_in_mid_window_costs_what_rests_on_it(
    stage, fire, meter_of, what, counter, expected
):
    stage(StandinGpu(uuid=A, counter=counter, failures=((what, 999, 0.3, 0.0),)))
    meter = meter_of(A)
    (found,) = window_of(meter, during=lambda: fire(1.3)).gpus
    assert (found.method, found.reasons) == expected
    assert (found.energy_j is None) == (expected[0] is None)


def test_a_counter_that_stops_in_mid_window_leaves_the_samples(stage, fire, meter_of):
    (gpu,) = stage(StandinGpu(uuid=A, stuck_at=0.3, low_w=220.0))
    meter = meter_of(A)
    window = window_of(meter, during=lambda: fire(0.6))
    (found,) = window.gpus
    assert (found.method, found.reasons) == ("integrated", ("counter_stuck",))
    assert found.energy_j == pytest.approx(exact_j(gpu, window), rel=1e-3)


# ---- the first window ------------------------------------------------------------------------


@pytest.mark.parametrize("tick_s", [0.02, 0.1])
def test_the_first_window_starts_before_the_counters_periods_are_known(standin, meter_of, tick_s):
    """One tick of each counter, not three; whoever is interrupted just then waits for the next."""
    gpus = standin(*(StandinGpu(uuid=u, **SQUARE, tick_s=tick_s, tick_phase_s=0.0013 + 0.003 * i)
                     for i, u in enumerate((A, B, C))))  # fmt: skip

    def waited_ticks():
        meter = meter_of(A, B, C)
        asked_ns = time.monotonic_ns()
        window = window_of(meter, seconds=0.53)
        for gpu, found in zip(gpus, window.gpus, strict=True):
            assert found.method == "counter"
            error_j = abs(found.energy_j - exact_j(gpu, window))
            assert error_j <= 1.5 * found.timing_uncertainty_j + 0.01
        return (window.started_ns - asked_ns) / 1e9 / tick_s

    assert any(waited_ticks() <= 1.5 for _ in range(8))


def test_counters_that_outrun_each_other_are_brought_to_one_start(standin, meter_of):
    """The fast one has ticked several times before the slow one does."""
    slow = StandinGpu(uuid=B, tick_s=0.5, tick_phase_s=0.0137)
    gpus = standin(StandinGpu(uuid=A, tick_s=0.02), slow)
    meter = meter_of(A, B)
    time.sleep(slow.tick_s - (time.monotonic() - slow.tick_phase_s) % slow.tick_s + 0.05)
    window = window_of(meter)
    for gpu, found in zip(gpus, window.gpus, strict=True):
        assert found.method == "counter"
        assert found.energy_j == pytest.approx(exact_j(gpu, window), rel=2e-3)
        assert found.timing_uncertainty_j <= 1.5 * gpu.tick_s * gpu.limit_w


def test_a_counter_that_stops_ticking_in_the_first_window_has_no_period(stage, fire, meter_of):
    stage(StandinGpu(uuid=A, tick_s=0.1, tick_phase_s=0.0313, stuck_at=0.6))
    window = window_of(meter_of(A), during=lambda: fire(0.5))
    (found,) = window.gpus
    assert (found.method, found.reasons) == ("integrated", ("counter_stuck",))


# ---- the course of a window --------------------------------------------------------------------


@pytest.mark.parametrize("tick_s", [0.02, 0.1])
def test_a_window_that_is_followed_has_the_course_of_its_counter(standin, meter_of, tick_s):
    gpus = standin(*(StandinGpu(uuid=u, **SQUARE, tick_s=tick_s, tick_phase_s=0.0013 + 0.007 * i)
                     for i, u in enumerate((A, B))))  # fmt: skip
    meter = meter_of(A, B)
    meter.open(follow=True)
    time.sleep(1.5)
    meter.begin_close()
    reports = [parse_report(meter._child.receive(30))
               for _ in range(meter._child.receive(30)["gpus"])]  # fmt: skip
    for gpu, report in zip(gpus, reports, strict=True):
        assert len(report.counts) >= 0.8 * 1.5 / tick_s
        (first_ns, first_mj), *rest = report.counts
        assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(report.counts))
        for at_ns, value_mj in rest:
            # Ticks are known to a bracket, and drawn at 640 W at most.
            assert (value_mj - first_mj) / 1e3 == pytest.approx(
                gpu.energy_j(first_ns, at_ns), abs=0.2
            )


def test_the_period_of_the_sensor_is_seen(standin, meter_of):
    standin(StandinGpu(uuid=A, counter=0, **{**SQUARE, "curve": "noise"}, sensor_phase_s=0.0432))
    window = window_of(meter_of(A), seconds=2.5)
    (found,) = window.gpus
    stamps = [window.started_ns / 1e9 + offset_s for offset_s in found.trace.offsets_s]
    new = [stamp for stamp, (w0, w1) in zip(stamps[1:], pairwise(found.trace.watts), strict=True)
           if w0 != w1]  # fmt: skip
    late_s = median((stamp - 0.0432 + 0.05) % 0.1 - 0.05 for stamp in new)
    assert abs(late_s) <= 0.02  # updates, not reads
    assert found.sensor_period_s == pytest.approx(0.1, rel=0.05)
    assert 20 <= found.samples <= 27  # not the reads


# ---- the stand-in ------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", ["constant", "square", "ramp", "burst", "drift", "noise"])
def test_the_stand_in_and_the_known_curve_are_the_same(standin, curve):
    (gpu,) = standin(StandinGpu(uuid=A, **{**SQUARE, "curve": curve}, tick_s=0.0,
                                sensor_phase_s=0.0213))  # fmt: skip
    for before_ns, joules, watts, between_ns, after_ns in looks_of(A):
        start_j, end_j = gpu.energy_to_j(before_ns / 1e9), gpu.energy_to_j(between_ns / 1e9)
        assert start_j - 0.001 <= joules <= end_j + 0.001
        seen = {round(gpu.sensor_w(at / 1e9), 2) for at in (between_ns, after_ns)}
        assert any(watts == pytest.approx(w, abs=0.02) for w in seen)


def test_a_counter_may_add_up_what_the_sensor_shows(standin):
    (gpu,) = standin(StandinGpu(uuid=A, **SQUARE, tick_s=0.0, accumulates=1,
                                origin_s=time.monotonic() - 5.0))  # fmt: skip
    steps = [(later[3], later[1] - first[1]) for first, later in pairwise(looks_of(A))]
    taken = [(between_ns, step_j) for between_ns, step_j in steps if step_j > 0]
    assert len(taken) >= 3
    for between_ns, step_j in taken:
        assert step_j == pytest.approx(0.1 * gpu.sensor_w(between_ns / 1e9), abs=0.002)


def test_a_tick_that_comes_late_does_so_within_its_jitter(standin):
    (gpu,) = standin(StandinGpu(uuid=A, low_w=100.0, tick_s=0.02, tick_jitter_s=0.01))
    values = {joules for _, joules, *_ in looks_of(A, pause_s=0.001, count=400)}
    late_s = [(joules / 100.0 - gpu.tick_phase_s) % 0.02 for joules in sorted(values)]
    assert all(-1e-4 <= s <= 0.0101 or s >= 0.0199 for s in late_s)
    assert max(late_s) - min(late_s) > 0.004


def looks_of(uuid, count=12, pause_s=0.037):
    """Return (ns, joules, watts, ns, ns) of looks through the binding, in a process of its own."""
    code = (
        "import json, time\n"
        "from workers.meters.binding import Library\n"
        "with Library() as library:\n"
        "    (gpu,) = library.gpus()\n"
        "    looks = []\n"
        f"    for _ in range({count}):\n"
        "        before, mj = time.monotonic_ns(), gpu.energy_mj()\n"
        "        between, watts = time.monotonic_ns(), gpu.power().watts\n"
        "        looks.append((before, mj / 1e3, watts, between, time.monotonic_ns()))\n"
        f"        time.sleep({pause_s})\n"
        "print(json.dumps(looks))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_sampler_that_dies_costs_its_window_and_no_other(standin, meter_of):
    standin(StandinGpu(uuid=A))
    meter = meter_of(A)
    meter.freeze_processes()
    pid = meter.sampler_pid
    window = window_of(meter, during=lambda: os.kill(pid, signal.SIGKILL))
    (found,) = window.gpus
    assert (found.energy_j, found.reasons) == (None, ("sampler_lost",))
    assert meter.foreign_processes() is None
    (after,) = window_of(meter).gpus
    assert after.energy_j > 0
    assert meter.sampler_pid != pid


@pytest.mark.parametrize(
    ("init_error", "words"), [(4, "dev/nvidia"), (9, "not loaded"), (18, "differ in version")]
)
def test_an_nvml_that_refuses_is_named_with_its_fix(standin, init_error, words):
    standin(StandinGpu(uuid=A), init_error=init_error)
    with pytest.raises(NodeUnfit, match=words):
        NvmlMeter([A])


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has NVML")
def test_a_machine_without_nvml_is_named_with_its_fix(tmp_path, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with pytest.raises(NodeUnfit, match=r"libnvidia-ml\.so\.1"):
        NvmlMeter([A])


def test_zero_gpus_are_refused(standin):
    standin()
    with pytest.raises(NodeUnfit, match="here: none"):
        NvmlMeter([A])
