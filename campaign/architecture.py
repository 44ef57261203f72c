"""From a row of the model catalogue to the content of a Hugging Face ``config.json``.

Owns the mapping of families to `model_type` and the field names each one uses. Only families
whose mapped configuration has the catalogue's parameter count are listed; the others are refused
rather than approximated. Constants that change no operation count (rotary base, epsilon) are left
to the family's own defaults. Never imports transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from db.errors import ConfigError
from db.records import Scalar
from workers.shape import Architecture, Shape


def _llama(shape: Shape) -> dict[str, Scalar]:
    """The field names shared by Llama and most of its descendants."""
    return {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.max_position,
        "tie_word_embeddings": shape.tied,
    }


def _neox(shape: Shape) -> dict[str, Scalar]:
    """The fields of models without grouped-query attention: no key-value heads, no head size."""
    fields = _llama(shape)
    del fields["num_key_value_heads"], fields["head_dim"]
    return fields


def _gpt2(shape: Shape) -> dict[str, Scalar]:
    return {
        "n_embd": shape.hidden,
        "n_inner": shape.intermediate,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "n_positions": shape.max_position,
        "vocab_size": shape.vocabulary,
        "tie_word_embeddings": shape.tied,
    }


def _opt(shape: Shape) -> dict[str, Scalar]:
    """OPT; its 350m, the only one of hidden size 1024, is post-norm with embeddings of 512."""
    post_norm = shape.hidden == 1024  # noqa: PLR2004
    return {
        "hidden_size": shape.hidden,
        "word_embed_proj_dim": 512 if post_norm else shape.hidden,
        "ffn_dim": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.max_position,
        "tie_word_embeddings": shape.tied,
        "do_layer_norm_before": not post_norm,
    }


def _bloom(shape: Shape) -> dict[str, Scalar]:
    return {
        "hidden_size": shape.hidden,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "vocab_size": shape.vocabulary,
        "seq_length": shape.max_position,
        "tie_word_embeddings": shape.tied,
    }


def _windowless(shape: Shape) -> dict[str, Scalar]:
    """Attention over the whole context: the family's default window would shorten it."""
    return {**_llama(shape), "sliding_window": None}


def _qwen2(shape: Shape) -> dict[str, Scalar]:
    fields = {**_llama(shape), "use_sliding_window": False}
    del fields["head_dim"]
    return fields


def _gemma3(shape: Shape) -> dict[str, Scalar]:
    return {**_llama(shape), "sliding_window": 512 if shape.layers < 30 else 1024}  # noqa: PLR2004


def _mixtral(shape: Shape) -> dict[str, Scalar]:
    return {
        **_windowless(shape),
        "num_local_experts": shape.experts,
        "num_experts_per_tok": shape.experts_per_token,
    }


def _qwen3_moe(shape: Shape) -> dict[str, Scalar]:
    return {
        **_llama(shape),
        "num_experts": shape.experts,
        "num_experts_per_tok": shape.experts_per_token,
        "moe_intermediate_size": shape.expert_intermediate,
    }


def _olmoe(shape: Shape) -> dict[str, Scalar]:
    return {
        **_llama(shape),
        "num_experts": shape.experts,
        "num_experts_per_tok": shape.experts_per_token,
    }


def _granite_moe(shape: Shape) -> dict[str, Scalar]:
    return {
        **_llama(shape),
        "num_local_experts": shape.experts,
        "num_experts_per_tok": shape.experts_per_token,
    }


def _phi3(shape: Shape) -> dict[str, Scalar]:
    """The family's default padding token lies outside the smaller vocabularies."""
    return {**_llama(shape), "pad_token_id": None}


Fields = Callable[[Shape], dict[str, Scalar]]

LLAMA = ("llama", "LlamaForCausalLM", _llama)

FAMILIES: Mapping[str, tuple[str, str, Fields]] = {
    "llama1": LLAMA,
    "llama2": LLAMA,
    "llama3": LLAMA,
    "codellama": LLAMA,
    "smollm": LLAMA,
    "yi": LLAMA,
    "salamandra": LLAMA,
    "falcon3": LLAMA,
    "granite-code": LLAMA,
    "mistral": ("mistral", "MistralForCausalLM", _windowless),
    "qwen1.5": ("qwen2", "Qwen2ForCausalLM", _qwen2),
    "qwen2": ("qwen2", "Qwen2ForCausalLM", _qwen2),
    "qwen2.5": ("qwen2", "Qwen2ForCausalLM", _qwen2),
    "qwen3": ("qwen3", "Qwen3ForCausalLM", _llama),
    "gemma": ("gemma", "GemmaForCausalLM", _llama),
    "gemma2": ("gemma2", "Gemma2ForCausalLM", _llama),
    "gemma3": ("gemma3_text", "Gemma3ForCausalLM", _gemma3),
    "phi": ("phi", "PhiForCausalLM", _neox),
    "phi3": ("phi3", "Phi3ForCausalLM", _phi3),
    "olmo": ("olmo", "OlmoForCausalLM", _llama),
    "olmo2": ("olmo2", "Olmo2ForCausalLM", _llama),
    "olmo3": ("olmo3", "Olmo3ForCausalLM", _llama),
    "granite": ("granite", "GraniteForCausalLM", _llama),
    "stablelm": ("stablelm", "StableLmForCausalLM", _llama),
    "starcoder2": ("starcoder2", "Starcoder2ForCausalLM", _windowless),
    "opt": ("opt", "OPTForCausalLM", _opt),
    "gpt2": ("gpt2", "GPT2LMHeadModel", _gpt2),
    "gpt-neox": ("gpt_neox", "GPTNeoXForCausalLM", _neox),
    "pythia": ("gpt_neox", "GPTNeoXForCausalLM", _neox),
    "bloom": ("bloom", "BloomForCausalLM", _bloom),
    "mixtral": ("mixtral", "MixtralForCausalLM", _mixtral),
    "qwen3-moe": ("qwen3_moe", "Qwen3MoeForCausalLM", _qwen3_moe),
    "olmoe": ("olmoe", "OlmoeForCausalLM", _olmoe),
    "granite-moe": ("granitemoe", "GraniteMoeForCausalLM", _granite_moe),
    "cohere": ("cohere", "CohereForCausalLM", _llama),
    "apertus": ("apertus", "ApertusForCausalLM", _llama),
    "internlm2": LLAMA,
}


def architecture(shape: Shape) -> Architecture:
    """Return the ``config.json`` of a shape. Raises ConfigError for a family not mapped."""
    try:
        model_type, name, fields = FAMILIES[shape.family]
    except KeyError:
        raise ConfigError(
            f"model {shape.name}: family {shape.family} cannot be built from the catalogue; "
            f"supported: {', '.join(sorted(FAMILIES))}; or give a folder with its config.json"
        ) from None
    return {"model_type": model_type, "architectures": (name,), **fields(shape)}
