"""A campaign that was edited between two runs: what came and went, and nothing is dropped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from db.campaigns import enqueue
from db.editing import Edit, edited, waiting_tasks
from db.embedded import EmbeddedPostgres
from db.store import Store
from tests.store.scenarios import FIRST, SECOND, Holder
from tests.store.world import ENGINE, World, ground, task

pytestmark = pytest.mark.store


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "editing") as found:
        yield found


def edit(world: World, *tasks) -> Edit | None:
    campaign = world.campaign_id
    with world.store.begin() as connection:
        return edited(connection, campaign, lambda: enqueue(connection, campaign, tasks))


def test_what_came_and_went_is_told_and_nothing_measured_is_dropped(store: Store) -> None:
    world = World(store, [FIRST, SECOND, task(4)])
    Holder(world).finish(world.leases)
    held = Holder(world)
    assert edit(world, task(4), task(8), task(16)) == Edit(added=2, dropped=2, measured=1)
    assert [key for key, _ in world.counted()] == [FIRST.key]
    held.finish(world.leases)  # whoever measures a task that left the grid finishes it
    assert [key for key, _ in world.counted()] == sorted([FIRST.key, SECOND.key])
    assert edit(world, FIRST, SECOND) == Edit(added=2, dropped=3, measured=0)
    assert world.nothing_to_claim()


def test_a_new_campaign_and_the_same_again_have_nothing_to_tell(store: Store) -> None:
    world = World(store)
    assert edit(world, FIRST) is None
    same = edit(world, FIRST)
    assert same == Edit(added=0, dropped=0, measured=0)
    assert same.words == ""


def test_the_words_for_people() -> None:
    words = Edit(added=1, dropped=12, measured=3).words
    assert words == "1 task added, 12 no longer in it, 3 of them measured and kept"
    assert Edit(added=2, dropped=0, measured=0).words == "2 tasks added"


def test_what_waits_is_what_could_be_claimed(store: Store) -> None:
    world = World(store, [FIRST, SECOND, task(4)])
    Holder(world).finish(world.leases)
    with store.begin() as connection:
        found = waiting_tasks(connection, world.campaign_id, world.engine_id, ENGINE)
    assert {t.key for t in found} == {SECOND.key, task(4).key}
    assert {t.workload.batch_size for t in found} == {2, 4}
    assert found[0].protocol == FIRST.protocol
    keys = [task(4).key]
    claimed = world.leases.claim(world.campaign_id, world.engine_id, world.session(), keys)
    assert claimed is not None
    assert claimed.key == task(4).key
    assert world.leases.claim(world.campaign_id, world.engine_id, world.session(), keys) is None
    assert world.leases.claim(world.campaign_id, world.engine_id, world.session(), []) is None
