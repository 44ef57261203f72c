"""What vLLM's options do, seen in its own counters and behaviour on a CPU, not in their names."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, Self

import psutil
import pytest

from campaign.grids.fit import NOT_IN_VLLM
from db.errors import EngineFault, TaskFault
from db.readings import Batch
from db.records import ModelSpec, Weights
from tests.engines.harness import LIMITS, Host, HostedEngine, spec_of, tiny
from workers.engines.engine import GREEDY, Decoding, Request, alike
from workers.engines.vllm_arguments import has_four_bits
from workers.shapes.families import FAMILIES
from workers.workloads.prompts import Prompts

pytestmark = pytest.mark.engines
PLAIN = {"enforce_eager": True, "enable_prefix_caching": False}
#: Two blocks of the prefix cache, and a part of a third.
PREFIX = 2 * 128
PROMPT = Prompts(vocabulary=1024, seed="prompt").batch(1, 64)[0]


@pytest.fixture(scope="module")
def host(hosts: dict[str, Any]) -> Host:
    """The process of all vLLM engines here, one after another."""
    found: Host = hosts["vllm"]
    return found


class Open:
    """A loaded engine, and what it resolved."""

    def __init__(self, host: Host, **changes: Any) -> None:
        options = PLAIN | changes.pop("options", {})
        self.engine: HostedEngine = host.open(spec_of("vllm", options=options, **changes))
        self.resolved: Any = self.engine.load().resolved
        self._prompts = Prompts(vocabulary=self.engine.vocabulary, seed="options")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()

    def prompts(self, count: int, tokens: int) -> tuple[tuple[int, ...], ...]:
        return self._prompts.batch(count, tokens)

    def batch(self, shape: tuple[int, int, int], decoding: Decoding = GREEDY) -> Batch:
        """A fresh batch of (input, output, count)."""
        input_tokens, output_tokens, count = shape
        prompts = self.prompts(count, input_tokens)
        return self.engine.generate(alike(prompts, output_tokens), decoding)


def counts(batch: Batch) -> list[tuple[int, int]]:
    return [(r.input_tokens, r.output_tokens) for r in batch.requests]


# ---- two at a time, with a prefix cache ------------------------------------------------------


@pytest.fixture(scope="module")
def two(host: Host) -> dict[str, Any]:
    """What an engine of two sequences with a prefix cache did, and once more after a reload."""
    options = {"max_num_seqs": 2, "enable_prefix_caching": True}
    found: dict[str, Any] = {}
    sample = Decoding(method="sample", temperature=1.0)
    with Open(host, options=options) as opened:
        found["prompts"] = prompts = opened.prompts(2, 24)
        drawn = alike(prompts, 12)
        found["drawn"] = [opened.engine.inside("tokens", drawn, sample) for _ in range(2)]
        found["greedy"] = [opened.engine.inside("tokens", drawn, GREEDY) for _ in range(2)]
        narrow = Decoding(method="sample", temperature=1.0, top_p=1e-6)
        found["narrow"] = opened.engine.inside("tokens", drawn, narrow)
        cold = Decoding(method="sample", temperature=1e-4)
        found["cold"] = opened.engine.inside("tokens", drawn, cold)
        lengths = (3, 9, 16, 1)
        fresh = opened.prompts(4, 40)
        found["unequal"] = opened.engine.generate(
            [Request(prompt=p, output_tokens=n) for p, n in zip(fresh, lengths, strict=True)]
        )
        found["choices"] = opened.engine.inside(
            "choices", [Request(prompt=[20] * 8, output_tokens=n) for n in (3, 5, 3, 3)]
        )
        common = opened.prompts(1, PREFIX)[0]
        found["prefix"] = opened.engine.generate(
            alike([common + tail for tail in opened.prompts(4, 20)], 4)
        )
        found["fresh"] = opened.batch((PREFIX + 20, 4, 4))
        found["beams"] = opened.batch((32, 8, 2), Decoding(method="beam", beams=3))
        found["after"] = opened.batch((32, 8, 2))
        for name, decoding, requests in (
            ("wide", Decoding(method="beam", beams=11), alike(prompts, 4)),
            ("lengths", Decoding(method="beam", beams=2),
             [Request(prompt=p, output_tokens=n) for p, n in zip(prompts, (2, 3), strict=True)]),
        ):  # fmt: skip
            with pytest.raises(TaskFault) as caught:
                opened.engine.generate(requests, decoding)
            found[name] = caught.value
    with Open(host, options=options) as opened:
        found["again"] = [opened.engine.inside("tokens", drawn, sample) for _ in range(2)]
    return found


def test_requests_of_unequal_length_get_exactly_their_tokens(two: dict[str, Any]) -> None:
    assert counts(two["unequal"]) == [(40, 3), (40, 9), (40, 16), (40, 1)]
    told = two["unequal"].counters
    assert told["vllm:generation_tokens"] == 29
    assert told["vllm:prompt_tokens"] == 160


def test_requests_that_are_alike_share_how_their_tokens_are_chosen(two: dict[str, Any]) -> None:
    """A window holds the making of it, 50 µs each."""
    assert two["choices"] == (2, [3, 5, 3, 3])


def test_max_num_seqs_bounds_how_many_run_together(two: dict[str, Any]) -> None:
    assert two["fresh"].running_mean == 2.0
    assert 1.0 <= two["unequal"].running_mean <= 2.0
    assert two["fresh"].counters["engine_steps"] == 2 * 4


def test_prompts_with_a_common_prefix_are_answered_from_the_cache(two: dict[str, Any]) -> None:
    # The first computes the prefix; the other three find it.
    assert two["prefix"].counters["vllm:prefix_cache_hits"] == 3 * PREFIX
    assert two["prefix"].prefix_cache_hit_tokens == 3 * PREFIX
    assert two["prefix"].counters["vllm:prefix_cache_queries"] == 4 * (PREFIX + 20)
    assert two["fresh"].counters["vllm:prefix_cache_hits"] == 0


def test_greedy_tokens_are_the_same_every_time(two: dict[str, Any]) -> None:
    assert two["greedy"][0] == two["greedy"][1]


def test_the_end_of_sequence_is_neither_heeded_nor_forbidden(
    host: Host, two: dict[str, Any]
) -> None:
    """A model whose end is what it says next says it, and goes on."""
    end = Counter(two["greedy"][0][0]).most_common(1)[0][0]
    model = tiny()
    ending = replace(model, architecture={**model.architecture, "eos_token_id": end})
    with Open(host, model=ending) as opened:
        drawn = alike(two["prompts"], 12)
        assert opened.engine.inside("tokens", drawn, GREEDY) == two["greedy"][0]


def test_samples_differ_between_batches_and_follow_from_the_seed(two: dict[str, Any]) -> None:
    first, second = two["drawn"]
    assert first != second
    assert first != two["greedy"][0]
    assert two["again"] == two["drawn"]


@pytest.mark.parametrize("how", ["narrow", "cold"])
def test_a_narrow_nucleus_and_a_low_temperature_choose_greedily(
    two: dict[str, Any], how: str
) -> None:
    assert two[how] == two["greedy"][0]


def test_beams_are_searched_to_exactly_the_asked_length(two: dict[str, Any]) -> None:
    assert counts(two["beams"]) == [(32, 8)] * 2
    # One step from each prompt, seven from each of its three beams.
    assert two["beams"].counters["vllm:generation_tokens"] == 2 * (1 + 7 * 3)
    # What beams find in the cache is their own: no prompt was answered from it.
    assert two["beams"].prefix_cache_hit_tokens is None
    assert all(r.ttft_s is None for r in two["beams"].requests)


def test_batches_after_beams_are_as_before(two: dict[str, Any]) -> None:
    assert counts(two["after"]) == [(32, 8)] * 2
    assert two["after"].counters["vllm:generation_tokens"] == 16


@pytest.mark.parametrize(("how", "words"), [("wide", "max_logprobs=22"), ("lengths", "one output")])
def test_beams_that_vllm_cannot_search_are_refused_for_good(
    two: dict[str, Any], how: str, words: str
) -> None:
    assert (two[how].kind, two[how].permanent) == ("unsupported", True)
    assert words in str(two[how])
    assert "\n" not in str(two[how])


# ---- chunks, cache, numbers ------------------------------------------------------------------


def test_a_budget_of_tokens_cuts_prompts_into_chunks(host: Host) -> None:
    with Open(host, options={"max_num_batched_tokens": 100}) as opened:
        batch = opened.batch((300, 1, 1))
    # The engine's histogram knows one step that gave a token; three computed.
    assert batch.counters["engine_steps"] == 3
    assert batch.counters["vllm:iteration_tokens_total_count"] == 1
    assert counts(batch) == [(300, 1)]


@pytest.fixture(scope="module")
def small(host: Host) -> dict[str, Any]:
    """One size of cache in two number formats, with batches too large for it."""
    found = {}
    for dtype in ("float32", "bfloat16"):
        options = {"kv_cache_memory_bytes": 768 << 10, "enable_chunked_prefill": False}
        with Open(host, dtype=dtype, options=options) as opened:
            found[dtype] = opened.resolved, opened.batch((200, 100, 4))
    return found


def test_a_small_cache_preempts_and_still_gives_every_token(small: dict[str, Any]) -> None:
    _, batch = small["float32"]
    assert batch.counters["vllm:num_preemptions"] > 0
    assert batch.running_mean < 4.0
    assert counts(batch) == [(200, 100)] * 4


def test_wider_numbers_leave_room_for_half_the_tokens(small: dict[str, Any]) -> None:
    wide, narrow = (small[dtype][0] for dtype in ("float32", "bfloat16"))
    tokens = [r["cache_config"]["kv_cache_size_tokens"] for r in (wide, narrow)]
    assert 2 * tokens[0] == tokens[1]


def test_without_chunks_a_prompt_is_one_step(host: Host) -> None:
    with Open(host, options={"enable_chunked_prefill": False}) as opened:
        assert opened.batch((300, 1, 1)).counters["engine_steps"] == 1


def test_a_part_of_the_memory_for_the_cache_is_more_than_the_workloads_need(host: Host) -> None:
    needed = LIMITS.batch_size * LIMITS.context_tokens
    share = min(0.9, 3 * 2**30 / psutil.virtual_memory().total)  # vLLM itself takes one gibibyte
    with Open(host, options={"gpu_memory_utilization": round(share, 3)}) as opened:
        assert opened.resolved["cache_config"]["kv_cache_size_tokens"] > 100 * needed
        assert counts(opened.batch((64, 8, 2))) == [(64, 8)] * 2


@pytest.fixture(scope="module")
def plain(host: Host) -> list[float]:
    """What the weights as they were drawn make of a prompt."""
    with Open(host) as opened:
        assert opened.engine.inside("methods") >= {"UnquantizedLinearMethod"}
        found: list[float] = opened.engine.inside("prompt_logprobs", PROMPT)
    return found


@pytest.mark.parametrize("name", ["int8_per_channel_weight_only", "experts_int8"])
def test_a_quantization_of_experts_is_refused_where_there_are_none(host: Host, name: str) -> None:
    # vLLM accepts it and computes with the weights as they are.
    with pytest.raises(EngineFault, match="of experts") as caught:
        host.open(spec_of("vllm", quantization=name)).load()
    assert (caught.value.kind, caught.value.permanent) == ("unsupported", True)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("compressed-tensors", "CompressedTensorsLinearMethod"),
        ("fp8_per_channel", "Fp8PtpcOnlineLinearMethod"),
        ("awq", "AutoAWQMarlinLinearMethod"),
        ("gptq", "AutoGPTQLinearMethod"),
    ],
)
def test_quantized_layers_compute_what_the_weights_say(
    host: Host, plain: list[float], name: str, method: str
) -> None:
    if name in ("awq", "gptq") and not has_four_bits():
        with pytest.raises(EngineFault, match="AVX-512") as caught:
            host.open(spec_of("vllm", quantization=name)).load()
        assert (caught.value.kind, caught.value.permanent) == ("unsupported", True)
        return
    with Open(host, quantization=name) as opened:
        assert method in opened.engine.inside("methods")
        assert counts(opened.batch((64, 8, 2))) == [(64, 8)] * 2
        found = opened.engine.inside("prompt_logprobs", PROMPT)
    # Close, as steps of 4 or 8 bits leave it, and not the same, as if nothing were quantized.
    differences = [abs(a - b) for a, b in zip(found, plain, strict=True)]
    assert 0.001 < sum(differences) / len(differences) < 0.3


def test_without_eager_the_model_is_compiled(host: Host) -> None:
    with Open(host) as opened:
        before = opened.engine.inside("compiled")
    with Open(host, options={"enforce_eager": False}) as opened:
        after = opened.engine.inside("compiled")
        batch = opened.batch((64, 8, 2))
        assert opened.resolved["model_config"]["enforce_eager"] is False
    assert after > before
    assert counts(batch) == [(64, 8)] * 2


def test_tensor_parallel_workers_are_processes_that_end_with_it(host: Host) -> None:
    with Open(host, tensor_parallel=2, threads=2) as opened:
        batch = opened.batch((64, 8, 4))
        there = opened.engine.inside("children")
        assert opened.resolved["parallel_config"]["tensor_parallel_size"] == 2
    workers = [line for line in there if "Worker" in line]
    assert len(workers) == 2
    assert counts(batch) == [(64, 8)] * 4
    assert batch.running_mean == 4.0


# ---- whose implementation --------------------------------------------------------------------


def test_a_model_is_vllm_s_own_also_where_the_hub_names_it_otherwise(host: Host) -> None:
    """transformers calls it Phimoe; by that name vLLM would compute it as transformers does."""
    shape = {"model_type": "phimoe", "hidden_size": 128, "intermediate_size": 64,
             "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
             "num_local_experts": 4, "num_experts_per_tok": 2, "vocab_size": 1024,
             "max_position_embeddings": 512, "attention_bias": True,
             "lm_head_bias": True}  # fmt: skip
    model = ModelSpec(name="tiny-phimoe", weights=Weights.RANDOM, architecture=shape)
    with Open(host, model=model) as opened:
        found = opened.engine.inside("implementation")
    assert found == "vllm.model_executor.models.phimoe"


def test_the_plan_leaves_out_the_families_that_vllm_has_not(host: Host) -> None:
    """Those that transformers cannot build are asked for by the name that the hub has."""
    on_the_hub = {"baichuan": "BaichuanForCausalLM", "internlm": "InternLMForCausalLM"}
    families = {family: on_the_hub.get(family) for family in FAMILIES}
    found = host.open(spec_of("vllm")).inside("not_implemented", families)
    assert found == NOT_IN_VLLM


def test_a_model_that_vllm_has_not_is_refused(host: Host) -> None:
    shape = {"model_type": "helium", "hidden_size": 128, "intermediate_size": 256,
             "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
             "head_dim": 32, "vocab_size": 1024, "max_position_embeddings": 512}  # fmt: skip
    model = ModelSpec(name="tiny-helium", weights=Weights.RANDOM, architecture=shape)
    with pytest.raises(EngineFault, match="Helium") as caught:
        host.open(spec_of("vllm", model=model)).load()
    assert (caught.value.kind, caught.value.permanent) == ("unsupported", True)


# ---- speculation -----------------------------------------------------------------------------


def test_synthetic_acceptance_is_refused_on_a_cpu(host: Host) -> None:
    options = {"rejection_sample_method": "synthetic", "synthetic_acceptance_length": 3.0}
    spec = spec_of("vllm", speculation="ngram", options=PLAIN | options)
    with pytest.raises(EngineFault, match="CPU") as caught:
        host.open(spec).load()
    assert (caught.value.kind, caught.value.permanent) == ("unsupported", True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"options": {"prompt_lookup_max": 4}}, "prompt_lookup_max without engine.speculation"),
        ({"options": {"speculative_config": "x"}}, "speculative_config follows from"),
        ({"speculation": "draft_model"}, "engine.draft"),
    ],
)
def test_contradictory_speculation_is_refused(
    host: Host, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(EngineFault, match=words) as caught:
        host.open(spec_of("vllm", **changes)).load()
    assert (caught.value.kind, caught.value.permanent) == ("unsupported", True)


def test_a_draft_that_is_the_model_itself_is_always_accepted(host: Host) -> None:
    drafted = {"speculation": "draft_model", "draft": tiny(), "speculative_tokens": 4}
    with Open(host, **drafted) as opened:
        told = (batch := opened.batch((64, 16, 4))).counters
    # The prompt gives one token; three drafts of four and what follows them give fifteen.
    assert told["vllm:spec_decode_num_drafts"] == 3 * 4
    assert told["vllm:spec_decode_num_draft_tokens"] == 4 * 3 * 4
    assert told["vllm:spec_decode_num_accepted_tokens"] == 4 * 3 * 4
    assert told["engine_steps"] < 16
    assert counts(batch) == [(64, 16)] * 4


def test_n_grams_are_drafted_and_counted(host: Host) -> None:
    options = {"prompt_lookup_min": 1, "prompt_lookup_max": 4}
    with Open(host, speculation="ngram", speculative_tokens=4, options=options) as opened:
        told = (batch := opened.batch((64, 32, 4))).counters
    host.stop()  # once numba is imported, vLLM starts no other engine in a process
    drafts, drafted, accepted = (
        told[f"vllm:spec_decode_num_{what}"]
        for what in ("drafts", "draft_tokens", "accepted_tokens")
    )
    assert 0 < drafts <= drafted <= 4 * drafts
    assert 0 <= accepted <= drafted
    assert told["vllm:generation_tokens"] == 4 * 32
    assert counts(batch) == [(64, 32)] * 4
