"""What the estimate is compared with: accepted real batches, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from campaign import cli
from campaign.catalogue.catalog import load_catalog
from db.costs import MeasuredCost, measured_costs
from db.embedded import EmbeddedPostgres
from db.mending import Selection, void
from db.records import EngineSpec, Reality, Weights
from db.store import Store
from tests.store.world import World, ground, measurement, reading, repeat, task
from workers.costs.calibration import corrections

pytestmark = pytest.mark.store

CATALOG = load_catalog()
BOARD = CATALOG.board("a100-sxm-80gb")
ENGINE = EngineSpec(
    model=replace(CATALOG.model("Qwen/Qwen2.5-0.5B"), weights=Weights.REAL, commit="c0ffee"),
    backend="vllm",
    board=BOARD.slug,
    options={"enforce_eager": True},
    power_limit_w=250.0,
)


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "costs") as found:
        yield found


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


def measure(
    world: World,
    energies_j: Sequence[float | None] = (20.0, 40.0),
    *,
    engine: EngineSpec = ENGINE,
    asked: Reality = Reality.REAL,
    metered: tuple[Reality, Reality] = (Reality.REAL, Reality.REAL),
    **beyond: Any,
) -> None:
    """Two windows of 2 s with 3 and 1 batches, with these joules; `beyond` as a task has it."""
    wanted = task(4, engine=engine, reality=asked, **beyond)
    campaign, spec = world.campaign(f"for {wanted.key}", [wanted]), world.engine(engine)
    session = world.session(spec, asked)
    claim = world.leases.claim(campaign, spec, session)
    assert claim is not None
    method = "nvml_counter"
    windows = [
        repeat(n, reading(energy_j, reality=reality, method=method), batches=batches)
        for n, (batches, energy_j, reality) in enumerate(
            zip((3, 1), energies_j, metered, strict=True)
        )
    ]
    world.leases.finish(claim.lease_id, session, measurement(*windows))


def found(world: World) -> list[MeasuredCost]:
    with world.store.begin() as connection:
        return measured_costs(connection, BOARD.slug, "vllm")


def test_a_measured_batch_comes_back_with_its_engine(world: World) -> None:
    measure(world)
    (one,) = found(world)
    assert (one.batch_s, one.energy_j) == (1.0, 15.0)
    assert one.engine == ENGINE
    assert one.workload == task(4).workload
    (correction,) = corrections([(one, BOARD)]).values()
    assert correction.rows == 1
    assert correction.seconds > 1


@pytest.mark.parametrize("energies_j", [(None, None), (20.0, None)])
def test_what_lacks_joules_has_seconds(energies_j: Sequence[float | None], world: World) -> None:
    measure(world, energies_j)
    (one,) = found(world)
    assert (one.batch_s, one.energy_j) == (1.0, None)


def test_simulated_rows_and_those_of_a_stand_in_are_left_out(world: World) -> None:
    simulated, real = Reality.SIMULATED, Reality.REAL
    measure(world, asked=simulated, metered=(simulated, simulated))
    measure(world, metered=(real, simulated))
    assert found(world) == []


def test_what_is_no_batch_of_equal_requests_is_left_out(world: World) -> None:
    measure(world, requests=10)
    measure(world, lengths="lognormal:0.5")
    measure(world, engine=replace(ENGINE, speculation="ngram", speculative_tokens=4))
    assert found(world) == []
    measure(world, decoding="sample", temperature=0.7)
    assert len(found(world)) == 1


def test_voided_rows_and_other_boards_are_left_out(world: World) -> None:
    measure(world)
    measure(world, engine=replace(ENGINE, board="l4"))
    measure(world, engine=replace(ENGINE, backend="transformers", options={}))
    measure(world, engine=replace(ENGINE, mode="online"))
    assert len(found(world)) == 1
    void(world.store, Selection(), "wrong driver")
    assert found(world) == []


def test_the_verb_says_what_it_is_calibrated_with(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    here = f"store.url='{world.store.url}'"
    words = ["estimate", "--model", "Qwen/Qwen2.5-0.5B", "--board", BOARD.slug, "--store", "--json"]
    answers = []
    for measured in (False, True):
        if measured:
            measure(world)
        assert cli.main([*words, here]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert [answer["source"] for answer in answers] == ["physics", "calibrated"]
    assert [answer["measured_rows"] for answer in answers] == [0, 1]
    assert answers[1]["seconds"] > answers[0]["seconds"]
