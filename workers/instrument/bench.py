"""One board on the bench: its load, its meter, and how long things take there.

It owns windows and watches under a load. It finds nothing out and changes no setting of a board.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from db.readings import GpuEnergy
from workers.instrument.loader import Loader, Stretch, soon_ns, square
from workers.instrument.watch import Series, readers, watch
from workers.meters.binding import Gpu
from workers.meters.nvml import NvmlMeter

#: A load like that of decoding: steps of so many seconds, this part of them at work.
STEP_S, STEP_DUTY = 0.023, 0.6
#: What finding the edges of a window takes, seconds, where none took longer; the load must outlast
#: it, and is made for edges that take this many times as long as the longest of the last windows.
EDGES_S, SLACK, LAST = 0.8, 1.25, 4
#: A load is on for so long before it is metered.
SETTLE_S = 1.0


@dataclass(slots=True, kw_only=True)
class Bench:
    """One board, its load, and the pace: seconds of an experiment are multiplied by it."""

    gpu: Gpu
    meter: NvmlMeter
    loader: Loader | None
    pace: float = 1.0
    _took_s: deque[float] = field(default_factory=lambda: deque(maxlen=LAST), init=False)

    @property
    def load(self) -> Loader:
        """The load, of experiments that are only made where there is one."""
        if self.loader is None:
            raise ValueError("an experiment with a load was asked for where there is none")
        return self.loader

    @property
    def edges_s(self) -> float:
        """How long the edges of a window may take, by what those of the last windows took."""
        return max(EDGES_S, SLACK * max(self._took_s, default=0.0))

    def seconds(self, at_full_pace: float) -> float:
        """Return how long an experiment takes here."""
        return at_full_pace * self.pace

    def times(self, at_full_pace: int) -> int:
        """Return how often something is repeated here: no oftener at a slower pace."""
        return max(2, round(at_full_pace * min(1.0, self.pace)))

    def window(self, seconds: float, *, follow: bool = False) -> GpuEnergy:
        """Meter some seconds as a campaign does, and see how long the edges take beside them."""
        asked_ns = time.monotonic_ns()
        began_ns = self.meter.open(follow=follow)
        time.sleep(max(0.0, (began_ns - time.monotonic_ns()) / 1e9 + seconds))
        ended_ns = time.monotonic_ns()
        self.meter.begin_close()
        closed = self.meter.finish_close(began_ns, ended_ns)
        self._took_s.append((time.monotonic_ns() - asked_ns) / 1e9 - seconds)
        return next(gpu for gpu in closed.gpus if not gpu.sibling)

    def under(self, switches_ns: list[int]) -> tuple[dict[str, Series], list[Stretch]]:
        """Watch all sensors while the load follows its switches."""
        self.load.start(switches_ns)
        series = watch(readers(self.gpu), switches_ns[-1])
        stretches, _ = self.load.finish(1.0)
        return series, stretches

    def loaded(self, switches_ns: list[int], seconds: float, times: int) -> list[GpuEnergy]:
        """Meter windows under a load, one after another, and return those that it outlasted.

        The end of the others is that of an idle board.
        """
        self.load.start(switches_ns)
        time.sleep(max(0.0, (switches_ns[0] - time.monotonic_ns()) / 1e9) + SETTLE_S)
        windows = [(self.window(seconds), time.monotonic_ns()) for _ in range(times)]
        stretches, _ = self.load.finish((switches_ns[-1] - switches_ns[0]) / 1e9)
        until_ns = stretches[-1][1] if stretches else 0
        return [gpu for gpu, closed_ns in windows if closed_ns <= until_ns]

    def lasting_s(self, seconds: float, times: int) -> float:
        """Return how long a load must be on for windows of one length, by what edges took."""
        return SETTLE_S + times * (seconds + self.edges_s) + 0.5

    def steps(self, seconds: float, times: int) -> list[GpuEnergy]:
        """Meter windows of one length under a load like decoding's."""
        lasting_s = self.lasting_s(seconds, times)
        return self.loaded(square(STEP_S, STEP_DUTY, lasting_s, from_ns=soon_ns()), seconds, times)
