"""What the sampler remembers about one GPU: its samples, its counter's period, its failures.

It owns the reads of one board and the notes on them. A query that fails is noted, never raised;
what the notes mean is decided in workers/meters/gpureport.py.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass, field

from workers.meters.binding import Gpu, SensorError, Telemetry
from workers.meters.child import Message
from workers.meters.edges import STUCK, Search
from workers.meters.integrate import Edge, advanced

#: Samples kept between windows: one before the next window is what its edge needs.
KEPT = 2


@dataclass(slots=True)
class Track:
    """One GPU of the machine; from `samples` on, what belongs to the open window."""

    gpu: Gpu
    sibling: bool
    limit_w: float | None = None
    tick_ns: int | None = None
    why_no_tick: str = STUCK
    last_mj: int | None = None
    lost: bool = False
    pids: set[int] = field(default_factory=set)
    samples: deque[tuple[int, float]] = field(default_factory=deque)
    telemetry: list[Telemetry] = field(default_factory=list)
    throttle: int = 0
    went_back: bool = False
    start: Edge | str = "no_counter"

    @property
    def countable(self) -> bool:
        """Whether its counter can still be asked."""
        return self.gpu.has_counter and not self.lost

    def counter(self) -> int:
        """Read the energy counter and notice when it went backwards. Raises SensorError."""
        value_mj = self.gpu.energy_mj()
        if self.last_mj is not None and value_mj < self.last_mj:
            self.went_back = True
        self.last_mj = value_mj
        return value_mj

    def failed(self, error: SensorError) -> str:
        """Note a failed query; returns the word for it."""
        self.lost = self.lost or error.reason == "gpu_lost"
        return error.reason

    def learned(self, period: int | str) -> None:
        """Note the counter's period in nanoseconds, or the word for why it is not known."""
        if isinstance(period, int):
            self.tick_ns = period
        else:
            self.why_no_tick = period
            self.lost = self.lost or period == "gpu_lost"

    def begin(self) -> None:
        """Forget what belonged to an earlier window."""
        self.went_back, self.throttle = False, 0
        self.telemetry.clear()

    def sample(self, *, slow: bool, is_open: bool) -> None:
        """Take a power sample and look at the counter; `slow` reads the rest of the board too."""
        if self.lost:
            return
        try:
            self._sample(slow=slow and not self.sibling, is_open=is_open)
        except SensorError as error:
            self.failed(error)

    def _sample(self, *, slow: bool, is_open: bool) -> None:
        if self.gpu.power_field is not None:
            before_ns = time.monotonic_ns()
            watts = self.gpu.power_w()
            self.samples.append(((before_ns + time.monotonic_ns()) // 2, watts))
        while not is_open and len(self.samples) > KEPT:
            self.samples.popleft()
        if self.gpu.has_counter:
            self.counter()
        self.throttle |= self.gpu.throttle_bits()
        if slow:
            self.telemetry.append(self.gpu.telemetry())
            if is_open:
                self.pids.update(self.gpu.pids())

    def hold(self, search: Search) -> str | None:
        """Enter the counter into a search, or return the word for why there is none."""
        if not self.countable:
            return "gpu_lost" if self.lost else "no_counter"
        if self.tick_ns is None:
            return self.why_no_tick
        try:
            search.hold(self.gpu.uuid, self.counter)
        except SensorError as error:
            return self.failed(error)
        return None

    def latest(self, edge: Edge | str) -> Edge | str:
        """Move an edge to the counter's last tick: the edges of others may have taken time."""
        if isinstance(edge, str) or self.tick_ns is None:
            return edge
        found: Edge | None = None
        while found is None:
            try:
                value_mj = self.counter()
            except SensorError as error:
                return self.failed(error)
            found = advanced(edge, time.monotonic_ns(), value_mj, self.tick_ns / 1e9)
        return found

    def users(self) -> set[int]:
        """Return the pids on the board now, and in windows since they were asked for last."""
        seen = set(self.pids)
        self.pids.clear()
        try:
            seen.update(() if self.lost else self.gpu.pids())
        except SensorError as error:
            self.failed(error)
        return seen

    def report(self, end: Edge | str) -> Message:
        """Return everything seen in the window that ends with `end`."""
        return {
            "uuid": self.gpu.uuid, "start": _plain(self.start), "end": _plain(end),
            "tick_ns": self.tick_ns, "samples": list(self.samples), "limit_w": self.limit_w,
            "telemetry": [asdict(t) for t in self.telemetry], "throttle": self.throttle,
            "lost": self.lost, "went_back": self.went_back,
        }  # fmt: skip


def _plain(edge: Edge | str) -> object:
    return asdict(edge) if isinstance(edge, Edge) else edge
