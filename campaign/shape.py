"""The shape of a decoder-only transformer, and what follows from it: parameters, KV cache.

Reads the content of a ``config.json`` by the names its families use. Pure; says None where a
shape cannot tell, and never guesses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from db.records import Scalar

Architecture = Mapping[str, Scalar | tuple[Scalar, ...]]

#: The names a size goes by, in the order they are tried.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "intermediate": ("intermediate_size", "n_inner", "ffn_dim"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "kv_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",),
    "embedding": ("word_embed_proj_dim",),
    "vocabulary": ("vocab_size",),
    "max_position": ("max_position_embeddings", "n_positions", "seq_length"),
    "experts": ("num_local_experts", "num_experts"),
    "experts_per_token": ("num_experts_per_tok",),
    "expert_intermediate": ("moe_intermediate_size",),
}
#: Families with two matrices in their MLP; all others have a third, the gate.
_UNGATED = frozenset(
    {"gpt2", "gpt_neo", "gptj", "gpt_neox", "opt", "bloom", "mpt", "falcon", "phi", "starcoder2",
     "gpt_bigcode", "apertus"}
)  # fmt: skip
#: Families that tie input and output embeddings unless they say otherwise.
_TIED = frozenset({"gpt2", "gpt_neo", "opt", "bloom", "gemma", "gemma2", "gemma3_text", "cohere"})
#: Families whose attention or layers this shape does not describe.
_OTHER = frozenset({"deepseek_v2", "deepseek_v3", "falcon", "mamba", "mamba2", "jamba", "rwkv"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The shape of a decoder; sizes in elements, `max_position` in tokens.

    `embedding` is the width of the embeddings where it is not the hidden size.
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
    embedding: int | None = None
    max_position: int | None
    tied: bool
    gated: bool = True
    experts: int = 0
    experts_per_token: int = 0
    expert_intermediate: int = 0

    @property
    def parameters(self) -> int:
        """Number of parameters in the matrices; norms and biases, below 0.5 %, are left out."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        matrices = 3 if self.gated else 2
        experts = self.experts * (self.expert_intermediate or self.intermediate)
        mlp = matrices * self.hidden * (experts or self.intermediate) + self.hidden * self.experts
        width = self.embedding or self.hidden
        embeddings = self.vocabulary * width * (1 if self.tied else 2)
        return self.layers * (attention + mlp) + embeddings

    @property
    def kv_elements_per_token(self) -> int:
        """Elements the KV cache holds for one token, if every layer keeps the whole context."""
        return 2 * self.layers * self.kv_heads * self.head_dim


def shape_of(name: str, architecture: Architecture) -> Shape | None:
    """Return the shape that a ``config.json`` describes; None where it cannot be told."""
    family = architecture.get("model_type")
    if not isinstance(family, str) or family in _OTHER:
        return None
    size = {field: _first(architecture, names) for field, names in _NAMES.items()}
    layers, hidden, heads = size["layers"], size["hidden"], size["heads"]
    vocabulary = size["vocabulary"]
    if not (layers and hidden and heads and vocabulary):
        return None
    tied = architecture.get("tie_word_embeddings", family in _TIED)
    return Shape(
        name=name,
        family=family,
        layers=layers,
        hidden=hidden,
        intermediate=size["intermediate"] or 4 * hidden,
        heads=heads,
        kv_heads=size["kv_heads"] or heads,
        head_dim=size["head_dim"] or hidden // heads,
        vocabulary=vocabulary,
        embedding=size["embedding"],
        max_position=size["max_position"],
        tied=bool(tied),
        gated=family not in _UNGATED,
        experts=size["experts"] or 0,
        experts_per_token=size["experts_per_token"] or 0,
        expert_intermediate=size["expert_intermediate"] or 0,
    )


def _first(architecture: Architecture, names: tuple[str, ...]) -> int | None:
    for name in names:
        value = architecture.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
