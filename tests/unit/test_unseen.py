"""What a part-time power sensor leaves open: the half-width covers the truth, and is no wider.

Loads on an A100-like board: a sensor that shows the mean of the last 25 ms every 100 ms, stamped
within 5 ms, and loads that repeat every 15 ms to 1.5 s, at least 5 % off the divisors of 100 ms.
"""

import math
import random
from itertools import pairwise
from statistics import median

import pytest

from tests.nvml.curve import StandinGpu
from workers.meters.integrate import Sensor, integrate
from workers.meters.unseen import unseen_w

PERIOD_S, SEEN_S, STAMP_S = 0.1, 0.025, 0.005
FAMILIES = ("square", "ramp", "burst", "noise")
TRIALS = {0.5: 1000, 1.0: 1000, 2.0: 300, 6.0: 100}
#: Median half-widths by length, relative.
WIDEST = {0.5: 0.16, 2.0: 0.08, 6.0: 0.03}
#: Most pulses at any moment of their period are over before the next look: as good as random.
WIDEST_BURST = {0.5: 0.16, 2.0: 0.08, 6.0: 0.045}


def apart(period_s):
    """Whether a load keeps 5 % off every divisor of the sensor's period."""
    looks = round(PERIOD_S / period_s)
    return looks < 1 or abs(period_s * looks / PERIOD_S - 1) >= 0.05


def load(curve, rng, *, shortest_s=0.015, longest_s=1.5, duties=(0.2, 0.8)):
    periods_s = iter(lambda: shortest_s * (longest_s / shortest_s) ** rng.random(), None)
    period_s = next(p for p in periods_s if apart(p))
    low_w = rng.uniform(60, 200)
    return StandinGpu(curve=curve, low_w=low_w, high_w=rng.uniform(low_w + 100, 420),
                      period_s=period_s, duty=rng.uniform(*duties))  # fmt: skip


def trial(gpu, length_s, rng, *, every_s=PERIOD_S, seen_s=SEEN_S):
    """Return the integral of one window at a random phase, and the truth."""
    start_s = rng.uniform(10, 60)
    window = (round(start_s * 1e9), round((start_s + length_s) * 1e9))
    first, last = math.floor(start_s / every_s), math.floor((start_s + length_s) / every_s) + 1
    looks = [k * every_s for k in range(first, last + 1)]
    watts = [round((gpu.energy_to_j(t) - gpu.energy_to_j(t - seen_s)) / seen_s, 3) for t in looks]
    times = [round((t + rng.uniform(-STAMP_S, STAMP_S)) * 1e9) for t in looks]
    sensor = Sensor(period_s=every_s, lag_s=seen_s / 2, unsure_s=STAMP_S)
    found = integrate(times, watts, window, max_gap_ns=500_000_000, sensor=sensor)
    return found, gpu.energy_j(*window)


def coverage(trials):
    return sum(abs(found.energy_j - truth_j) <= found.half_width_j
               for found, truth_j in trials) / len(trials)  # fmt: skip


@pytest.mark.parametrize("length_s", WIDEST)
@pytest.mark.parametrize("curve", FAMILIES)
def test_the_half_width_covers_the_truth_and_is_no_wider_than_need_be(curve, length_s):
    rng = random.Random(f"{curve} {length_s}")
    trials = [trial(load(curve, rng), length_s, rng) for _ in range(TRIALS[length_s])]
    assert coverage(trials) >= 0.95
    widest = WIDEST_BURST if curve == "burst" else WIDEST
    assert median(found.half_width_j / truth_j for found, truth_j in trials) <= widest[length_s]


@pytest.mark.parametrize("curve", FAMILIES)
def test_loads_that_are_faster_slower_or_more_uneven_are_covered_too(curve):
    rng = random.Random(curve)
    for length_s in (0.5, 1.0, 2.0):
        loads = [load(curve, rng, shortest_s=0.01, longest_s=3.0, duties=(0.1, 0.9))
                 for _ in range(TRIALS[length_s])]  # fmt: skip
        assert coverage([trial(gpu, length_s, rng) for gpu in loads]) >= 0.95, length_s


@pytest.mark.parametrize("curve", FAMILIES)
def test_a_sensor_that_looks_more_often_leaves_less_open(curve):
    """V100-like: the mean of the last 10 ms, every 20 ms."""
    rng = random.Random(curve)
    trials = [trial(load(curve, rng), 0.5, rng, every_s=0.02, seen_s=0.01) for _ in range(250)]
    assert coverage(trials) >= 0.95
    assert median(found.half_width_j / truth_j for found, truth_j in trials) <= 0.08


WINDOW = (0, 6_000_000_000)
TIMES = [i * 100_000_000 for i in range(61)]


def independent_w(watts):
    """Return the half-width if samples were draws: 1.96 standard errors."""
    mean = math.fsum(watts) / len(watts)
    deviation = math.sqrt(math.fsum((w - mean) ** 2 for w in watts) / (len(watts) - 1))
    return 1.96 * deviation / math.sqrt(len(watts))


def test_a_rhythm_faster_than_the_sensor_is_found_and_narrows_the_interval():
    gpu = StandinGpu(curve="square", low_w=100, high_w=400, period_s=0.0731, duty=0.4)
    watts = [gpu.sensor_w(10 + t / 1e9 + 1e-6) for t in TIMES]
    assert unseen_w(TIMES, watts, WINDOW) < 0.2 * independent_w(watts)


def test_two_phases_in_turn_say_nothing_about_the_rest_of_the_period():
    """A load that repeats with every second look is seen at two of its phases only."""
    watts = [100.0, 400.0] * 30 + [100.0]
    assert unseen_w(TIMES, watts, WINDOW) > 75.0  # a quarter of the swing at least


def test_samples_without_any_order_are_taken_as_independent_draws():
    rng = random.Random(5)
    watts = [rng.choice((100.0, 400.0)) for _ in TIMES]
    assert unseen_w(TIMES, watts, WINDOW) > 0.9 * independent_w(watts)


def test_samples_that_follow_the_curve_narrow_the_interval():
    watts = [200 + 100 * math.sin(t / 1.1e9) + 50 * math.sin(t / 0.37e9) for t in TIMES]
    assert max(abs(b - a) for a, b in pairwise(watts)) > 0
    assert unseen_w(TIMES, watts, WINDOW) < 0.2 * independent_w(watts)


def test_a_power_that_is_never_seen_to_jump_hardly_does_so_between_the_samples():
    """A sensor that looks for too short a while would not see it jump."""
    rng = random.Random(5)
    levels = [rng.choice((100.0, 400.0)) for _ in TIMES]
    jumping = [rng.uniform(100.0, 400.0) if i % 3 == 0 else w for i, w in enumerate(levels)]
    assert unseen_w(TIMES, levels, WINDOW, seen_s=0.025) < 0.6 * independent_w(levels)
    assert unseen_w(TIMES, levels, WINDOW, seen_s=0.002) > 0.9 * independent_w(levels)
    assert unseen_w(TIMES, jumping, WINDOW, seen_s=0.025) > 0.9 * independent_w(jumping)


@pytest.mark.parametrize("missing", [slice(20, 24), slice(57, 61), slice(0, 4)])
def test_samples_that_failed_to_come_may_have_been_anything(missing):
    gpu = StandinGpu(curve="square", low_w=100, high_w=400, period_s=0.0731, duty=0.4)
    kept = [t for i, t in enumerate(TIMES) if i not in range(61)[missing]]
    watts = [gpu.sensor_w(10 + t / 1e9 + 1e-6) for t in kept]
    assert unseen_w(kept, watts, WINDOW) > 300 * 0.2 / 6  # of 0.4 s, what no neighbour stands for


def test_a_steady_reading_is_not_certain_either():
    few = unseen_w(TIMES[:6], [300.0] * 6, (0, 500_000_000))
    many = unseen_w(TIMES, [300.0] * 61, WINDOW)
    assert 0 < many < 0.02 * 300 < few
