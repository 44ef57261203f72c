"""The simulated engine, its meter and its clock agree with one another and with the roofline."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from campaign.grids.fit import engine_misfit
from db.errors import EngineFault, TaskFault
from db.readings import Reading
from db.records import Board, EngineSpec, ModelSpec, Reality, Weights, Workload
from tests.engines.harness import BOARD, spec_of, tiny
from workers.costs.cost import estimate, numbers_of
from workers.costs.roofline import weight_bytes
from workers.engines import simulated
from workers.engines.engine import alike
from workers.engines.simulated import BATCH_SPREAD, SimulatedClock, open_simulated
from workers.shapes.shape import shape_of


def opened(board: Board = BOARD, seed: int = 1, **changes: Any) -> Any:
    engine, meter, clock = open_simulated(spec_of("simulated", **changes), board, seed)
    engine.prepare()
    engine.load()
    return engine, meter, clock


def metered(engine: Any, meter: Any, batches: int = 3) -> Reading:
    meter.open()
    for _ in range(batches):
        engine.generate(alike([[20] * 64] * 4, 16))
    reading: Reading = meter.close()
    return reading


LARGE = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "vocab_size": 128256,
}  # fmt: skip
LARGE_MODEL = ModelSpec(name="large", weights=Weights.RANDOM, architecture=LARGE)


@pytest.fixture
def without_deviations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "SESSION_SPREAD", 0.0)
    monkeypatch.setattr(simulated, "BATCH_SPREAD", 0.0)


def test_time_and_energy_are_the_roofline_s(without_deviations: None) -> None:
    engine, meter, _ = opened(model=LARGE_MODEL)
    shape = shape_of("large", LARGE)
    assert shape is not None
    load = Workload(input_tokens=64, output_tokens=16, batch_size=4)
    cost = estimate(spec_of("simulated", model=LARGE_MODEL), shape, BOARD, load)
    assert cost is not None
    assert cost.energy_j is not None
    assert cost.prefill.power_w != cost.decode.power_w
    reading = metered(engine, meter)
    assert reading.duration_s == pytest.approx(3 * cost.e2e_s, rel=1e-6)
    assert reading.energy_j == pytest.approx(3 * cost.energy_j, rel=1e-6)
    request = engine.generate(alike([[20] * 64] * 4, 16)).requests[0]
    assert request.ttft_s == pytest.approx(cost.prefill.seconds, rel=1e-6)
    assert request.itl_s == pytest.approx(cost.decode.seconds / 15, rel=1e-6)


def test_deviations_are_small() -> None:
    engine, _, _ = opened()
    requests = [engine.generate(alike([[20] * 64] * 4, 16)).requests[0] for _ in range(20)]
    for seconds in ([r.ttft_s for r in requests], [r.itl_s for r in requests]):
        assert len(set(seconds)) == 20
        assert max(seconds) < min(seconds) * (1 + 10 * BATCH_SPREAD)


def test_a_batch_of_one_token_ends_with_its_first() -> None:
    engine, _, _ = opened()
    (request,) = engine.generate(alike([[20] * 8], 1)).requests
    assert request.ttft_s == request.e2e_s
    assert request.itl_s is None


def test_an_idle_window_draws_idle_power() -> None:
    _, meter, clock = opened()
    meter.open()
    clock.sleep(10.0)
    assert meter.close().energy_j == pytest.approx(500.0)


def test_a_window_holds_only_what_was_drawn_in_it() -> None:
    engine, meter, clock = opened(model=LARGE_MODEL)
    first = metered(engine, meter, batches=1)
    engine.generate(alike([[20] * 64] * 4, 16))  # between the windows
    second = metered(engine, meter, batches=1)
    assert first.energy_j is not None
    assert second.energy_j == pytest.approx(first.energy_j, rel=10 * BATCH_SPREAD)
    assert second.started_ns > first.ended_ns
    assert clock.now_ns() == second.ended_ns


def test_every_reading_says_that_it_is_simulated() -> None:
    engine, meter, _ = opened(board_count=2)
    reading = metered(engine, meter)
    assert meter.reality is reading.reality is Reality.SIMULATED
    assert reading.energy_method == "roofline"
    assert [g.uuid for g in reading.gpus] == ["SIM-a100-sxm-80gb-0", "SIM-a100-sxm-80gb-1"]
    assert reading.energy_j == pytest.approx(sum(g.energy_j or 0.0 for g in reading.gpus))
    for gpu in reading.gpus:
        assert gpu.mean_w is not None
        assert gpu.max_w is not None
        assert 50 <= gpu.mean_w <= gpu.max_w <= 400


def test_a_board_without_power_data_has_no_joules_and_says_why() -> None:
    engine, meter, _ = opened(replace(BOARD, idle_w=None))
    reading = metered(engine, meter)
    assert not meter.measures
    assert meter.why_not
    assert reading.energy_j is None
    assert reading.energy_method is None
    assert set(meter.why_not) <= set(reading.reasons)
    assert [g.energy_j for g in reading.gpus] == [None]


def test_sessions_deviate_by_their_seed_and_a_seed_repeats_itself() -> None:
    def seconds(seed: int | None) -> float:
        engine, meter, _ = open_simulated(spec_of("simulated"), BOARD, seed)
        engine.load()
        return metered(engine, meter).duration_s

    assert seconds(7) == seconds(7)
    assert seconds(7) != seconds(8)
    assert seconds(None) != seconds(None)


def test_the_clock_moves_only_when_told() -> None:
    clock = SimulatedClock()
    assert clock.now_ns() == clock.now_ns() == 0
    clock.sleep(3600.0)
    assert clock.now_ns() == 3600 * 10**9


def test_a_paced_clock_takes_real_time() -> None:
    clock = SimulatedClock(pace=0.01)
    started = time.monotonic()
    clock.sleep(5.0)
    assert time.monotonic() - started >= 0.05
    assert clock.now_ns() == 5 * 10**9


def test_a_load_that_is_told_to_fail_fails_with_its_kind() -> None:
    engine, _, _ = open_simulated(spec_of("simulated", options={"fail_load": "odd"}), BOARD)
    with pytest.raises(EngineFault) as caught:
        engine.load()
    assert caught.value.kind == "odd"


def test_only_larger_batches_than_told_run_out_of_memory() -> None:
    engine, _, _ = opened(options={"oom_above_batch": 2})
    assert len(engine.generate(alike([[20, 21]] * 2, 4)).requests) == 2
    with pytest.raises(TaskFault) as caught:
        engine.generate(alike([[20, 21]] * 3, 4))
    assert caught.value.kind == "out_of_memory"


def test_answers_are_empty_when_told() -> None:
    engine, _, _ = opened(options={"zero_length": True})
    assert [r.output_tokens for r in engine.generate(alike([[20, 21]] * 2, 4)).requests] == [0, 0]


@pytest.mark.parametrize("filled", [0.9, 0.93, 0.99, 1.01, 1000.0])
def test_what_the_plan_leaves_out_for_its_memory_does_not_load(filled: float) -> None:
    spec = spec_of("simulated", model=LARGE_MODEL)
    shape = shape_of("large", LARGE)
    assert shape is not None
    memory_bytes = int(weight_bytes(shape, numbers_of(spec)) / filled)
    board = replace(BOARD, memory_bytes=memory_bytes)
    engine, _, _ = open_simulated(spec, board)
    misfit = engine_misfit(spec, board, shape)
    assert (misfit and misfit[0]) == ("memory" if filled > 0.92 else None)
    if misfit is None:
        assert engine.load().resolved["engine"] == "simulated"
        return
    with pytest.raises(EngineFault) as caught:
        engine.load()
    assert (caught.value.kind, caught.value.permanent) == ("out_of_memory", True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        spec_of("simulated", options={"enforce_eager": True}),
        spec_of("simulated", ModelSpec(name="odd", weights=Weights.RANDOM)),
    ],
    ids=["option", "architecture"],
)
def test_what_it_cannot_simulate_is_a_permanent_fault(spec: EngineSpec) -> None:
    with pytest.raises(EngineFault) as caught:
        open_simulated(spec, BOARD)[0].load()
    assert (caught.value.kind, caught.value.permanent) == ("unsupported", True)


def test_a_board_without_rates_is_a_permanent_fault() -> None:
    engine, _, _ = open_simulated(spec_of("simulated", tiny()), Board(slug="unknown"))
    with pytest.raises(EngineFault, match="catalogue"):
        engine.load()
