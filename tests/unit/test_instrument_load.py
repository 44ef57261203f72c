"""When a load is on: schedules that go up, and work inside its stretches alone."""

import time
from itertools import pairwise

import pytest

from workers.instrument.load import follow
from workers.instrument.loader import irregular, square, steady

MS = 1_000_000


@pytest.mark.parametrize("switches", [steady(1.0), irregular(3.0),
                                      square(0.023, 0.6, 1.0, from_ns=5)])  # fmt: skip
def test_switches_come_in_pairs_and_in_order(switches):
    assert len(switches) % 2 == 0
    assert all(a < b for a, b in pairwise(switches))


def test_a_square_load_is_on_for_its_part_of_the_time():
    switches = square(0.1, 0.25, 2.0, from_ns=0)
    on_ns = sum(b - a for a, b in zip(switches[::2], switches[1::2], strict=True))
    assert on_ns / 2e9 == pytest.approx(0.25)


def test_there_is_work_inside_the_stretches_alone():
    at_ns = []
    begun_ns = time.monotonic_ns() + 5 * MS
    switches = [begun_ns, begun_ns + 10 * MS, begun_ns + 30 * MS, begun_ns + 40 * MS]

    def work():
        at_ns.append(time.monotonic_ns())
        time.sleep(0.001)

    told = follow(work, switches, lambda: True)
    assert told["done"] == len(at_ns)
    assert all(any(a <= at < b for a, b in told["stretches"]) for at in at_ns)
    for (began_ns, _), due_ns in zip(told["stretches"], switches[::2], strict=True):
        assert began_ns >= due_ns


def test_a_load_that_nobody_wants_any_more_ends_within_a_stretch():
    done = []
    begun_ns = time.monotonic_ns()
    switches = [begun_ns, begun_ns + 3600 * 1000 * MS, begun_ns + 7200 * 1000 * MS,
                begun_ns + 7201 * 1000 * MS]  # fmt: skip
    told = follow(lambda: done.append(1), switches, lambda: len(done) < 3)
    assert told["done"] == len(done) == 3
    assert len(told["stretches"]) == 1
