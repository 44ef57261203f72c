"""When requests arrive: at a constant rate, by chance, as recorded."""

from __future__ import annotations

import statistics
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.workloads.arrivals import SAME_S, Recorded, constant, poisson, replay

MICROSECONDS = st.integers(0, 10**12).map(lambda us: us / 1e6)


def recorded(times_s: list[float]) -> Recorded:
    return Recorded(count=len(times_s), first_s=times_s[0], last_s=times_s[-1], lap=lambda: times_s)


def test_a_constant_rate_has_equal_gaps_from_the_start() -> None:
    assert list(islice(constant(4.0), 4)) == [0.0, 0.25, 0.5, 0.75]


def test_a_poisson_process_has_its_rate_and_exponential_gaps() -> None:
    """20,000 gaps: mean and deviation are both 1/rate, 1/e of the gaps are longer than that."""
    times = list(islice(poisson(8.0, "seed"), 20_000))
    gaps = [later - earlier for earlier, later in pairwise([0.0, *times])]
    assert statistics.fmean(gaps) == pytest.approx(1 / 8, rel=0.03)
    assert statistics.pstdev(gaps) == pytest.approx(1 / 8, rel=0.03)
    longer = sum(gap > 1 / 8 for gap in gaps) / len(gaps)
    assert longer == pytest.approx(0.3679, abs=0.015)
    assert min(gaps) > 0


def test_a_seed_gives_the_same_arrivals_again_and_another_seed_others() -> None:
    first, again, other = (list(islice(poisson(1.0, s), 9)) for s in ("a", "a", "b"))
    assert first == again
    assert first != other


def test_recorded_times_begin_at_zero_and_begin_again_after_a_mean_gap() -> None:
    found = list(islice(replay(recorded([100.0, 101.0, 104.0])), 7))
    assert found == [0.0, 1.0, 4.0, 6.0, 7.0, 10.0, 12.0]


@given(st.lists(MICROSECONDS, min_size=2, max_size=50), st.floats(0.01, 1000))
def test_recorded_times_are_stretched_to_a_mean_rate(times_s: list[float], rate: float) -> None:
    times_s = sorted(times_s)
    found = list(islice(replay(recorded(times_s), rate), len(times_s) * 2))
    assert all(later >= earlier for earlier, later in pairwise(found))
    if times_s[-1] - times_s[0] > SAME_S:
        lap = found[: len(times_s)]
        assert (len(lap) - 1) / (lap[-1] - lap[0]) == pytest.approx(rate, rel=1e-6)
    assert found[len(times_s)] - found[len(times_s) - 1] == pytest.approx(1 / rate, rel=1e-3)


def test_one_recorded_request_comes_once_a_second_unless_a_rate_says_otherwise() -> None:
    assert list(islice(replay(recorded([7.0])), 3)) == [0.0, 1.0, 2.0]
    assert list(islice(replay(recorded([7.0]), 4.0), 3)) == [0.0, 0.25, 0.5]
