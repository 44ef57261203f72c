"""Estimates are corrected by what was measured: an engine's own first, its board's, then all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign.running.pace import Estimate, Rest, corrected, eta_s
from db.grids import Pace

ESTIMATES = {
    1: Estimate(board="l4", task_s=10.0, load_s=40.0),
    2: Estimate(board="l4", task_s=20.0, load_s=40.0),
    3: Estimate(board="t4", task_s=30.0, load_s=40.0),
}


def paced(**engines: tuple[int, float]) -> dict[int, Pace]:
    """What engines e1, e2, ... took: tasks, and seconds in all."""
    return {int(name[1:]): Pace(tasks=n, tasks_s=s) for name, (n, s) in engines.items()}


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
    assert sibling == pytest.approx(2.0, rel=0.02)
    assert other == pytest.approx(2.0, rel=0.02)
    found = corrected(ESTIMATES, paced(e1=(1000, 20.0 * 1000), e3=(1000, 3.0 * 1000)))
    assert found[2].task_s / 20.0 == pytest.approx(2.0, rel=0.02)
    assert found[3].task_s / 30.0 == pytest.approx(0.1, rel=0.02)


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
    measured = {e: Pace(tasks=n, tasks_s=s, loads=n, loads_s=s) for e, (n, s) in known.items()}
    for estimate in corrected(ESTIMATES, measured).values():
        assert 0 < estimate.task_s < float("inf")
        assert 0 < estimate.load_s < float("inf")


# ---- how long the rest takes --------------------------------------------------------------------


def rest(board: str = "l4", **changes) -> Rest:
    known = {"board_count": 1, "tasks": 10, "task_s": 10.0, "load_s": 20.0, "holders": 0}
    return Rest(board=board, **known | changes)


def test_the_rest_is_work_and_loads_over_the_boards_that_it_can_use() -> None:
    assert eta_s([rest()], {"l4": 1}) == 120.0
    assert eta_s([rest(holders=1)], {"l4": 1}) == 100.0
    assert eta_s([rest(), rest()], {"l4": 2}) == 120.0
    assert eta_s([rest(), rest(board_count=2)], {"l4": 2}) == 180.0


def test_one_engine_uses_no_more_boards_than_are_worth_a_load() -> None:
    assert eta_s([rest(holders=1)], {"l4": 100}) == 50.0  # two holders: 100 s are twice two loads


def test_kinds_of_boards_work_side_by_side() -> None:
    assert eta_s([rest(holders=1), rest("t4", holders=1, task_s=99.0)], {"l4": 1, "t4": 1}) == 990.0


def test_what_no_board_here_can_run_is_nobodys_time() -> None:
    assert eta_s([rest()], {}) is None
    assert eta_s([rest(board_count=4)], {"l4": 2}) is None
    assert eta_s([rest(tasks=0)], {"l4": 2}) is None
