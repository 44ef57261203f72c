"""What a model costs on a board, from first principles: FLOPs, bytes, seconds, watts.

Pure. Serves planning and the simulated engine; what it says is never stored as a measurement.
FLOPs and bytes are exact for the shape (2 per multiply-accumulate, output matrix only where a
token is chosen). Seconds and watts rest on the constants below, each an assumption until a
calibration replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass

from db.records import Board, Workload
from workers.shape import Precision, Shape

#: Bumped when a formula or constant changes what a simulated row says.
VERSION = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """How much of a data sheet is reached. Assumptions: typical of dense decoders in vLLM.

    `compute` and `bandwidth` are fractions of the peak; `step_s` is launch and scheduling time
    of one engine step. A group exchanges two sums per layer (`reduce_s` each plus their bytes
    over `nvlink_bytes_s` on SXM boards, `pcie_bytes_s` on others; each way, per board).
    Power: a busy board draws `busy` of the way from idle to TDP, and up to `memory` and `math`
    more where bandwidth or arithmetic are saturated.
    """

    compute: float = 0.55
    bandwidth: float = 0.75
    step_s: float = 0.0015
    reduce_s: float = 15e-6
    nvlink_bytes_s: float = 300e9
    pcie_bytes_s: float = 25e9
    busy: float = 0.25
    memory: float = 0.35
    math: float = 0.55


ASSUMED = Efficiency()

#: A CPU core without matrix instructions, where a board states nothing. Assumption.
CPU_CORE_FLOPS = 15e9
CPU_CORE_BYTES_S = 8e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Arithmetic and memory traffic of one phase over the whole group; `steps` engine steps."""

    flops: float
    bytes: float
    tokens: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase of a batch on a group: its length, and the power of each board during it.

    `power_w` is None where the board's TDP or idle power is not known.
    """

    seconds: float
    power_w: float | None
    bound: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One batch on a group of boards: prefill gives the first token, decode every other."""

    prefill: Phase
    decode: Phase
    output_tokens: int
    boards: int

    @property
    def e2e_s(self) -> float:
        """Seconds from handing the batch over to its last token."""
        return self.prefill.seconds + self.decode.seconds

    @property
    def energy_j(self) -> float | None:
        """Joules of the batch over the group; None where the power is not known."""
        if self.prefill.power_w is None or self.decode.power_w is None:
            return None
        one = self.prefill.seconds * self.prefill.power_w
        return self.boards * (one + self.decode.seconds * self.decode.power_w)


def weight_bytes(shape: Shape, numbers: Precision) -> float:
    """Bytes of all weights, summed over the group."""
    return shape.parameters * numbers.weight_bytes


def kv_bytes_per_token(shape: Shape, numbers: Precision) -> float:
    """Bytes of the KV cache of one token, summed over the group."""
    return shape.kv_elements_per_token * numbers.kv_bytes


def prefill(shape: Shape, numbers: Precision, workload: Workload) -> Work:
    """Work of turning the prompts of a batch into their first tokens.

    Per request L (2 P n + 2 H hd n (n + 1)) + 2 d V FLOPs; the weights are read once, keys and
    values written once.
    """
    n, batch = workload.input_tokens, workload.batch_size
    attention = 2 * shape.heads * shape.head_dim * n * (n + 1)
    flops = shape.layers * (2 * shape.active_layer_parameters * n + attention)
    traffic = _weights_read(shape, numbers, batch * n)
    traffic += batch * n * kv_bytes_per_token(shape, numbers)
    flops = batch * (flops + 2 * shape.head_parameters)
    return Work(flops=flops, bytes=traffic, tokens=batch * n, steps=1)


def decode_step(shape: Shape, numbers: Precision, context: float, batch: int) -> Work:
    """Work of one more token for each of a batch of requests with `context` tokens behind them.

    Per request L (2 P + 4 H hd c) + 2 d V FLOPs; the weights are read once for the batch, keys
    and values of the context by every request.
    """
    attention = 4 * shape.heads * shape.head_dim * context
    flops = shape.layers * (2 * shape.active_layer_parameters + attention)
    traffic = _weights_read(shape, numbers, batch)
    traffic += batch * (context + 1) * kv_bytes_per_token(shape, numbers)
    flops = batch * (flops + 2 * shape.head_parameters)
    return Work(flops=flops, bytes=traffic, tokens=batch, steps=1)


def decode(shape: Shape, numbers: Precision, workload: Workload) -> Work:
    """Work of every token after the first.

    FLOPs and bytes are linear in the context, so the mean context times the steps is exact.
    """
    steps = workload.output_tokens - 1
    context = workload.input_tokens + (steps + 1) / 2
    one = decode_step(shape, numbers, context, workload.batch_size)
    return Work(
        flops=steps * one.flops,
        bytes=steps * one.bytes,
        tokens=steps * one.tokens,
        steps=steps,
    )


def estimate(
    shape: Shape,
    board: Board,
    workload: Workload,
    *,
    numbers: Precision = Precision(),  # noqa: B008 - frozen
    boards: int = 1,
    threads: int | None = None,
    efficiency: Efficiency = ASSUMED,
) -> Cost | None:
    """Return what a batch costs on a group that shares one model (tensor parallel).

    None where the board's rates are not known. `threads` counts on ``cpu:`` boards only.
    """
    rates = board_rates(board, numbers, threads)
    if rates is None:
        return None
    group = _Group(
        board=board, flops=rates[0], bytes_s=rates[1], boards=boards, efficiency=efficiency
    )
    return Cost(
        prefill=group.phase(prefill(shape, numbers, workload), shape, numbers),
        decode=group.phase(decode(shape, numbers, workload), shape, numbers),
        output_tokens=workload.output_tokens,
        boards=boards,
    )


def board_rates(
    board: Board, numbers: Precision, threads: int | None = None
) -> tuple[float, float] | None:
    """Return a board's peak FLOP/s and bytes/s for these numbers; None where not known.

    Boards state half-precision rates; float32 is taken for an eighth of them (assumption).
    """
    if board.is_cpu and board.memory_bandwidth_bytes_s is None:
        cores = threads or 1
        return cores * CPU_CORE_FLOPS, cores * CPU_CORE_BYTES_S
    peak = board.bf16_flops or board.fp16_flops
    if peak is None or board.memory_bandwidth_bytes_s is None:
        return None
    return (peak if numbers.half else peak / 8), board.memory_bandwidth_bytes_s


def _weights_read(shape: Shape, numbers: Precision, tokens: int) -> float:
    """Bytes of weights that one step reads.

    All of a dense model; of a mixture the experts its tokens reach when they choose evenly.
    """
    layer: float = shape.layer_parameters
    if shape.experts:
        missed = (1 - shape.experts_per_token / shape.experts) ** tokens
        layer -= missed * shape.experts * shape.mlp_parameters
    return (shape.layers * layer + shape.head_parameters) * numbers.weight_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Boards that hold one model in equal parts, and how far their peaks are reached."""

    board: Board
    flops: float
    bytes_s: float
    boards: int
    efficiency: Efficiency

    def phase(self, work: Work, shape: Shape, numbers: Precision) -> Phase:
        """Seconds and watts of a phase: the slower of arithmetic and memory, and its steps."""
        eff = self.efficiency
        compute_s = work.flops / self.boards / (self.flops * eff.compute)
        memory_s = work.bytes / self.boards / (self.bytes_s * eff.bandwidth)
        busy_s = max(compute_s, memory_s)
        seconds = busy_s + work.steps * eff.step_s + self._exchange_s(work, shape, numbers)
        return Phase(
            seconds=seconds,
            power_w=self._power_w(compute_s, memory_s, seconds),
            bound="compute" if compute_s > memory_s else "memory",
        )

    def _exchange_s(self, work: Work, shape: Shape, numbers: Precision) -> float:
        """Two ring all-reduces per layer and step: 2 (g-1)/g of the activations over each link."""
        if self.boards == 1:
            return 0.0
        eff = self.efficiency
        link = eff.nvlink_bytes_s if "sxm" in self.board.slug else eff.pcie_bytes_s
        share = 2 * (self.boards - 1) / self.boards
        moved = work.tokens * shape.hidden * numbers.kv_bytes * share / link
        return 2 * shape.layers * (work.steps * eff.reduce_s + moved)

    def _power_w(self, compute_s: float, memory_s: float, seconds: float) -> float | None:
        """Idle power, and the share of the way to TDP that the phase's saturation explains."""
        idle, tdp, eff = self.board.idle_w, self.board.tdp_w, self.efficiency
        if idle is None or tdp is None:
            return None
        if seconds == 0.0:
            return idle
        busy = max(compute_s, memory_s) * eff.busy
        share = (busy + memory_s * eff.memory + compute_s * eff.math) / seconds
        return idle + (tdp - idle) * min(share, 1.0)
