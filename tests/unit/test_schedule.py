"""Which engine goes where: longest first, a second holder only where it pays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from campaign.catalog import load_catalog
from campaign.config import load
from campaign.grid import expand
from campaign.hours import Efforts
from campaign.schedule import Waiting, schedule


def waiting(engine_id: int, **changes) -> Waiting:
    known = {
        "engine_id": engine_id,
        "board": "rtx-a6000",
        "board_count": 1,
        "claimable": 10,
        "remaining_s": 100.0,
        "load_s": 30.0,
        "holders": 0,
    }
    return Waiting(**known | changes)


def test_longest_engine_goes_first_when_boards_are_short():
    engines = [waiting(1, remaining_s=10), waiting(2, remaining_s=900), waiting(3, remaining_s=50)]
    assert schedule(engines, {"rtx-a6000": 2}) == [2, 3]


def test_a_group_waits_until_all_its_boards_are_idle():
    assert schedule([waiting(1, board_count=4)], {"rtx-a6000": 3}) == []
    assert schedule([waiting(1, board_count=4)], {"rtx-a6000": 4}) == [1]


def test_boards_of_another_kind_are_not_taken():
    assert schedule([waiting(1, board="h100-sxm-80gb")], {"rtx-a6000": 8}) == []


def test_an_engine_that_is_held_gets_no_second_holder_for_little_work():
    assert schedule([waiting(1, holders=1, remaining_s=100)], {"rtx-a6000": 1}) == []


def test_a_second_holder_comes_where_half_the_work_is_worth_two_loads():
    assert schedule([waiting(1, remaining_s=121)], {"rtx-a6000": 2}) == [1, 1]
    assert schedule([waiting(1, remaining_s=120)], {"rtx-a6000": 2}) == [1]


def test_every_engine_gets_a_holder_before_any_gets_a_second():
    engines = [waiting(1, remaining_s=9000), waiting(2, remaining_s=1)]
    assert schedule(engines, {"rtx-a6000": 2}) == [1, 2]


def test_there_are_never_more_holders_than_tasks():
    assert schedule([waiting(1, claimable=2, remaining_s=1e6)], {"rtx-a6000": 9}) == [1, 1]


def test_an_engine_without_claimable_tasks_is_left_alone():
    assert schedule([waiting(1, claimable=0)], {"rtx-a6000": 1}) == []


engines_strategy = st.lists(
    st.builds(
        waiting,
        st.integers(0, 50),
        board=st.sampled_from(["rtx-a6000", "h100-sxm-80gb"]),
        board_count=st.sampled_from([1, 2, 4]),
        claimable=st.integers(0, 5),
        remaining_s=st.floats(0, 1e5),
        load_s=st.floats(1, 100),
        holders=st.integers(0, 3),
    ),
    unique_by=lambda w: w.engine_id,
    max_size=12,
)


@given(engines_strategy, st.integers(0, 9), st.integers(0, 9))
def test_no_board_is_given_twice_and_no_engine_too_many_holders(engines, a6000, h100):
    free = {"rtx-a6000": a6000, "h100-sxm-80gb": h100}
    chosen = schedule(engines, free)
    by_id = {w.engine_id: w for w in engines}
    for slug, count in free.items():
        taken = [by_id[i].board_count for i in chosen if by_id[i].board == slug]
        assert sum(taken) <= count
    for engine in engines:
        new = chosen.count(engine.engine_id)
        assert new == 0 or engine.holders + new <= max(engine.claimable, 1)
    assert schedule(engines, free) == chosen


def test_the_engine_with_the_most_estimated_work_goes_first():
    catalog = load_catalog()
    models = "model=[facebook/opt-125m,meta-llama/Llama-3.1-8B,Qwen/Qwen2.5-32B]"
    asked = load([models, "board=h200-sxm", "workload.output_tokens=1024", "workload.requests=64"])
    found = expand(asked, catalog, [])
    efforts = Efforts(found.boards)
    engines = [
        waiting(number, board="h200-sxm", remaining_s=efforts.task(task).seconds)
        for number, task in enumerate(found.tasks)
    ]
    order = [found.tasks[n].engine.model.name for n in schedule(engines, {"h200-sxm": 3})]
    assert order == ["Qwen/Qwen2.5-32B", "meta-llama/Llama-3.1-8B", "facebook/opt-125m"]
