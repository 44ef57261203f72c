"""The parent's end of a load: when it is to be switched, and when it was.

It owns the schedules. Where there is no load (no GPU that computes, only sensors) it says why.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from workers.meters.child import Child, ChildGone, integer, items

#: A library of CUDA takes a while to load; a switch in the past would be none.
READY_S, AHEAD_NS = 120.0, 20_000_000
#: The program that draws power.
PROGRAM = "workers.instrument.load"
#: Stretches of a load without a rhythm, seconds.
IRREGULAR_S = (0.03, 0.4)

Stretch = tuple[int, int]


class Loader:
    """A load in a process of its own; `why_not` says why there is none, `said` what it said."""

    def __init__(self, program: str, index: int) -> None:
        """Start it on a GPU by its index; returns once it holds the board."""
        self.why_not: str | None = None
        self.said = ""
        self._child = Child(program, {"index": index})
        try:
            answer = self._child.receive(READY_S)
            self.why_not = str(answer["unavailable"]) if "unavailable" in answer else None
        except ChildGone as gone:
            self.why_not, self.said = str(gone), gone.said

    def start(self, switches_ns: Sequence[int]) -> None:
        """Ask for a load that is on from the first instant to the second, and so on."""
        self._child.send({"do": "follow", "switches_ns": list(switches_ns)})

    def finish(self, seconds: float) -> tuple[list[Stretch], int]:
        """Wait for its end; returns when it worked, and how often. Raises ChildGone."""
        answer = self._child.receive(seconds + READY_S)
        pairs = [items(pair) for pair in items(answer["stretches"])]
        return [(integer(a), integer(b)) for a, b in pairs], integer(answer["done"])

    def stop(self) -> None:
        """End the process, and with it its hold on the board."""
        self._child.stop()


def soon_ns() -> int:
    """Return an instant that a load can still be switched at."""
    return time.monotonic_ns() + AHEAD_NS


def steady(seconds: float) -> list[int]:
    """Return the switches of a load that is on from now for some seconds."""
    began_ns = soon_ns()
    return [began_ns, began_ns + round(seconds * 1e9)]


def square(period_s: float, duty: float, seconds: float, *, from_ns: int) -> list[int]:
    """Return the switches of a load that is on for a part of each period."""
    pairs = ((from_ns + round(n * period_s * 1e9), from_ns + round((n + duty) * period_s * 1e9))
             for n in range(max(1, round(seconds / period_s))))  # fmt: skip
    return [at for pair in pairs for at in pair]


def irregular(seconds: float, seed: int = 0) -> list[int]:
    """Return the switches of a load without any rhythm, for some seconds from now."""
    rng = random.Random(seed)  # noqa: S311 - a schedule, no secret
    switches = [soon_ns()]
    until_ns = switches[0] + round(seconds * 1e9)
    while switches[-1] < until_ns or len(switches) % 2:
        switches.append(switches[-1] + round(rng.uniform(*IRREGULAR_S) * 1e9))
    return switches
