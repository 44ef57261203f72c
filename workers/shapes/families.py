"""What families of models have in common beyond their sizes, and how they name what they state.

Owns the table of families (gates, biases, norms, windows) and the reading of a ``config.json`` by
the names each family uses. Counts nothing. The facts are those of the modules that transformers
builds (of those it does not have, of the code beside their weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

#: The names a size goes by, in the order they are tried.
NAMES: Mapping[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model", "n_embed"),
    "intermediate": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "block_ff_dim"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "head_dim": ("head_dim",),
    "vocabulary": ("vocab_size",),
    "max_position": ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
    "experts": ("n_routed_experts", "num_local_experts", "num_experts"),
    "experts_per_token": ("num_experts_per_tok", "num_experts_per_token"),
    "expert_intermediate": ("moe_intermediate_size",),
    "embedding": ("word_embed_proj_dim",),
}
#: Those that no model is without: a value below 1 is a mistake.
SIZES = frozenset(
    name
    for size in ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocabulary",
                 "max_position")
    for name in NAMES[size]
)  # fmt: skip
#: The switches of biases, in the order they are tried.
_BIASES: Mapping[str, tuple[str, ...]] = {
    "qkv": ("attention_bias", "qkv_bias", "use_qkv_bias", "use_bias", "enable_bias", "bias"),
    "out": ("attention_bias", "use_bias", "enable_bias", "bias"),
    "mlp": ("mlp_bias", "use_bias", "enable_bias", "bias"),
    "head": ("lm_head_bias",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What a `model_type` implies where its configuration says nothing.

    `norms` of the hidden size in a layer, each of `norm` vectors (0: no parameters, 1: a scale,
    2: a scale and a shift). `heads_norm` of queries and keys: one for all heads (``head``) or one
    value for each of their elements (``full``). Biases are those of the three inputs of attention,
    its output, the MLP and the output matrix; `switched` names those that the configuration may
    switch. `wide`: the MLP is four times the hidden size unless stated. `positions`: rows of
    learned positions beyond the context, None without any; `context` where it is not stated.
    `window` is the family's default, in all but each `full_every`-th layer; None where a
    configuration must state one. `states` is what layers that keep no keys and values are.
    `needs` must be stated beside the sizes of all.
    """

    gated: bool = True
    norms: int = 2
    norm: int = 1
    heads_norm: str | None = None
    biases: frozenset[str] = frozenset()
    switched: frozenset[str] = frozenset({"qkv", "out", "mlp", "head"})
    tied: bool = False
    wide: bool = False
    positions: int | None = None
    context: int | None = None
    window: int | None = None
    windows_on: bool = True
    full_every: int = 0
    states: str | None = None
    needs: tuple[str, ...] = ()


_NONE: frozenset[str] = frozenset()
_ALL = frozenset({"qkv", "out", "mlp"})
_QKV = frozenset({"qkv"})
_SIZE = ("head_dim",)
_EXPERTS = ("experts", "experts_per_token")
_SPARSE = (*_EXPERTS, "expert_intermediate")
_SHARED = (*_SPARSE, "n_shared_experts", "first_k_dense_replace")
_LATENT = (*_SHARED, "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim",
           "v_head_dim")  # fmt: skip
_LLAMA = Family()
_GPT = Family(gated=False, norm=2, biases=_ALL, tied=True, wide=True, positions=0, context=1024,
              switched=_NONE)  # fmt: skip
_QWEN2 = Family(biases=_QKV, switched=_QKV, windows_on=False)
_QWEN2_MOE = replace(_QWEN2, needs=(*_SPARSE, "shared_expert_intermediate_size"))
_QWEN3 = Family(heads_norm="head", windows_on=False, needs=_SIZE)
_QWEN3_MOE = replace(_QWEN3, needs=_SPARSE)
_NEXT = Family(heads_norm="head", states="delta", needs=_SIZE)
_NEXT_MOE = replace(_NEXT, needs=(*_SIZE, *_SPARSE, "shared_expert_intermediate_size"))
_MAMBA = Family(norms=1, tied=True, states="mamba")
_DEEPSEEK = Family(switched=_NONE, needs=_LATENT)
#: Those whose layers are a state and nothing else.
PURE_STATES = frozenset({"mamba", "mamba2", "falcon_mamba"})
#: Families by `model_type`.
FAMILIES: Mapping[str, Family] = {
    "llama": _LLAMA,
    "mistral": Family(window=4096),
    "ministral3": _LLAMA,
    "mixtral": Family(needs=_EXPERTS),
    "phi3": _LLAMA,
    "granite": _LLAMA,
    "granitemoe": Family(needs=_EXPERTS),
    "granitemoeshared": Family(needs=(*_EXPERTS, "shared_intermediate_size")),
    "smollm3": Family(windows_on=False, tied=True, needs=("kv_heads",)),
    "arcee": Family(gated=False),
    "baichuan": _LLAMA,
    "internlm": _LLAMA,
    "internlm2": _LLAMA,
    "minicpm": Family(tied=True),
    "orion": Family(norm=2),
    "seed_oss": Family(biases=_QKV, switched=_QKV, needs=_SIZE),
    "qwen2": _QWEN2,
    "qwen2_vl_text": _QWEN2,
    "qwen2_5_vl_text": _QWEN2,
    "qwen2_moe": _QWEN2_MOE,
    "qwen3": _QWEN3,
    "qwen3_vl_text": _QWEN3,
    "qwen3_moe": _QWEN3_MOE,
    "qwen3_vl_moe_text": _QWEN3_MOE,
    "gemma": Family(tied=True, needs=_SIZE),
    "gemma2": Family(norms=4, tied=True, window=4096, full_every=2, needs=_SIZE),
    "gemma3_text": Family(norms=4, heads_norm="head", tied=True, window=4096, full_every=6,
                          needs=_SIZE),
    "olmo": Family(norm=0),
    "olmo2": Family(heads_norm="full"),
    "olmo3": Family(heads_norm="full", window=4096, full_every=4),
    "olmoe": Family(heads_norm="full", needs=_EXPERTS),
    "starcoder2": Family(gated=False, norm=2, biases=_ALL, tied=True),
    "stablelm": Family(norm=2, switched=_QKV),
    "cohere": Family(norms=1, tied=True),
    "cohere2": Family(norms=1, tied=True, window=4096, full_every=4),
    "apertus": Family(gated=False, heads_norm="head"),
    "nemotron": Family(gated=False, norm=2),
    "phi": Family(gated=False, norms=1, norm=2, biases=_ALL | {"head"}, switched=_NONE),
    "phimoe": Family(norm=2, needs=_EXPERTS),
    "gpt2": _GPT,
    "gpt_bigcode": _GPT,
    "gpt_neo": replace(_GPT, biases=frozenset({"out", "mlp"}), window=256, context=2048),
    "gptj": replace(_GPT, norms=1, biases=frozenset({"mlp", "head"}), tied=False, positions=None,
                    context=2048),
    "gpt_neox": Family(gated=False, norm=2, biases=_ALL, switched=frozenset({"qkv", "out"})),
    "opt": Family(gated=False, norm=2, biases=_ALL, tied=True, positions=2, context=2048),
    "bloom": Family(gated=False, norm=2, biases=_ALL, tied=True, wide=True, switched=_NONE),
    "mpt": Family(gated=False, tied=True, wide=True, switched=_NONE),
    "falcon": Family(gated=False, norm=2, tied=True, wide=True),
    "gpt_oss": Family(biases=frozenset({"qkv", "out"}), window=128, full_every=2,
                      needs=(*_SIZE, *_EXPERTS)),
    "glm": Family(biases=_QKV, switched=_QKV, needs=_SIZE),
    "glm4": Family(norms=4, biases=_QKV, switched=_QKV, needs=_SIZE),
    "glm4_moe": Family(switched=_QKV, needs=_SHARED),
    "deepseek": Family(switched=_NONE, needs=_SHARED),
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": _DEEPSEEK,
    "kimi_k2": _DEEPSEEK,
    "dots1": Family(heads_norm="head", needs=_SHARED),
    "llama4_text": Family(full_every=4, needs=(*_SIZE, *_EXPERTS, "intermediate_size_mlp")),
    "mamba": _MAMBA,
    "falcon_mamba": _MAMBA,
    "mamba2": Family(norms=1, states="mamba2"),
    "jamba": Family(states="mamba", switched=_NONE, needs=_EXPERTS),
    "bamba": Family(states="mamba2"),
    "granitemoehybrid": Family(states="mamba2", needs=("shared_intermediate_size",)),
    "falcon_h1": Family(states="mamba2"),
    "nemotron_h": Family(gated=False, norms=1, states="mamba2", switched=frozenset({"mlp"}),
                         needs=_SIZE),
    "qwen3_next": _NEXT_MOE,
    "qwen3_5_text": _NEXT,
    "qwen3_5_moe_text": _NEXT_MOE,
    "lfm2": Family(heads_norm="head", tied=True, states="conv", switched=_NONE),
}  # fmt: skip


class Config:
    """The content of a ``config.json``, asked by our names. Nested text parts are looked into."""

    def __init__(self, content: Mapping[str, object]) -> None:
        """Read `content`, or the text part of a model of several kinds of input."""
        text = content.get("text_config")
        if isinstance(text, Mapping):
            tied = {k: v for k, v in content.items() if k == "tie_word_embeddings"}
            content = {**tied, **text}
        self._content = content
        kind = content.get("model_type")
        self.kind = kind if isinstance(kind, str) else ""
        self.known = self.kind in FAMILIES
        self.family = FAMILIES.get(self.kind, _LLAMA)

    def get(self, key: str) -> object:
        """Return a value by its own name; None where there is none."""
        return self._content.get(key)

    def stated(self, key: str) -> bool:
        """Whether a key is there, be it with no value."""
        return key in self._content

    def number(self, *keys: str) -> int | None:
        """Return the first of these that is a whole number, not below zero; None without any."""
        for key in keys:
            value = self._content.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                return value
        return None

    def size(self, name: str) -> int | None:
        """Return a size above zero by our name for it."""
        return next(filter(None, map(self.number, NAMES[name])), None)

    def at(self, key: str, default: int) -> int:
        """Return a whole number by its own name, or what the family takes without it."""
        value = self.number(key)
        return default if value is None else value

    def period(self, key: str, default: int) -> int:
        """Return every how many layers something is, by its own name; at least 1."""
        return max(self.at(key, default), 1)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a switch by its own name."""
        value = self._content.get(key)
        return value if isinstance(value, bool) else default

    def words(self, key: str) -> tuple[str, ...]:
        """Return a list of words by its name, as given; empty without one."""
        value = self._content.get(key)
        if not isinstance(value, list | tuple):
            return ()
        return tuple(str(word) for word in value)

    def numbers(self, key: str) -> tuple[int, ...]:
        """Return a list of whole numbers by its name; empty without one."""
        value = self._content.get(key)
        if not isinstance(value, list | tuple):
            return ()
        return tuple(number for number in value if isinstance(number, int))

    def bias(self, where: str) -> bool:
        """Whether there are biases at ``qkv``, ``out``, ``mlp`` or ``head``."""
        default = where in self.family.biases
        if where not in self.family.switched:
            return default
        for key in _BIASES[where]:
            if isinstance(self._content.get(key), bool):
                return self.flag(key, default=default)
        return default
