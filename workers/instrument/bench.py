"""One board on the bench: its load, its meter, and how long things take there.

It owns windows and watches under a load. It finds nothing out and changes no setting of a board.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from db.readings import GpuEnergy
from workers.instrument.loader import Loader, Stretch, soon_ns, square
from workers.instrument.watch import Series, readers, watch
from workers.meters.binding import Gpu
from workers.meters.nvml import NvmlMeter

#: A load like that of decoding: steps of so many seconds, this part of them at work.
STEP_S, STEP_DUTY = 0.023, 0.6
#: What finding the edges of a window takes at most, seconds: the load must outlast it.
EDGES_S = 0.8


@dataclass(slots=True, kw_only=True)
class Bench:
    """One board, its load, and the pace: seconds of an experiment are multiplied by it."""

    gpu: Gpu
    meter: NvmlMeter
    loader: Loader | None
    pace: float = 1.0

    @property
    def load(self) -> Loader:
        """The load, of experiments that are only made where there is one."""
        if self.loader is None:
            raise ValueError("an experiment with a load was asked for where there is none")
        return self.loader

    def seconds(self, at_full_pace: float) -> float:
        """Return how long an experiment takes here."""
        return at_full_pace * self.pace

    def times(self, at_full_pace: int) -> int:
        """Return how often something is repeated here: no oftener at a slower pace."""
        return max(2, round(at_full_pace * min(1.0, self.pace)))

    def window(self, seconds: float, *, follow: bool = False) -> GpuEnergy:
        """Meter some seconds as a campaign does."""
        began_ns = self.meter.open(follow=follow)
        time.sleep(max(0.0, (began_ns - time.monotonic_ns()) / 1e9 + seconds))
        ended_ns = time.monotonic_ns()
        self.meter.begin_close()
        closed = self.meter.finish_close(began_ns, ended_ns)
        return next(gpu for gpu in closed.gpus if not gpu.sibling)

    def under(self, switches_ns: list[int]) -> tuple[dict[str, Series], list[Stretch]]:
        """Watch all sensors while the load follows its switches."""
        self.load.start(switches_ns)
        series = watch(readers(self.gpu), switches_ns[-1])
        stretches, _ = self.load.finish(1.0)
        return series, stretches

    def repeated(self, seconds: float, times: int) -> list[GpuEnergy]:
        """Meter windows of one length, one after another, under a load like decoding's."""
        lasting_s = times * (seconds + EDGES_S) + 1.0
        self.load.start(square(STEP_S, STEP_DUTY, lasting_s, from_ns=soon_ns()))
        time.sleep(0.3)
        found = [self.window(seconds) for _ in range(times)]
        self.load.finish(lasting_s)
        return found
