"""What holds for every board, curve, window and failure: on the real binding and the stand-in.

Examples are drawn the same way each time; each takes real time, so many boards share a window.
"""

import time

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.nvml.curve import StandinGpu
from workers.meters.nvml import NvmlMeter

pytestmark = pytest.mark.nvml

UUIDS = tuple(f"GPU-{letter * 8}-0000-0000-0000-000000000000" for letter in "abcdef")
#: The millijoules of a counter and the watts of a sensor are whole numbers.
ROUNDED_J = 0.003

real_time = settings(
    max_examples=6, derandomize=True, database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip

shapes = st.fixed_dictionaries({
    "curve": st.sampled_from(["constant", "square", "ramp", "burst", "drift", "noise"]),
    "low_w": st.floats(20, 200), "high_w": st.floats(200, 700), "period_s": st.floats(0.03, 5),
    "duty": st.floats(0.1, 0.9), "tick_s": st.sampled_from([0.02, 0.05, 0.1]),
    "tick_phase_s": st.floats(0, 0.1), "sensor_phase_s": st.floats(0, 0.1),
})  # fmt: skip
boards = st.lists(shapes, min_size=3, max_size=3)
lengths = st.floats(0.5, 1.5)

#: What fails, at which second of the window if not always, and which readings that may cost.
FAILURES = {
    "none": ({}, ()),
    "no_counter": ({"counter": 0}, ("counter",)),
    "no_power": ({"instant": 0, "average": 0, "legacy": 0}, ("samples",)),
    "lost": ({"lost_at": 0.2}, ("counter", "samples")),
    "reset": ({"reset_at": 0.2}, ("counter",)),
    "counter_stops": ({"stuck_at": 0.2}, ("counter",)),
    "counter_fails": ({"fail": "energy"}, ("counter",)),
    "power_fails": ({"fail": "power"}, ("samples",)),
    "all_fails": ({"fail": "all"}, ("counter", "samples")),
}


@real_time
@given(drawn=boards, length_s=lengths)
def test_the_counter_is_within_its_half_width_on_every_curve(standin, drawn, length_s):
    gpus = standin(*(StandinGpu(uuid=u, **shape) for u, shape in zip(UUIDS, drawn, strict=False)))
    for window in windows_of([g.uuid for g in gpus], length_s, count=2):
        for gpu, found in zip(gpus, window.gpus, strict=True):
            assert (found.method, found.reasons) == ("counter", ()), gpu
            truth_j = gpu.energy_j(window.started_ns, window.ended_ns)
            # Both edges are bounds of their own; their half-widths were added in quadrature.
            assert abs(found.energy_j - truth_j) <= 1.5 * found.timing_uncertainty_j + ROUNDED_J


@real_time
@given(
    drawn=boards, length_s=lengths,
    failures=st.lists(st.sampled_from(sorted(FAILURES)), min_size=3, max_size=3),
)  # fmt: skip
def test_what_is_missing_was_taken_away_and_says_so(standin, drawn, length_s, failures):
    begins = time.monotonic() + 2.5
    parts = [{**shape, **provoked(failure, begins)}
             for shape, failure in zip(drawn, failures, strict=True)]  # fmt: skip
    gpus = standin(*(StandinGpu(uuid=u, **part) for u, part in zip(UUIDS, parts, strict=False)))
    (window,) = windows_of([g.uuid for g in gpus], length_s, at_s=begins)
    for found, failure in zip(window.gpus, failures, strict=True):
        costs = FAILURES[failure][1]
        assert (found.counter_j is None) == ("counter" in costs), failure
        assert (found.integrated_j is None) <= ("samples" in costs), failure
        assert (found.energy_j is None) <= (set(costs) >= {"counter"}), failure
        for value_j in (found.energy_j, found.counter_j, found.integrated_j):
            assert value_j is None or value_j > 0, failure
        assert bool(found.reasons) == bool(costs), failure
        assert (found.method is None) == (found.energy_j is None) == (found.mean_w is None)


def provoked(failure, begins):
    """Return a failure as the stand-in's configuration: instants count from the window's start."""
    settings_ = dict(FAILURES[failure][0])
    if "fail" in settings_:
        return {"failures": ((settings_.pop("fail"), 999, begins + 0.2, 0.0),)}
    return {k: begins + v if k.endswith("_at") else v for k, v in settings_.items()}


def windows_of(uuids, length_s, count=1, at_s=0.0):
    meter = NvmlMeter(uuids)
    try:
        for _ in range(count):
            time.sleep(max(0.0, at_s - 0.2 - time.monotonic()))
            started_ns = meter.open()
            time.sleep(max(0.0, max(at_s + 0.9, started_ns / 1e9 + length_s) - time.monotonic()))
            ended_ns = time.monotonic_ns()
            meter.begin_close()
            yield meter.finish_close(started_ns, ended_ns)
    finally:
        meter.shutdown()
