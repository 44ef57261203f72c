"""An unchanged grid is not expanded again; a changed one is, whatever changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from campaign.catalogue.catalog import load_catalog
from campaign.configuration.config import load
from campaign.running import prepare as preparing
from campaign.running import site
from campaign.running.prepare import begun
from campaign.running.work import Campaign
from campaign.verbs.status import _document
from db.embedded import EmbeddedPostgres
from db.grids import paces
from db.place import Place
from db.standing import campaigns, paced_standing
from db.store import Store
from tests.store.world import World, ground, measurement

pytestmark = pytest.mark.store

GRID = ("+grid=simulated", "model=meta-llama/Llama-3.1-8B")
SMALL = {"model_type": "gpt2", "n_embd": 256, "n_layer": 4, "n_head": 8, "vocab_size": 4096}


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
    asked = GRID[:1] if any(word.startswith("model=") for word in more) else GRID
    with begun(load([*asked, *more]), Place(url=world.store.url)) as (_, campaign):
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


def test_a_resumed_engine_keeps_its_own_folder_of_two(
    world: World, expansions: list[int], tmp_path: Path
) -> None:
    folders = [tmp_path / run for run in ("run-1", "run-2")]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(SMALL))
        header = json.dumps({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
        content = len(header).to_bytes(8, "little") + header + bytes([number])
        (folder / "model.safetensors").write_bytes(content)
    asked = f"model=[{folders[0]},{folders[1]}]"
    first, second = begin(world, asked), begin(world, asked)
    assert len(expansions) == 1
    assert {work.engine.model.folder for work in second.engines.values()} == set(map(str, folders))
    assert second.engines == first.engines


def test_an_engine_is_loaded_for_the_longest_context_that_fits_its_board(
    world: World, tmp_path: Path
) -> None:
    """A context of 400,000 tokens wants 52 GB beside 16 of weights: it is left out, alone."""
    folder = tmp_path / "long"
    folder.mkdir()
    shape = load_catalog().model("meta-llama/Llama-3.1-8B").architecture
    (folder / "config.json").write_text(json.dumps({**shape, "max_position_embeddings": 1_000_000}))
    lengths = "workload.input_tokens=[100,400000]", "workload.output_tokens=20"
    long = f"model={folder}", "board=[rtx-a6000,h100-sxm-80gb]", "workload.batch_size=1"
    campaign = begin(world, *lengths, *long)
    found = {work.engine.board: (work.rig.limits.context_tokens, work.tasks)
             for work in campaign.engines.values()}  # fmt: skip
    assert found == {"rtx-a6000": (120, 1), "h100-sxm-80gb": (400_020, 2)}


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


def test_what_was_estimated_of_the_measured_tasks_is_told_beside_it(world: World) -> None:
    campaign = begin(world)
    world.campaign_id = campaign.id
    world.engine_id, work = min(campaign.engines.items())
    session, told = world.session(world.engine_id), []
    for _ in range(work.tasks):
        claim = world.claim(session)
        world.leases.finish(claim.lease_id, session, measurement())
        with world.store.begin() as connection:
            told.append(paces(connection, campaign.id)[world.engine_id].expected_s)
    each = [after - before for before, after in pairwise([0.0, *told])]
    assert max(each) > 1.5 * min(each) > 0  # its own, not the mean
    assert told[-1] == pytest.approx(work.tasks * work.task_s, rel=1e-3)


def test_a_load_begins_where_the_boards_were_left_unless_nobody_was_at_work(world: World) -> None:
    campaign = begin(world)
    world.campaign_id, world.engine_id = campaign.id, min(campaign.engines)
    for number, gone in enumerate((0, 20, 600)):  # seconds since the session before
        session = world.session(world.engine_id)
        world.leases.finish(world.claim(session).lease_id, session, measurement())
        at = {"id": session, "start": 2000 * number + gone, "ready": 2000 * number + gone + 5}
        world.sql(
            "update sessions set started_at = to_timestamp(%(start)s) where id = %(id)s", **at
        )
        world.sql(
            "update attempts set opened_at = to_timestamp(%(ready)s), "
            "closed_at = to_timestamp(%(next)s) where session_id = %(id)s",
            **at, next=2000 * (number + 1),
        )  # fmt: skip
    with world.store.begin() as connection:
        (pace,) = paces(connection, campaign.id).values()
    assert (pace.loads, pace.loads_s) == (3, 5 + (20 + 5) + 5)


def eta(world: World) -> float | None:
    """What `status --json` has as `eta_s` of the simulated campaign."""
    with world.store.begin() as connection:
        campaign = campaigns(connection)["simulated"]
        return _document(*paced_standing(connection, campaign, newest=1))["eta_s"]


def test_status_foresees_the_boards_that_measure_and_those_between_two_sessions(
    world: World,
) -> None:
    campaign = begin(world)
    world.campaign_id = campaign.id
    of = {work.engine.board: number for number, work in campaign.engines.items()}
    assert eta(world) is None
    world.session(of["h100-sxm-80gb"])
    world.engine_id = of["rtx-a6000"]
    session = world.session(world.engine_id)
    world.leases.finish(world.claim(session).lease_id, session, measurement())
    ended = (
        """update sessions set outcome = 'ended', ended_at = now() - %(ago)s * interval '1 s',
                  started_at = now() - (%(ago)s + 70) * interval '1 s' where id = %(id)s""",
        """update attempts set closed_at = now() - %(ago)s * interval '1 s',
                  opened_at = now() - (%(ago)s + 30) * interval '1 s'""",
    )
    found = []
    for ago in (5, 300):
        for statement in ended:
            world.sql(statement, ago=ago, id=session)
        found.append(eta(world))
    between, gone = found
    assert between > 1.3 * gone  # the slower board has more to do
    world.sql("update sessions set outcome = 'ended', ended_at = now() where outcome is null")
    assert eta(world) is None
