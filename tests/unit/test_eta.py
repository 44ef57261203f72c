"""The time to the end: engines on boards played forward, and how right that is on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from campaign.running.eta import Rest, eta_s
from campaign.running.pace import Estimate
from tests.benchmarks.calibration import CASES, LIMIT, Case, calibration, table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "design" / "eta.md"

Calibration = Mapping[Case, Sequence[Sequence[float]]]


def rest(board: str = "l4", **changes) -> Rest:
    known = {"task_s": 10.0, "load_s": 20.0, "board_count": 1, "tasks": 10, "in_work": 0}
    known |= {"holders": 0} | changes
    estimate = Estimate(board=board, task_s=known.pop("task_s"), load_s=known.pop("load_s"))
    return Rest(estimate=estimate, **known)


def test_engines_follow_each_other_on_a_board_and_lie_side_by_side_on_more() -> None:
    assert eta_s([rest()], {"l4": 1}) == 120.0
    assert eta_s([rest(), rest()], {"l4": 1}) == 240.0
    assert eta_s([rest(tasks=4), rest(tasks=4)], {"l4": 2}) == 60.0
    assert eta_s([rest(tasks=4), rest(tasks=4, board_count=2)], {"l4": 2}) == 120.0


def test_what_has_begun_is_half_done() -> None:
    assert eta_s([rest(holders=1)], {"l4": 1}) == 110.0  # loading
    assert eta_s([rest(holders=1, in_work=1)], {"l4": 1}) == 95.0
    assert eta_s([rest(tasks=1, holders=1, in_work=1)], {"l4": 1}) == 5.0


def test_a_long_engine_ends_last_however_many_boards_there_are() -> None:
    short = [rest(tasks=1) for _ in range(30)]
    assert eta_s([rest(tasks=90, load_s=1000.0), *short], {"l4": 8}) == 1900.0


def test_an_engine_is_given_another_board_where_that_is_worth_a_load() -> None:
    one, two = (eta_s([rest(tasks=50)], {"l4": boards}) for boards in (1, 2))
    assert one == 520.0
    assert two == 270.0  # both load
    assert eta_s([rest(tasks=50)], {"l4": 100}) > 60.0  # no more than deserve it
    assert eta_s([rest(tasks=5)], {"l4": 100}) == 70.0


def test_kinds_of_boards_work_side_by_side() -> None:
    both = [rest(tasks=5), rest("t4", tasks=5, task_s=99.0)]
    assert eta_s(both, {"l4": 1, "t4": 1}) == 515.0


def test_what_no_board_here_can_run_is_nobodys_time() -> None:
    assert eta_s([rest()], {}) is None
    assert eta_s([rest(board_count=4)], {"l4": 2}) is None
    assert eta_s([rest(tasks=0)], {"l4": 2}) is None


@pytest.fixture(scope="module")
def found() -> Calibration:
    return calibration()


@pytest.mark.parametrize("case", [case for case in CASES if case.boards > 1], ids=lambda c: c.name)
def test_after_a_tenth_it_is_right_within_a_fifth(found: Calibration, case: Case) -> None:
    assert max(abs(row[0]) for row in found[case]) <= LIMIT


def test_the_calibration_that_is_shown_is_the_one_that_is_found(found: Calibration) -> None:
    assert table(found) in PAGE.read_text(encoding="utf-8")
