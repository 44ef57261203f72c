"""The gates: each fires on its own cause, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from db.errors import InvalidMeasurement
from db.records import (
    Batch,
    GpuEnergy,
    MeasurementProtocol,
    Reading,
    Reality,
    RequestTiming,
    Window,
    WindowKind,
    Workload,
)
from workers.validity import Gates, check_batch, half_width, judge

WORK = Workload(input_tokens=8, output_tokens=4, batch_size=2)
PROTOCOL = MeasurementProtocol(
    name="test",
    window_s=5,
    repeats=3,
    repeats_max=3,
    interval_target=0.05,
    warmup_max=2,
    warmup_agree=2,
    warmup_tolerance=0.1,
    idle_s=1,
)
GPU = GpuEnergy(
    uuid="GPU-1",
    index=0,
    name="NVIDIA H100",
    energy_j=500.0,
    method="counter",
    counter_j=500.0,
    integrated_j=501.0,
    timing_uncertainty_j=0.5,
    temperature_c=60.0,
)


def request(**changes) -> RequestTiming:
    return RequestTiming(
        **{"input_tokens": 8, "output_tokens": 4, "ttft_s": 0.1, "e2e_s": 0.5} | changes
    )


def batch(*requests, hits=0) -> Batch:
    return Batch(
        started_ns=0,
        ended_ns=10**9,
        requests=requests or (request(),) * 2,
        prefix_cache_hit_tokens=hits,
    )


def window(ordinal=0, *, gpu=GPU, energy_j=500.0, seconds=6.0, reasons=()) -> Window:
    reading = Reading(
        started_ns=0,
        ended_ns=int(seconds * 1e9),
        started_at=1.7e9,
        reality=Reality.REAL,
        energy_j=energy_j,
        energy_method=None if energy_j is None else "nvml_counter",
        gpus=(gpu,),
        reasons=reasons,
    )
    return Window(
        kind=WindowKind.REPEAT, ordinal=ordinal, reading=reading, requests=20, output_tokens=80
    )


def marks(*windows, foreign=(), protocol=PROTOCOL):
    return judge(windows or (window(), window(1), window(2)), protocol, Gates(), foreign)


def gate_of(call) -> str:
    with pytest.raises(InvalidMeasurement) as raised:
        call()
    return raised.value.gate


def test_a_clean_batch_and_clean_windows_pass_unmarked():
    check_batch(batch(), WORK, prefix_caching=False)
    assert marks() == ()


def test_a_missing_request_voids():
    call = lambda: check_batch(batch(request()), WORK, prefix_caching=False)  # noqa: E731
    assert gate_of(call) == "batch_not_reached"


@pytest.mark.parametrize("wrong", [{"output_tokens": 3}, {"input_tokens": 9}])
def test_a_wrong_token_count_voids(wrong):
    bad = batch(request(), request(**wrong))
    assert gate_of(lambda: check_batch(bad, WORK, prefix_caching=False)) == "wrong_token_count"


def test_a_cache_hit_voids_unless_it_was_asked_for():
    hit = batch(hits=4)
    assert gate_of(lambda: check_batch(hit, WORK, prefix_caching=False)) == "prefix_cache_hit"
    check_batch(hit, WORK, prefix_caching=True)


def test_a_foreign_process_voids():
    assert gate_of(lambda: marks(foreign=(4711,))) == "foreign_process"


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({"reasons": ("gpu_lost",), "energy_j": None}, "gpu_lost"),
        ({"reasons": ("counter_reset",), "energy_j": None}, "counter_reset"),
        ({"throttle_reasons": ("hw_thermal",)}, "throttled_thermal"),
        ({"throttle_reasons": ("power_brake",)}, "throttled_thermal"),
    ],
)
def test_what_happened_to_the_board_voids(change, gate):
    bad = window(1, gpu=replace(GPU, **change))
    assert gate_of(lambda: marks(window(), bad, window(2))) == gate


def test_a_sibling_in_trouble_does_not_void():
    sibling = replace(GPU, sibling=True, reasons=("gpu_lost",), energy_j=None)
    assert marks(window(gpu=sibling), window(1), window(2)) == ()


def test_a_reset_counter_with_samples_is_kept():
    bad = replace(GPU, reasons=("counter_reset",), counter_j=None, method="integrated")
    assert marks(window(gpu=bad), window(1), window(2)) == ()


def test_missing_energy_marks_where_any_will_do_and_voids_where_it_was_asked_for():
    blind = [window(i, energy_j=None, reasons=("no_gpu",)) for i in range(3)]
    assert marks(*blind) == ("no_energy",)
    measured = replace(PROTOCOL, energy="measured")
    assert gate_of(lambda: marks(*blind, protocol=measured)) == "no_energy"


@pytest.mark.parametrize(
    ("change", "mark"),
    [
        ({"seconds": 4.0}, "short_window"),
        ({"energy_j": 900.0}, "interval_wide"),
        ({"gpu": replace(GPU, integrated_j=450.0)}, "counter_disagrees"),
        ({"gpu": replace(GPU, throttle_reasons=("sw_power_cap",))}, "throttled_power"),
        ({"gpu": replace(GPU, reasons=("sample_gap",))}, "sample_gap"),
        ({"gpu": replace(GPU, temperature_c=71.0)}, "temperature_drift"),
    ],
)
def test_each_mark_has_its_own_cause(change, mark):
    assert marks(window(), window(1), window(2, **change)) == (mark,)


def test_half_width_is_students_t_over_the_repeats():
    assert half_width([1.0]) is None
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.303 / 3**0.5, rel=1e-3)
