"""An unchanged grid is not expanded again; a changed one is, whatever changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from campaign.configuration.config import load
from campaign.running import prepare as preparing
from campaign.running import site
from campaign.running.prepare import begun
from campaign.running.work import Campaign
from db.embedded import EmbeddedPostgres
from db.grids import paces
from db.place import Place
from db.store import Store
from tests.store.world import World, ground, measurement

pytestmark = pytest.mark.store

GRID = ("+grid=simulated", "model=meta-llama/Llama-3.1-8B")


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "resume") as found:
        yield found


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


@pytest.fixture
def expansions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tasks of every expansion."""
    counted: list[int] = []
    expand = preparing.expand

    def counting(*arguments):
        grid = expand(*arguments)
        counted.append(len(grid.tasks))
        return grid

    monkeypatch.setattr(preparing, "expand", counting)
    return counted


def begin(world: World, *more: str) -> Campaign:
    with begun(load([*GRID, *more]), Place(url=world.store.url)) as (_, campaign):
        return campaign


def test_the_second_run_finds_what_the_first_expanded(world: World, expansions: list[int]) -> None:
    first, second = begin(world), begin(world)
    assert len(expansions) == 1
    assert second.engines == first.engines
    assert second == first


@pytest.mark.parametrize(
    "changed",
    ["run.seed=1", "workload.batch_size=[1,4]", "protocol.repeats=5", "cluster.boards={l4: 2}",
     "replicates=2"],
)  # fmt: skip
def test_a_changed_grid_is_expanded_again(
    world: World, expansions: list[int], changed: str
) -> None:
    begin(world)
    begin(world, changed)
    begin(world)
    assert len(expansions) == 3


def test_what_nobody_could_find_again_is_forgotten(
    world: World, expansions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grid without a digest, as one with a trace file is, comes between two equal ones."""
    begin(world)
    with monkeypatch.context() as traced:
        traced.setattr(site.Site, "grid_digest", lambda *_: None)
        begin(world, "workload.batch_size=[1,4]")
    begin(world)
    assert len(expansions) == 3


def test_another_program_expands_again(
    world: World, expansions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(world)
    monkeypatch.setattr(site, "KEY_VERSION", "v2")
    begin(world)
    assert len(expansions) == 2


def test_a_budget_is_checked_against_every_task(world: World, expansions: list[int]) -> None:
    begin(world, "budget.hours=9999")
    begin(world, "budget.hours=9999")
    assert len(expansions) == 2


def test_what_sessions_took_is_told_by_engine(world: World) -> None:
    campaign = begin(world)
    world.campaign_id = campaign.id
    world.engine_id = min(campaign.engines)
    session = world.session(world.engine_id)
    claim = world.claim(session)
    world.sql("update attempts set opened_at = opened_at + interval '30 seconds'")
    world.leases.finish(claim.lease_id, session, measurement())
    world.sql("update attempts set closed_at = opened_at + interval '7 seconds'")
    world.claim(session)  # in work: tells nothing yet
    with world.store.begin() as connection:
        (pace,) = paces(connection, campaign.id).values()
        assert paces(connection, campaign.id, newest=0) == {}
    assert (pace.tasks, pace.tasks_s, pace.loads) == (1, 7.0, 1)
