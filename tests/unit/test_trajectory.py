"""The course of a counter from looks between its ticks: exact, left out, or empty; never wrong."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.meters.counting import Edge, Tick
from workers.meters.trajectory import trajectory

MS = 1_000_000


def counter(at_ns, period_ns, watts=300.0):
    """Millijoules at the last tick before an instant; ticks begin at 0."""
    return round(at_ns // period_ns * period_ns * watts * 1e-6)


def edge(tick, period_ns):
    at_ns, value = tick * period_ns, counter(tick * period_ns, period_ns)
    return Edge(lo_ns=at_ns, hi_ns=at_ns, value_mj=value, previous_mj=0, held_ns=at_ns, held_mj=0,
                first_mj=value, first_lo_ns=at_ns, first_hi_ns=at_ns)  # fmt: skip


def course(times_ns, period_ns, ticks, tick):
    looks = [(t, t + 20_000, counter(t, period_ns)) for t in times_ns]
    return trajectory(edge(0, period_ns), edge(ticks, period_ns), tick, looks)


@given(
    period_ms=st.sampled_from([1, 20, 100]), ticks=st.integers(1, 1500), seed=st.integers(0, 99),
    off=st.floats(-0.9, 0.9), error=st.floats(1e-6, 0.01),
)  # fmt: skip
def test_every_point_is_a_tick_with_its_value_however_badly_the_period_is_known(
    period_ms, ticks, seed, off, error
):
    period_ns = period_ms * MS
    rng = random.Random(seed)
    times = sorted(rng.randrange(ticks * period_ns) for _ in range(ticks))
    tick = Tick(period_ns=period_ns * (1 + off * error), error_ns=error * period_ns)
    for at_ns, value_mj in course(times, period_ns, ticks, tick):
        assert at_ns % period_ns == pytest.approx(0, abs=1) or at_ns % period_ns >= period_ns - 1
        assert value_mj == counter(at_ns + 10, period_ns)


def test_a_look_in_every_tick_gives_every_tick():
    times = [20 * MS * i + 10 * MS for i in range(500)]
    tick = Tick(period_ns=20 * MS, error_ns=300.0)
    assert len(course(times, 20 * MS, 500, tick)) == 501


def test_looks_tell_the_number_of_ticks_where_the_period_alone_cannot():
    rng = random.Random(1)
    times = sorted(rng.randrange(500 * 20 * MS) for _ in range(700))
    tick = Tick(period_ns=20.05 * MS, error_ns=0.1 * MS)
    assert len(course(times, 20 * MS, 500, tick)) > 250


def test_without_looks_an_uncertain_number_of_ticks_is_no_course():
    assert course([], 20 * MS, 500, Tick(period_ns=20.05 * MS, error_ns=0.1 * MS)) == []


def test_a_look_that_straddles_a_tick_is_left_out():
    tick = Tick(period_ns=20 * MS, error_ns=300.0)
    slept = (25 * MS, 45 * MS, counter(45 * MS, 20 * MS))
    found = trajectory(edge(0, 20 * MS), edge(5, 20 * MS), tick, [slept])
    assert [at_ns for at_ns, _ in found] == [0, 100 * MS]


def test_a_counter_that_went_backwards_has_no_course():
    tick = Tick(period_ns=20 * MS, error_ns=300.0)
    looks = [(30 * MS, 30 * MS, 900), (50 * MS, 50 * MS, 600)]
    assert trajectory(edge(0, 20 * MS), edge(50, 20 * MS), tick, looks) == []
