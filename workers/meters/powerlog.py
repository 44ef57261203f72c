"""The power samples of one GPU, and what they say about its sensor: how often it looks, if at all.

It owns the reads of one board's power and the instants of its updates. A sensor brings a new value
only now and then; read often enough, the change itself is stamped rather than the read.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from statistics import fmean

from workers.meters.binding import Gpu, Power

#: Samples kept between windows: one before the next window is what its edge needs.
KEPT = 2
#: A change is stamped between the reads around it if they are no further apart than this.
CLOSE_NS = 30_000_000
#: Reads at most this part of the time of an interpreter.
SHARE = 25
#: The distance of two updates speaks for the period if it is known better than to this part of it.
KNOWN = 0.6
#: Distances between updates that make the period known, and the latest ones that count.
ENOUGH, LATEST = 8, 64
#: Distances this far around the shorter ones are one period long.
LOW, NEAR = 0.2, 0.25


@dataclass(slots=True)
class PowerLog:
    """Samples of one GPU: CLOCK_MONOTONIC nanoseconds and watts, ascending strictly."""

    gpu: Gpu
    samples: deque[tuple[int, float]] = field(default_factory=deque)
    cost_ns: int | None = None
    last: tuple[int, float] | None = None
    updated: tuple[int, int] | None = None  # the last update's instant and its bracket
    spacings_ns: deque[int] = field(default_factory=lambda: deque(maxlen=LATEST))
    stamp_us: int | None = None
    fresh_ns: int | None = None
    stalest_ns: int = 0

    @property
    def period_ns(self) -> int | None:
        """How often the sensor brings a new value; None as long as that was not seen.

        A value that stays the same makes a distance longer, a read that comes late one shorter.
        """
        if len(self.spacings_ns) < ENOUGH:
            return None
        low_ns = sorted(self.spacings_ns)[int(LOW * len(self.spacings_ns))]
        return round(fmean(s for s in self.spacings_ns if abs(s / low_ns - 1) <= NEAR))

    def pause_ns(self, interval_ns: int) -> int:
        """Return how far apart reads are that look for updates."""
        return max(interval_ns // 10, SHARE * (self.cost_ns or 0))

    def begin(self) -> None:
        """Forget what belonged to an earlier window."""
        self.stalest_ns = 0

    def forget(self) -> None:
        """Keep only what the next window's start needs."""
        while len(self.samples) > KEPT:
            self.samples.popleft()

    def read(self, *, keep: bool = True) -> bool:
        """Read the power once; returns whether it changed. Raises SensorError.

        A new value is a sample; the old one is one more only if it is to be kept.
        """
        before_ns = time.monotonic_ns()
        power = self.gpu.power()
        after_ns = time.monotonic_ns()
        self.cost_ns = min(self.cost_ns or after_ns - before_ns, after_ns - before_ns)
        return self.note((before_ns + after_ns) // 2, power, keep=keep)

    def note(self, at_ns: int, power: Power, *, keep: bool) -> bool:
        """Keep what was read at an instant; returns whether it changed."""
        last, self.last = self.last, (at_ns, power.watts)
        changed = last is None or power.watts != last[1]
        self._age(at_ns, power.stamp_us, changed=changed)
        if last is not None and changed and at_ns - last[0] <= CLOSE_NS:
            self._updated((last[0] + at_ns) // 2, bracket_ns=at_ns - last[0])
            self.samples.append(((last[0] + at_ns) // 2, power.watts))
        elif changed or keep:
            self.updated = None if changed else self.updated
            self.samples.append((at_ns, power.watts))
        return changed

    def _updated(self, at_ns: int, bracket_ns: int) -> None:
        """Note an update; its distance from the one before counts if it is sure enough."""
        if self.updated is not None:
            spacing_ns = at_ns - self.updated[0]
            if (bracket_ns + self.updated[1]) / 2 <= KNOWN * spacing_ns:
                self.spacings_ns.append(spacing_ns)
        self.updated = (at_ns, bracket_ns)

    def _age(self, at_ns: int, stamp_us: int | None, *, changed: bool) -> None:
        """Note how long the sensor has shown nothing new; the driver's stamp may still move."""
        if changed or stamp_us is None or stamp_us != self.stamp_us or self.fresh_ns is None:
            self.stamp_us, self.fresh_ns = stamp_us, at_ns
        self.stalest_ns = max(self.stalest_ns, at_ns - self.fresh_ns)
