"""What shapes say of models, against what transformers builds, multiplies and caches of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from campaign.catalogue.catalog import load_catalog
from workers.shapes.families import FAMILIES
from workers.shapes.shape import Shape, shape_of

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

#: Without a class in transformers: their code lies beside their weights.
ELSEWHERE = {"baichuan", "internlm", "internlm2", "minicpm", "orion", "deepseek", "kimi_k2"}
#: A text part of its own only inside a model of several kinds of input, or an alias of another.
INSIDE = {"qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text"}

BASE = {
    "vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 2, "intermediate_size": 96,
}  # fmt: skip
HEADS = {"head_dim": 16}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2}
SPARSE = {**EXPERTS, "moe_intermediate_size": 30}
LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
DEEP = {
    "n_routed_experts": 8, "num_experts_per_tok": 4, "n_shared_experts": 2, "n_group": 2,
    "topk_group": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
    "num_key_value_heads": 8,
}  # fmt: skip
LATENT = {
    **DEEP, "q_lora_rank": 24, "kv_lora_rank": 32, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
    "v_head_dim": 16,
}  # fmt: skip
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16}
NEMOTRON = {**HEADS, "mamba_num_heads": 8, "mamba_head_dim": 16}
DELTA = {
    **HEADS, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}  # fmt: skip
GPT = {"vocab_size": 320, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 128}
#: Of each family one small member or more: its switches, its leading layers, its patterns.
SMALL: list[dict[str, Any]] = [
    {"model_type": "llama"},
    {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    {"model_type": "mistral", "sliding_window": 8},
    {"model_type": "ministral3", **HEADS},
    {"model_type": "mixtral", **LOCAL},
    {"model_type": "phi3", "pad_token_id": None, "sliding_window": 8},
    {"model_type": "granite"},
    {"model_type": "granitemoe", **LOCAL},
    {"model_type": "granitemoeshared", **LOCAL, "shared_intermediate_size": 50},
    {"model_type": "smollm3", "pad_token_id": None},
    {"model_type": "arcee"},
    {"model_type": "seed_oss", **HEADS},
    {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 1,
     "sliding_window": 8},
    {"model_type": "qwen2_moe", **SPARSE, "shared_expert_intermediate_size": 50},
    {"model_type": "qwen2_moe", **SPARSE, "shared_expert_intermediate_size": 50,
     "mlp_only_layers": [1]},
    {"model_type": "qwen3", **HEADS},
    {"model_type": "qwen3_moe", **SPARSE, **HEADS, "decoder_sparse_step": 2},
    {"model_type": "gemma", **HEADS},
    {"model_type": "gemma2", **HEADS, "sliding_window": 8},
    {"model_type": "gemma3_text", **HEADS, "sliding_window": 8, "num_hidden_layers": 7},
    {"model_type": "olmo"},
    {"model_type": "olmo2", "pad_token_id": None},
    {"model_type": "olmo3", "pad_token_id": None, "sliding_window": 8},
    {"model_type": "olmoe", "pad_token_id": None, **EXPERTS},
    {"model_type": "starcoder2"},
    {"model_type": "starcoder2", "use_bias": False, "sliding_window": 8},
    {"model_type": "stablelm", "use_qkv_bias": True, "use_parallel_residual": True},
    {"model_type": "stablelm", "qk_layernorm": True},
    {"model_type": "cohere", "use_qk_norm": True},
    {"model_type": "cohere2", "sliding_window": 8},
    {"model_type": "apertus", "pad_token_id": None},
    {"model_type": "nemotron"},
    {"model_type": "phi", "qk_layernorm": True},
    {"model_type": "phimoe", **LOCAL, "attention_bias": True, "lm_head_bias": True},
    {**GPT, "model_type": "gpt2"},
    {**GPT, "model_type": "gpt_bigcode", "multi_query": False},
    {**GPT, "model_type": "gpt_bigcode"},
    {**GPT, "model_type": "gptj", "rotary_dim": 4},
    {"model_type": "gpt_neo", "num_layers": 4, "num_heads": 8, "max_position_embeddings": 64,
     "attention_types": [[["global", "local"], 2]]},
    {"model_type": "gpt_neox", "attention_bias": False},
    {"model_type": "opt", "ffn_dim": 96, "word_embed_proj_dim": 32, "max_position_embeddings": 64},
    {"model_type": "bloom", "vocab_size": 320, "hidden_size": 64, "n_layer": 3, "n_head": 4},
    {"model_type": "mpt", "vocab_size": 320, "d_model": 64, "n_layers": 3, "n_heads": 4},
    {"model_type": "falcon", "multi_query": False, "parallel_attn": False, "alibi": True,
     "bias": True},
    {"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 2},
    {"model_type": "gpt_oss", **LOCAL, **HEADS, "sliding_window": 8, "pad_token_id": None},
    {"model_type": "glm", **HEADS, "pad_token_id": None},
    {"model_type": "glm4", **HEADS, "pad_token_id": None},
    {"model_type": "glm4_moe", **DEEP, **HEADS, "use_qk_norm": True},
    {"model_type": "deepseek_v2", **LATENT},
    {"model_type": "deepseek_v2", **LATENT, "q_lora_rank": None},
    {"model_type": "deepseek_v3", **LATENT},
    {"model_type": "dots1", **DEEP, **HEADS},
    {"model_type": "llama4_text", **LOCAL, **HEADS, "interleave_moe_layer_step": 2,
     "intermediate_size_mlp": 200, "attention_chunk_size": 8, "pad_token_id": None},
    {"model_type": "mamba", "use_bias": True, "use_conv_bias": False},
    {"model_type": "falcon_mamba", "tie_word_embeddings": False},
    {"model_type": "mamba2", "num_heads": 8, "head_dim": 16, "n_groups": 1, "use_bias": True},
    {"model_type": "jamba", **EXPERTS, "attn_layer_period": 2, "mamba_proj_bias": True,
     "attn_layer_offset": 1, "expert_layer_period": 3},
    {"model_type": "jamba", "num_experts": 1, "num_experts_per_tok": 1, "attn_layer_period": 2,
     "attn_layer_offset": 1},
    {"model_type": "bamba", **MAMBA2, "attn_layer_indices": [1]},
    {"model_type": "granitemoehybrid", **MAMBA2, **LOCAL, "shared_intermediate_size": 50,
     "layer_types": ["mamba", "mamba", "attention", "mamba"]},
    {"model_type": "granitemoehybrid", **MAMBA2, "num_local_experts": 0,
     "shared_intermediate_size": 50, "layer_types": ["mamba", "attention", "mamba", "mamba"]},
    {"model_type": "falcon_h1", **MAMBA2, "mamba_d_ssm": 128, "mamba_rms_norm": True},
    {"model_type": "falcon_h1", **MAMBA2, "mamba_d_ssm": 128},
    {"model_type": "nemotron_h", **NEMOTRON, "hybrid_override_pattern": "M-*-"},
    {"model_type": "nemotron_h", **NEMOTRON, "n_routed_experts": 8, "num_experts_per_tok": 2,
     "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"],
     "moe_intermediate_size": 30, "moe_shared_expert_intermediate_size": 40,
     "moe_latent_size": 20},
    {"model_type": "qwen3_next", **SPARSE, **DELTA, "shared_expert_intermediate_size": 50},
    {"model_type": "qwen3_5_text", **DELTA},
    {"model_type": "qwen3_5_moe_text", **SPARSE, **DELTA, "shared_expert_intermediate_size": 50},
    {"model_type": "lfm2", "layer_types": ["conv", "conv", "full_attention", "conv"]},
]  # fmt: skip
#: Whole members of families that the catalogue has none of, with their published counts.
LARGE: list[tuple[dict[str, Any], int]] = [
    ({"model_type": "mamba", "vocab_size": 50280, "hidden_size": 2560, "num_hidden_layers": 64},
     2_768_345_600),
    ({"model_type": "falcon_mamba", "vocab_size": 65024, "hidden_size": 4096,
      "num_hidden_layers": 64, "tie_word_embeddings": False}, 7_272_665_088),
    ({"model_type": "jamba", "vocab_size": 65536, "hidden_size": 4096, "num_hidden_layers": 32,
      "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
      "num_experts": 16, "num_experts_per_tok": 2}, 51_570_323_328),
    ({"model_type": "qwen3_next", "vocab_size": 151936, "hidden_size": 2048,
      "num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 2,
      "head_dim": 256, "intermediate_size": 5120, "num_experts": 512, "num_experts_per_tok": 10,
      "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512}, 79_674_391_296),
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """transformers warns of special tokens outside of small vocabularies; one thread is enough."""
    from transformers.utils import logging

    level, threads = logging.get_verbosity(), torch.get_num_threads()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    yield
    logging.set_verbosity(level)
    torch.set_num_threads(threads)


def full(case: dict[str, Any]) -> dict[str, Any]:
    """A case with the sizes that all have, without those that its family does not know."""
    own = {"gpt2", "gpt_bigcode", "gptj", "bloom", "mpt"}
    without = {
        "gpt_neox": {"num_key_value_heads"},
        "gpt_neo": {"num_key_value_heads", "intermediate_size", "num_hidden_layers",
                    "num_attention_heads"},
        "opt": {"num_key_value_heads", "intermediate_size"},
        "falcon": {"num_key_value_heads", "intermediate_size"},
        "mamba": {"num_attention_heads", "num_key_value_heads", "intermediate_size"},
        "falcon_mamba": {"num_attention_heads", "num_key_value_heads", "intermediate_size"},
        "mamba2": {"num_attention_heads", "num_key_value_heads", "intermediate_size"},
    }.get(case["model_type"], set())  # fmt: skip
    if case["model_type"] in own:
        return dict(case)
    return {**{key: value for key, value in BASE.items() if key not in without}, **case}


def built(architecture: dict[str, Any], device: str = "meta") -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {key: value for key, value in architecture.items() if key != "architectures"}
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(
            config, attn_implementation="eager", experts_implementation="eager"
        ).eval()


def counted(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def shape(architecture: dict[str, Any]) -> Shape:
    found = shape_of("model", architecture)
    assert found is not None
    return found


def named(case: dict[str, Any]) -> str:
    return str(case["model_type"])


def test_every_family_is_checked() -> None:
    rows = {load_catalog().model(n).architecture["model_type"] for n in load_catalog().models()}
    assert rows <= set(FAMILIES)
    assert {case["model_type"] for case in SMALL} == set(FAMILIES) - ELSEWHERE - INSIDE


@pytest.mark.parametrize("case", SMALL, ids=named)
def test_parameters_are_those_that_transformers_builds(case: dict[str, Any]) -> None:
    assert shape(full(case)).parameters == counted(built(full(case)))


@pytest.mark.parametrize(("case", "published"), LARGE, ids=lambda value: str(value)[:30])
def test_whole_hybrids_have_the_parameters_they_are_published_with(
    case: dict[str, Any], published: int
) -> None:
    assert shape(case).parameters == counted(built(case))
    assert shape(case).parameters == pytest.approx(published, rel=0.005)


def test_every_row_has_the_parameters_that_transformers_builds() -> None:
    """Of full width and few layers: leading dense ones, one more, a whole pattern of windows."""
    catalog, seen, unequal = load_catalog(), set(), {}
    for name in catalog.models():
        fields = dict(catalog.model(name).architecture)
        depth = next(k for k in ("num_hidden_layers", "n_layer", "n_layers") if k in fields)
        pattern = 7 if fields["model_type"] == "gemma3_text" else 2
        fields[depth] = fields.get("first_k_dense_replace", 0) + pattern
        if str(fields) in seen:
            continue
        seen.add(str(fields))
        model = built(fields)
        assert type(model).__name__ == fields["architectures"][0]
        if counted(model) != shape(fields).parameters:
            unequal[name] = (counted(model), shape(fields).parameters)
    assert len(seen) > 150
    assert not unequal


TOKENS = 20
STATES = {"mamba", "falcon_mamba", "mamba2", "jamba", "bamba", "granitemoehybrid", "falcon_h1",
          "nemotron_h", "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "lfm2"}  # fmt: skip
#: What a forward of theirs multiplies beside matrices and attention, or does not run on a CPU.
REPEATED = {
    "falcon": "keeps keys and values once for each query head",
    "gpt_neo": "keeps what its windows no longer see",
}
UNLIKE = {
    "bloom": "adds a mask inside its products",
    "mpt": "as BLOOM",
    "llama4_text": "all tokens pass all experts, the others' weighted by zero",
}


def elements(value: Any) -> int:
    """How many elements there are in tensors, lists of them and mappings to them."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return sum(map(elements, value))
    return value.numel() if isinstance(value, torch.Tensor) else 0


@dataclass(frozen=True, kw_only=True)
class Forward:
    """What torch did for one prompt: FLOPs by operation, elements left in the cache, by kind."""

    flops: dict[str, int]
    keys_and_values: int
    states: int
    convolved: int
    channels: int
    convolutions: int


@cache
def forward(number: int) -> Forward:
    from torch.utils.flop_counter import FlopCounterMode

    model = built(full(SMALL[number]), "cpu")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        out = model(input_ids=torch.arange(TOKENS)[None], use_cache=True)
    left = getattr(out, "past_key_values", None) or getattr(out, "cache_params", None)
    layers = left.layers if left is not None else []
    narrow = [m for m in model.modules() if isinstance(m, torch.nn.Conv1d)]
    return Forward(
        flops={str(name): n for name, n in counter.get_flop_counts()["Global"].items()},
        keys_and_values=sum(elements((getattr(la, "keys", 0), getattr(la, "values", 0)))
                            for la in layers),
        states=sum(elements(getattr(layer, "recurrent_states", 0)) for layer in layers),
        convolved=sum(elements(getattr(layer, "conv_states", 0)) for layer in layers),
        channels=sum(convolution.in_channels for convolution in narrow),
        convolutions=sum(convolution.weight.numel() for convolution in narrow),
    )  # fmt: skip


def numbers(*, states: bool | None = None) -> list[Any]:
    """The small cases with or without states, as parameters."""
    return [
        pytest.param(number, id=named(case))
        for number, case in enumerate(SMALL)
        if case["model_type"] not in UNLIKE and states in (None, case["model_type"] in STATES)
    ]


@pytest.mark.parametrize("number", numbers(states=False))
def test_flops_of_a_prompt_are_those_that_torch_multiplies(number: int) -> None:
    """torch multiplies each token with all others, and says the next one after each of them."""
    found = shape(full(SMALL[number]))
    pairs = sum(group.count * group.pair_macs for group in found.groups)
    expected = 2 * TOKENS * found.matrix_parameters + 2 * TOKENS**2 * pairs
    assert sum(forward(number).flops.values()) == expected + TOKENS * found.head_flops


@pytest.mark.parametrize("number", numbers(states=True))
def test_matrices_of_states_are_those_that_torch_multiplies(number: int) -> None:
    """How torch steps through a state depends on its kernels: products of matrices alone count."""
    found, done = shape(full(SMALL[number])), forward(number)
    matrices = found.matrix_parameters - done.convolutions
    expected = 2 * TOKENS * matrices + TOKENS * found.head_flops
    assert done.flops.get("aten.mm", 0) + done.flops.get("aten.addmm", 0) == expected


@pytest.mark.parametrize("number", numbers())
def test_the_cache_holds_what_transformers_keeps(number: int) -> None:
    """transformers has dropped what the next token will not see, and keeps all of a convolution.

    Latent attention is kept as its latents in both.
    """
    case = full(SMALL[number])
    if case["model_type"] in REPEATED:
        pytest.skip(REPEATED[case["model_type"]])
    found, done = shape(case), forward(number)
    groups = [g for g in found.groups if g.window is not None and g.window <= TOKENS]
    dropped = sum(group.count * group.kv_elements for group in groups)
    assert done.keys_and_values == found.kv_elements(TOKENS) - dropped
    assert done.states + done.convolved == found.state_elements + done.channels
