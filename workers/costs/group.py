"""A group of boards at work: how long it takes for FLOPs and bytes, and what it draws meanwhile.

Pure. Knows peaks, constants and a model's number of layers; neither requests nor an engine's
memory (`cost` does).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from db.records import Board, EngineSpec
from workers.costs.constants import (
    FP8,
    FP8_EXPERT_KERNELS,
    KERNELS,
    NVLINK_BYTES_S,
    NVLINKED,
    PCIE_BYTES_S,
    UNFUSED_KERNELS,
    Constants,
    Rates,
)
from workers.costs.roofline import Work
from workers.shapes.shape import Precision, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase of a batch on a group: its length, and the mean power of each board in it.

    `power_w` is None where the board's TDP or idle power is not known.
    """

    seconds: float
    power_w: float | None
    bound: str

    def joined(self, other: Phase) -> Phase:
        """Return the phase in which a group does another one's work as well; bound as this one."""
        seconds = self.seconds + other.seconds
        if self.power_w is None or other.power_w is None or seconds == 0.0:
            return replace(self, seconds=seconds)
        joules = self.seconds * self.power_w + other.seconds * other.power_w
        return replace(self, seconds=seconds, power_w=joules / seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
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
        seconds = work.steps * self._kernels() * c.kernel_s
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
        engine = self.engine
        if engine.backend == "transformers":
            eager = not engine.options.get("torch_compile")
            return eager * self.shape.layers * UNFUSED_KERNELS * self.constants.launch_s
        return bool(engine.options.get("enforce_eager")) * self._kernels() * self.constants.launch_s

    def _kernels(self) -> int:
        """How many kernels a step of fused ones has in all layers.

        What goes into experts in FP8 is scaled, sorted and padded by kernels of their own.
        """
        narrow = self.engine.quantization in FP8 and self.rates.matrix_flops > self.rates.flops
        mixtures = sum(group.count for group in self.shape.groups if group.experts)
        return self.shape.layers * KERNELS + narrow * mixtures * FP8_EXPERT_KERNELS

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
