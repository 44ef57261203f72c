"""Whose fault a load is that failed: the engine's, or that of the node it was sent to."""

from __future__ import annotations

import pytest

from campaign.running.loads import MAX_FRUITLESS, Loads


def failed(
    loads: Loads, engine: int, node: str, *, permanent: bool = False, elsewhere: bool = True
):
    return loads.failed(engine, node, permanent=permanent, elsewhere=elsewhere)


def test_where_there_is_one_node_the_second_failure_is_the_engines_own():
    loads = Loads()
    assert not failed(loads, 1, "a", elsewhere=False)
    assert failed(loads, 1, "a", elsewhere=False)
    assert failed(loads, 2, "a", elsewhere=False, permanent=True)


def test_a_load_in_between_begins_the_count_anew():
    loads = Loads()
    assert not failed(loads, 1, "a", elsewhere=False)
    loads.loaded(1, "a")
    assert not failed(loads, 1, "a", elsewhere=False)


@pytest.mark.parametrize("permanent", [False, True])
def test_a_node_that_has_loaded_nothing_yet_proves_nothing(permanent):
    loads = Loads()
    assert not any(failed(loads, engine, "bad", permanent=permanent) for engine in range(100))
    assert not failed(loads, 1, "worse", permanent=permanent)
    assert failed(loads, 1, "good?", permanent=permanent)  # three of them are no accident


def test_on_a_node_that_loads_others_a_failure_is_held_against_the_engine():
    loads = Loads()
    loads.loaded(9, "good")
    assert failed(loads, 1, "good", permanent=True)
    assert not failed(loads, 2, "good")
    assert not failed(loads, 2, "unknown")
    assert failed(loads, 2, "good")


def test_a_node_is_at_fault_for_engines_that_load_elsewhere():
    loads = Loads()
    for engine in (1, 2, 3):
        failed(loads, engine, "bad")
    assert loads.loaded(1, "good") == []
    assert loads.loaded(2, "good") == ["bad"]


def test_one_that_loaded_before_and_then_fails_on_another_node_says_the_same():
    loads = Loads()
    assert loads.loaded(1, "good") == []
    assert loads.loaded(2, "good") == []
    failed(loads, 1, "bad")
    failed(loads, 2, "bad")
    assert loads.loaded(3, "good") == ["bad"]


def test_a_node_that_loads_something_is_blamed_no_more():
    loads = Loads()
    failed(loads, 1, "slow")
    loads.loaded(1, "good")
    loads.loaded(7, "slow")
    failed(loads, 2, "slow")
    assert loads.loaded(2, "good") == []


def test_an_engine_that_only_breaks_is_given_up_and_one_that_measures_is_not():
    loads = Loads()
    assert not any(loads.ended(1, fruitless=n % 3 > 0) for n in range(100))
    broke = [loads.ended(2, fruitless=True) for _ in range(MAX_FRUITLESS)]
    assert broke == [False] * (MAX_FRUITLESS - 1) + [True]
