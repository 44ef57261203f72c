"""Joules from edges and samples, against curves whose integral is known in closed form."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.nvml.curve import StandinGpu
from workers.meters.integrate import Edge, counter_energy, integrate, largest_gap_ns, power_at

S = 1_000_000_000
T0 = 1000 * S
LIMIT_W = 700.0

curves = st.builds(
    StandinGpu,
    curve=st.sampled_from(["constant", "square", "ramp", "burst"]),
    low_w=st.floats(20, 200), high_w=st.floats(200, LIMIT_W),
    period_s=st.floats(0.05, 7), duty=st.floats(0.05, 0.95),
    tick_s=st.sampled_from([0.001, 0.02, 0.1]), tick_phase_s=st.floats(0, 0.1),
)  # fmt: skip
windows = st.tuples(st.integers(0, 5 * S), st.integers(S // 2, 30 * S))


def tick_at_or(gpu: StandinGpu, t_ns: int, *, after: bool, skip: int = 0) -> tuple[int, int]:
    """Return the tick number and instant of the counter before or after `t_ns`."""
    tick_ns, phase_ns = gpu.tick_s * 1e9, gpu.tick_phase_s * 1e9
    k = math.floor((t_ns - phase_ns) / tick_ns) + (1 + skip if after else -skip)
    return k, round(k * tick_ns + phase_ns)


def value_mj(gpu: StandinGpu, k: int) -> int:
    return math.floor(gpu.energy_to_j(k * gpu.tick_s + gpu.tick_phase_s) * 1000)


def edge(gpu: StandinGpu, t_ns: int, *, after: bool, skip: int = 0, half_ns: int = 0) -> Edge:
    """Return the edge a perfect search would find near `t_ns`, `skip` ticks late."""
    k, at_ns = tick_at_or(gpu, t_ns, after=after, skip=skip)
    first_ns = at_ns - round(skip * gpu.tick_s * 1e9)
    return Edge(
        lo_ns=at_ns - half_ns, hi_ns=at_ns + half_ns, value_mj=value_mj(gpu, k),
        previous_mj=value_mj(gpu, k - 1), held_ns=t_ns, held_mj=value_mj(gpu, k - 1 - skip),
        first_mj=value_mj(gpu, k - skip), first_lo_ns=first_ns - half_ns,
        first_hi_ns=first_ns + half_ns, ticks=1 + skip,
    )  # fmt: skip


@given(gpu=curves, window=windows)
def test_a_window_from_tick_to_tick_is_the_counter_exactly(gpu, window):
    start = edge(gpu, T0 + window[0], after=False)
    end = edge(gpu, T0 + window[0] + window[1], after=True)
    ticks = (start.at_ns, end.at_ns)
    energy = counter_energy(start, end, ticks, tick_s=gpu.tick_s, limit_w=LIMIT_W)
    # The counter shows whole millijoules; stamps are whole nanoseconds.
    assert energy.energy_j == pytest.approx(gpu.energy_j(*ticks), abs=0.0021)
    assert energy.half_width_j == pytest.approx(0.0, abs=1e-6)


@given(gpu=curves, window=windows, skip=st.integers(0, 3))
def test_a_window_between_ticks_lies_within_its_half_width(gpu, window, skip):
    start_ns, end_ns = T0 + window[0], T0 + window[0] + window[1]
    start = edge(gpu, start_ns, after=False)
    end = edge(gpu, end_ns, after=True, skip=skip)
    energy = counter_energy(start, end, (start_ns, end_ns), tick_s=gpu.tick_s, limit_w=LIMIT_W)
    exact_j = gpu.energy_j(start_ns, end_ns)
    # Two edges, each bounded; the half-widths add in quadrature.
    assert abs(energy.energy_j - exact_j) <= math.sqrt(2) * energy.half_width_j + 0.003
    assert energy.half_width_j <= 2 * LIMIT_W * gpu.tick_s


@given(gpu=curves, window=windows)
def test_splitting_the_tick_beats_ignoring_the_edge_on_a_steady_board(gpu, window):
    assume(gpu.curve == "constant")
    start = edge(gpu, T0, after=False)
    start_ns, end_ns = start.at_ns, start.at_ns + window[1]
    end = edge(gpu, end_ns, after=True)
    energy = counter_energy(start, end, (start_ns, end_ns), tick_s=gpu.tick_s, limit_w=LIMIT_W)
    naive_j = (end.value_mj - start.value_mj) / 1e3
    exact_j = gpu.energy_j(start_ns, end_ns)
    assert abs(energy.energy_j - exact_j) <= min(0.004, abs(naive_j - exact_j) + 0.004)


@given(gpu=curves, window=windows, half_ns=st.integers(1, 500_000))
def test_a_wide_bracket_is_in_the_half_width(gpu, window, half_ns):
    start = edge(gpu, T0, after=False, half_ns=half_ns)
    end = edge(gpu, T0 + window[1], after=True)
    energy = counter_energy(start, end, (start.at_ns, end.at_ns), tick_s=gpu.tick_s,
                            limit_w=LIMIT_W)  # fmt: skip
    assert energy.half_width_j == pytest.approx(LIMIT_W * half_ns / 1e9, rel=1e-6)


def test_missed_ticks_are_spread_over_the_time_that_was_not_watched():
    gpu = StandinGpu(low_w=200.0, tick_s=0.02)
    start, seen = edge(gpu, T0, after=False), edge(gpu, T0 + 2 * S + 5_000_000, after=True, skip=3)
    end = Edge(**{**{f: getattr(seen, f) for f in Edge.__slots__}, "ticks": 0})
    window = (start.at_ns, T0 + 2 * S + 5_000_000)
    energy = counter_energy(start, end, window, tick_s=0.02, limit_w=LIMIT_W)
    assert energy.energy_j == pytest.approx(gpu.energy_j(*window), abs=0.01)


def test_a_counter_that_went_backwards_gives_nothing():
    gpu = StandinGpu()
    start, end = edge(gpu, T0, after=False), edge(gpu, T0 + S, after=True)
    assert counter_energy(end, start, (T0, T0 + S), tick_s=0.02, limit_w=LIMIT_W) is None


@given(
    watts=st.lists(st.floats(0, 1000), min_size=4, max_size=60),
    step_ms=st.integers(10, 200),
    cut=st.tuples(st.floats(0.0, 0.4), st.floats(0.6, 1.0)),
)
def test_the_trapezoid_is_exact_for_a_polygon(watts, step_ms, cut):
    times = [T0 + i * step_ms * 1_000_000 for i in range(len(watts))]
    span = times[-1] - times[0]
    window = (times[0] + round(cut[0] * span), times[0] + round(cut[1] * span))
    integral = integrate(times, watts, window, max_gap_ns=S)
    assume(integral is not None)
    fine = [window[0] + (window[1] - window[0]) * i // 4000 for i in range(4001)]
    corners = sorted({*fine, *(t for t in times if window[0] <= t <= window[1])})
    powers = [power_at(times, watts, t) for t in corners]
    exact = math.fsum((a + b) / 2 * (t1 - t0) / 1e9 for a, b, t0, t1 in
                      zip(powers, powers[1:], corners, corners[1:], strict=False))  # fmt: skip
    assert integral.energy_j == pytest.approx(exact, rel=1e-9, abs=1e-9)
    assert integral.mean_w == pytest.approx(integral.energy_j * 1e9 / (window[1] - window[0]))


@given(
    watts=st.lists(st.floats(0, 1000), min_size=6, max_size=40),
    cut=st.floats(0.3, 0.7),
)
def test_two_halves_of_a_window_add_up(watts, cut):
    times = [T0 + i * 100_000_000 for i in range(len(watts))]
    middle = times[0] + round(cut * (times[-1] - times[0]))
    parts = [integrate(times, watts, w, max_gap_ns=S)
             for w in ((times[0], middle), (middle, times[-1]), (times[0], times[-1]))]  # fmt: skip
    assume(all(parts))
    assert parts[0].energy_j + parts[1].energy_j == pytest.approx(parts[2].energy_j, abs=1e-6)


@pytest.mark.parametrize(
    ("times_s", "reason"),
    [
        ([], "none at all"),
        ([1.0], "one"),
        ([-3.0, -2.0], "all before"),
        ([11.0, 12.0], "all after"),
        ([0.0, 1.0, 9.0, 10.0], "a hole"),
    ],
)
def test_samples_that_do_not_carry_a_window_give_nothing(times_s, reason):
    times = [T0 + round(t * 1e9) for t in times_s]
    window = (T0, T0 + 10 * S)
    assert integrate(times, [100.0] * len(times), window, max_gap_ns=2 * S) is None, reason


def test_the_largest_gap_counts_to_the_edges_of_the_window():
    assert largest_gap_ns([T0 + S, T0 + 2 * S], (T0, T0 + 6 * S)) == 4 * S
    assert largest_gap_ns([], (T0, T0 + 6 * S)) == 6 * S


def test_a_varying_curve_has_a_wider_half_width_than_a_steady_one():
    times = [T0 + i * S // 10 for i in range(21)]
    window = (T0, T0 + 2 * S)
    steady = integrate(times, [300.0] * 21, window, max_gap_ns=S)
    varying = integrate(times, [100.0, 500.0] * 10 + [100.0], window, max_gap_ns=S)
    assert steady.half_width_j == 0.0
    assert varying.half_width_j > 0.1 * varying.energy_j
