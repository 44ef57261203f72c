"""Time as the measurement sees it: the machine's monotonic clock, or a simulated one."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic nanoseconds, and a way to let time pass."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary start; never goes back."""

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass on this clock."""


class MonotonicClock:
    """CLOCK_MONOTONIC of this machine."""

    def now_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """Sleep in real time."""
        time.sleep(seconds)
