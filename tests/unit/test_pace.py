"""Estimates are corrected by what was measured: an engine's own first, its board's, then all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign.running.pace import Estimate, corrected
from db.grids import Pace

ESTIMATES = {
    1: Estimate(board="l4", task_s=10.0, load_s=40.0),
    2: Estimate(board="l4", task_s=20.0, load_s=40.0),
    3: Estimate(board="t4", task_s=30.0, load_s=40.0),
}


def paced(**engines: tuple[int, float]) -> dict[int, Pace]:
    """What engines e1, e2, ... took: tasks, and seconds in all."""
    return {
        int(name[1:]): Pace(tasks=n, tasks_s=s, expected_s=n * ESTIMATES[int(name[1:])].task_s)
        for name, (n, s) in engines.items()
        if int(name[1:]) in ESTIMATES
    }


def test_without_measurements_the_estimates_stand() -> None:
    assert corrected(ESTIMATES, {}) == ESTIMATES
    assert corrected(ESTIMATES, {1: Pace()}) == ESTIMATES


def test_an_engine_measured_often_is_believed() -> None:
    found = corrected(ESTIMATES, paced(e1=(10_000, 30.0 * 10_000)))
    assert found[1].task_s == pytest.approx(30.0, rel=0.01)
    assert found[1].load_s == 40.0


def test_few_tasks_correct_in_part_and_the_same_factor_either_way() -> None:
    slower = corrected(ESTIMATES, paced(e1=(4, 40.0 * 4)))[1].task_s / 10.0
    faster = corrected(ESTIMATES, paced(e1=(4, 2.5 * 4)))[1].task_s / 10.0
    assert 1.0 < slower < 4.0
    assert slower * faster == pytest.approx(1.0)


def test_an_engine_not_measured_yet_leans_on_its_board_and_a_board_on_all() -> None:
    found = corrected(ESTIMATES, paced(e1=(1000, 20.0 * 1000)))
    own, sibling, other = (found[n].task_s / ESTIMATES[n].task_s for n in (1, 2, 3))
    assert own == pytest.approx(2.0, rel=0.01)
    assert sibling == pytest.approx(2.0, rel=0.03)
    assert other == pytest.approx(2.0, rel=0.1)
    found = corrected(ESTIMATES, paced(e1=(1000, 20.0 * 1000), e3=(1000, 3.0 * 1000)))
    assert found[2].task_s / 20.0 == pytest.approx(2.0, rel=0.2)
    assert found[3].task_s / 30.0 == pytest.approx(0.1, rel=0.02)


def test_what_was_measured_is_compared_with_what_was_estimated_of_the_same_tasks() -> None:
    known = {1: Estimate(board="l4", task_s=10.0, load_s=40.0, tasks=100)}
    short = {1: Pace(tasks=50, tasks_s=50 * 2.0, expected_s=50 * 2.0)}  # right: the short ones
    assert corrected(known, short)[1].task_s == pytest.approx(18.0)  # of those that are left
    all_of_them = {1: Pace(tasks=100, tasks_s=1000.0, expected_s=1000.0)}
    assert corrected(known, all_of_them)[1].task_s == pytest.approx(10.0)


def test_loads_are_corrected_apart_from_tasks() -> None:
    found = corrected(ESTIMATES, {1: Pace(loads=1000, loads_s=80.0 * 1000)})
    assert (found[1].task_s, found[1].load_s) == (10.0, pytest.approx(80.0, rel=0.01))


def test_measurements_of_engines_that_are_no_longer_asked_for_count_for_nothing() -> None:
    assert corrected(ESTIMATES, paced(e9=(1000, 1.0))) == ESTIMATES


@given(
    st.dictionaries(
        st.sampled_from([1, 2, 3]),
        st.tuples(st.integers(0, 999), st.just(0.0) | st.floats(1e-9, 1e9)),
    )
)
def test_a_corrected_second_is_a_positive_number(known: dict[int, tuple[int, float]]) -> None:
    measured = {e: Pace(tasks=n, tasks_s=s, expected_s=n * 10.0, loads=n, loads_s=s)
                for e, (n, s) in known.items()}  # fmt: skip
    for estimate in corrected(ESTIMATES, measured).values():
        assert 0 < estimate.task_s < float("inf")
        assert 0 < estimate.load_s < float("inf")
