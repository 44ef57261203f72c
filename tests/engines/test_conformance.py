"""One suite for every engine: real vLLM, real transformers, the simulated one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from db.errors import EngineFault, TaskFault
from db.records import ModelSpec, Weights
from tests.engines.harness import LIMITS, SHAPES, Host, Run, run_engine, spec_of, tiny
from workers.engines.engine import alike
from workers.engines.registry import Limits

pytestmark = pytest.mark.engines
BACKENDS = ("simulated", "transformers", "vllm")
REAL = ("transformers", "vllm")
MODELS = ("llama", "qwen2", "opt")

Runs = Callable[[str, str], Run]


@pytest.fixture(scope="session")
def runs(hosts: dict[str, Any]) -> Runs:
    """Runs by backend and model, each done once."""
    done: dict[tuple[str, str], Run] = {}

    def run(backend: str, model: str = "llama") -> Run:
        if (backend, model) not in done:
            spec = spec_of(backend, tiny(model))
            done[backend, model] = run_engine(hosts[backend], spec, repeat=True)
        return done[backend, model]

    return run


every_engine = pytest.mark.parametrize("backend", BACKENDS)
every_model = pytest.mark.parametrize("model", MODELS)


@every_engine
@every_model
def test_exactly_the_asked_tokens_are_read_and_generated(
    runs: Runs, backend: str, model: str
) -> None:
    for (input_tokens, output_tokens, count), batch in runs(backend, model).batches.items():
        counts = [(r.input_tokens, r.output_tokens) for r in batch.requests]
        assert counts == [(input_tokens, output_tokens)] * count


@every_engine
@every_model
def test_times_are_ordered_and_lie_inside_the_batch(runs: Runs, backend: str, model: str) -> None:
    for (_, output_tokens, _), batch in runs(backend, model).batches.items():
        for request in batch.requests:
            assert request.ttft_s is not None
            assert 0 < request.ttft_s <= request.e2e_s <= batch.duration_s
            assert (request.ttft_s < request.e2e_s) or output_tokens == 1
            assert (request.itl_s is None) == (output_tokens == 1)


@every_engine
def test_batches_follow_one_another_on_the_clock(runs: Runs, backend: str) -> None:
    batches = list(runs(backend).batches.values())
    assert len(batches) == len(SHAPES)
    for earlier, later in pairwise(batches):
        assert earlier.ended_ns <= later.started_ns


@every_engine
def test_fresh_prompts_are_never_answered_from_a_cache(runs: Runs, backend: str) -> None:
    hits = [batch.prefix_cache_hit_tokens for batch in runs(backend).batches.values()]
    assert hits == [0] * len(SHAPES)


@every_engine
def test_without_a_prefix_cache_repeated_prompts_are_computed_again(
    runs: Runs, backend: str
) -> None:
    repeated = runs(backend).repeated
    assert repeated is not None
    assert repeated.prefix_cache_hit_tokens == 0


@every_engine
def test_an_engine_tells_its_configuration_software_and_process(runs: Runs, backend: str) -> None:
    loaded = runs(backend).loaded
    assert loaded.resolved["engine"] == backend
    assert loaded.software["python"]
    assert loaded.pid > 0
    assert (loaded.pid == os.getpid()) == (backend == "simulated")
    json.dumps(dict(loaded.resolved), allow_nan=False)


@every_engine
def test_the_configuration_names_no_folder(runs: Runs, backend: str, weights_cache: Path) -> None:
    text = json.dumps(dict(runs(backend).loaded.resolved))
    assert str(weights_cache) not in text
    assert str(Path.home()) not in text
    assert "tiny-llama" in text or backend == "transformers"


@pytest.mark.parametrize("backend", REAL)
def test_equal_specs_resolve_to_equal_configurations(
    runs: Runs, hosts: dict[str, Any], backend: str
) -> None:
    engine = hosts[backend].open(spec_of(backend))
    again = engine.load()
    engine.close()
    assert again.resolved == runs(backend).loaded.resolved


@pytest.mark.parametrize("backend", REAL)
def test_the_asked_threads_compute(runs: Runs, backend: str) -> None:
    assert runs(backend).loaded.resolved["threads"] == 1


@pytest.mark.parametrize("backend", REAL)
def test_real_engines_ran_outside_the_main_thread(
    runs: Runs, hosts: dict[str, Any], backend: str
) -> None:
    assert runs(backend).batches
    assert hosts[backend].ask("thread")


@every_engine
def test_prompts_may_draw_from_the_whole_vocabulary(runs: Runs, backend: str) -> None:
    assert runs(backend).vocabulary == 1024


def test_vllm_resolves_what_the_spec_and_the_workloads_ask(runs: Runs) -> None:
    resolved: Any = runs("vllm").loaded.resolved
    assert resolved["model_config"]["dtype"] == "torch.bfloat16"
    assert resolved["model_config"]["enforce_eager"] is True
    assert resolved["model_config"]["max_model_len"] == LIMITS.context_tokens
    assert resolved["model_config"]["hf_config"]["num_key_value_heads"] == 2
    assert resolved["scheduler_config"]["max_num_seqs"] == LIMITS.batch_size
    assert resolved["cache_config"]["enable_prefix_caching"] is False
    assert resolved["parallel_config"]["distributed_executor_backend"] == "uni"
    assert runs("vllm").loaded.software["vllm"]
    # Enough cache for every request of the largest batch at the longest context.
    least = LIMITS.batch_size * LIMITS.context_tokens
    assert least <= resolved["cache_config"]["kv_cache_size_tokens"] < 3 * least


def test_transformers_resolves_what_the_spec_asks(runs: Runs) -> None:
    resolved: Any = runs("transformers").loaded.resolved
    assert resolved["dtype"] == "torch.bfloat16"
    assert resolved["attn_implementation"] == "sdpa"
    assert resolved["model"]["num_key_value_heads"] == 2
    assert runs("transformers").loaded.software["transformers"]


def test_a_prefix_cache_that_was_asked_for_answers_a_repeated_prompt(
    hosts: dict[str, Any],
) -> None:
    options = {"enforce_eager": True, "enable_prefix_caching": True}
    run = run_engine(hosts["vllm"], spec_of("vllm", options=options), repeat=True)
    assert [b.prefix_cache_hit_tokens for b in run.batches.values()] == [0] * len(SHAPES)
    assert run.repeated is not None
    # Two prompts of 300 tokens: two full blocks of 128 each.
    assert run.repeated.prefix_cache_hit_tokens == 2 * 256


def test_transformers_pads_prompts_of_unequal_length(hosts: dict[str, Any]) -> None:
    engine = hosts["transformers"].open(spec_of("transformers"))
    engine.load()
    batch = engine.generate(alike([[20] * 5, [30] * 11], 4))
    engine.close()
    counts = [(r.input_tokens, r.output_tokens) for r in batch.requests]
    assert counts == [(5, 4), (11, 4)]


# ---- faults ----------------------------------------------------------------------------------


def fault(host: Host, spec: Any, limits: Limits = LIMITS) -> EngineFault:
    engine = host.open(spec, limits)
    with pytest.raises(EngineFault) as caught:
        engine.load()
    return caught.value


@pytest.fixture
def broken(runs: Runs, weights_cache: Path, tmp_path: Path) -> ModelSpec:
    """A folder whose weights end in the middle."""
    runs("transformers")
    source = next(p for p in weights_cache.glob("random-*") if p.is_dir())
    folder = tmp_path / "broken"
    shutil.copytree(source, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: 64 << 10])
    return ModelSpec(name="broken", weights=Weights.REAL, folder=str(folder))


@pytest.mark.parametrize("backend", REAL)
def test_a_truncated_file_of_weights_is_a_permanent_fault(
    hosts: dict[str, Any], broken: ModelSpec, backend: str
) -> None:
    found = fault(hosts[backend], spec_of(backend, broken))
    assert (found.kind, found.permanent) == ("missing_weights", True)
    assert "\n" not in str(found)


@pytest.mark.parametrize("backend", REAL)
def test_a_missing_folder_is_a_permanent_fault(
    hosts: dict[str, Any], tmp_path: Path, backend: str
) -> None:
    gone = ModelSpec(name="gone", weights=Weights.REAL, folder=str(tmp_path / "gone"))
    found = fault(hosts[backend], spec_of(backend, gone))
    assert (found.kind, found.permanent) == ("missing_weights", True)


@pytest.mark.parametrize("backend", REAL)
def test_a_context_longer_than_the_model_is_a_permanent_fault(
    hosts: dict[str, Any], backend: str
) -> None:
    found = fault(hosts[backend], spec_of(backend), Limits(context_tokens=513, batch_size=1))
    assert (found.kind, found.permanent) == ("unsupported", True)


@pytest.mark.parametrize("backend", REAL)
def test_an_option_the_backend_does_not_have_is_a_permanent_fault(
    hosts: dict[str, Any], backend: str
) -> None:
    found = fault(hosts[backend], spec_of(backend, options={"no_such_option": 1}))
    assert (found.kind, found.permanent) == ("unsupported", True)
    assert "no_such_option" in str(found)


@pytest.mark.parametrize("backend", REAL)
def test_another_version_than_the_pinned_one_is_a_permanent_fault(
    hosts: dict[str, Any], backend: str
) -> None:
    found = fault(hosts[backend], spec_of(backend, version="0.0.1"))
    assert (found.kind, found.permanent) == ("unsupported", True)
    assert "0.0.1" in str(found)


def test_vllm_without_room_for_its_cache_runs_out_of_memory(hosts: dict[str, Any]) -> None:
    options = {"enforce_eager": True, "kv_cache_memory_bytes": 64 << 10}
    assert fault(hosts["vllm"], spec_of("vllm", options=options)).kind == "out_of_memory"


def test_vllm_refuses_options_the_measurement_rests_on(hosts: dict[str, Any]) -> None:
    for name, value in (("load_format", "dummy"), ("trust_remote_code", True), ("model", "x")):
        found = fault(hosts["vllm"], spec_of("vllm", options={name: value}))
        assert found.kind == "unsupported"
        assert name in str(found)


@pytest.mark.parametrize("backend", REAL)
def test_a_batch_before_the_load_is_a_fault_of_the_task(
    hosts: dict[str, Any], backend: str
) -> None:
    engine = hosts[backend].open(spec_of(backend))
    with pytest.raises(TaskFault) as caught:
        engine.generate(alike([[20, 21]], 2))
    assert caught.value.kind == "engine_error"


def test_transformers_leaves_tensor_parallelism_and_quantization_to_vllm(
    hosts: dict[str, Any],
) -> None:
    for change in ({"tensor_parallel": 2}, {"quantization": "fp8"}):
        found = fault(hosts["transformers"], replace(spec_of("transformers"), **change))
        assert (found.kind, found.permanent) == ("unsupported", True)
