"""What cannot work is proven before anything is loaded, and only what is proven."""

from __future__ import annotations

from dataclasses import replace

import pytest

from campaign.catalog import load_catalog
from campaign.fit import Grid, engine_misfit, require_runnable, workload_misfit
from db.errors import Infeasible
from db.records import Board, EngineSpec, Exclusion, MeasurementProtocol, Reality, Task, Workload
from workers.shape import shape_of

CATALOG = load_catalog()
SMALL = Workload(input_tokens=64, output_tokens=32, batch_size=1)
PROTOCOL = MeasurementProtocol(
    name="quick", window_s=2.0, repeats=3, repeats_max=3, interval_target=0.05, warmup_max=4,
    warmup_agree=2, warmup_tolerance=0.2, idle_s=2.0,
)  # fmt: skip


def engine(model: str, board: str, count: int = 1, **fields: object) -> EngineSpec:
    found = EngineSpec(model=CATALOG.model(model), backend="vllm", board=board, board_count=count,
                       tensor_parallel=count)  # fmt: skip
    return replace(found, **fields)


def reason(spec: EngineSpec, workload: Workload | None = None) -> str | None:
    board = CATALOG.board(spec.board)
    shape = shape_of(spec.model.name, spec.model.architecture)
    if workload is None:
        misfit = engine_misfit(spec, board, shape)
    else:
        misfit = workload_misfit(spec, workload, board, shape)
    return None if misfit is None else misfit[0]


@pytest.mark.parametrize("board", ["t4", "v100-sxm-16gb"])
def test_boards_without_bfloat16_take_float16(board: str) -> None:
    assert reason(engine("Qwen/Qwen2.5-0.5B", board)) == "dtype"
    assert reason(engine("Qwen/Qwen2.5-0.5B", board, dtype="float16")) is None


def test_weights_that_exceed_the_group_do_not_fit() -> None:
    assert reason(engine("Qwen/Qwen2.5-72B", "h100-sxm-80gb")) == "memory"
    assert reason(engine("Qwen/Qwen2.5-72B", "h100-sxm-80gb", 2)) is None
    assert reason(engine("Qwen/Qwen2.5-72B", "h100-sxm-80gb", quantization="fp8")) is None
    assert reason(engine("Qwen/Qwen2.5-7B", "l4", dtype="float32")) == "memory"


def test_a_batch_whose_cache_exceeds_the_group_does_not_fit() -> None:
    llama = engine("meta-llama/Llama-2-7b-hf", "l4")
    batch = Workload(input_tokens=2048, output_tokens=512, batch_size=16)
    assert reason(llama, SMALL) is None
    assert reason(llama, batch) == "memory"
    assert reason(replace(llama, options={"kv_cache_dtype": "fp8"}), batch) is None
    assert reason(llama, replace(batch, batch_size=8)) is None


def test_a_context_beyond_the_model_does_not_fit() -> None:
    opt = engine("facebook/opt-125m", "l4")
    assert reason(opt, replace(SMALL, input_tokens=2016)) is None
    assert reason(opt, replace(SMALL, input_tokens=2017)) == "context_too_long"


def test_parallelism_must_divide_the_heads() -> None:
    assert reason(engine("HuggingFaceTB/SmolLM2-135M", "l4", 2)) == "tp_heads"
    assert reason(engine("HuggingFaceTB/SmolLM2-135M", "l4", 3)) is None


def test_a_group_larger_than_any_host_does_not_fit() -> None:
    assert reason(engine("Qwen/Qwen2.5-72B", "a100-sxm-80gb", 32)) == "multi_node"


def test_what_cannot_be_known_is_left_to_the_engine() -> None:
    spec = engine("Qwen/Qwen2.5-72B", "cpu:somewhere:8")
    board = Board(slug="cpu:somewhere:8")  # no one says how much memory it has
    assert engine_misfit(spec, board, shape_of("x", spec.model.architecture)) is None
    assert workload_misfit(spec, SMALL, board, None) is None


# ---- what can run here ------------------------------------------------------------------------


def grid(*specs: EngineSpec, exclusions: tuple[Exclusion, ...] = ()) -> Grid:
    tasks = tuple(
        Task(key=str(i), engine=s, workload=SMALL, protocol=PROTOCOL, reality=Reality.REAL)
        for i, s in enumerate(specs)
    )
    return Grid(tasks=tasks, exclusions=exclusions)


def test_a_grid_of_which_something_can_run_is_let_through() -> None:
    asked = grid(engine("Qwen/Qwen2.5-7B", "h100-sxm-80gb", 2), engine("gpt2", "l4"))
    require_runnable(asked, {"l4": 1})
    require_runnable(asked, {"h100-sxm-80gb": 2})


def test_a_grid_nothing_here_can_run_names_what_it_needs_and_what_is_here() -> None:
    asked = grid(engine("Qwen/Qwen2.5-7B", "h100-sxm-80gb", 2), engine("gpt2", "l4"))
    with pytest.raises(Infeasible) as caught:
        require_runnable(asked, {"cpu:xeon:2": 1, "h100-sxm-80gb": 1})
    assert str(caught.value) == (
        "nothing here can run this grid: it needs 2 x h100-sxm-80gb, l4; "
        "here: cpu:xeon:2, h100-sxm-80gb"
    )
    assert caught.value.exit_code == 3


def test_a_grid_of_exclusions_says_why() -> None:
    left_out = Exclusion(engine=engine("gpt2", "t4"), workload=None, reason="dtype",
                         detail="t4 does not compute in bfloat16", points=4)  # fmt: skip
    with pytest.raises(Infeasible, match=r"excluded \(dtype 4\); for example t4 does not"):
        require_runnable(grid(exclusions=(left_out,)), {"t4": 1})
