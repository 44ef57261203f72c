"""The roofline's joules per output token, part by part: what each cause costs by first principles.

The parts of `ROOFLINE` add up to what `campaign estimate` says of one batch; those of `BEYOND`
are causes that it leaves out, at a size that a first guess gives them. Pure; learns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from campaign.analysis.predictor.point import Point
from db.errors import ConfigError
from db.records import EngineSpec, ModelSpec, Weights
from workers.costs.constants import (
    FP8,
    FP8_EXPERT_KERNELS,
    KERNELS,
    NVLINK_BYTES_S,
    NVLINKED,
    PCIE_BYTES_S,
    Constants,
    Rates,
    board_rates,
    constants_of,
)
from workers.shapes.shape import Precision, precision

#: What `campaign estimate` adds up: traffic of weights read by every step and of experts, of keys
#: and values; arithmetic of answers; prompts; kernels' latencies; what boards exchange; the
#: engine's own time per step and per request in it.
ROOFLINE = (
    "weights", "experts", "kv_cache", "arithmetic", "prompt", "kernels", "fp8_kernels",
    "all_reduce", "exchange", "step", "requests",
)  # fmt: skip
#: Beside it: choosing experts, waiting for the board whose experts are read most, reading experts
#: in FP8 slower than their bytes say, multiplying few tokens with each expert, replicas that wait
#: for each other's prompts, and starting a request.
BEYOND = (
    "routing", "imbalance", "narrow_experts", "expert_arithmetic", "expert_prompt", "replicas",
    "admission",
)  # fmt: skip
PARTS = (*ROOFLINE, *BEYOND)
#: First guesses: shares of the part beside it, and the seconds that an engine takes to start and
#: end a request. What is learned from rows replaces them.
IMBALANCE, NARROW, SMALL, WAITING, ADMISSION_S = 0.1, 0.5, 0.5, 0.5, 5e-3
#: A vLLM whose version a row does not give is taken for one with the second engine core.
USUAL = "0.11"

Joules = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prices:
    """Joules of a group: of a byte and a FLOP, of a second in kernels and of one outside."""

    byte_j: float
    matrix_flop_j: float
    flop_j: float
    kernel_w: float
    host_w: float


def parts_of(point: Point) -> Joules:
    """Return joules per output token by part, in the order of `PARTS`; all of the group's boards.

    Of a batch that runs from its prompts to its last answer; whether the boards draw more than
    their TDP for a moment is left out. Raises ConfigError where the board's rates are not known.
    """
    numbers = precision(point.dtype, point.quantization)
    constants = constants_of(point.board, _engine(point))
    prices = _prices(point, numbers, constants)
    steps, tokens = max(1.0, point.output_tokens), point.batch * max(1.0, point.output_tokens)
    traffic = _traffic(point, numbers)
    seconds = _seconds(point, numbers, constants)
    found = {name: steps * count * prices.byte_j for name, count in traffic.items()}
    found["arithmetic"] = _arithmetic(point, prices)
    found["prompt"] = _prompt(point, numbers, prices)
    found |= {name: steps * value * prices.kernel_w for name, value in seconds.items()}
    found["step"] = (steps + 1) * constants.step_s * prices.host_w
    found["requests"] = (steps + 1) * point.batch * constants.request_s * prices.host_w
    found |= _beyond(point, found, prices)
    return {name: found[name] / tokens for name in PARTS}


def _beyond(point: Point, found: Joules, prices: _Prices) -> Joules:
    """Return the joules of causes that the roofline leaves out, as first guesses."""
    mixture, narrow = float(point.mixture), float(point.quantization in FP8)
    return {
        "imbalance": IMBALANCE * found["experts"] * (point.expert_parallel > 1),
        "narrow_experts": NARROW * found["experts"] * narrow,
        "expert_arithmetic": SMALL * found["arithmetic"] * mixture,
        "expert_prompt": SMALL * found["prompt"] * mixture,
        "replicas": WAITING * found["prompt"] * (point.data_parallel - 1),
        "admission": point.batch * ADMISSION_S * prices.host_w,
    }


def roofline_j(parts: Joules) -> float:
    """Return what the roofline alone says: joules per output token."""
    return sum(parts[name] for name in ROOFLINE)


def _engine(point: Point) -> EngineSpec:
    return EngineSpec(
        model=ModelSpec(name=point.model, weights=Weights.RANDOM),
        backend=point.backend,
        board=point.board.slug,
        version=point.version or (USUAL if point.backend == "vllm" else None),
    )


def _prices(point: Point, numbers: Precision, c: Constants) -> _Prices:
    """Return what a board's time, traffic and arithmetic cost, as `campaign estimate` has it."""
    board, boards = point.board, point.gpus
    rates = board_rates(board, numbers, None, point.quantization)
    if rates is None or board.idle_w is None or board.tdp_w is None:
        raise ConfigError(f"board {board.slug}: its bandwidth, FLOP/s, TDP or idle power is not "
                          "in the catalogue")  # fmt: skip
    awake_w = board.idle_w + c.awake * (board.tdp_w - board.idle_w)
    span_w = board.tdp_w - awake_w
    kernel_w = awake_w + c.busy * span_w
    return _Prices(
        byte_j=(kernel_w / c.bandwidth + c.busy * span_w) / rates.bytes_s,
        matrix_flop_j=board.tdp_w / c.compute / rates.matrix_flops,
        flop_j=board.tdp_w / c.compute / rates.flops,
        kernel_w=boards * kernel_w,
        host_w=boards * awake_w,
    )


def _traffic(point: Point, numbers: Precision) -> dict[str, float]:
    """Return the bytes that a step of decoding moves in the mean, over the group."""
    build, frame = point.build, point.build.frame
    reached = 1.0 - (1.0 - build.chosen) ** point.batch if point.mixture else 0.0
    first, more = round(point.input_tokens) + 1, max(1, round(point.output_tokens) - 1)
    read = frame.kv_elements_read(first, first + more - 1) / more
    copies = frame.kv_copies(point.tensor_parallel)
    kept = copies * (read + frame.kv_elements_per_token) + 2 * frame.state_elements
    return {
        "weights": point.data_parallel * build.resident * numbers.weight_bytes,
        "experts": reached * build.routed * numbers.weight_bytes,
        "kv_cache": point.batch * kept * numbers.kv_bytes,
    }


def _flops_j(point: Point, prices: _Prices, first: int, last: int, *, decode: bool) -> float:
    """Return the joules of a request's tokens `first` to `last` in the layers."""
    frame, tokens = point.build.frame, last - first + 1
    attention = frame.layer_flops(first, last, decode=decode) - 2 * tokens * frame.matrix_parameters
    matrices = 2 * tokens * point.build.active
    return matrices * prices.matrix_flop_j + attention * prices.flop_j


def _arithmetic(point: Point, prices: _Prices) -> float:
    first = round(point.input_tokens) + 1
    more = max(1, round(point.output_tokens) - 1)
    layers = _flops_j(point, prices, first, first + more - 1, decode=True)
    return point.batch * (layers + more * point.build.frame.head_flops * prices.flop_j)


def _prompt(point: Point, numbers: Precision, prices: _Prices) -> float:
    """Return the joules of a batch's prompts: arithmetic, the weights once, keys and values."""
    frame, length = point.build.frame, max(1, round(point.input_tokens))
    layers = _flops_j(point, prices, 1, length, decode=False)
    flops = point.batch * (layers + frame.head_flops * prices.flop_j)
    kept = frame.kv_elements_per_token * frame.kv_copies(point.tensor_parallel)
    written = point.batch * length * kept * numbers.kv_bytes
    return flops + (point.build.total * numbers.weight_bytes + written) * prices.byte_j


def _seconds(point: Point, numbers: Precision, c: Constants) -> dict[str, float]:
    """Return the latencies of a step of decoding, by cause."""
    frame, build, boards = point.build.frame, point.build, point.tensor_parallel
    rates = board_rates(point.board, numbers, None, point.quantization)
    narrow = rates is not None and _narrow(point, rates)
    linked = any(word in point.board.slug for word in NVLINKED)
    hops = (3 if linked else 2 * (boards - 1)) if boards > 1 else 0
    activation_bytes = 2.0 if numbers.half else 4.0
    sent = (point.batch + point.batch * point.input_tokens / max(1.0, point.output_tokens)) * (
        frame.hidden * activation_bytes * 2 * (boards - 1) / boards
    )
    return {
        "kernels": frame.layers * KERNELS * c.kernel_s,
        "fp8_kernels": narrow * build.mixtures * FP8_EXPERT_KERNELS * c.kernel_s,
        "all_reduce": 2 * frame.layers * hops * c.kernel_s,
        "exchange": 2 * frame.layers * sent / (NVLINK_BYTES_S if linked else PCIE_BYTES_S),
        "routing": build.mixtures * KERNELS * c.kernel_s,
    }


def _narrow(point: Point, rates: Rates) -> bool:
    return point.quantization in FP8 and rates.matrix_flops > rates.flops
