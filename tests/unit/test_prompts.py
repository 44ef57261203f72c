from __future__ import annotations

import pytest

from workers.workloads.prompts import SPECIAL_IDS, Prompts


def test_lengths_are_exact_and_ids_lie_inside_the_vocabulary() -> None:
    prompts = Prompts(vocabulary=1024, seed="task").batch(5, 333)
    assert [len(p) for p in prompts] == [333] * 5
    ids = [token for prompt in prompts for token in prompt]
    assert min(ids) >= SPECIAL_IDS
    assert max(ids) < 1024


def test_every_id_of_a_small_vocabulary_is_drawn_but_the_special_ones() -> None:
    ids = {t for p in Prompts(vocabulary=64, seed="x").batch(8, 500) for t in p}
    assert ids == set(range(SPECIAL_IDS, 64))


def test_no_prompt_comes_twice_nor_shares_its_beginning_with_another() -> None:
    source = Prompts(vocabulary=32000, seed="task")
    beginnings = [p[:8] for _ in range(200) for p in source.batch(8, 16)]
    assert len(set(beginnings)) == 200 * 8


def test_the_same_seed_gives_the_same_prompts_and_another_seed_others() -> None:
    first, again, other = (Prompts(vocabulary=1000, seed=s) for s in ("a", "a", "b"))
    assert [first.batch(2, 9) for _ in range(3)] == [again.batch(2, 9) for _ in range(3)]
    assert Prompts(vocabulary=1000, seed="a").batch(2, 9) != other.batch(2, 9)


def test_the_ids_are_pinned() -> None:
    assert Prompts(vocabulary=50257, seed="pinned").batch(1, 4) == ((13454, 6843, 46372, 23006),)


def test_a_vocabulary_without_a_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        Prompts(vocabulary=1, seed="x")


def test_prompts_of_unlike_lengths_are_each_as_long_as_asked() -> None:
    assert [len(p) for p in Prompts(vocabulary=1000, seed="x").of([3, 1, 17])] == [3, 1, 17]


def test_a_common_prefix_begins_every_prompt_until_the_next_turn() -> None:
    source = Prompts(vocabulary=32000, seed="x", prefix_tokens=8)
    before = [*source.batch(3, 20), *source.batch(3, 30)]
    source.turn()
    after = source.batch(3, 20)
    assert len({p[:8] for p in before}) == 1
    assert len({p[:8] for p in after}) == 1
    assert before[0][:8] != after[0][:8]
    assert len({p[8:16] for p in (*before, *after)}) == 9


def test_a_prompt_no_longer_than_the_prefix_keeps_a_token_of_its_own() -> None:
    source = Prompts(vocabulary=32000, seed="x", prefix_tokens=8)
    (long,), (short, other) = source.of([20]), source.of([5, 5])
    assert short[:4] == other[:4] == long[:4]
    assert short[4] != other[4]
