"""The shape of a decoder, and what follows from it: parameters, FLOPs, KV cache, bytes.

Reads the content of a ``config.json`` by the names its families use. Pure; says None where a
shape cannot tell, and never guesses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from db.records import Scalar
from workers.shapes.families import Config
from workers.shapes.layers import Layers
from workers.shapes.mixers import heads_of
from workers.shapes.mlps import expert_width, width_of
from workers.shapes.stack import context_of, groups_of, lacking, vectors_of

Architecture = Mapping[str, Scalar | tuple[Scalar, ...]]

#: Bytes of a weight or a KV element. Quantized weights carry scales; they are left out.
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
#: Bytes of a weight by the quantizations of vLLM; where the checkpoint decides, the least it may.
QUANTIZED: Mapping[str, float] = {
    **dict.fromkeys(("fp8", "fp8_per_tensor", "fp8_per_channel", "fp8_per_block", "fbgemm_fp8",
                     "modelopt", "modelopt_mxfp8", "mxfp8", "experts_int8",
                     "int8_per_channel_weight_only"), 1.0),
    **dict.fromkeys(("awq", "auto_awq", "awq_marlin", "gptq", "auto_gptq", "gptq_marlin",
                     "fp_quant", "modelopt_fp4", "modelopt_mixed", "humming",
                     "compressed-tensors", "quark", "moe_wna16", "torchao", "inc", "mxfp4",
                     "gpt_oss_mxfp4", "deepseek_v4_fp8", "online", "nvfp4_per_token"), 0.5),
    **dict.fromkeys(("bitsandbytes", "gguf", "hqq", "marlin", "bitblas", "gptq_bitblas"), 0.5),
    **dict.fromkeys(("ptpc_fp8", "deepspeedfp", "tpu_int8"), 1.0),
}  # fmt: skip
#: The same of random weights, where they are written in more bytes than a checkpoint may take.
DRAWN: Mapping[str, float] = {"compressed-tensors": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How an engine keeps numbers, in bytes each."""

    weight_bytes: float = 2.0
    kv_bytes: float = 2.0
    half: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The shape of a decoder; sizes in elements, `max_position` in tokens.

    `groups` are its layers by kind; `vectors` what lies outside of them and is no matrix: the last
    norm, learned positions, biases of the output. `heads` are 0 without attention, `experts`
    without a mixture; `embedding` is 0 where tokens are embedded in the hidden size. `kv_parts` are
    those that a token's KV cache can be split into over boards: its heads, and 1 of latents.
    """

    name: str
    family: str
    groups: tuple[Layers, ...]
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
    vectors: int = 0
    kv_parts: int = 1

    @property
    def layers(self) -> int:
        """How many layers there are, of all kinds."""
        return sum(group.count for group in self.groups)

    @property
    def attention_parameters(self) -> float:
        """Parameters of the matrices that mix tokens, of one layer on average."""
        return sum(group.count * group.mixer_parameters for group in self.groups) / self.layers

    @property
    def mlp_parameters(self) -> int:
        """Parameters of the matrices of one MLP; of one expert where there are experts."""
        width = self.expert_intermediate if self.experts else self.intermediate
        return (3 if self.gated else 2) * self.hidden * width

    @property
    def layer_parameters(self) -> float:
        """Parameters of the matrices of one layer on average, all experts and routers included."""
        return sum(group.count * group.matrices for group in self.groups) / self.layers

    @property
    def active_layer_parameters(self) -> float:
        """Parameters of one layer that a token is multiplied with, on average (paper's P_l)."""
        return self.matrix_parameters / self.layers

    @property
    def matrix_parameters(self) -> int:
        """Parameters that a token is multiplied with up to the last layer: no output matrix."""
        layers = sum(group.count * group.active_matrices for group in self.groups)
        return layers + self._projection

    @property
    def head_parameters(self) -> int:
        """Parameters of the output matrix, whether tied or not (paper's d V)."""
        return self.vocabulary * (self.embedding or self.hidden)

    @property
    def head_flops(self) -> int:
        """FLOPs of choosing one token."""
        return 2 * (self.head_parameters + self._projection)

    @property
    def parameters(self) -> int:
        """Number of parameters, norms and biases included."""
        layers = sum(group.count * group.parameters for group in self.groups)
        embeddings = self.head_parameters * (1 if self.tied else 2)
        return layers + embeddings + 2 * self._projection + self.vectors

    @property
    def active_parameters(self) -> int:
        """Parameters without the experts that a token does not choose."""
        return self.parameters - sum(group.count * group.idle_parameters for group in self.groups)

    @property
    def kv_elements_per_token(self) -> int:
        """Elements that all layers write to the KV cache for one token."""
        return sum(group.count * group.kv_elements for group in self.groups)

    @property
    def state_elements(self) -> int:
        """Elements of state that a sequence keeps whatever its length."""
        return sum(group.count * group.state_elements for group in self.groups)

    def kv_copies(self, boards: int) -> float:
        """Return how often boards that split the heads keep a token's KV cache, all together.

        vLLM has at least one key-value head on each, and the latents of all heads.
        """
        return max(1.0, boards / self.kv_parts)

    @property
    def windowed(self) -> bool:
        """Whether a layer forgets what lies behind a window."""
        return any(group.window is not None for group in self.groups)

    @property
    def _projection(self) -> int:
        """Parameters between the embedding's size and the hidden one, where they differ."""
        return self.embedding * self.hidden if self.embedding not in (0, self.hidden) else 0

    def layer_flops(self, first: int, last: int, *, decode: bool = False) -> int:
        """Return the FLOPs of all layers for the tokens `first` to `last` of one sequence.

        Counted from 1: a prompt of n tokens is 1 to n. Matrices, causal attention within each
        layer's window, state. `decode` matters to latent attention alone, which is decoded over
        its latents.
        """
        layers = sum(g.count * g.flops(first, last, decode=decode) for g in self.groups)
        return layers + 2 * (last - first + 1) * self._projection

    def kv_elements(self, context: int) -> int:
        """Return the elements that the KV cache keeps of one sequence of `context` tokens."""
        return sum(group.count * group.kept(context) for group in self.groups)

    def kv_elements_read(self, first: int, last: int) -> int:
        """Return the elements read to decode a sequence's tokens `first` to `last` one by one."""
        return sum(g.count * g.kv_elements * g.seen(first, last) for g in self.groups)

    def parameters_read(self, tokens: int) -> float:
        """Return how many parameters an engine's step over so many tokens reads.

        All of a dense model but the embeddings it looks up; of a mixture the experts that its
        tokens reach when they choose evenly.
        """
        read: float = self.head_parameters + 2 * self._projection + self.vectors
        for group in self.groups:
            each: float = group.parameters
            if group.experts:
                missed = (1 - group.experts_per_token / group.experts) ** tokens
                expert = group.expert_parameters + group.expert_vectors
                each -= missed * group.experts * expert
            read += group.count * each
        return read


def precision(dtype: str, quantization: str | None = None, *, drawn: bool = False) -> Precision:
    """Return the bytes of weights and KV cache for a dtype by its Hugging Face name.

    `drawn` weights are random ones.
    """
    size, method = BYTES.get(dtype, 2.0), quantization or ""
    weight = QUANTIZED.get(method, size)
    if drawn:
        weight = DRAWN.get(method, weight)
    return Precision(weight_bytes=weight, kv_bytes=size, half=size <= BYTES["float16"])


def shape_of(name: str, architecture: Mapping[str, object]) -> Shape | None:
    """Return the shape that a ``config.json`` describes; None where it cannot be told."""
    config = Config(architecture)
    if not config.known or lacking(config):
        return None
    hidden, vocabulary = config.size("hidden") or 0, config.size("vocabulary") or 0
    groups = groups_of(config, hidden)
    if groups is None:
        return None
    heads, kv_heads, head_dim = heads_of(config)
    experts = max(group.experts for group in groups)
    tied = config.flag("tie_word_embeddings", default=config.family.tied)
    return Shape(
        name=name,
        family=config.kind,
        groups=groups,
        hidden=hidden,
        intermediate=width_of(config, hidden) or 0,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=vocabulary,
        max_position=context_of(config),
        tied=config.flag("tie_embedding", default=tied),
        gated=config.family.gated,
        experts=experts,
        experts_per_token=config.size("experts_per_token") or 0 if experts else 0,
        expert_intermediate=expert_width(config, hidden) if experts else 0,
        embedding=config.size("embedding") or 0,
        vectors=vectors_of(config, hidden, vocabulary),
        kv_parts=1 if config.number("kv_lora_rank") else max(1, kv_heads),
    )
