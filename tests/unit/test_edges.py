"""The search for clean edges, on a scripted clock: what is an edge, what is refused, and why."""

from dataclasses import replace

import pytest

from workers.meters.binding import SensorError
from workers.meters.counting import (
    FASTEST_NS,
    Edge,
    Tick,
    advanced,
    next_look,
    period_of,
    tick_between,
)
from workers.meters.edges import NO_EDGE, STUCK, WIDEST_NS, Search
from workers.meters.gpureport import Report, gpu_energy

MS = 1_000_000
TICK_NS = 20 * MS


class Desk:
    """A clock that only moves when something is done, and counters that tick on it."""

    def __init__(self, look_ns=5_000):
        self.now_ns = 0
        self.look_ns = look_ns
        self.sleeps = []  # (from, to): whoever looks in between wakes up at the end

    def clock(self):
        for start, end in self.sleeps:
            if start <= self.now_ns < end:
                self.now_ns = end
        return self.now_ns

    def counter(self, phase_ns=0, tick_ns=TICK_NS):
        def read():
            self.now_ns += self.look_ns
            value = (self.clock() - phase_ns) // tick_ns
            self.now_ns += self.look_ns
            return value

        return read

    def search(self, **counters):
        search = Search(now_ns=self.clock)
        for name, read in counters.items():
            search.hold(name, read)
        return search


def test_an_edge_brackets_its_tick():
    desk = Desk()
    edge = desk.search(gpu=desk.counter(phase_ns=7 * MS)).run()["gpu"]
    assert edge.lo_ns <= 7 * MS <= edge.hi_ns
    assert edge.hi_ns - edge.lo_ns <= 30_000
    assert (edge.previous_mj, edge.value_mj, edge.held_mj, edge.first_mj) == (-1, 0, -1, 0)


def test_a_tick_that_was_slept_through_is_refused_and_the_next_one_taken():
    desk = Desk()
    desk.sleeps = [(6 * MS, 9 * MS)]
    edge = desk.search(gpu=desk.counter(phase_ns=7 * MS)).run()["gpu"]
    assert edge.lo_ns <= 27 * MS <= edge.hi_ns
    assert (edge.held_mj, edge.first_mj, edge.value_mj) == (-1, 0, 1)
    assert edge.first_lo_ns <= 7 * MS <= edge.first_hi_ns


def test_an_interruption_too_short_to_be_wide_is_noticed_by_its_unusual_length():
    desk = Desk()
    desk.sleeps = [(int(6.9 * MS), int(7.4 * MS))]
    edge = desk.search(gpu=desk.counter(phase_ns=7 * MS)).run()["gpu"]
    assert edge.lo_ns <= 27 * MS <= edge.hi_ns


def test_every_counter_gets_its_own_edge():
    desk = Desk()
    phases = {"a": 3 * MS, "b": 11 * MS, "c": 19 * MS}
    found = desk.search(**{n: desk.counter(phase_ns=p) for n, p in phases.items()}).run()
    for name, phase_ns in phases.items():
        assert found[name].lo_ns <= phase_ns <= found[name].hi_ns


def test_looks_too_slow_together_are_clean_alone():
    desk = Desk(look_ns=100_000)
    names = [f"gpu{i}" for i in range(8)]
    found = desk.search(**{n: desk.counter(phase_ns=3 * MS + i * MS)
                           for i, n in enumerate(names)}).run()  # fmt: skip
    for i, name in enumerate(names):
        edge = found[name]
        assert isinstance(edge, Edge)
        assert edge.hi_ns - edge.lo_ns <= MS
        assert any(edge.lo_ns <= 3 * MS + i * MS + k * TICK_NS <= edge.hi_ns for k in range(200))


def test_looks_slower_than_the_limit_leave_no_edge():
    desk = Desk(look_ns=6 * MS)
    assert desk.search(gpu=desk.counter()).run() == {"gpu": NO_EDGE}


def test_where_no_clean_edge_comes_the_narrowest_one_is_kept_with_its_width():
    desk = Desk(look_ns=2 * MS)
    edge = desk.search(gpu=desk.counter(phase_ns=7 * MS)).run()["gpu"]
    assert 1 * MS < edge.hi_ns - edge.lo_ns <= WIDEST_NS
    assert edge.lo_ns <= 7 * MS + edge.value_mj * TICK_NS <= edge.hi_ns


def test_a_counter_that_stands_is_stuck():
    desk = Desk(look_ns=50_000)
    assert desk.search(gpu=desk.counter(tick_ns=10**15)).run() == {"gpu": STUCK}


def test_a_counter_that_breaks_leaves_the_others_their_edges():
    desk = Desk()
    good = desk.counter(phase_ns=7 * MS)

    def broken():
        if desk.now_ns > 2 * MS:
            raise SensorError("gpu_lost")
        return 1

    found = desk.search(bad=broken, good=good).run()
    assert found["bad"] == "gpu_lost"
    assert isinstance(found["good"], Edge)


@pytest.mark.parametrize("tick_ns", [MS, 20 * MS, 100 * MS])
@pytest.mark.parametrize("sleeps", [[], [(6 * MS, 47 * MS)], [(99 * MS, 131 * MS)]])
def test_periods_survive_interruptions(tick_ns, sleeps):
    desk = Desk()
    desk.sleeps = sleeps
    tick = desk.search(gpu=desk.counter(phase_ns=500_000, tick_ns=tick_ns)).periods()["gpu"]
    assert tick.period_ns == pytest.approx(tick_ns, abs=40_000)
    assert abs(tick.period_ns - tick_ns) <= tick.error_ns


def test_edges_off_the_grid_are_jitter_and_narrow_brackets_are_not():
    tick = Tick(period_ns=TICK_NS, error_ns=200.0)
    on = tick.between(edge_at(0), edge_at(50 * TICK_NS + 9_000))
    assert on.jitter_ns == 0.0
    off = tick.between(edge_at(0), edge_at(50 * TICK_NS + 3 * MS))
    assert off.jitter_ns == pytest.approx(3 * MS, rel=0.02)
    assert off.between(edge_at(0), edge_at(100 * TICK_NS)).jitter_ns > 0.9 * off.jitter_ns


def test_a_longer_stretch_makes_a_period_surer_by_its_brackets_and_its_jitter():
    tick = Tick(period_ns=TICK_NS, error_ns=40_000.0)
    steady = tick.between(edge_at(0), edge_at(100 * (TICK_NS + 70)))
    assert steady == Tick(period_ns=TICK_NS + 70, error_ns=(5_000 + 5_000) / 100)
    late_ns = 5 * 40_000 + 10_000 + 30_000  # by the last of these more than is explained
    jittery = tick.between(edge_at(0), edge_at(5 * TICK_NS + late_ns))
    assert jittery.jitter_ns == pytest.approx(30_000)
    assert jittery.error_ns == pytest.approx((10_000 + 2 * 30_000) / 5)


def test_a_period_is_the_mean_of_the_distances_that_missed_no_tick():
    gaps = [tick_between(edge_at(0), 3, edge_at(2 * TICK_NS), 5),
            tick_between(edge_at(0), 3, edge_at(TICK_NS + 60_000), 4),
            tick_between(edge_at(0), 3, edge_at(2 * TICK_NS), 4)]  # fmt: skip
    assert [gap.error_ns for gap in gaps] == pytest.approx([5_000, 10_000, 10_000])
    period = period_of(gaps)
    assert period.period_ns == pytest.approx(TICK_NS + 30_000)
    assert period.error_ns == pytest.approx(10_000 + 30_000)
    assert period.jitter_ns == pytest.approx(60_000 - 2 * 10_000)


def test_ticks_are_not_counted_over_a_stretch_too_long_for_what_is_known():
    tick = Tick(period_ns=TICK_NS, error_ns=TICK_NS / 100)
    assert tick.between(edge_at(0), edge_at(20 * TICK_NS)) is not None
    assert tick.between(edge_at(0), edge_at(60 * TICK_NS)) is None


def edge_at(at_ns):
    return Edge(lo_ns=at_ns - 5_000, hi_ns=at_ns + 5_000, value_mj=1, previous_mj=0, held_ns=0,
                held_mj=0, first_mj=1, first_lo_ns=at_ns, first_hi_ns=at_ns)  # fmt: skip


def test_a_counter_that_stands_has_no_period():
    desk = Desk(look_ns=50_000)
    assert desk.search(gpu=desk.counter(tick_ns=10**15)).periods() == {"gpu": STUCK}


def test_looks_slower_than_the_limit_leave_no_period():
    desk = Desk(look_ns=2 * MS)
    assert desk.search(gpu=desk.counter()).periods() == {"gpu": NO_EDGE}


@pytest.mark.parametrize("tick_ns", [TICK_NS, 100 * MS])
@pytest.mark.parametrize("call_ns", [600_000, MS])
def test_slow_calls_leave_a_period_with_its_error(call_ns, tick_ns):
    desk = Desk(look_ns=call_ns // 2)
    tick = desk.search(gpu=desk.counter(phase_ns=7 * MS, tick_ns=tick_ns)).periods()["gpu"]
    assert abs(tick.period_ns - tick_ns) <= tick.error_ns <= 4 * call_ns
    assert desk.now_ns <= 4 * tick_ns


@pytest.mark.parametrize("call_ns", [50_000, 300_000, 3 * MS])
@pytest.mark.parametrize("ask", [Search.run, Search.latest, Search.periods])
def test_a_counter_that_changes_at_every_look_is_soon_given_up(ask, call_ns):
    desk = Desk(look_ns=call_ns // 2)
    found = ask(desk.search(gpu=desk.counter(tick_ns=1)))["gpu"]
    assert isinstance(found, Edge) if ask is not Search.periods else found == NO_EDGE
    assert desk.now_ns <= 20 * call_ns


def test_a_counter_that_changes_at_every_look_does_not_outlast_patience_with_another():
    desk = Desk()
    found = desk.search(fine=desk.counter(tick_ns=1), stands=desk.counter(tick_ns=10**15)).latest()
    assert isinstance(found["fine"], Edge)
    assert found["stands"] == STUCK


def test_a_counter_that_ticks_once_and_no_more_is_stuck():
    desk = Desk(look_ns=50_000)
    found = desk.search(gpu=lambda: min(0, desk.counter(phase_ns=7 * MS)())).periods()
    assert found == {"gpu": STUCK}
    assert desk.now_ns <= 2_100 * MS


def test_a_counter_whose_period_is_known_is_watched_for_one_tick_only():
    desk = Desk(look_ns=200_000)
    search = Search(now_ns=desk.clock)
    for i, name in enumerate("abc"):  # too slow together
        search.hold(name, desk.counter(phase_ns=(3 + 5 * i) * MS), known=True)
    found = search.latest()
    assert all(isinstance(edge, Edge) for edge in found.values())
    assert desk.now_ns <= 3 * TICK_NS
    assert search.periods() == {}


def test_periods_of_counters_too_slow_together_are_learned_alone():
    desk = Desk(look_ns=100_000)
    names = [f"gpu{i}" for i in range(8)]
    found = desk.search(**{n: desk.counter(phase_ns=3 * MS + i * MS)
                           for i, n in enumerate(names)}).periods()  # fmt: skip
    periods_ns = {n: tick.period_ns for n, tick in found.items()}
    assert periods_ns == {n: pytest.approx(TICK_NS, abs=400_000) for n in names}


def test_the_latest_edges_of_counters_are_those_before_the_answer():
    """The first edge of one is old by the time the other's comes: it was watched on."""
    desk = Desk()
    search = desk.search(fast=desk.counter(phase_ns=3 * MS), slow=desk.counter(97 * MS, 100 * MS))
    found = search.latest()
    answered_ns = desk.now_ns
    assert found["slow"].lo_ns <= 97 * MS <= found["slow"].hi_ns
    assert found["fast"].lo_ns <= 83 * MS <= found["fast"].hi_ns
    assert answered_ns - found["fast"].hi_ns < TICK_NS
    assert search.by_the_way()["fast"].period_ns == pytest.approx(TICK_NS, abs=40_000)


def test_an_edge_slept_through_by_one_counter_keeps_the_others_waiting_for_it():
    desk = Desk()
    desk.sleeps = [(int(96.5 * MS), int(97.5 * MS))]
    counters = {"a": desk.counter(10 * MS, 100 * MS), "b": desk.counter(97 * MS, 100 * MS)}
    found = desk.search(**counters).latest()
    assert found["b"].lo_ns <= 197 * MS <= found["b"].hi_ns
    assert found["a"].lo_ns <= 110 * MS <= found["a"].hi_ns


def test_a_tick_not_seen_closely_makes_the_edge_before_it_an_old_one():
    desk = Desk()
    desk.sleeps = [(int(109.5 * MS), int(110.5 * MS))]
    counters = {"a": desk.counter(10 * MS, 100 * MS), "b": desk.counter(197 * MS, 300 * MS)}
    found = desk.search(**counters).latest()
    assert found["a"].lo_ns <= 210 * MS <= found["a"].hi_ns
    assert found["b"].lo_ns <= 197 * MS <= found["b"].hi_ns


def test_ticks_slept_through_make_no_longer_period():
    """Two ticks fall into each sleep and look like one; nothing is learned across it."""
    desk = Desk()
    desk.sleeps = [((10 + 60 * k) * MS, (51 + 60 * k) * MS) for k in range(4)]
    tick = desk.search(gpu=desk.counter(phase_ns=7 * MS)).periods()["gpu"]
    assert tick.period_ns == pytest.approx(TICK_NS, abs=40_000)


def test_who_is_interrupted_naps_between_looks_from_then_on():
    desk, naps = Desk(), []
    desk.sleeps = [(6 * MS, 9 * MS)]

    def nap():
        naps.append(desk.now_ns)
        desk.now_ns += 150_000

    search = Search(now_ns=desk.clock, nap=nap)
    search.hold("gpu", desk.counter(phase_ns=7 * MS))
    edge = search.run()["gpu"]
    assert min(naps) >= 9 * MS
    assert edge == search.watches["gpu"].edge  # a clean one, although looks are further apart
    assert edge.lo_ns <= 27 * MS <= edge.hi_ns


def test_one_look_serves_counters_that_tick_at_other_times():
    tick = Tick(period_ns=TICK_NS, error_ns=200.0)
    for phase_ns in range(0, TICK_NS, MS):
        start = edge_at(phase_ns)
        from_ns, due_ns = next_look(start, tick, 100 * TICK_NS)
        for at_ns in (from_ns, due_ns):
            assert 0.1 < (at_ns - start.at_ns) / TICK_NS % 1 < 0.9
        assert 100 * TICK_NS < from_ns < due_ns < 102 * TICK_NS


def test_a_counter_that_ticks_fast_is_not_looked_at_in_every_tick():
    tick = Tick(period_ns=MS, error_ns=20.0)
    first_ns, _ = next_look(edge_at(0), tick, 100 * MS)
    second_ns, _ = next_look(edge_at(0), tick, first_ns)
    assert second_ns - first_ns == FASTEST_NS


def test_a_reading_that_took_until_after_a_tick_is_not_taken_for_one_from_after_it():
    start = edge_at(0)
    asked_ns, told_ns = 3 * TICK_NS - 5 * MS, 3 * TICK_NS + 5 * MS
    assert advanced(start, told_ns, 300, 0.02) is not None  # the stamp alone does not tell
    assert advanced(start, told_ns, 300, 0.02, asked_ns=asked_ns) is None


def test_a_period_that_is_not_known_well_widens_the_edge_that_rests_on_it():
    moved = advanced(edge_at(0), 5 * TICK_NS + 10 * MS, 300, 0.02, error_s=1e-4)
    assert moved.at_ns == 5 * TICK_NS
    assert moved.hi_ns - moved.lo_ns == 10_000 + 2 * 5 * 100_000


def test_no_tick_is_told_from_the_next_after_too_long_for_what_is_known_of_the_period():
    now_ns = 500 * TICK_NS + 10 * MS
    assert advanced(edge_at(0), now_ns, 300, 0.02, error_s=1e-5).at_ns == 500 * TICK_NS
    assert advanced(edge_at(0), now_ns, 300, 0.02, error_s=2e-5) is None


def test_an_edge_that_moved_on_has_the_mean_of_its_ticks_before_it():
    moved = advanced(edge_at(0), 5 * TICK_NS + 10 * MS, 301, 0.02)
    assert (moved.value_mj, moved.previous_mj) == (301, 301 - (301 - 1) // 5)


@pytest.mark.parametrize(
    ("wide_ns", "method", "reason"),
    [(10_000, "counter", None), (4 * MS, "counter", "edge_wide"),
     (11 * MS, None, "edge_unresolved")],
)  # fmt: skip
def test_a_wide_edge_counts_with_its_width_and_not_beyond_half_a_tick(wide_ns, method, reason):
    """300 W; the tick was somewhere in the bracket."""
    start, end = edge_at(0), edge_at(50 * TICK_NS)
    start = replace(start, lo_ns=-wide_ns // 2, hi_ns=wide_ns // 2, value_mj=6_000)
    end = replace(end, value_mj=306_000, previous_mj=300_000, held_mj=300_000, first_mj=306_000,
                  held_ns=end.at_ns - MS)  # fmt: skip
    report = Report(
        uuid="GPU-a", start=start, end=end, tick_s=0.02, times_ns=(), watts=(), limit_w=700.0,
        telemetry=(), throttle=0, lost=False, went_back=False,
    )  # fmt: skip
    found = gpu_energy(report, (start.at_ns, end.at_ns), index=0, name="GPU", sibling=False,
                       power_field=None, mig=False, interval_s=0.1)  # fmt: skip
    assert found.method == method
    assert (reason in found.reasons) or reason is None
    if method:
        off_s = (start.hi_ns - start.lo_ns) / 2e9
        assert found.timing_uncertainty_j >= 700.0 * off_s
