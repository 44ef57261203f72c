"""The course of an energy counter inside a window, from readings taken between its ticks. Pure.

It owns the mapping of a reading to the tick that brought its value. A reading that cannot be told
from the next tick's is left out; a window whose ticks cannot be counted has no course at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from workers.meters.counting import AMBIGUOUS, Edge, Tick

#: One look at a counter: the nanoseconds before and after it, and the millijoules it showed.
Look = tuple[int, int, int]
#: The part of the looks that may contradict the tick grid (a tick that came late).
CONTRADICTED = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The instants of a counter's ticks: every `period_ns` from `origin_ns` on."""

    origin_ns: int
    period_ns: float

    def at_ns(self, tick: int) -> int:
        """Return the instant of a tick by its number."""
        return self.origin_ns + round(tick * self.period_ns)

    def tick_of(self, look: Look) -> int | None:
        """Return the number of the last tick before a look; None if it was too close to one."""
        margin_ns = AMBIGUOUS * self.period_ns / 2
        first = math.floor((look[0] - margin_ns - self.origin_ns) / self.period_ns)
        last = math.floor((look[1] + margin_ns - self.origin_ns) / self.period_ns)
        return first if first == last else None


def trajectory(start: Edge, end: Edge, tick: Tick, looks: Sequence[Look]) -> list[tuple[int, int]]:
    """Return (nanoseconds of the tick, millijoules it brought), ascending strictly in both.

    The edges are its first and last points. Empty where the counter went backwards, or where the
    number of ticks between the edges stays open: the period is known too badly, and the looks do
    not tell.
    """
    grid = _grid(start, end, tick, looks)
    if grid is None:
        return []
    found = [(start.at_ns, start.value_mj)]
    for number, look in _placed(grid, looks):
        at_ns = grid.at_ns(number)
        if found[-1][0] < at_ns < end.at_ns and look[2] != found[-1][1]:
            found.append((at_ns, look[2]))
    if end.at_ns > start.at_ns and end.value_mj > found[-1][1]:
        found.append((end.at_ns, end.value_mj))
    return found if all(a < b for (_, a), (_, b) in pairwise(found)) else []


def _grid(start: Edge, end: Edge, tick: Tick, looks: Sequence[Look]) -> Grid | None:
    """Return the grid through both edges that the looks agree with, if it is the only one."""
    span_ns = end.at_ns - start.at_ns
    if span_ns <= 0:
        return None
    slack = span_ns / tick.period_ns * tick.error_ns / tick.period_ns + AMBIGUOUS
    likely = span_ns / tick.period_ns
    counts = range(max(1, math.ceil(likely - slack)), math.floor(likely + slack) + 1)
    grids = [Grid(origin_ns=start.at_ns, period_ns=span_ns / n) for n in counts]
    if len(grids) == 1:
        return grids[0]
    agreeing = [g for g in grids if _contradictions(g, looks) <= CONTRADICTED * len(looks)]
    return agreeing[0] if len(agreeing) == 1 else None


def _placed(grid: Grid, looks: Sequence[Look]) -> Iterator[tuple[int, Look]]:
    for look in looks:
        number = grid.tick_of(look)
        if number is not None:
            yield number, look


def _contradictions(grid: Grid, looks: Sequence[Look]) -> int:
    """Count the pairs of looks whose values changed without a tick between, or did not with one."""
    return sum((a != b) != (first[2] != second[2])
               for (a, first), (b, second) in pairwise(_placed(grid, looks)))  # fmt: skip
