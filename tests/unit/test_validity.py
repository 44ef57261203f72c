"""The gates: each fires on its own cause, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from db.errors import InvalidMeasurement
from db.readings import Batch, CpuEnergy, GpuEnergy, Reading, RequestTiming, Window, WindowKind
from db.records import MeasurementProtocol, Reality
from workers.validity import Gates, agree, check_batch, half_width, judge, relative_half_width

LENGTHS = ((8, 4), (8, 4))
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
    integrated_uncertainty_j=1.5,
    temperature_c=60.0,
)
#: A board without a counter: its energy rests on a sensor that looks every 100 ms.
BLIND = replace(
    GPU,
    method="integrated",
    counter_j=None,
    integrated_j=500.0,
    timing_uncertainty_j=1.5,
    sensor_period_s=0.1,
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


def window(
    ordinal=0, *, gpu=GPU, energy_j=500.0, seconds=6.0, reasons=(), width_j=0.5, cpu=None, **done
) -> Window:
    reading = Reading(
        started_ns=0,
        ended_ns=int(seconds * 1e9),
        started_at=1.7e9,
        reality=Reality.REAL,
        energy_j=energy_j,
        energy_method=None if energy_j is None else "nvml_counter",
        timing_uncertainty_j=None if energy_j is None else width_j,
        gpus=(gpu,),
        cpu=cpu,
        reasons=reasons,
    )
    work = {"requests": 20, "output_tokens": 80, "batches": 7, **done}
    return Window(kind=WindowKind.REPEAT, ordinal=ordinal, reading=reading, **work)


def marks(*windows, foreign=(), protocol=PROTOCOL, reachable=None):
    judged = windows or (window(), window(1), window(2))
    return judge(judged, protocol, Gates(), foreign, reachable)


def three(**done) -> list[Window]:
    """Three repeats, the last of them like this."""
    return [window(), window(1), window(2, **done)]


def gate_of(call) -> str:
    with pytest.raises(InvalidMeasurement) as raised:
        call()
    return raised.value.gate


def test_a_clean_batch_and_clean_windows_pass_unmarked():
    check_batch(batch(), LENGTHS, prefix_caching=False)
    assert marks() == ()


def test_each_request_is_held_to_its_own_lengths():
    mixed = batch(request(), request(input_tokens=3, output_tokens=1))
    check_batch(mixed, ((8, 4), (3, 1)), prefix_caching=False)
    swapped = lambda: check_batch(mixed, ((3, 1), (8, 4)), prefix_caching=False)  # noqa: E731
    assert gate_of(swapped) == "wrong_token_count"


def test_a_missing_request_voids():
    call = lambda: check_batch(batch(request()), LENGTHS, prefix_caching=False)  # noqa: E731
    assert gate_of(call) == "batch_not_reached"


@pytest.mark.parametrize("wrong", [{"output_tokens": 3}, {"input_tokens": 9}])
def test_a_wrong_token_count_voids(wrong):
    bad = batch(request(), request(**wrong))
    assert gate_of(lambda: check_batch(bad, LENGTHS, prefix_caching=False)) == "wrong_token_count"


def test_a_cache_hit_voids_unless_it_was_asked_for():
    hit = batch(hits=4)
    assert gate_of(lambda: check_batch(hit, LENGTHS, prefix_caching=False)) == "prefix_cache_hit"
    check_batch(hit, LENGTHS, prefix_caching=True)


def test_a_foreign_process_voids():
    assert gate_of(lambda: marks(foreign=(4711,))) == "foreign_process"


def test_processes_that_nobody_can_list_are_marked():
    assert marks(foreign=None) == ("processes_unknown",)
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
    assert marks(protocol=measured) == ()


@pytest.mark.parametrize(
    ("change", "mark"),
    [
        ({"seconds": 4.0}, "short_window"),
        ({"energy_j": 900.0}, "interval_wide"),
        ({"gpu": replace(GPU, integrated_j=450.0)}, "counter_disagrees"),
        ({"gpu": replace(GPU, integrated_j=550.0)}, "counter_disagrees"),
        ({"gpu": replace(GPU, throttle_reasons=("sw_power_cap",))}, "throttled_power"),
        ({"gpu": replace(GPU, reasons=("throttling_unknown",))}, "throttling_unknown"),
        ({"gpu": replace(GPU, reasons=("limit_not_default",))}, "limit_not_default"),
        ({"gpu": replace(GPU, reasons=("sample_gap",))}, "sample_gap"),
        ({"gpu": replace(GPU, temperature_c=71.0)}, "temperature_drift"),
        ({"gpu": replace(GPU, temperature_c=49.0)}, "temperature_drift"),
        ({"cpu": CpuEnergy(reasons=("shared_node",))}, "shared_node"),
        ({"gpu": BLIND, "itl_s": 0.1}, "aliased"),
        ({"gpu": BLIND, "batches": 60}, "aliased"),
        ({"gpu": replace(BLIND, sensor_period_s=None), "itl_s": 0.1}, "aliased"),
        ({"gpu": replace(BLIND, sensor_period_s=0.06), "itl_s": 0.06}, "aliased"),
    ],
)
def test_each_mark_has_its_own_cause(change, mark):
    assert marks(window(), window(1), window(2, **change)) == (mark,)


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": 5.0},
        {"gpu": replace(GPU, temperature_c=65.0)},
        {"gpu": replace(GPU, temperature_c=None)},
        {"gpu": replace(GPU, throttle_reasons=("applications_clocks",))},
        {"gpu": replace(GPU, energy_j=None, counter_j=None)},  # the window says so, once
        {"gpu": replace(GPU, energy_j=None, counter_j=None, reasons=("sample_gap",))},
        {"gpu": replace(GPU, sensor_period_s=0.1), "itl_s": 0.1},  # its counter sees everything
        {"gpu": replace(BLIND, sensor_period_s=None), "itl_s": 0.13},
        {"gpu": BLIND, "itl_s": 0.0643},
        {"cpu": CpuEnergy(package_j=50.0, reasons=("rapl_no_dram",))},
    ],
)
def test_a_cause_that_is_not_quite_there_marks_nothing(change):
    assert marks(window(), window(1), window(2, **change)) == ()


def test_counter_and_samples_may_differ_by_both_uncertainties_and_the_threshold():
    """500 J: 0.5 J of the counter, 1.5 J of the samples and 2 % are 12 J."""
    for integrated_j, expected in ((488.1, ()), (487.9, ("counter_disagrees",))):
        gpu = replace(GPU, integrated_j=integrated_j)
        assert marks(window(gpu=gpu), window(1), window(2)) == expected
    without = replace(GPU, timing_uncertainty_j=None, integrated_uncertainty_j=None)
    for integrated_j, expected in ((490.1, ()), (489.9, ("counter_disagrees",))):
        gpu = replace(without, integrated_j=integrated_j)
        assert marks(window(gpu=gpu), window(1), window(2)) == expected


def test_a_sibling_marks_nothing():
    sibling = replace(BLIND, sibling=True, throttle_reasons=("sw_power_cap",))
    assert marks(window(gpu=sibling, itl_s=0.1), window(1), window(2)) == ()


def test_a_mark_is_told_once():
    hot = replace(GPU, throttle_reasons=("sw_power_cap",))
    assert marks(*(window(i, gpu=hot) for i in range(3))) == ("throttled_power",)


def test_the_interval_holds_the_timing_of_the_windows_and_the_spread_of_the_repeats():
    """Equal repeats have no spread: 40 J of 500 J per window leave 8 % / √3."""
    equal = [window(i, width_j=40.0) for i in range(3)]
    assert relative_half_width(equal) == pytest.approx(0.08 / 3**0.5)
    assert marks(*equal, protocol=replace(PROTOCOL, interval_target=0.04)) == ("interval_wide",)
    assert marks(*equal, protocol=replace(PROTOCOL, interval_target=0.05)) == ()
    spread = [window(i, energy_j=joules, width_j=0.0) for i, joules in enumerate((490, 500, 510))]
    assert relative_half_width(spread) == pytest.approx(4.303 * 0.02 / 3**0.5, rel=1e-3)


def test_one_window_leaves_the_interval_unknown_and_that_is_marked():
    assert relative_half_width([window()]) is None
    assert marks(window()) == ("interval_wide",)


def test_a_meter_that_says_nothing_of_its_timing_leaves_the_spread():
    silent = [window(i, width_j=None) for i in range(3)]
    assert relative_half_width(silent) == 0.0


def test_without_joules_in_every_window_the_interval_is_of_the_time():
    """Joules of one repeat and seconds of another are no spread."""
    some = [window(), window(1, energy_j=None, reasons=("no_samples",)), window(2)]
    assert relative_half_width(some) == pytest.approx(0.0)
    assert marks(*some) == ("no_energy",)


def test_half_width_is_students_t_over_the_repeats():
    assert half_width([1.0]) is None
    assert half_width([1.0, 2.0]) == pytest.approx(12.706 / 2)
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.303 / 3**0.5, rel=1e-3)


# ---- what the engine did with its requests -------------------------------------------------------


def test_a_batch_that_was_not_reached_voids_where_it_was_for_the_engine_to_reach():
    """Nine tenths of what the lengths allow will do."""
    assert marks(*three(running_mean=7.3), reachable=8.0) == ()
    assert gate_of(lambda: marks(*three(running_mean=7.1), reachable=8.0)) == "batch_not_reached"
    assert marks(*three(running_mean=7.1)) == ()
    assert marks(*three(running_mean=None), reachable=8.0) == ()


LATE = {"late_s": {"mean": 0.006}, "ttft_s": {"mean": 0.1}}


@pytest.mark.parametrize(
    ("done", "mark"),
    [
        ({"counters": {"vllm:num_preemptions": 1.0}}, "preempted"),
        ({"latencies": LATE}, "generator_late"),
        ({"counters": {"backlog_growth": 25.0}}, "overloaded"),
    ],
)
def test_each_mark_of_a_load_has_its_own_cause(done, mark):
    assert marks(*three(**done)) == (mark,)


@pytest.mark.parametrize(
    "done",
    [
        {"counters": {"vllm:num_preemptions": 0.0, "backlog_growth": -30.0}},
        {"counters": {"backlog_growth": 23.0}},  # 60 requests: three times their root is 23.2
        {"latencies": LATE | {"late_s": {"mean": 0.004}}},
        {"latencies": {"late_s": {"mean": 0.006}}},
    ],
)
def test_a_load_that_is_carried_marks_nothing(done):
    assert marks(*three(**done)) == ()


def test_a_queue_that_comes_and_goes_is_no_overload():
    there = [window(i, counters={"backlog_growth": g}) for i, g in enumerate((40.0, -10.0, -20.0))]
    assert marks(*there) == ()


def test_warm_up_ends_when_the_last_values_agree():
    warm = replace(PROTOCOL, warmup_agree=3, warmup_tolerance=0.1)
    assert not agree([1.0, 1.0], warm)
    assert agree([9.0, 1.0, 1.0, 1.05], warm)
    assert not agree([9.0, 1.0, 1.0, 1.2], warm)
    assert not agree([1.2, 1.2, 0.9], warm)  # the last one is the odd one
    assert not agree([100.0, 100.0, 100.0 * 1.2], warm)  # the tolerance is relative,
    assert agree([0.1, 0.1, 0.1 * 1.05], warm)
    assert not agree([0.1, 0.1, 0.1 * 1.2], warm)  # whatever the unit
