"""How long an attempt, and a batch of it, may take: as told, and longer where the estimate is."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from campaign.catalogue.catalog import load_catalog
from campaign.forecast.hours import Efforts
from db.leases import Claim
from db.records import Board, EngineSpec, MeasurementProtocol, Reality, Task, Workload
from workers.allowance import TIMES, Allowance, Limit
from workers.costs.cost import estimate
from workers.shapes.shape import shape_of

CATALOG = load_catalog()
BOARD = CATALOG.board("rtx-a6000")
ENGINE = EngineSpec(
    model=CATALOG.model("meta-llama/Llama-3.1-8B"), backend="vllm", board=BOARD.slug,
    dtype="bfloat16",
)  # fmt: skip
SHORT = Workload(input_tokens=64, output_tokens=16, batch_size=1)
LONG = replace(SHORT, output_tokens=500, requests=1000)
PROTOCOL = MeasurementProtocol(
    name="test", window_s=5.0, repeats=3, repeats_max=9, interval_target=0.02, warmup_agree=2,
    warmup_max=8, warmup_tolerance=0.05, idle_s=1.0,
)  # fmt: skip
#: What is told, for the whole and for each batch.
TOLD = Limit(whole_s=3600.0, still_s=3600.0)


def claimed(workload: Workload, protocol: MeasurementProtocol = PROTOCOL) -> Claim:
    return Claim(task_id=1, key="v1:a", lease_id=uuid.uuid4(), workload=workload,
                 protocol=protocol, reality=Reality.REAL, replicate=0)  # fmt: skip


def estimated_s(workload: Workload, protocol: MeasurementProtocol) -> float:
    task = Task(key="v1:a", engine=ENGINE, workload=workload, protocol=protocol,
                reality=Reality.REAL, replicate=0)  # fmt: skip
    return Efforts({BOARD.slug: BOARD}).task(task).seconds


def test_a_short_task_has_the_time_that_was_told() -> None:
    assert Allowance(ENGINE, BOARD, 3600.0).of(claimed(SHORT)) == TOLD


def test_a_long_one_has_twice_what_all_its_windows_are_estimated_to_take() -> None:
    allowance = Allowance(ENGINE, BOARD, 3600.0)
    most = replace(PROTOCOL, repeats=9, warmup_agree=8)
    assert allowance.of(claimed(LONG)).whole_s == pytest.approx(TIMES * estimated_s(LONG, most))
    assert allowance.of(claimed(LONG)).whole_s > TIMES * estimated_s(LONG, PROTOCOL) > 3600.0
    assert allowance.of(claimed(SHORT)) == TOLD
    longer = claimed(LONG, replace(PROTOCOL, repeats_max=18))
    assert allowance.of(longer).whole_s > 1.5 * allowance.of(claimed(LONG)).whole_s


def test_a_batch_has_twice_its_own_estimate_and_not_the_time_of_its_task() -> None:
    shape = shape_of(ENGINE.model.name, ENGINE.model.architecture)
    assert shape is not None
    cost = estimate(ENGINE, shape, BOARD, LONG)
    assert cost is not None
    limit = Allowance(ENGINE, BOARD, 1.0).of(claimed(LONG))
    assert limit.still_s == pytest.approx(TIMES * cost.e2e_s)
    assert limit.whole_s > 1000 * limit.still_s
    assert Allowance(ENGINE, BOARD, 3600.0).of(claimed(LONG)).still_s == TOLD.still_s


def test_where_nothing_is_known_of_a_board_the_time_told_stays() -> None:
    assert Allowance(ENGINE, Board(slug="unheard-of"), 3600.0).of(claimed(LONG)) == TOLD


def test_a_simulated_engine_has_the_time_that_it_waits() -> None:
    def whole_s(**options: float) -> float:
        simulated = replace(ENGINE, backend="simulated", options=options)
        return Allowance(simulated, BOARD, 0.0).of(claimed(LONG)).whole_s

    assert whole_s() == 0.0
    assert whole_s(pace=0.5) == pytest.approx(whole_s(pace=1.0) / 2)
    assert whole_s(pace=1.0) > 3600.0
