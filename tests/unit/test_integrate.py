"""Joules from edges and samples, against curves whose integral is known in closed form."""

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.nvml.curve import StandinGpu
from workers.meters.counting import Edge, advanced, counter_energy
from workers.meters.integrate import Sensor, integrate, largest_gap_ns, power_at

S = 1_000_000_000
T0 = 1000 * S
LIMIT_W = 700.0

curves = st.builds(
    StandinGpu,
    curve=st.sampled_from(["constant", "square", "ramp", "burst", "drift", "noise"]),
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
        first_hi_ns=first_ns + half_ns,
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


@given(watts=st.floats(20, LIMIT_W), tick_s=st.sampled_from([0.001, 0.02, 0.1]), window=windows)
def test_splitting_the_tick_beats_ignoring_the_edge_on_a_steady_board(watts, tick_s, window):
    gpu = StandinGpu(low_w=watts, tick_s=tick_s)
    start_ns, end_ns = T0 + window[0], T0 + window[0] + window[1]
    start = edge(gpu, start_ns, after=False)
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


inside = st.floats(0.02, 0.98)


@given(
    gpu=curves, window=windows, late_ns=st.integers(0, S // 5), missed=st.integers(0, 5),
    skip=st.integers(0, 5), held_in=inside, seen_in=inside,
)  # fmt: skip
def test_a_sampler_that_slept_after_the_window_still_lies_within_its_half_width(
    gpu, window, late_ns, missed, skip, held_in, seen_in
):
    """It held the counter late, woke up later still, and found a clean edge in the end."""

    def instant(ticks):
        return round((ticks * gpu.tick_s + gpu.tick_phase_s) * 1e9)

    start = edge(gpu, T0, after=False)
    k_held, _ = tick_at_or(gpu, T0 + S + window[1], after=False)
    k_first = k_held + 1 + missed
    held_ns, seen_ns = instant(k_held + held_in), instant(k_first + seen_in)
    at_ns = instant(k_first + skip)
    end = Edge(
        lo_ns=at_ns, hi_ns=at_ns, value_mj=value_mj(gpu, k_first + skip),
        previous_mj=value_mj(gpu, k_first + skip - 1), held_ns=held_ns,
        held_mj=value_mj(gpu, k_held), first_mj=value_mj(gpu, k_first), first_lo_ns=held_ns,
        first_hi_ns=min(seen_ns, at_ns) if skip else at_ns,
    )  # fmt: skip
    cut = (start.at_ns, held_ns - late_ns)
    energy = counter_energy(start, end, cut, tick_s=gpu.tick_s, limit_w=LIMIT_W)
    assert abs(energy.energy_j - gpu.energy_j(*cut)) <= energy.half_width_j + 0.01
    if gpu.curve == "constant":
        whole_mj_s = 1e-3 / gpu.tick_s  # what rounding to millijoules makes of a tick's power
        assert energy.energy_j == pytest.approx(gpu.energy_j(*cut), abs=0.05 + whole_mj_s * 0.2)


@given(gpu=curves, window=windows, skip=st.integers(1, 5), held_in=inside, cut_in=inside)
def test_a_window_that_ends_after_the_first_tick_of_the_search_is_split_in_a_later_one(
    gpu, window, skip, held_in, cut_in
):
    """It ends at another board's tick, and this one's was not seen closely."""

    def instant(ticks):
        return round((ticks * gpu.tick_s + gpu.tick_phase_s) * 1e9)

    start = edge(gpu, T0, after=False)
    k_held, _ = tick_at_or(gpu, T0 + S + window[1], after=False)
    k_first, first_ns, at_ns = k_held + 1, instant(k_held + 1), instant(k_held + 1 + skip)
    end = Edge(
        lo_ns=at_ns, hi_ns=at_ns, value_mj=value_mj(gpu, k_first + skip),
        previous_mj=value_mj(gpu, k_first + skip - 1), held_ns=instant(k_held + held_in),
        held_mj=value_mj(gpu, k_held), first_mj=value_mj(gpu, k_first), first_lo_ns=first_ns - 1000,
        first_hi_ns=first_ns + 1000,
    )  # fmt: skip
    cut = (start.at_ns, instant(k_first + skip * cut_in))
    energy = counter_energy(start, end, cut, tick_s=gpu.tick_s, limit_w=LIMIT_W)
    assert abs(energy.energy_j - gpu.energy_j(*cut)) <= energy.half_width_j + 0.01
    assert energy.half_width_j <= LIMIT_W * gpu.tick_s * skip + 0.01
    if gpu.curve == "constant":
        assert energy.energy_j == pytest.approx(gpu.energy_j(*cut), abs=0.01)


@pytest.mark.parametrize(
    ("tick_j", "half_width_j"),
    [
        (20.0, 20.0 - 6.0),  # all of it may have been drawn at the end
        (60.0, 18.0 - (60.0 - 49.0)),  # some of it was: 0.07 s are no more than 49 J
        (80.0, 0.0),  # more than the limit allows was drawn all along
    ],
)
def test_the_tick_at_the_windows_end_is_split_within_what_the_board_can_draw(tick_j, half_width_j):
    """0.03 s of a tick of 0.1 s come after the window."""
    start = Edge(lo_ns=T0, hi_ns=T0, value_mj=0, previous_mj=0, held_ns=T0, held_mj=0, first_mj=0,
                 first_lo_ns=T0, first_hi_ns=T0)  # fmt: skip
    at_ns, value_mj = T0 + S, 500_000
    held_mj = value_mj - round(tick_j * 1000)
    end = Edge(lo_ns=at_ns, hi_ns=at_ns, value_mj=value_mj, previous_mj=held_mj,
               held_ns=at_ns - S // 20, held_mj=held_mj, first_mj=value_mj, first_lo_ns=at_ns,
               first_hi_ns=at_ns)  # fmt: skip
    energy = counter_energy(start, end, (T0, at_ns - 3 * S // 100), tick_s=0.1, limit_w=LIMIT_W)
    assert energy.energy_j == pytest.approx(500.0 - 0.3 * tick_j)
    assert energy.half_width_j == pytest.approx(half_width_j, abs=1e-9)


def test_an_unsure_period_and_late_ticks_are_in_the_half_width():
    gpu = StandinGpu(tick_s=0.1)
    start, end = edge(gpu, T0, after=False), edge(gpu, T0 + S, after=True, skip=2)

    def half_width_j(end_ns, **unsure):
        window = (start.at_ns, end_ns)
        return counter_energy(start, end, window, tick_s=0.1, limit_w=LIMIT_W,
                              **unsure).half_width_j  # fmt: skip

    assert half_width_j(end.at_ns, tick_error_s=1e-4) == pytest.approx(LIMIT_W * 1e-4)
    assert half_width_j(end.at_ns, jitter_s=1e-3) == pytest.approx(LIMIT_W * math.hypot(2e-3, 2e-3))
    early_ns = end.at_ns - S // 4  # two ticks and a half: as often may the period be off
    sure_j, unsure_j = half_width_j(early_ns), half_width_j(early_ns, tick_error_s=1e-3)
    assert unsure_j == pytest.approx(math.hypot(sure_j, LIMIT_W * 2.5e-3))


def test_a_counter_that_went_backwards_gives_nothing():
    gpu = StandinGpu()
    start, end = edge(gpu, T0, after=False), edge(gpu, T0 + S, after=True)
    fell = [(end, start), (replace(start, held_mj=start.value_mj + 1), end),
            (start, replace(end, held_mj=end.value_mj + 1))]  # fmt: skip
    for first, last in fell:
        assert counter_energy(first, last, (T0, T0 + S), tick_s=0.02, limit_w=LIMIT_W) is None


@given(
    watts=st.lists(st.floats(0, 1000), min_size=4, max_size=60),
    step_ms=st.integers(10, 200),
    cut=st.tuples(st.floats(0.0, 0.4), st.floats(0.6, 1.0)),
)
def test_the_trapezoid_is_exact_for_a_polygon(watts, step_ms, cut):
    times = [T0 + i * step_ms * 1_000_000 for i in range(len(watts))]
    span = times[-1] - times[0]
    window = (times[0] + round(cut[0] * span), times[0] + round(cut[1] * span))
    # Reads no denser than the sensor's values: each is one.
    integral = integrate(times, watts, window, max_gap_ns=S, sensor=Sensor(period_s=step_ms / 1e3))
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


@pytest.mark.parametrize(
    ("times_s", "gap_s"),
    [
        ([], 6),
        ([1, 2], 4),  # to the end, where no sample comes after it
        ([4, 5], 4),  # and from the start
        ([-3, 2, 4, 6], 5),  # a stretch across an edge is as long as it is
        ([0, 2, 4, 11], 7),
        ([-9, 0, 3, 6, 15], 3),  # what lies outside is none of the window's
    ],
)
def test_the_largest_gap_is_the_longest_stretch_without_a_sample(times_s, gap_s):
    assert largest_gap_ns([T0 + t * S for t in times_s], (T0, T0 + 6 * S)) == gap_s * S


def test_two_samples_carry_a_window_and_one_does_not():
    times = [T0, T0 + S, T0 + 2 * S, T0 + 3 * S]
    both, one = (T0 + S // 2, T0 + 5 * S // 2), (T0 + S, T0 + 2 * S + 1)
    assert integrate(times, [100.0] * 4, both, max_gap_ns=S).energy_j == pytest.approx(200.0)
    assert integrate(times, [100.0] * 4, one, max_gap_ns=S) is None


def test_power_is_interpolated_between_samples_and_the_nearest_one_holds_beyond_them():
    times, watts = [T0, T0 + S, T0 + 2 * S], [100.0, 300.0, 200.0]
    ats_ns = [T0 - S, T0, T0 + S // 4, T0 + S, T0 + 3 * S // 2, T0 + 2 * S, T0 + 9 * S]
    assert [power_at(times, watts, at_ns) for at_ns in ats_ns] == [
        100.0, 100.0, 150.0, 300.0, 250.0, 200.0, 200.0,
    ]  # fmt: skip


def test_the_highest_power_is_one_of_the_window():
    times = [T0 + i * S for i in range(6)]
    found = integrate(times, [900.0, 100.0, 400.0, 200.0, 100.0, 900.0], (T0 + 1, T0 + 5 * S - 1),
                      max_gap_ns=S)  # fmt: skip
    assert found.max_w == 400.0


def test_a_varying_curve_has_a_wider_half_width_than_a_steady_one():
    times = [T0 + i * S // 10 for i in range(21)]
    window = (T0, T0 + 2 * S)
    steady = integrate(times, [300.0] * 21, window, max_gap_ns=S)
    varying = integrate(times, [100.0, 500.0] * 10 + [100.0], window, max_gap_ns=S)
    assert steady.half_width_j < 0.04 * steady.energy_j
    assert varying.half_width_j > 0.1 * varying.energy_j


def test_a_value_read_again_and_again_is_one_sample_per_period():
    """Otherwise reading faster would make a sensor look better than it is."""
    window = (T0, T0 + 2 * S)
    seen = [100.0, 500.0] * 10 + [100.0]
    once = integrate([T0 + i * S // 10 for i in range(21)], seen, window, max_gap_ns=S)
    often = integrate([T0 + i * S // 100 for i in range(210)],
                      [seen[i // 10] for i in range(210)], window, max_gap_ns=S)  # fmt: skip
    assert often.samples == once.samples
    assert often.half_width_j == pytest.approx(once.half_width_j, rel=0.05)


def test_a_power_that_lasts_does_not_make_the_sensor_slow():
    """Its updates cannot be seen while it stays the same: it looks like a period of a second."""
    times = [T0 + i * S // 10 for i in range(21)]
    steady = [100.0] * 11 + [300.0] * 10
    slow, known = (Sensor(period_s=period_s) for period_s in (1.0, 0.1))
    found = integrate(times, steady, (T0 + S // 4, T0 + 3 * S // 4), max_gap_ns=S, sensor=slow)
    assert found.samples == 5
    assert found.half_width_j > 0.02 * found.energy_j
    window = (T0 + S // 2, T0 + 3 * S // 2)
    assert integrate(times, steady, window, max_gap_ns=S, sensor=slow) == integrate(
        times, steady, window, max_gap_ns=S, sensor=known
    )


def test_a_value_that_lasted_while_updates_were_watched_for_was_seen_by_each():
    """Where they were not, the power may have climbed ever since the last read."""
    times = [T0 + ms * S // 1000 for ms in (0, 100, 200, 270, 370, 470, 570)]
    step = [100.0] * 3 + [400.0] * 4
    window = (T0 + S // 20, T0 + S // 2)
    watched, unwatched = (
        integrate(times, step, window, max_gap_ns=S,
                  sensor=Sensor(period_s=0.02, unsure_s=unsure_s)) for unsure_s in (0.005, 0.05)
    )  # fmt: skip
    exact_j = 0.22 * 100 + 0.23 * 400
    assert watched.energy_j == pytest.approx(exact_j, abs=0.01 * 300)
    assert unwatched.energy_j - exact_j > 0.03 * 300


def test_samples_that_are_old_are_moved_back_in_time():
    times = [T0 + i * S // 10 for i in range(41)]
    rising = [100.0 + 10 * i for i in range(41)]
    window = (T0 + S, T0 + 3 * S)
    fresh = integrate(times, rising, window, max_gap_ns=S)
    old = integrate(times, rising, window, max_gap_ns=S, sensor=Sensor(lag_s=0.5))
    assert old.energy_j == pytest.approx(fresh.energy_j + 50 * 2.0)


def test_samples_of_an_unsure_age_have_wider_edges():
    times = [T0 + i * S // 10 for i in range(41)]
    step = [100.0] * 20 + [400.0] * 21
    window = (T0 + S, T0 + 2 * S)
    sharp = integrate(times, step, window, max_gap_ns=S)
    blurred = integrate(times, step, window, max_gap_ns=S, sensor=Sensor(unsure_s=0.5))
    assert math.hypot(blurred.half_width_j, 0.0) >= math.hypot(sharp.half_width_j, 150.0)


def test_samples_that_may_all_be_late_are_wrong_by_what_the_power_changed_over_the_window():
    times = [T0 + i * S // 10 for i in range(41)]
    step = [100.0] * 20 + [400.0] * 21
    window = (T0 + S, T0 + 3 * S)  # the power is steady around both edges
    sharp = integrate(times, step, window, max_gap_ns=S)
    blurred = integrate(times, step, window, max_gap_ns=S, sensor=Sensor(unsure_s=0.2))
    assert blurred.half_width_j == pytest.approx(math.hypot(sharp.half_width_j, 0.2 * 300))


def test_the_updates_of_a_fast_sensor_may_be_seen_late_and_those_between_not_at_all():
    times = [T0 + i * S // 50 for i in range(101)]
    step = [100.0] * 50 + [400.0] * 51
    window = (T0 + S // 2, T0 + 3 * S // 2)
    found = integrate(times, step, window, max_gap_ns=S,
                      sensor=Sensor(period_s=0.02, unsure_s=0.005))  # fmt: skip
    between_j = math.hypot(0.48 * 0.02 * 300, 0.52 * 250 / 50)
    assert found.half_width_j >= math.hypot(1.4 * between_j, 0.02 * 300)


@given(gpu=curves, ticks=st.integers(0, 50), share=st.floats(0.11, 0.89))
def test_an_edge_advances_to_the_last_tick_before_now(gpu, ticks, share):
    start = edge(gpu, T0, after=False)
    k, at_ns = tick_at_or(gpu, T0, after=False)
    tick_ns = gpu.tick_s * 1e9
    now_ns = round(start.at_ns + (ticks + share) * tick_ns)
    moved = advanced(start, now_ns, value_mj(gpu, k + ticks), gpu.tick_s)
    assert moved.at_ns == pytest.approx(at_ns + ticks * tick_ns, abs=10)
    assert moved.value_mj == value_mj(gpu, k + ticks)


def test_an_instant_at_a_tick_is_too_close_to_tell():
    gpu = StandinGpu(tick_s=0.02)
    start = edge(gpu, T0, after=False)
    for off_ns in (-1_000_000, 0, 1_000_000):
        assert advanced(start, start.at_ns + 3 * 20_000_000 + off_ns, 0, 0.02) is None
