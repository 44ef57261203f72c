"""What a plan says is what the store holds, and why a point of it looks new."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from campaign import cli
from campaign.catalogue.catalog import load_catalog
from campaign.configuration.config import load
from campaign.forecast.outlook import describe
from campaign.grids.explain import explained
from campaign.grids.grid import expand
from campaign.running.prepare import prepare
from db.campaigns import create_campaign, enqueue, write_exclusions
from db.embedded import EmbeddedPostgres
from db.errors import Infeasible
from db.likeness import measured_points
from db.place import Place
from db.records import EngineSpec, ModelSpec, Reality, Task, Weights
from db.store import Store
from tests.store.world import ENGINE, PROTOCOL, World, ground, measurement, reading, repeat, task

pytestmark = pytest.mark.store


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "planned") as found:
        yield found


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


def test_the_counts_of_a_plan_are_those_of_the_store_after_enqueueing_on_full(world: World) -> None:
    settings = load(["+grid=full"])
    grid = expand(settings, load_catalog(), [])
    plan = describe(settings, grid, {}, set())
    with world.store.begin() as connection:
        campaign = create_campaign(connection, "full", "me", settings.resolved)
        assert enqueue(connection, campaign, grid.tasks) == plan["tasks"]
        write_exclusions(connection, campaign, grid.exclusions)
    held = (
        "from campaign_tasks c join tasks t on t.id = c.task_id join engines e on e.id = engine_id"
    )
    mine = f"{held} where c.campaign_id = {campaign}"
    assert world.one(f"select count(*) {mine}") == plan["tasks"]
    assert world.one(f"select count(distinct e.id) {mine}") == plan["engines"]
    by_board = world.sql(f"select e.board, count(*) {mine} group by 1")
    assert {row.board: row.count for row in by_board} == plan["boards"]
    excluded = world.sql("select reason, sum(points)::int from exclusions "
                         f"where campaign_id = {campaign} group by 1")  # fmt: skip
    assert {row.reason: row.sum for row in excluded} == plan["excluded"]
    points = sum(axes.points for axes in settings.blocks.values())
    shared = points - len(grid.tasks) - sum(exclusion.points for exclusion in grid.exclusions)
    assert 0 <= shared < points / 10  # what two blocks ask for is one task


# ---- why a point looks new --------------------------------------------------------------------


def measure(world: World, *tasks: Task) -> None:
    for wanted in tasks:
        campaign = world.campaign(wanted.key, [wanted])
        engine = world.engine(wanted.engine)
        session = world.session(engine, wanted.reality)
        claim = world.leases.claim(campaign, engine, session)
        assert claim is not None
        window = repeat(0, reading(reality=wanted.reality))
        world.leases.finish(claim.lease_id, session, measurement(window))


def because(world: World, *tasks: Task) -> list[list[str]]:
    with world.store.begin() as connection:
        found: Sequence[object] = [
            line["differs"] for line in explained(measured_points(connection, {"simulated"}), tasks)
        ]
    return [list(map(str, differs)) for differs in found if isinstance(differs, list)]


def test_the_field_that_differs_from_the_nearest_measured_point_is_named(world: World) -> None:
    measure(world, task(4), task(8, engine=replace(ENGINE, dtype="float16")))
    assert because(world, task(16, engine=replace(ENGINE, dtype="float16"))) == [
        ["workload.batch_size: 8 → 16"]
    ]
    assert because(world, task(4, protocol=replace(PROTOCOL, name="x", window_s=5.0))) == [
        ["protocol.window_s: 2.0 → 5.0"]
    ]
    assert because(world, task(4, replicate=1)) == [["replicate: 0 → 1"]]
    assert because(world, task(4, reality=Reality.REAL)) == [["reality: simulated → real"]]
    assert because(world, task(4, arrival="closed")) == [["workload.arrival: static → closed"]]
    online = replace(ENGINE, mode="online", options={"max_num_seqs": 8})
    assert because(world, task(4, engine=online)) == [
        ["engine.mode: offline → online", "engine.options.max_num_seqs: nothing → 8"]
    ]


def test_a_commit_that_moved_and_another_shape_are_named(world: World) -> None:
    was = ModelSpec(name="acme/m", weights=Weights.REAL, commit="abc")
    measure(world, task(4, engine=replace(ENGINE, model=was)), task(4))
    now = replace(ENGINE, model=replace(was, commit="def"))
    assert because(world, task(4, engine=now)) == [["model.commit: abc → def"]]
    wider = replace(ENGINE.model, name="llama-wide", architecture={"hidden_size": 128})
    assert because(world, task(4, engine=replace(ENGINE, model=wider))) == [
        ["model: llama-small → llama-wide"]
    ]


def test_a_draft_is_compared_as_it_was_stored(world: World) -> None:
    draft = replace(ENGINE.model, name="small", architecture={"sizes": (1, 2)})
    speculating = replace(ENGINE, speculation="draft_model", speculative_tokens=4, draft=draft)
    measure(world, task(4, engine=speculating))
    assert because(world, task(4, engine=speculating)) == [[]]
    assert because(world, task(4, engine=replace(speculating, speculative_tokens=2))) == [
        ["engine.speculative_tokens: 4 → 2"]
    ]


def test_what_is_like_nothing_measured_is_said(world: World) -> None:
    measure(world, task(4))
    far = EngineSpec(model=ENGINE.model, backend="simulated", board="l4", dtype="float32",
                     tensor_parallel=2, board_count=2)  # fmt: skip
    with world.store.begin() as connection:
        (line,) = explained(measured_points(connection, {"simulated"}), [task(4, engine=far)])
    assert (line["nearest"], line["because"]) == (None, "nothing like it is measured")


def test_plan_explains_through_its_entry_point(
    store: Store, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["+grid=simulated", f"campaign=c{uuid.uuid4().hex[:8]}", f"store.url='{store.url}'"]
    grid = expand(load(overrides[:1]), load_catalog(), [])
    measure(world, grid.tasks[0])
    assert cli.main(["plan", *overrides, "--explain", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["done"], len(plan["new"])) == (1, 47)
    assert any(line["nearest"] == grid.tasks[0].key for line in plan["new"])


# ---- what a run does with a plan ----------------------------------------------------------------


def test_a_run_over_its_budget_writes_nothing(world: World) -> None:
    settings = load(["+grid=quickstart", "engine=transformers", "budget.gpu_hours=0.0001"])
    place = Place(url=world.store.url, reader_url=None, folder=None)
    with pytest.raises(Infeasible, match=r"more than budget\.gpu_hours=0\.0001"):
        prepare(settings, place).enqueue(world.store)
    assert world.one("select count(*) from campaigns where name = 'quickstart'") == 0


def test_a_campaign_keeps_a_copy_of_its_trace_and_one_over_its_budget_keeps_none(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_HOME", str(tmp_path / "home"))
    (tmp_path / "mine.csv").write_text("Timestamp,Request tokens,Response tokens\n1,400,9\n")
    words = (f"workload.lengths={tmp_path / 'mine.csv'}", "workload.input_tokens=512",
             "workload.output_tokens=16", "campaign=kept")  # fmt: skip
    place = Place(url=world.store.url, reader_url=None, folder=None)
    poor = load(["+grid=quickstart", "engine=transformers", "budget.gpu_hours=0.0001", *words])
    with pytest.raises(Infeasible, match=r"budget\.gpu_hours"):
        prepare(poor, place).enqueue(world.store)
    prepared = prepare(load(["+grid=simulated", *words]), place)
    assert not (tmp_path / "home" / "traces").exists()
    prepared.enqueue(world.store)
    (copy,) = (tmp_path / "home" / "traces").iterdir()
    assert {task.workload.lengths for task in prepared.grid.tasks} == {copy.stem}
    assert copy.read_bytes() == (tmp_path / "mine.csv").read_bytes()


def test_a_run_knows_how_long_its_engines_take_by_the_estimate(world: World) -> None:
    settings = load(["+grid=simulated"])
    place = Place(url=world.store.url, reader_url=None, folder=None)
    campaign = prepare(settings, place).enqueue(world.store)
    assert len(campaign.engines) == 6
    took = {(w.engine.board, w.engine.model.name): w.task_s for w in campaign.engines.values()}
    for model in ("meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-7B"):
        assert took["rtx-a6000", model] > took["h100-sxm-80gb", model] > 0
