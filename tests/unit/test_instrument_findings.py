"""What is found of sensors whose series were made."""

import random
from itertools import accumulate

import pytest

from workers.instrument.findings import averaging, fed_by_sensor, period, quantum_mj, spread

S = 1_000_000_000


def stretches(seconds, seed=3):
    """A load without rhythm: nanoseconds from which, and up to which, there was work."""
    rng, at, found = random.Random(seed), 0.0, []
    while at < seconds:
        on, off = rng.uniform(0.03, 0.4), rng.uniform(0.03, 0.4)
        found.append((round(at * S), round((at + on) * S)))
        at += on + off
    return found


def shown(load, window_s, age_s, period_s=0.1):
    """What a sensor shows of a load of 100 W and 600 W: means of a window, of an age."""
    times, watts, at = [], [], 2.0
    while at < load[-1][1] / S:
        end, begin = at - age_s, at - age_s - window_s
        worked = sum(max(0.0, min(end, b / S) - max(begin, a / S)) for a, b in load)
        times.append(round(at * S))
        watts.append(100.0 + 500.0 * worked / window_s)
        at += period_s
    return times, watts


@pytest.mark.parametrize(("window_s", "age_s"), [(0.025, 0.0), (0.1, 0.02), (1.0, 0.0)])
def test_the_window_and_the_age_of_a_sensor_are_found(window_s, age_s):
    load = stretches(20.0)
    found = averaging(*shown(load, window_s, age_s), load)
    assert found.window_s == pytest.approx(window_s, rel=0.01)
    assert found.age_s == pytest.approx(age_s, abs=0.001)
    assert (found.low_w, found.high_w) == pytest.approx((100.0, 600.0), rel=0.01)
    assert found.explained > 0.999


def test_a_sensor_that_stands_still_averages_nothing():
    assert averaging(list(range(0, 40 * S, S)), [300.0] * 40, stretches(20.0)) is None


def test_a_period_is_that_of_most_changes():
    at_ns = [0, *(50_000_000 + n * 100_000_000 for n in range(20)), 3_000_000_000]
    found = period(at_ns, [20_000] * len(at_ns))
    assert found.period_s == pytest.approx(0.1)
    assert found.longest_s > 0.9
    assert found.jitter_s == pytest.approx(0.0, abs=1e-9)
    assert period(at_ns[:5], [1] * 5) is None


def test_a_reader_that_was_held_up_makes_no_other_period():
    due = [n * 100_000_000 for n in range(1, 31) if n % 3]  # every third change was missed
    late = [at + (60_000_000 if n % 4 == 0 else 0) for n, at in enumerate(due)]
    widths = [120_000_000 if n % 4 == 0 else 20_000 for n in range(len(due))]
    assert period([0, *late], [0, *widths]).period_s == pytest.approx(0.1)


def test_updates_that_show_what_was_shown_before_are_not_seen():
    """Few distances are one period then, and all are whole numbers of periods."""
    rounds = [2] * 5 + [1] + [3] * 4 + [2] * 4 + [1] + [4] * 2
    at_ns = [0, *(round(n * 1e8) for n in accumulate(rounds, initial=1))]
    found = period(at_ns, [20_000] * len(at_ns))
    assert found.period_s == pytest.approx(0.1)
    assert found.longest_s == pytest.approx(0.4)


def test_changes_at_any_time_have_no_period():
    rng = random.Random(0)
    at_ns = list(accumulate((round(rng.expovariate(10) * 1e9) for _ in range(200)), initial=0))
    assert period(at_ns, [20_000] * len(at_ns)) is None


def test_the_step_of_a_counter_is_what_all_its_steps_are_made_of():
    assert quantum_mj([1000.0, 1016.0, 1040.0]) == 8
    assert quantum_mj([5.0]) is None


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
def test_a_counter_repeats_the_part_of_a_sensors_errors_that_feeds_it(slope):
    sensed = [250.0, 300.0, 350.0, 400.0, 450.0, 400.0, 350.0, 300.0]
    counted = [350.0 + slope * (watts - 350.0) for watts in sensed]
    assert fed_by_sensor(counted, sensed) == pytest.approx(slope)


def test_a_sensor_that_sees_every_phase_alike_tells_nothing_of_the_counter():
    assert fed_by_sensor([350.0] * 8, [350.0, 350.5] * 4) is None


def test_a_spread_with_a_value_missing_is_none():
    assert spread([1.0, None, 1.1]) is None
    assert spread([1.0, 1.1]).relative == pytest.approx(0.0673, abs=1e-3)
