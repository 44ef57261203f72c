"""What a batch costs on a board group, from first principles: seconds and watts.

Pure. Serves plan, schedule, `campaign estimate` and the simulated engine; what it says is never
stored as a measurement. Work comes from `roofline`, rates from a board's data sheet; all that is
neither is in `constants`. A model is its shape: its name plays no part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from db.records import Board, EngineSpec, Workload
from workers.costs.constants import (
    KERNELS,
    NVLINK_BYTES_S,
    NVLINKED,
    PCIE_BYTES_S,
    UNFUSED_KERNELS,
    Constants,
    Rates,
    board_rates,
    constants_of,
)
from workers.costs.roofline import Work, cache_bytes, decode, prefill, weight_bytes
from workers.shapes.shape import Precision, Shape, precision

#: Bumped when a formula or constant changes what a simulated row says.
VERSION = "3"

#: vLLM's default share of a board's memory that weights and KV cache may fill, since 0.32.
MEMORY_SHARE = 0.92
#: Options that keep a part of the weights in the host's memory.
_OFFLOADING = ("cpu_offload_gb", "offload_group_size")
_KV_FP8 = ("fp8", "fp8_e4m3", "fp8_e5m2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase of a batch on a group: its length, and the mean power of each board in it.

    `power_w` is None where the board's TDP or idle power is not known.
    """

    seconds: float
    power_w: float | None
    bound: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One batch on a group of boards: prefill gives the first token, decode every other.

    `running` is how many of its requests are computed together; the others wait for memory. Where
    it is 0 not one has room, and the cost is that of one after the other, if they had.
    """

    prefill: Phase
    decode: Phase
    output_tokens: int
    boards: int
    running: int

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


def estimate(
    engine: EngineSpec,
    shape: Shape,
    board: Board,
    workload: Workload,
    constants: Constants | None = None,
) -> Cost | None:
    """Return what a batch costs on an engine's boards; None where their rates are not known.

    Of the engine count backend, version, dtype, quantization, parallelism, power limit, threads
    (on ``cpu:`` boards) and the options that change arithmetic or memory; of the workload lengths,
    batch and beams. Boards beyond `tensor_parallel` hold further stages of the model.
    """
    numbers = numbers_of(engine)
    rates = board_rates(board, numbers, engine.threads, engine.quantization)
    if rates is None:
        return None
    together = running_together(engine, shape, board, workload)
    running = max(1, together)
    stages = max(1, engine.board_count // engine.tensor_parallel)
    parts = min(stages, running)  # a batch is split so that no stage waits for another
    group = _Group(
        engine=engine, board=board, rates=rates, parts=parts,
        constants=constants or constants_of(board, engine), shape=shape, numbers=numbers,
    )  # fmt: skip
    batch, beams = workload.batch_size, workload.beams
    prompts = replace(workload, batch_size=-(-batch // parts))
    answers = replace(workload, batch_size=-(-running * beams // parts))
    tokens = decode(shape, numbers, answers).times(batch / running)
    return Cost(
        prefill=group.phase(prefill(shape, numbers, prompts), running),
        decode=group.phase(tokens, running * beams),
        output_tokens=workload.output_tokens,
        boards=engine.board_count,
        running=together,
    )


def numbers_of(engine: EngineSpec) -> Precision:
    """Return how an engine keeps numbers, its KV cache included."""
    numbers = precision(engine.dtype, engine.quantization)
    if engine.options.get("kv_cache_dtype") in _KV_FP8:
        return replace(numbers, kv_bytes=1.0)
    return numbers


def running_together(engine: EngineSpec, shape: Shape, board: Board, workload: Workload) -> int:
    """Return how many requests of a batch an engine computes together; 0 where not one fits.

    vLLM lets those wait that its memory has no room for; requests take what they hold halfway
    through their answers. Other engines compute a batch as it is.
    """
    batch = workload.batch_size
    there = usable_bytes(engine, board)
    if engine.backend == "transformers" or there is None:
        return batch
    context = workload.input_tokens + workload.output_tokens // 2
    room = there - weight_bytes(shape, numbers_of(engine))
    sequences = room // (cache_bytes(shape, numbers_of(engine), context) or 1.0)
    if sequences < 1:
        return 0
    limit = engine.options.get("max_num_seqs")
    most = min(batch, int(sequences // workload.beams))
    return max(1, min(most, limit if isinstance(limit, int) else batch))


def memory_filled(engine: EngineSpec, shape: Shape, board: Board, workload: Workload) -> float:
    """Return the bytes that weights and KV cache fill at most over the group.

    With the requests that run together at the end of their answers, as far as there is room.
    """
    context = workload.input_tokens + workload.output_tokens
    each = cache_bytes(shape, numbers_of(engine), context) * workload.beams
    cached = each * running_together(engine, shape, board, workload)
    weights, there = weight_bytes(shape, numbers_of(engine)), usable_bytes(engine, board)
    if there is not None and engine.backend != "transformers":
        cached = max(each, min(cached, there - weights))
    return weights + cached


def usable_bytes(engine: EngineSpec, board: Board) -> float | None:
    """Return the bytes of a group that weights and KV cache may fill.

    None where the boards' memory is not known, or the weights lie in the host's as well.
    """
    if board.memory_bytes is None or any(engine.options.get(name) for name in _OFFLOADING):
        return None
    return memory_share(engine) * engine.board_count * board.memory_bytes


def memory_share(engine: EngineSpec) -> float:
    """Return the part of its boards' memory that an engine fills: vLLM leaves some to others."""
    options = engine.options
    if engine.backend == "transformers" or options.get("kv_cache_memory_bytes"):
        return 1.0
    share = options.get("gpu_memory_utilization")
    return float(share) if isinstance(share, int | float) else MEMORY_SHARE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Boards that hold one model, `parts` of a batch under way in their stages at a time."""

    engine: EngineSpec
    board: Board
    rates: Rates
    parts: int
    constants: Constants
    shape: Shape
    numbers: Precision

    def phase(self, work: Work, requests: int) -> Phase:
        """Seconds and watts of a phase in which every part of the batch takes this work.

        Arithmetic and traffic add up: the kernels that saturate one leave the other idle.
        """
        c, boards, rates = self.constants, self.engine.tensor_parallel, self.rates
        memory_s = work.bytes / boards / rates.bytes_s
        math_s = work.matrix_flops / boards / rates.matrix_flops
        math_s += (work.flops - work.matrix_flops) / boards / rates.flops
        kernels_s = memory_s / c.bandwidth + math_s / c.compute + self._waits_s(work)
        # How long the boards would take for the joules of this work if they drew their TDP.
        tdp_s = c.busy * (kernels_s + memory_s) + (1 - c.busy) * math_s / c.compute
        kernels_s = max(kernels_s, tdp_s / self._power_left())
        step_s = c.step_s + requests * c.request_s
        seconds = max(kernels_s, work.steps * self._launch_s()) + work.steps * step_s
        return Phase(
            seconds=seconds,
            power_w=self._power_w(tdp_s, seconds),
            bound="compute" if math_s / c.compute > memory_s / c.bandwidth else "memory",
        )

    def _waits_s(self, work: Work) -> float:
        """Seconds of latency: of the kernels of every layer, and of its two all-reduces.

        NVLink exchanges at once, between two barriers; a ring takes 2 (g - 1) hops. Each board
        sends 2 (g - 1) / g of the activations.
        """
        c, boards, layers = self.constants, self.engine.tensor_parallel, self.shape.layers
        seconds = work.steps * layers * KERNELS * c.kernel_s
        if boards == 1:
            return seconds
        linked = any(word in self.board.slug for word in NVLINKED)
        hops = 3 if linked else 2 * (boards - 1)
        activation_bytes = 2.0 if self.numbers.half else 4.0
        sent = work.tokens * self.shape.hidden * activation_bytes * 2 * (boards - 1) / boards
        sent_s = sent / (NVLINK_BYTES_S if linked else PCIE_BYTES_S)
        return seconds + 2 * layers * (work.steps * hops * c.kernel_s + sent_s)

    def _launch_s(self) -> float:
        """Seconds that launching the kernels of a step takes; 0 where CUDA graphs do it."""
        engine, layers = self.engine, self.shape.layers
        if engine.backend == "transformers":
            eager = not engine.options.get("torch_compile")
            return eager * layers * UNFUSED_KERNELS * self.constants.launch_s
        eager = bool(engine.options.get("enforce_eager"))
        return eager * layers * KERNELS * self.constants.launch_s

    def _power_left(self) -> float:
        """The part of the way from awake power to TDP that a declared power limit leaves."""
        awake_w, tdp_w, limit_w = self._awake_w(), self.board.tdp_w, self.engine.power_limit_w
        if awake_w is None or tdp_w is None or limit_w is None:
            return 1.0
        return min(1.0, max(limit_w - awake_w, 0.01 * tdp_w) / (tdp_w - awake_w))

    def _awake_w(self) -> float | None:
        """Watts of a board that an engine holds."""
        idle_w, tdp_w = self.board.idle_w, self.board.tdp_w
        if idle_w is None or tdp_w is None:
            return None
        return idle_w + self.constants.awake * (tdp_w - idle_w)

    def _power_w(self, tdp_s: float, seconds: float) -> float | None:
        """Mean watts of each board: awake all the time, and the work's joules on top."""
        awake_w, tdp_w = self._awake_w(), self.board.tdp_w
        if awake_w is None or tdp_w is None or seconds == 0.0:
            return awake_w
        working = self.parts * self.engine.tensor_parallel / self.engine.board_count
        return awake_w + (tdp_w - awake_w) * working * tdp_s / seconds
