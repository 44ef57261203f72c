"""The features that regressors learn from: those of 2511.05597's Table V, and those it left out.

Owns their names, groups and formulas. Reads a point and nothing that was measured. Of Table V the
activation function is missing: it is told by whether the MLP is gated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from campaign.analysis.predictor.point import Point
from workers.costs.constants import board_rates
from workers.shapes.shape import precision

Formula = Callable[[Point], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One number of a point; `paper` where Table V has it. Groups are permuted together."""

    name: str
    group: str
    formula: Formula
    paper: bool = True


def _bytes(point: Point) -> tuple[float, float]:
    numbers = precision(point.dtype, point.quantization)
    return numbers.weight_bytes, numbers.kv_bytes


def _kv_bytes(point: Point) -> float:
    context = round(point.input_tokens + point.output_tokens)
    return point.build.frame.kv_elements(context) * _bytes(point)[1]


def _attention(point: Point) -> float:
    frame = point.build.frame
    return frame.attention_parameters * frame.layers


def _embedding(point: Point) -> float:
    frame = point.build.frame
    return float(frame.head_parameters * (1 if frame.tied else 2))


def _memory(point: Point) -> float:
    return float(point.board.memory_bytes or 0) * point.gpus


def _weights(point: Point) -> float:
    return point.build.total * _bytes(point)[0]


def _flops(point: Point) -> float:
    numbers = precision(point.dtype, point.quantization)
    rates = board_rates(point.board, numbers, None, point.quantization)
    return rates.matrix_flops if rates else 0.0


def _cores(point: Point) -> float:
    return float(str(point.sheet.get("cuda_cores") or 0))


def _ffn(point: Point) -> float:
    return max(0.0, point.build.total - _attention(point) - point.build.frame.head_parameters)


_LENGTHS, _BATCH, _CACHE = "token lengths", "batch size", "KV cache"
_SIZE, _EXPERTS, _PRECISION = "model size", "experts", "precision"
_BOARD, _COUNT, _MEMORY, _GRAPHS = "board", "GPU count", "memory needed", "CUDA graphs"

FEATURES: tuple[Feature, ...] = (
    Feature(name="input_tokens", group=_LENGTHS, formula=lambda p: p.input_tokens),
    Feature(name="output_tokens", group=_LENGTHS, formula=lambda p: p.output_tokens),
    Feature(name="batch", group=_BATCH, formula=lambda p: p.batch),
    Feature(name="kv_bytes_per_prompt", group=_CACHE, formula=_kv_bytes),
    Feature(name="weight_bits", group=_PRECISION, formula=lambda p: 8 * _bytes(p)[0]),
    Feature(name="layers", group=_SIZE, formula=lambda p: float(p.build.frame.layers)),
    Feature(name="hidden_size", group=_SIZE, formula=lambda p: float(p.build.frame.hidden)),
    Feature(name="intermediate_size", group=_SIZE,
            formula=lambda p: float(p.build.frame.intermediate)),
    Feature(name="kv_heads", group=_CACHE, formula=lambda p: float(p.build.frame.kv_heads)),
    Feature(name="heads", group=_SIZE, formula=lambda p: float(p.build.frame.heads)),
    Feature(name="mixture", group=_EXPERTS, formula=lambda p: float(p.mixture)),
    Feature(name="experts", group=_EXPERTS, formula=lambda p: float(p.build.frame.experts)),
    Feature(name="experts_per_token", group=_EXPERTS,
            formula=lambda p: float(p.build.frame.experts_per_token)),
    Feature(name="layer_params", group=_SIZE, formula=lambda p: p.build.frame.layer_parameters),
    Feature(name="embedding_params", group=_SIZE, formula=_embedding),
    Feature(name="other_linear_params", group=_SIZE,
            formula=lambda p: float(p.build.frame.head_parameters)),
    Feature(name="attention_params", group=_SIZE, formula=_attention),
    Feature(name="ffn_params", group=_SIZE, formula=_ffn),
    Feature(name="vram_required", group=_MEMORY, formula=_weights),
    Feature(name="gated", group=_SIZE, formula=lambda p: float(p.build.frame.gated)),
    Feature(name="gpu_memory", group=_BOARD, formula=lambda p: float(p.board.memory_bytes or 0)),
    Feature(name="memory_bandwidth", group=_BOARD,
            formula=lambda p: p.board.memory_bandwidth_bytes_s or 0.0),
    Feature(name="gpus", group=_COUNT, formula=lambda p: float(p.gpus)),
    Feature(name="tdp", group=_BOARD, formula=lambda p: p.board.tdp_w or 0.0),
    Feature(name="flops", group=_BOARD, formula=_flops),
    Feature(name="cuda_cores", group=_BOARD, formula=_cores),
    Feature(name="free_vram", group=_MEMORY, formula=lambda p: _memory(p) - _weights(p)),
    Feature(name="eager", group=_GRAPHS, formula=lambda p: float(p.eager)),
    Feature(name="quantized", group=_PRECISION, paper=False,
            formula=lambda p: float(p.quantization is not None)),
    Feature(name="active_params", group=_EXPERTS, paper=False, formula=lambda p: p.build.active),
    Feature(name="routed_params", group=_EXPERTS, paper=False, formula=lambda p: p.build.routed),
    Feature(name="expert_parallel", group=_COUNT, paper=False,
            formula=lambda p: float(p.expert_parallel)),
    Feature(name="data_parallel", group=_COUNT, paper=False,
            formula=lambda p: float(p.data_parallel)),
    Feature(name="input_known", group=_LENGTHS, paper=False,
            formula=lambda p: float(p.input_known)),
)  # fmt: skip
NAMES = tuple(feature.name for feature in FEATURES)


def features_of(point: Point) -> Mapping[str, float]:
    """Return the features of a point by name, in the order of `FEATURES`."""
    return {feature.name: feature.formula(point) for feature in FEATURES}


def groups() -> Mapping[str, tuple[int, ...]]:
    """Return the columns of each group of features, permuted together since they move together."""
    names = dict.fromkeys(feature.group for feature in FEATURES)
    return {
        name: tuple(at for at, feature in enumerate(FEATURES) if feature.group == name)
        for name in names
    }
