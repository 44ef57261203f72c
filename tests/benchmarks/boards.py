"""The boards that meters are raced on, and the loads they carry: known power, known integral.

It owns which sensors and counters the boards have. Nothing here measures.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace

from tests.nvml.curve import StandinGpu
from tests.unit.test_unseen import apart

FAMILIES = ("square", "ramp", "burst", "noise")
UUID = "GPU-bbbbbbbb-0000-0000-0000-000000000000"

#: Sensor periods and windows: Yang, Adamek, Armour, arXiv 2312.02741. NVML documents the legacy
#: power as a mean over a second from Ampere on, but for GA100, and the instant one from Ampere on.
#: Counters are said to tick every 20 to 100 ms; the A100-like board takes the long end.
KINDS = {
    "A100-like": StandinGpu(
        name="NVIDIA A100-SXM4-80GB", uuid=UUID, limit_w=400.0, tick_s=0.1, tick_phase_s=0.03137,
        sensor_period_s=0.1, sensor_window_s=0.025, legacy_window_s=0.025, sensor_phase_s=0.0432,
        architecture=7,
    ),
    "H100-like": StandinGpu(
        name="NVIDIA H100 80GB HBM3", uuid=UUID, limit_w=700.0, tick_s=0.02, tick_phase_s=0.00137,
        sensor_period_s=0.1, sensor_window_s=0.025, legacy_window_s=1.0, sensor_phase_s=0.0432,
    ),
    "V100-like": StandinGpu(
        name="Tesla V100-SXM2-32GB", uuid=UUID, limit_w=300.0, tick_s=0.02, tick_phase_s=0.00137,
        sensor_period_s=0.02, sensor_window_s=0.01, legacy_window_s=0.01, sensor_phase_s=0.0132,
        instant=0, average=0, architecture=5,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One board under one load, with or without its energy counter."""

    kind: str
    family: str
    counter: bool

    @property
    def gpu(self) -> StandinGpu:
        """The board; its load is the same in every lane of its kind and family.

        The load's period is 15 ms to 1.5 s, at least 5 % off every divisor of 100 ms.
        """
        rng = random.Random(f"{self.kind} {self.family}")
        board = KINDS[self.kind]
        low_w = rng.uniform(0.15, 0.4) * board.limit_w
        periods_s = iter(lambda: 0.015 * 100 ** rng.random(), None)
        return replace(
            board, curve=self.family, low_w=low_w, counter=int(self.counter),
            high_w=rng.uniform(low_w + 0.25 * board.limit_w, board.limit_w),
            period_s=next(filter(apart, periods_s)), duty=rng.uniform(0.2, 0.8),
        )  # fmt: skip

    @property
    def name(self) -> str:
        """A name for files."""
        return f"{self.kind}-{self.family}-{'counter' if self.counter else 'power'}"

    def plan(self) -> dict[str, object]:
        """What a child needs to know of it."""
        return asdict(self)


def lanes(*, counter: bool) -> list[Lane]:
    """Every board under every load."""
    return [Lane(kind=k, family=f, counter=counter) for k in KINDS for f in FAMILIES]
