"""A board whose power follows a load: the test says what it draws, a moment ahead of the clock.

It owns the file that the stand-in maps (pairs of CLOCK_MONOTONIC seconds and watts, zeros after the
last) and the exact integral of what was written. A switch is never written for the past: what the
stand-in has reported stays true.
"""

from __future__ import annotations

import mmap
import struct
import time
from itertools import pairwise
from pathlib import Path

SIZE_BYTES = 65536
PAIR = struct.Struct("dd")


class Load:
    """The power of one board over time; `low_w` until the first switch."""

    def __init__(self, path: Path, low_w: float) -> None:
        path.write_bytes(bytes(SIZE_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE_BYTES)
        self._switches: list[tuple[int, float]] = [(0, low_w)]

    def switch(self, at_ns: int, watts: float) -> None:
        """Draw `watts` from an instant on, which is later than every other and yet to come."""
        assert at_ns > max(time.monotonic_ns(), self._switches[-1][0])
        at_s = at_ns / 1e9
        place = (len(self._switches) - 1) * PAIR.size
        # The watts first: a pair without seconds does not count yet.
        self._map[place + 8 : place + 16] = struct.pack("d", watts)
        self._map[place : place + 8] = struct.pack("d", at_s)
        self._switches.append((at_ns, watts))

    def energy_j(self, start_ns: int, end_ns: int) -> float:
        """Joules between two instants, exactly."""
        marks = [*self._switches, (max(end_ns, self._switches[-1][0]), 0.0)]
        return sum(
            watts * max(0, min(until, end_ns) - max(at, start_ns)) / 1e9
            for (at, watts), (until, _) in pairwise(marks)
        )
