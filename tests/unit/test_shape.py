"""The shape of a decoder: layers of several kinds, counted one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.shapes.families import FAMILIES, NAMES, Config
from workers.shapes.layers import Layers, joined
from workers.shapes.shape import Shape, shape_of
from workers.shapes.stack import lacking

LLAMA = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 320,
}  # fmt: skip
GEMMA3 = {**LLAMA, "model_type": "gemma3_text", "head_dim": 16, "sliding_window": 8,
          "num_hidden_layers": 7}  # fmt: skip
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432,
    "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128,
    "vocab_size": 129280, "n_routed_experts": 256, "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048, "n_shared_experts": 1, "first_k_dense_replace": 3,
    "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}  # fmt: skip
JAMBA = {
    "model_type": "jamba", "vocab_size": 65536, "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
    "num_experts": 16, "num_experts_per_tok": 2,
}  # fmt: skip
MAMBA = {"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 320}


def shape(architecture: dict[str, Any]) -> Shape:
    found = shape_of("model", architecture)
    assert found is not None
    return found


@given(window=st.none() | st.integers(1, 60), first=st.integers(1, 60), length=st.integers(0, 60))
def test_what_is_seen_is_the_sum_over_tokens(window: int | None, first: int, length: int) -> None:
    layers = Layers(window=window, kv_elements=3, pair_macs=5, decode_pair_macs=7)
    contexts = range(first, first + length)
    each = [c if window is None else min(c, window) for c in contexts]
    assert layers.seen(first, first + length - 1) == sum(each)
    assert [layers.kept(c) for c in contexts] == [3 * seen for seen in each]
    flops = layers.flops(first, first + length - 1, decode=False)
    assert flops == sum(2 * 5 * seen for seen in each)
    assert layers.flops(first, first + length - 1, decode=True) == sum(14 * seen for seen in each)


def test_a_layer_is_the_sum_of_its_parts() -> None:
    mixer = Layers(mixer_parameters=2, window=9, kv_elements=1)
    state = Layers(mixer_parameters=3, state_elements=4)
    whole = joined(mixer, state, Layers(vectors=5), count=6)
    assert whole == Layers(count=6, mixer_parameters=5, window=9, kv_elements=1, vectors=5,
                           state_elements=4)  # fmt: skip


def test_a_prompt_costs_as_much_in_parts_as_at_once() -> None:
    for architecture in (LLAMA, GEMMA3, DEEPSEEK_V3, JAMBA):
        found = shape(architecture)
        parts = found.layer_flops(1, 5) + found.layer_flops(6, 30)
        assert found.layer_flops(1, 30) == parts


def test_a_token_passes_every_matrix_once() -> None:
    narrow = {**LLAMA, "model_type": "opt", "ffn_dim": 96, "word_embed_proj_dim": 32}
    for architecture in (LLAMA, narrow, DEEPSEEK_V3):
        found = shape(architecture)
        pairs = sum(group.count * group.pair_macs for group in found.groups)
        assert found.layer_flops(1, 3) == 2 * (3 * found.matrix_parameters + (1 + 2 + 3) * pairs)
    opt = shape(narrow)
    assert opt.matrix_parameters == sum(4 * g.active_matrices for g in opt.groups) + 32 * 64
    assert opt.head_flops == 2 * (320 * 32 + 32 * 64)


def test_windowed_layers_hold_their_window_and_the_others_everything() -> None:
    found = shape(GEMMA3)
    assert [(group.count, group.window) for group in found.groups] == [(6, 8), (1, None)]
    one = 2 * 2 * 16
    assert found.kv_elements(5) == 7 * one * 5
    assert found.kv_elements(100) == one * (6 * 8 + 100)
    assert found.kv_elements_read(7, 9) == one * (6 * (7 + 8 + 8) + 7 + 8 + 9)
    assert found.kv_elements_per_token == 7 * one
    assert found.windowed
    assert not shape(LLAMA).windowed


def test_latent_attention_keeps_latents_and_is_decoded_over_them() -> None:
    """DeepSeek-V3: 671 billion parameters, 37 billion of them active, 70,272 bytes per token."""
    found = shape(DEEPSEEK_V3)
    assert found.parameters == 671_026_404_352
    assert found.active_parameters == pytest.approx(37.55e9, rel=0.001)
    assert 2 * found.kv_elements_per_token == 70_272
    prompt, decoded = found.layer_flops(1000, 1000), found.layer_flops(1000, 1000, decode=True)
    more = (2 * 512 + 64) - (128 + 64 + 128)
    assert decoded - prompt == 61 * 2 * 128 * more * 1000
    assert [(group.count, group.experts) for group in found.groups] == [(3, 0), (58, 256)]


def test_layers_with_a_state_keep_no_tokens() -> None:
    """Jamba: 4 of 32 layers keep keys and values, 28 a state; experts are in half of them."""
    found = shape(JAMBA)
    assert sum(group.count for group in found.groups if group.kv_elements) == 4
    assert sum(group.count for group in found.groups if group.experts) == 16
    assert found.kv_elements_per_token == 4 * 2 * 8 * 128
    assert found.state_elements == 28 * 8192 * (16 + 3)
    assert found.active_parameters < 0.25 * found.parameters
    pure = shape(MAMBA)
    assert (pure.heads, pure.kv_elements(1000), pure.layers) == (0, 0, 2)
    assert pure.layer_flops(1, 20) == 20 * pure.layer_flops(1, 1)


def test_averages_over_layers_are_the_totals() -> None:
    for architecture in (LLAMA, GEMMA3, DEEPSEEK_V3, JAMBA, MAMBA):
        found = shape(architecture)
        assert found.layers * found.active_layer_parameters == found.matrix_parameters
        total = sum(group.count * group.matrices for group in found.groups)
        assert found.layers * found.layer_parameters == pytest.approx(total, rel=1e-12)


def test_a_step_reads_what_its_tokens_reach() -> None:
    found = shape(JAMBA)
    embeddings = found.vocabulary * found.hidden
    assert found.parameters_read(10**6) == pytest.approx(found.parameters - embeddings)
    assert found.parameters_read(1) == pytest.approx(found.active_parameters - embeddings)
    dense = shape(LLAMA)
    assert dense.parameters_read(1) == dense.parameters_read(64) == dense.parameters - 320 * 64
    tied = shape({**LLAMA, "tie_word_embeddings": True})
    assert tied.parameters_read(1) == tied.parameters


def test_the_text_part_of_a_model_of_several_inputs_is_read() -> None:
    nested = {"model_type": "gemma3", "vision_config": {"hidden_size": 3}, "text_config": GEMMA3}
    assert shape(nested).groups == shape(GEMMA3).groups
    untied = shape({**nested, "tie_word_embeddings": False})
    assert untied.parameters == shape(GEMMA3).parameters + 320 * 64


@pytest.mark.parametrize(
    ("stated", "windows"),
    [
        ({"model_type": "mistral", "sliding_window": 5}, [5] * 4),
        ({"model_type": "mistral", "sliding_window": None}, [None] * 4),
        ({"model_type": "mistral"}, [4096] * 4),
        ({"model_type": "qwen2", "sliding_window": 5, "use_sliding_window": False}, [None] * 4),
        ({"model_type": "qwen2", "sliding_window": 5, "use_sliding_window": True,
          "max_window_layers": 3}, [None, None, None, 5]),
        ({"model_type": "gemma2", "head_dim": 8, "sliding_window": 5}, [5, None, 5, None]),
        ({"model_type": "cohere2", "sliding_window": 5, "sliding_window_pattern": 2},
         [5, None, 5, None]),
        ({"model_type": "cohere2", "sliding_window": 5,
          "layer_types": ("full_attention", *["sliding_attention"] * 3)}, [None, 5, 5, 5]),
        ({"model_type": "gpt_neo", "max_position_embeddings": 9, "window_size": 5,
          "attention_types": [[["global", "local"], 2]]}, [None, 5, None, 5]),
        ({"model_type": "llama4_text", "head_dim": 8, "num_local_experts": 2,
          "num_experts_per_tok": 1, "intermediate_size_mlp": 9, "attention_chunk_size": 5},
         [5, 5, 5, None]),
    ],
)  # fmt: skip
def test_windows_are_those_a_configuration_states(
    stated: dict[str, Any], windows: list[int | None]
) -> None:
    found = shape({**LLAMA, **stated})
    expected = {window: windows.count(window) for window in windows}
    assert {group.window: group.count for group in found.groups} == expected


@pytest.mark.parametrize(
    ("architecture", "missing"),
    [
        ({"model_type": "llama"},
         ("hidden_size or n_embd", "vocab_size", "num_attention_heads or n_head",
          "num_hidden_layers or n_layer", "intermediate_size or n_inner")),
        ({k: v for k, v in DEEPSEEK_V3.items() if k != "kv_lora_rank"}, ("kv_lora_rank",)),
        ({k: v for k, v in JAMBA.items() if k != "num_experts"},
         ("n_routed_experts or num_local_experts",)),
        ({**LLAMA, "model_type": "gemma"}, ("head_dim",)),
        ({**DEEPSEEK_V3, "q_lora_rank": None}, ()),
        (MAMBA, ()),
        ({"model_type": "no-such"}, ()),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(architecture: dict[str, Any], missing: tuple[str, ...]) -> None:
    assert lacking(Config(architecture)) == missing
    if missing:
        assert shape_of("x", architecture) is None


@pytest.mark.parametrize(
    "architecture",
    [
        {**LLAMA, "model_type": "no-such"},
        {**LLAMA, "num_hidden_layers": 10**12},
        {**LLAMA, "layer_types": ["full_attention"] * 3},
        {**DEEPSEEK_V3, "mlp_layer_types": ["dense", "sparse"]},
        {**LLAMA, "layer_types": ["full_attention"] * 3 + ["quantum_attention"]},
        {**LLAMA, "layer_types": ["full_attention"] * 3 + ["linear_attention"]},
    ],
)  # fmt: skip
def test_a_shape_that_cannot_be_told_is_none(architecture: dict[str, Any]) -> None:
    assert shape_of("x", architecture) is None


#: What configurations state, in the names of all families.
KEYS = sorted(
    {name for names in NAMES.values() for name in names}
    | {key for family in FAMILIES.values() for key in family.needs if key not in NAMES}
    | {"layer_types", "mlp_layer_types", "sliding_window", "sliding_window_pattern",
       "attn_layer_period", "attn_layer_offset", "expert_layer_period", "decoder_sparse_step",
       "mlp_only_layers", "full_attention_interval", "interleave_moe_layer_step", "moe_layers",
       "attention_types", "hybrid_override_pattern", "use_sliding_window", "mamba_expand",
       "mamba_n_heads", "mamba_d_state", "mamba_dt_rank", "expansion_ratio", "block_multiple_of",
       "block_ffn_dim_multiplier", "linear_num_key_heads"}
)  # fmt: skip
VALUES = st.none() | st.booleans() | st.integers(-2, 12) | st.floats() | st.sampled_from(
    ["auto", "M*-E", ["full_attention"] * 4, ["sparse"] * 3, [[["global"], 2]], [3, "a"], {}]
)  # fmt: skip


@settings(max_examples=400)
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    base=st.sampled_from([LLAMA, DEEPSEEK_V3, JAMBA, MAMBA]),
    stated=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6),
)
def test_whatever_is_stated_there_is_a_shape_or_none(
    family: str, base: dict[str, Any], stated: dict[str, Any]
) -> None:
    found = shape_of("x", {**base, **stated, "model_type": family})
    if found is not None:
        assert found.parameters >= found.active_parameters > 0
        assert found.layer_flops(1, 5) > 0
        assert found.kv_elements(5) >= 0


def test_families_are_named_as_transformers_names_them() -> None:
    assert all(name == name.lower() and "-" not in name for name in FAMILIES)
