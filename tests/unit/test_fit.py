"""What cannot work is proven before anything is loaded, and only what is proven."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from campaign.catalogue.catalog import load_catalog
from campaign.grids.fit import Grid, engine_misfit, require_runnable, workload_misfit
from campaign.grids.quantization import GONE, NOT_ON_CPU, OF_CHECKPOINTS, QUANTIZED_FROM
from db.errors import Infeasible
from db.records import (
    Board,
    EngineSpec,
    Exclusion,
    MeasurementProtocol,
    Reality,
    Task,
    Weights,
    Workload,
)
from workers.costs.cost import (
    estimate,
    held_bytes,
    memory_filled,
    running_together,
    usable_bytes,
)
from workers.shapes.shape import QUANTIZED, Shape, precision, shape_of

CATALOG = load_catalog()
SMALL = Workload(input_tokens=64, output_tokens=32, batch_size=1)
PROTOCOL = MeasurementProtocol(
    name="quick", window_s=2.0, repeats=3, repeats_max=3, interval_target=0.05, warmup_max=4,
    warmup_agree=2, warmup_tolerance=0.2, idle_s=2.0,
)  # fmt: skip


def engine(model: str, board: str, count: int = 1, /, **fields: object) -> EngineSpec:
    found = EngineSpec(model=CATALOG.model(model), backend="vllm", board=board, board_count=count,
                       tensor_parallel=count)  # fmt: skip
    return replace(found, **fields)


#: What makes vLLM accept drafts at a rate that is set.
SYNTHETIC = {"rejection_sample_method": "synthetic", "synthetic_acceptance_length": 2.5}


def shape_in(model: str) -> Shape:
    found = shape_of(model, CATALOG.model(model).architecture)
    assert found is not None
    return found


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


def test_a_load_whose_prompts_have_no_room_together_is_left_out() -> None:
    """23.7 GB less 13.3 GB of weights hold the keys and values of 40 prompts of 500 tokens.

    So 100 answers of 100 tokens take three times 100 steps: 33.3 are computed together.
    """
    spec = engine("facebook/opt-6.7b", "l4", dtype="float16")
    load = Workload(input_tokens=500, output_tokens=100, batch_size=100, arrival="at_once")
    board, shape = CATALOG.board("l4"), shape_in("facebook/opt-6.7b")

    def left_out(workload: Workload, reached: float = 0.9, **fields: object) -> str | None:
        found = workload_misfit(replace(spec, **fields), workload, board, shape, reached)
        return None if found is None else ": ".join(found)

    said = left_out(load) or ""
    assert said.startswith("memory: 40 of 100 prompts have room at a time, so 33.3 requests")
    assert said.endswith("void below 0.9 (meter.gates.batch_reached)")
    assert left_out(replace(load, arrival="closed"), mode="online")
    for fits in (
        replace(load, batch_size=40),
        replace(load, input_tokens=100),
        replace(load, arrival="static"),
        replace(load, prefix_tokens=100),
        replace(load, lengths="generation"),
    ):
        assert left_out(fits) is None
    assert left_out(load, reached=0.3) is None
    assert left_out(load, dtype="float16", options={"max_num_batched_tokens": 512}) is not None


def test_weights_that_exceed_the_group_do_not_fit() -> None:
    assert reason(engine("Qwen/Qwen2.5-72B", "h100-sxm-80gb")) == "memory"
    assert reason(engine("Qwen/Qwen2.5-72B", "h100-sxm-80gb", 2)) is None
    assert reason(engine("Qwen/Qwen2.5-72B", "h100-sxm-80gb", quantization="fp8")) is None
    assert reason(engine("Qwen/Qwen2.5-7B", "l4", dtype="float32")) == "memory"


def test_a_batch_whose_cache_exceeds_the_group_does_not_fit() -> None:
    llama = engine("meta-llama/Llama-2-7b-hf", "l4")
    batch = Workload(input_tokens=2048, output_tokens=512, batch_size=16)
    assert reason(llama, batch) is None  # vLLM lets requests wait
    assert reason(llama, replace(batch, input_tokens=30_000)) == "context_too_long"
    static = replace(llama, backend="transformers")
    assert reason(static, SMALL) is None
    assert reason(static, batch) == "memory"
    assert reason(static, replace(batch, batch_size=8)) is None
    beams = replace(batch, batch_size=4, decoding="beam", beams=4)
    assert reason(static, beams) == "memory"
    assert reason(static, replace(beams, beams=2)) is None


def test_one_request_has_to_fit_even_where_others_wait() -> None:
    yarn = engine("NousResearch/Yarn-Mistral-7b-128k", "l4")
    long = Workload(input_tokens=120_000, output_tokens=8, batch_size=4)
    assert reason(yarn, long) == "memory"
    assert reason(replace(yarn, options={"kv_cache_dtype": "fp8"}), long) is None
    assert reason(yarn, replace(long, input_tokens=20_000)) is None


def test_vllm_fills_its_share_of_the_memory_and_no_more() -> None:
    llama = engine("meta-llama/Llama-3.1-8B", "t4", dtype="float16")  # 16.1 GB on 17.2
    batch = replace(SMALL, input_tokens=300, output_tokens=300, batch_size=100)
    shape, board = shape_in(llama.model.name), CATALOG.board("t4")
    assert reason(llama) == "memory"
    misfit = engine_misfit(llama, board, shape)
    assert misfit is not None
    assert "fills 0.92 (15.8 GB)" in misfit[1]
    assert running_together(llama, shape, board, batch) == 0
    cost = estimate(llama, shape, board, batch)
    assert cost is not None
    assert cost.running == 0
    whole = replace(llama, options={"gpu_memory_utilization": 1})
    assert reason(whole) is None
    assert running_together(whole, shape, board, batch) > 0
    assert reason(replace(llama, backend="transformers")) is None
    assert reason(replace(llama, options={"kv_cache_memory_bytes": 2**28})) is None
    assert reason(replace(llama, options={"cpu_offload_gb": 4})) is None
    tight = engine("Qwen/Qwen2.5-0.5B", "l4", options={"gpu_memory_utilization": 0.03})
    assert reason(tight) == "memory"


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.6, None, 1.0])
def test_what_fits_is_what_the_estimate_computes_at_least_one_of(share: float | None) -> None:
    given: dict[str, Any] = {} if share is None else {"gpu_memory_utilization": share}
    work = Workload(input_tokens=1500, output_tokens=2, batch_size=64)
    seen = set()
    for name in ("facebook/opt-1.3b", "Qwen/Qwen2.5-7B", "facebook/opt-30b", "google/gemma-2b"):
        for slug in ("t4", "l4", "a100-sxm-40gb", "h100-sxm-80gb"):
            spec = engine(name, slug, dtype="float16", options=given)
            fits = (reason(spec) or reason(spec, work)) is None
            running = running_together(spec, shape_in(name), CATALOG.board(slug), work)
            assert fits == (running > 0), (name, slug)
            seen.add(fits)
    assert share in (0.05, 1.0) or seen == {True, False}


def test_a_quantization_that_is_not_known_changes_no_byte() -> None:
    assert precision("float16", "banana") == precision("float16")
    assert precision("float16", "fp8_per_block").weight_bytes == 1.0
    assert QUANTIZED.keys() >= {*OF_CHECKPOINTS, *QUANTIZED_FROM, *NOT_ON_CPU, *GONE}


def test_the_quantizations_are_those_of_the_installed_vllm() -> None:
    found = find_spec("vllm")
    if found is None or found.origin is None:
        pytest.skip("vllm is not installed")
    file = Path(found.origin).parent / "model_executor" / "layers" / "quantization" / "__init__.py"
    listed = re.search(r"QuantizationMethods = Literal\[(.*?)\n\]", file.read_text(), re.DOTALL)
    assert listed is not None
    assert set(re.findall(r'^    "(.+)",$', listed[1], re.MULTILINE)) == QUANTIZED.keys() - GONE


def test_a_context_beyond_the_engines_own_limit_is_left_out() -> None:
    short = engine("Qwen/Qwen2.5-0.5B", "l4", options={"max_model_len": 96})
    assert reason(short, SMALL) is None
    assert reason(short, replace(SMALL, input_tokens=65)) == "context_too_long"


@pytest.mark.parametrize(
    ("board", "fields", "expected"),
    [
        ("h100-sxm-80gb", {"quantization": "banana"}, "quantization"),
        ("a100-sxm-80gb", {"quantization": "FP8"}, "quantization"),
        ("a100-sxm-80gb", {"quantization": "fp8"}, "quantization"),
        ("l4", {"quantization": "fp8"}, None),
        ("h100-sxm-80gb", {"quantization": "fp8"}, None),
        ("mi300x", {"quantization": "fp8"}, None),  # of another vendor nothing is concluded
        ("l4", {"quantization": "bitsandbytes"}, "quantization"),
        ("l4", {"quantization": "bitsandbytes", "version": "0.9.2"}, None),
        ("l4", {"quantization": "awq"}, None),
        ("t4", {"quantization": "gptq", "dtype": "float16"}, None),
        ("v100-sxm-16gb", {"quantization": "gptq", "dtype": "float16"}, "quantization"),
        ("l4", {"quantization": "awq", "dtype": "float32"}, "quantization"),
        ("l4", {"quantization": "compressed-tensors"}, None),
        ("l4", {"quantization": "modelopt"}, "quantization"),  # is not written of random weights
        ("h100-sxm-80gb", {"quantization": "experts_int8"}, "quantization"),  # it has none
        ("cpu:x:2", {"quantization": "fp8_per_channel"}, None),
        ("cpu:x:2", {"quantization": "awq"}, None),
        ("cpu:x:2", {"quantization": "gptq_marlin"}, None),
        ("cpu:x:2", {"quantization": "awq_marlin"}, "quantization"),
        ("cpu:x:2", {"quantization": "fp8"}, "quantization"),
        ("l4", {"quantization": "fp8", "backend": "transformers"}, "quantization"),
        ("l4", {"power_limit_w": 73.0}, "power_limit"),
        ("l4", {"power_limit_w": 60.0}, None),
        ("cpu:x:2", {"power_limit_w": 60.0}, "power_limit"),
        ("l4", {"backend": "transformers", "tensor_parallel": 2}, "no_tensor_parallel"),
        ("l4", {"backend": "transformers", "mode": "online"}, "offline_engine"),
        ("l4", {"backend": "simulated", "speculation": "ngram"}, "simulated_limit"),
        ("l4", {"speculation": "ngram"}, "artefact"),
        ("l4", {"speculation": "ngram", "speculative_tokens": 4, "options": SYNTHETIC}, None),
        ("cpu:x:2", {"speculation": "ngram", "options": SYNTHETIC}, "artefact"),
        ("l4", {"options": SYNTHETIC}, "no_speculation"),
        ("l4", {"options": {"prompt_lookup_max": 3}}, "no_speculation"),
    ],
)  # fmt: skip
def test_what_a_backend_or_board_cannot_do(
    board: str, fields: dict[str, Any], expected: str | None
) -> None:
    assert reason(engine("Qwen/Qwen2.5-0.5B", board, **fields)) == expected


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        ("mosaicml/mpt-7b", {}, "no_implementation"),
        ("EleutherAI/gpt-neo-1.3B", {}, None),  # drawn as a GPT-2, which has its shape
        ("mosaicml/mpt-7b", {"backend": "transformers"}, None),
        ("mosaicml/mpt-7b", {"version": "0.11.0"}, None),
        ("mosaicml/mpt-7b", {"options": {"model_impl": "transformers"}}, None),
        ("Qwen/Qwen2.5-0.5B", {"draft": CATALOG.model("mosaicml/mpt-7b")}, "no_implementation"),
    ],
)  # fmt: skip
def test_what_vllm_has_no_implementation_of(
    model: str, fields: dict[str, Any], expected: str | None
) -> None:
    assert reason(engine(model, "h100-sxm-80gb", **fields)) == expected


REAL = replace(CATALOG.model("Qwen/Qwen2.5-0.5B"), weights=Weights.REAL, commit="abc")
ACCEPTS = {"rejection_sample_method": "synthetic"}


@pytest.mark.parametrize(
    ("fields", "options", "expected"),
    [
        ({}, ACCEPTS, "acceptance"),  # at no rate
        ({}, ACCEPTS | {"synthetic_acceptance_length": 0.5}, "acceptance"),
        ({}, ACCEPTS | {"synthetic_acceptance_length": 5.5}, "acceptance"),  # 4 ahead and its own
        ({}, ACCEPTS | {"synthetic_acceptance_length": 5}, None),
        ({}, ACCEPTS | {"synthetic_acceptance_length": 1}, None),
        ({}, {"synthetic_acceptance_length": 2.5}, "acceptance"),
        ({}, {"rejection_sample_method": "block", "synthetic_acceptance_length": 2.5},
         "acceptance"),
        ({}, {"prompt_lookup_min": 5, "prompt_lookup_max": 3}, "lookup"),
        ({}, {"prompt_lookup_min": 3, "prompt_lookup_max": 3}, None),
        ({}, {"prompt_lookup_min": 5}, None),
        ({"draft": REAL, "speculation": "draft_model"}, {"draft_tensor_parallel_size": 2},
         "draft_parallel"),
        ({"draft": REAL, "speculation": "draft_model"}, {"draft_tensor_parallel_size": 1}, None),
    ],
)  # fmt: skip
def test_speculation_is_asked_for_as_vllm_takes_it(
    fields: dict[str, Any], options: dict[str, Any], expected: str | None
) -> None:
    asked = {"model": REAL, "speculation": "ngram", "speculative_tokens": 4, **fields}
    assert reason(engine("gpt2", "l4", options=options, **asked)) == expected


def test_random_weights_take_the_bytes_that_are_written() -> None:
    """Eight bits of compressed-tensors; a checkpoint of that name may have four."""
    shape, board = shape_in("Qwen/Qwen2.5-7B"), CATALOG.board("l4")
    one = Workload(input_tokens=8, output_tokens=8, batch_size=1)

    def held(**fields: object) -> float:
        return memory_filled(engine("Qwen/Qwen2.5-7B", "l4", **fields), shape, board, one)

    real = replace(CATALOG.model("Qwen/Qwen2.5-7B"), weights=Weights.REAL)
    assert held(quantization="compressed-tensors") == held(quantization="fp8")
    assert held(quantization="compressed-tensors", model=real) == held(quantization="awq")


def test_random_weights_are_quantized_where_their_layers_divide_into_groups() -> None:
    def fits(model: str, boards: int = 1, **fields: object) -> bool:
        return reason(engine(model, "h100-sxm-80gb", boards, **fields)) != "quantization"

    for method in ("awq", "gptq", "compressed-tensors"):
        assert fits("Qwen/Qwen2.5-7B", 4, quantization=method)
        assert not fits("Qwen/Qwen2.5-7B", 8, quantization=method)  # 18944 inputs, 18.5 groups
        assert not fits("mistralai/Mixtral-8x7B-v0.1", 4, quantization=method)
        assert not fits("openai-community/gpt2", quantization=method)
    assert fits("mistralai/Mixtral-8x7B-v0.1", 4, quantization="experts_int8")
    assert fits("Qwen/Qwen2.5-7B", 8, quantization="fp8")


@pytest.mark.parametrize(
    ("told", "fit"),
    [
        ({}, {"fp8"}),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, {"fp8", "awq", "awq_marlin"}),
        ({"quantization_config": {"quant_method": "gptq"}}, {"fp8", "gptq"}),
        ({"compression_config": {"quant_method": "compressed-tensors"}},
         {"fp8", "compressed-tensors"}),
    ],
)  # fmt: skip
def test_a_checkpoint_is_quantized_as_its_own_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any], fit: set[str]
) -> None:
    """In a folder, and in what the hub's cache has of it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--Qwen--Qwen2.5-0.5B"
    folder = repository / "snapshots" / "c0de"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", **told}))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c0de")
    hub = replace(CATALOG.model("Qwen/Qwen2.5-0.5B"), weights=Weights.REAL, commit="c0de")
    for model in (hub, replace(hub, name="mine", folder=str(folder))):
        asked = ("fp8", "awq", "awq_marlin", "gptq", "compressed-tensors")
        specs = {m: engine("gpt2", "h100-sxm-80gb", model=model, quantization=m) for m in asked}
        assert {method for method, spec in specs.items() if reason(spec) is None} == fit


def test_awq_of_real_weights_needs_turing() -> None:
    real = replace(CATALOG.model("Qwen/Qwen2.5-0.5B"), weights=Weights.REAL, commit="abc")
    awq = {"model": real, "quantization": "awq", "dtype": "float16"}
    assert reason(engine("gpt2", "v100-sxm-16gb", **awq)) == "quantization"
    assert reason(engine("gpt2", "t4", **awq)) is None
    speculating = {"model": real, "speculation": "ngram"}
    assert reason(engine("gpt2", "l4", **speculating)) is None


@pytest.mark.parametrize(
    ("cache", "speculation", "expected"),
    [
        ("static", "ngram", "speculation_cache"),
        ("offloaded_static", "draft_model", "speculation_cache"),
        ("dynamic", "ngram", "artefact"),
        (None, "ngram", "artefact"),
        ("static", None, None),
    ],
)
def test_assisted_generation_takes_tokens_back_from_a_dynamic_cache_alone(
    cache: str | None, speculation: str | None, expected: str | None
) -> None:
    options = {} if cache is None else {"cache_implementation": cache}
    spec = engine("Qwen/Qwen2.5-0.5B", "l4", backend="transformers", speculation=speculation,
                  options=options)  # fmt: skip
    assert reason(spec) == expected


@pytest.mark.parametrize(
    ("fields", "work", "expected"),
    [
        ({"backend": "transformers"}, {"arrival": "at_once"}, "no_continuous_batching"),
        ({"backend": "transformers"}, {"arrival": "closed"}, "offline_engine"),
        ({"backend": "transformers"}, {"decoding": "beam", "beams": 4}, None),
        ({"backend": "transformers", "speculation": "ngram"}, {"batch_size": 2},
         "speculation_batch"),
        ({"backend": "transformers", "speculation": "ngram"}, {}, None),
        ({"backend": "simulated"}, {"arrival": "poisson", "rate_rps": 1.0}, "offline_engine"),
        ({"backend": "simulated"}, {"decoding": "sample"}, "simulated_limit"),
        ({}, {"decoding": "beam", "beams": 4}, None),
        ({}, {"decoding": "beam", "beams": 4, "lengths": "azure-2023-conv"}, "no_beam_search"),
        ({"speculation": "ngram"}, {"decoding": "beam", "beams": 4}, "no_beam_search"),
        ({"options": {"enable_prefix_caching": True}}, {"decoding": "beam", "beams": 4}, None),
        ({"options": {"enable_prefix_caching": False}}, {"decoding": "beam", "beams": 4},
         "no_beam_search"),
        ({"mode": "online"}, {"decoding": "beam", "beams": 4}, "no_beam_search"),
        ({"mode": "online"}, {"arrival": "closed"}, None),
        ({"options": {"max_num_batched_tokens": 7}}, {"batch_size": 8}, "step_tokens"),
        ({"options": {"max_num_batched_tokens": 8}}, {"batch_size": 8}, None),
        ({"options": {"max_num_batched_tokens": 8, "max_num_seqs": 9}}, {}, "step_tokens"),
        ({"options": {"max_num_batched_tokens": 95, "enable_chunked_prefill": False}}, {},
         "step_tokens"),
        ({"options": {"max_num_batched_tokens": 96, "enable_chunked_prefill": False}}, {}, None),
    ],
)  # fmt: skip
def test_what_a_backend_cannot_be_asked_for(
    fields: dict[str, Any], work: dict[str, Any], expected: str | None
) -> None:
    asked = replace(SMALL, **work)
    assert reason(engine("Qwen/Qwen2.5-0.5B", "l4", **fields), asked) == expected


def test_a_draft_has_the_vocabulary_of_its_target_and_takes_memory() -> None:
    target, board = engine("meta-llama/Llama-3.1-8B", "l4"), CATALOG.board("l4")
    shape, one = shape_in("meta-llama/Llama-3.1-8B"), shape_in("meta-llama/Llama-3.2-1B")
    other, large = shape_in("Qwen/Qwen2.5-0.5B"), shape_in("meta-llama/Meta-Llama-3-70B")
    assert engine_misfit(target, board, shape, one) is None
    drafted = replace(target, speculation="draft_model", options=SYNTHETIC, speculative_tokens=4,
                      draft=CATALOG.model("meta-llama/Meta-Llama-3-70B"))  # fmt: skip
    assert (engine_misfit(target, board, shape, other) or ("",))[0] == "draft_vocabulary"
    assert (engine_misfit(drafted, board, shape, large) or ("",))[0] == "memory"


def test_a_cache_that_every_board_keeps_takes_the_room_of_all() -> None:
    """Two KV heads on four boards: vLLM keeps each twice, unless it splits contexts as well."""
    work = Workload(input_tokens=32_000, output_tokens=100, batch_size=1)
    short = {"gpu_memory_utilization": 0.043}  # 4.4 GB of four boards, of which weights take 3.1
    four = engine("Qwen/Qwen2.5-1.5B", "l4", 4, options=short)
    shape, board = shape_in("Qwen/Qwen2.5-1.5B"), CATALOG.board("l4")
    weights, each = held_bytes(four, shape, 32_100)
    assert held_bytes(replace(four, tensor_parallel=2), shape, 32_100) == (weights, each / 2)
    room = usable_bytes(four, board)
    assert room is not None
    assert weights + each / 2 < room < weights + each
    assert reason(four, work) == "memory"
    assert reason(replace(four, tensor_parallel=2), work) is None
    split = replace(four, options={**short, "decode_context_parallel_size": 2})
    assert reason(split, work) is None


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
    with pytest.raises(Infeasible, match=r"; claim it with cluster\.boards\.h100-sxm-80gb=2$"):
        require_runnable(asked, {"l40": 1}, claimed=True)


def test_a_grid_of_exclusions_says_why() -> None:
    left_out = Exclusion(engine=engine("gpt2", "t4"), workload=None, reason="dtype",
                         detail="t4 does not compute in bfloat16", points=4)  # fmt: skip
    with pytest.raises(Infeasible, match=r"excluded \(dtype 4\); for example t4 does not"):
        require_runnable(grid(exclusions=(left_out,)), {"t4": 1})


# ---- words ------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]


def words(file: Path) -> set[str]:
    """The reasons that a module gives: the first of every pair that begins with a word."""
    pairs = (n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Tuple))
    firsts = (pair.elts[0] for pair in pairs if len(pair.elts) == 2)
    texts = (first.value for first in firsts if isinstance(first, ast.Constant))
    return {t for t in texts if isinstance(t, str) and re.fullmatch(r"[a-z_]+", t)}


def test_every_reason_stands_in_the_documentation_with_its_source() -> None:
    modules = (ROOT / "campaign" / "grids" / f"{name}.py" for name in ("fit", "grid", "proposals"))
    found = {word for module in modules for word in words(module)}
    assert {"dtype", "memory", "artefact", "not_installed", "not_fetched"} <= found
    guide = (ROOT / "docs" / "grids.md").read_text(encoding="utf-8")
    table = guide.partition("## What is left out")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {word for cell in rows for word in re.findall(r"`(\w+)`", cell)} == found
