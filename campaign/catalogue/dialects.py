"""The field names of a ``config.json``, family by family, for the sizes of a catalogue row.

A family's fields are those its class in transformers reads. Constants that change no operation
count (rotary base, epsilon, routing groups) are left to the class's own defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

from db.records import Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The columns of a catalogue row that say what a model looks like.

    `window` is how many tokens a windowed layer sees, None where none is windowed; `query_rank`
    what queries of latent attention are compressed to, None where they are not.
    """

    name: str
    family: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    max_position: int
    tied: bool
    experts: int = 0
    experts_per_token: int = 0
    expert_intermediate: int = 0
    shared_experts: int = 0
    dense_layers: int = 0
    window: int | None = None
    query_rank: int | None = None


def plain(sizes: Sizes) -> dict[str, Scalar]:
    """The fields of models without grouped-query attention: no key-value heads, no head size."""
    return {
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.intermediate,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": sizes.max_position,
        "tie_word_embeddings": sizes.tied,
    }


def grouped(sizes: Sizes) -> dict[str, Scalar]:
    """The fields of models whose head size is the hidden size over the heads."""
    return {**plain(sizes), "num_key_value_heads": sizes.kv_heads}


def llama(sizes: Sizes) -> dict[str, Scalar]:
    """The field names shared by Llama and most of its descendants."""
    return {**grouped(sizes), "head_dim": sizes.head_dim}


def biased(sizes: Sizes) -> dict[str, Scalar]:
    """Attention with biases."""
    return {**llama(sizes), "attention_bias": True}


def glm(sizes: Sizes) -> dict[str, Scalar]:
    """The family's default padding token lies outside the smaller vocabularies."""
    return {**biased(sizes), "pad_token_id": None}


def windowed(sizes: Sizes) -> dict[str, Scalar]:
    """A window, or None: the family's own default would shorten the context."""
    return {**llama(sizes), "sliding_window": sizes.window}


def qwen2(sizes: Sizes) -> dict[str, Scalar]:
    """No windows, though the family knows them; the size of a head follows from the hidden size."""
    return {**grouped(sizes), "use_sliding_window": False}


def gpt2(sizes: Sizes) -> dict[str, Scalar]:
    """The names of GPT-2, shared by what descends from it."""
    return {
        "n_embd": sizes.hidden,
        "n_inner": sizes.intermediate,
        "n_layer": sizes.layers,
        "n_head": sizes.heads,
        "n_positions": sizes.max_position,
        "vocab_size": sizes.vocabulary,
        "tie_word_embeddings": sizes.tied,
    }


def bigcode(sizes: Sizes) -> dict[str, Scalar]:
    """GPT-2 with one key-value head, or as many as heads."""
    return {**gpt2(sizes), "multi_query": sizes.kv_heads == 1}


def opt(sizes: Sizes) -> dict[str, Scalar]:
    """OPT; its 350m, the only one of hidden size 1024, is post-norm with embeddings of 512."""
    post_norm = sizes.hidden == 1024  # noqa: PLR2004
    fields = plain(sizes)
    return {
        **{name: value for name, value in fields.items() if name != "intermediate_size"},
        "ffn_dim": sizes.intermediate,
        "word_embed_proj_dim": 512 if post_norm else sizes.hidden,
        "do_layer_norm_before": not post_norm,
    }


def bloom(sizes: Sizes) -> dict[str, Scalar]:
    """BLOOM; its MLP is four times the hidden size and is not stated."""
    return {
        "hidden_size": sizes.hidden,
        "n_layer": sizes.layers,
        "n_head": sizes.heads,
        "vocab_size": sizes.vocabulary,
        "seq_length": sizes.max_position,
        "tie_word_embeddings": sizes.tied,
    }


def mpt(sizes: Sizes) -> dict[str, Scalar]:
    """MPT; its MLP is a multiple of the hidden size."""
    return {
        "d_model": sizes.hidden,
        "n_layers": sizes.layers,
        "n_heads": sizes.heads,
        "vocab_size": sizes.vocabulary,
        "max_seq_len": sizes.max_position,
        "expansion_ratio": sizes.intermediate // sizes.hidden,
        "tie_word_embeddings": sizes.tied,
    }


def falcon(sizes: Sizes) -> dict[str, Scalar]:
    """Falcon: one key-value head in its first architecture, groups in the one after."""
    fields = plain(sizes)
    return {
        **{name: value for name, value in fields.items() if name != "intermediate_size"},
        "ffn_hidden_size": sizes.intermediate,
        "num_kv_heads": sizes.kv_heads,
        "new_decoder_architecture": sizes.kv_heads > 1,
        "multi_query": True,
        "parallel_attn": True,
        "bias": False,
    }


def mixtral(sizes: Sizes) -> dict[str, Scalar]:
    """Experts of the MLP's own width."""
    return {
        **windowed(sizes),
        "num_local_experts": sizes.experts,
        "num_experts_per_tok": sizes.experts_per_token,
    }


def phimoe(sizes: Sizes) -> dict[str, Scalar]:
    """Mixtral with biases."""
    return {**mixtral(sizes), "attention_bias": True, "lm_head_bias": True}


def granite_moe(sizes: Sizes) -> dict[str, Scalar]:
    """Llama with experts of the MLP's own width."""
    return {
        **llama(sizes),
        "num_local_experts": sizes.experts,
        "num_experts_per_tok": sizes.experts_per_token,
    }


def olmoe(sizes: Sizes) -> dict[str, Scalar]:
    """Llama with experts of the MLP's own width, named otherwise."""
    return {
        **llama(sizes),
        "num_experts": sizes.experts,
        "num_experts_per_tok": sizes.experts_per_token,
    }


def qwen3_moe(sizes: Sizes) -> dict[str, Scalar]:
    """Experts of a width of their own."""
    return {
        **olmoe(sizes),
        "moe_intermediate_size": sizes.expert_intermediate,
    }


def qwen2_moe(sizes: Sizes) -> dict[str, Scalar]:
    """Experts of a width of their own, and one shared by all tokens."""
    return {
        **qwen2(sizes),
        "num_experts": sizes.experts,
        "num_experts_per_tok": sizes.experts_per_token,
        "moe_intermediate_size": sizes.expert_intermediate,
        "shared_expert_intermediate_size": sizes.shared_experts * sizes.expert_intermediate,
    }


def deepseek_moe(sizes: Sizes) -> dict[str, Scalar]:
    """Leading dense layers, then experts of which some are shared."""
    return {
        **grouped(sizes),
        "n_routed_experts": sizes.experts,
        "num_experts_per_tok": sizes.experts_per_token,
        "moe_intermediate_size": sizes.expert_intermediate,
        "n_shared_experts": sizes.shared_experts,
        "first_k_dense_replace": sizes.dense_layers,
    }


def glm4_moe(sizes: Sizes) -> dict[str, Scalar]:
    """DeepSeek's first mixture in a family that transformers has."""
    return {**deepseek_moe(sizes), "head_dim": sizes.head_dim, "use_qk_norm": False}


def deepseek(sizes: Sizes) -> dict[str, Scalar]:
    """Latent attention with the sizes that DeepSeek-V2 and V3 share."""
    return {
        **deepseek_moe(sizes),
        "q_lora_rank": sizes.query_rank,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": sizes.head_dim - 64,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
    }


def phi3(sizes: Sizes) -> dict[str, Scalar]:
    """As for GLM, no padding token."""
    return {**windowed(sizes), "pad_token_id": None}


def orion(sizes: Sizes) -> dict[str, Scalar]:
    """Norms with shifts, no biases."""
    return {**grouped(sizes), "use_qkv_bias": False}
