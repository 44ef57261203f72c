"""Which engine goes where: longest first, a second holder where it pays, groups on one node."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from campaign.catalogue.catalog import load_catalog
from campaign.configuration.config import load
from campaign.forecast.hours import Efforts
from campaign.grids.grid import expand
from campaign.running.schedule import Node, Waiting, schedule


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


def nodes(*idle: int, board: str = "rtx-a6000", **changes) -> list[Node]:
    """Nodes a, b, ... with so many idle boards."""
    return [
        Node(id=name, board=board, idle=count, **changes)
        for name, count in zip("abcdefgh", idle, strict=False)
    ]


def chosen(engines, *places: Node) -> list[int]:
    return [one.engine_id for one in schedule(engines, places)]


def placed(engines, *places: Node) -> list[tuple[int, str]]:
    return [(one.engine_id, one.node) for one in schedule(engines, places)]


# ---- which engines ------------------------------------------------------------------------------


def test_longest_engine_goes_first_when_boards_are_short():
    engines = [waiting(1, remaining_s=10), waiting(2, remaining_s=900), waiting(3, remaining_s=50)]
    assert chosen(engines, *nodes(2)) == [2, 3]


def test_shortest_engine_goes_first_where_they_wait_in_line():
    engines = [waiting(1, remaining_s=10, load_s=60), waiting(2, remaining_s=30, load_s=5)]
    assert chosen(engines, *nodes(1, only=True)) == [2]
    assert chosen(engines, *nodes(1)) == [2]
    engines = [waiting(1, remaining_s=10), waiting(2, remaining_s=900)]
    assert chosen(engines, *nodes(1, only=True)) == [1]
    assert chosen(engines, *nodes(1)) == [2]


def test_a_group_waits_until_all_its_boards_are_idle_on_one_node():
    assert chosen([waiting(1, board_count=4)], *nodes(3, 3)) == []
    assert placed([waiting(1, board_count=4)], *nodes(3, 4)) == [(1, "b")]


def test_boards_of_another_kind_are_not_taken():
    assert chosen([waiting(1, board="h100-sxm-80gb")], *nodes(8)) == []


def test_an_engine_that_is_held_gets_no_second_holder_for_little_work():
    assert chosen([waiting(1, holders=1, remaining_s=100)], *nodes(1)) == []


def test_a_second_holder_comes_where_half_the_work_is_worth_two_loads():
    assert chosen([waiting(1, remaining_s=121)], *nodes(2)) == [1, 1]
    assert chosen([waiting(1, remaining_s=120)], *nodes(2)) == [1]


def test_every_engine_gets_a_holder_before_any_gets_a_second():
    engines = [waiting(1, remaining_s=9000), waiting(2, remaining_s=1)]
    assert chosen(engines, *nodes(2)) == [1, 2]


def test_boards_that_would_idle_go_to_the_engine_that_would_end_last():
    engines = [waiting(1, remaining_s=9000, holders=3), waiting(2, remaining_s=4000, holders=1)]
    assert chosen(engines, *nodes(3)) == [2, 1, 1]


def test_there_are_never_more_holders_than_tasks():
    assert chosen([waiting(1, claimable=2, remaining_s=1e6)], *nodes(9)) == [1, 1]


def test_an_engine_without_claimable_tasks_is_left_alone():
    assert chosen([waiting(1, claimable=0)], *nodes(1)) == []


# ---- on which node ------------------------------------------------------------------------------


def test_an_engine_goes_to_a_node_that_has_its_weights():
    where = [
        Node(id="a", board="rtx-a6000", idle=1, weights=frozenset({"other@1"})),
        Node(id="b", board="rtx-a6000", idle=8, weights=frozenset({"mine@1"})),
    ]
    assert placed([waiting(1, weights="mine@1")], *where) == [(1, "b")]
    assert placed([waiting(1, weights="new@1")], *where) == [(1, "a")]


def test_an_engine_does_not_wait_for_the_node_that_has_its_weights():
    busy = Node(id="a", board="rtx-a6000", idle=1, weights=frozenset({"mine@1"}))
    (idle,) = nodes(4)
    engines = [waiting(1, weights="mine@1", board_count=2)]
    assert placed(engines, busy, Node(id="b", board=idle.board, idle=4)) == [(1, "b")]


def test_whole_nodes_stay_whole_for_groups():
    engines = [waiting(1), waiting(2, remaining_s=90, board_count=8)]
    assert placed(engines, *nodes(8, 3)) == [(1, "b"), (2, "a")]


def test_a_session_that_has_to_be_alone_takes_the_whole_node():
    engines = [waiting(1, remaining_s=900), waiting(2, remaining_s=800), waiting(3)]
    assert placed(engines, *nodes(8, 4, alone=True)) == [(1, "b"), (2, "a")]


def test_an_engine_never_goes_to_a_node_it_avoids():
    engines = [waiting(1, avoids=frozenset({"a"}), remaining_s=1e6)]
    assert placed(engines, *nodes(4)) == []
    assert set(placed(engines, *nodes(4, 2))) == {(1, "b")}


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
        weights=st.sampled_from(["", "x", "y"]),
        avoids=st.frozensets(st.integers(0, 5).map(str)),
    ),
    unique_by=lambda w: w.engine_id,
    max_size=12,
)
nodes_strategy = st.lists(
    st.builds(
        Node,
        id=st.integers(0, 5).map(str),
        board=st.sampled_from(["rtx-a6000", "h100-sxm-80gb"]),
        idle=st.integers(0, 9),
        weights=st.frozensets(st.sampled_from(["x", "y"])),
        alone=st.booleans(),
    ),
    unique_by=lambda node: node.id,
)


@given(engines_strategy, nodes_strategy)
def test_no_board_is_given_twice_and_no_engine_too_many_holders(engines, places):
    found = schedule(engines, places)
    by_id, by_name = {w.engine_id: w for w in engines}, {node.id: node for node in places}
    taken: Counter[str] = Counter()
    sessions: Counter[str] = Counter()
    for one in found:
        engine, node = by_id[one.engine_id], by_name[one.node]
        assert engine.board == node.board
        assert node.id not in engine.avoids
        taken[node.id] += engine.board_count
        sessions[node.id] += 1
    for node in places:
        assert taken[node.id] <= node.idle
        assert sessions[node.id] <= 1 or not node.alone
    for engine in engines:
        new = sum(one.engine_id == engine.engine_id for one in found)
        assert new == 0 or engine.holders + new <= max(engine.claimable, 1)
    assert schedule(engines, places) == found


@given(engines_strategy, nodes_strategy)
def test_no_board_idles_beside_an_engine_that_nobody_holds(engines, places):
    found = schedule(engines, places)
    left = {node.id: node.idle for node in places}
    for one in found:
        engine = next(w for w in engines if w.engine_id == one.engine_id)
        alone = next(node.alone for node in places if node.id == one.node)
        left[one.node] = 0 if alone else left[one.node] - engine.board_count
    gone = {one.engine_id for one in found}
    for engine in engines:
        if engine.holders == 0 and engine.claimable and engine.engine_id not in gone:
            assert not any(
                left[node.id] >= engine.board_count
                for node in places
                if node.board == engine.board and node.id not in engine.avoids
            )


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
    order = [found.tasks[n].engine.model.name for n in chosen(engines, *nodes(3, board="h200-sxm"))]
    assert order == ["Qwen/Qwen2.5-32B", "meta-llama/Llama-3.1-8B", "facebook/opt-125m"]
