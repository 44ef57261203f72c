"""The shape of a decoder-only transformer, and what follows from it: parameters, KV cache, bytes.

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
    "vocabulary": ("vocab_size",),
    "max_position": ("max_position_embeddings", "n_positions", "seq_length"),
    "experts": ("num_local_experts", "num_experts"),
    "experts_per_token": ("num_experts_per_tok",),
    "expert_intermediate": ("moe_intermediate_size",),
    "embedding": ("word_embed_proj_dim",),
}
#: Those that no model is without: a value below 1 is a mistake.
SIZES = frozenset(
    name
    for size in ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocabulary",
                 "max_position")
    for name in _NAMES[size]
)  # fmt: skip
#: Families with two matrices in their MLP; all others have a third, the gate.
_UNGATED = frozenset(
    {"gpt2", "gpt_neo", "gptj", "gpt_neox", "opt", "bloom", "mpt", "falcon", "phi", "starcoder2",
     "gpt_bigcode", "apertus"}
)  # fmt: skip
#: Families that tie input and output embeddings unless they say otherwise.
_TIED = frozenset({"gpt2", "gpt_neo", "opt", "bloom", "gemma", "gemma2", "gemma3_text", "cohere"})
#: Families whose attention or layers this shape does not describe.
_OTHER = frozenset({"deepseek_v2", "deepseek_v3", "falcon", "mamba", "mamba2", "jamba", "rwkv"})
#: Rows of learned positions beyond the context; OPT offsets its table by two.
_POSITION_ROWS = {"gpt2": 0, "gpt_neo": 0, "gpt_bigcode": 0, "opt": 2}


#: Bytes of a weight or a KV element. Quantized weights carry scales; they are left out.
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
#: Quantizations that store a weight in one byte; any other is taken for four bits.
ONE_BYTE = frozenset({"fp8", "int8", "w8a8", "bitsandbytes-8bit"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How an engine keeps numbers, in bytes each."""

    weight_bytes: float = 2.0
    kv_bytes: float = 2.0
    half: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The shape of a decoder; sizes in elements, `max_position` in tokens."""

    name: str
    family: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    max_position: int | None
    tied: bool
    gated: bool = True
    experts: int = 0
    experts_per_token: int = 0
    expert_intermediate: int = 0
    embedding: int = 0

    @property
    def attention_parameters(self) -> int:
        """Parameters of the four attention matrices of one layer."""
        return 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)

    @property
    def mlp_parameters(self) -> int:
        """Parameters of the MLP matrices of one layer; of one expert where there are experts."""
        width = self.intermediate
        if self.experts:
            width = self.expert_intermediate or self.intermediate
        return (3 if self.gated else 2) * self.hidden * width

    @property
    def layer_parameters(self) -> int:
        """Parameters of the matrices of one layer, all experts and their router included."""
        mlp = self.mlp_parameters * max(self.experts, 1) + self.hidden * self.experts
        return self.attention_parameters + mlp

    @property
    def active_layer_parameters(self) -> int:
        """Parameters of one layer that a token is multiplied with (paper's P_l)."""
        mlp = self.mlp_parameters * (self.experts_per_token if self.experts else 1)
        return self.attention_parameters + mlp + self.hidden * self.experts

    @property
    def head_parameters(self) -> int:
        """Parameters of the output matrix, whether tied or not (paper's d V)."""
        return self.vocabulary * (self.embedding or self.hidden)

    @property
    def parameters(self) -> int:
        """Number of parameters in the matrices; norms and biases, below 0.5 %, are left out."""
        width = self.embedding or self.hidden
        embeddings = self.head_parameters * (1 if self.tied else 2)
        projections = 2 * width * self.hidden if width != self.hidden else 0
        positions = 0
        if self.max_position and self.family in _POSITION_ROWS:
            positions = (self.max_position + _POSITION_ROWS[self.family]) * self.hidden
        return self.layers * self.layer_parameters + embeddings + projections + positions

    @property
    def kv_elements_per_token(self) -> int:
        """Elements the KV cache holds for one token, if every layer keeps the whole context."""
        return 2 * self.layers * self.kv_heads * self.head_dim


def precision(dtype: str, quantization: str | None = None) -> Precision:
    """Return the bytes of weights and KV cache for a dtype by its Hugging Face name."""
    size = BYTES.get(dtype, 2.0)
    weight = size
    if quantization is not None:
        weight = 1.0 if quantization.lower() in ONE_BYTE else 0.5
    return Precision(weight_bytes=weight, kv_bytes=size, half=size <= BYTES["float16"])


def shape_of(name: str, architecture: Mapping[str, object]) -> Shape | None:
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
        max_position=size["max_position"],
        tied=bool(tied),
        gated=family not in _UNGATED,
        experts=size["experts"] or 0,
        experts_per_token=size["experts_per_token"] or 0,
        expert_intermediate=size["expert_intermediate"] or 0,
        embedding=size["embedding"] or 0,
    )


def _first(architecture: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = architecture.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
