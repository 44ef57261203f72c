"""The search for clean edges, on a scripted clock: what is an edge, what is refused, and why."""

import pytest

from workers.meters.binding import SensorError
from workers.meters.counting import Edge, Tick
from workers.meters.edges import NO_EDGE, STUCK, Search

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
    desk = Desk(look_ns=2 * MS)
    assert desk.search(gpu=desk.counter()).run() == {"gpu": NO_EDGE}


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


def test_periods_of_counters_too_slow_together_are_learned_alone():
    desk = Desk(look_ns=100_000)
    names = [f"gpu{i}" for i in range(8)]
    found = desk.search(**{n: desk.counter(phase_ns=3 * MS + i * MS)
                           for i, n in enumerate(names)}).periods()  # fmt: skip
    periods_ns = {n: tick.period_ns for n, tick in found.items()}
    assert periods_ns == {n: pytest.approx(TICK_NS, abs=400_000) for n in names}
