"""Joules from counter edges and from power samples. Pure: no clock, no device, no state.

Times are CLOCK_MONOTONIC nanoseconds. Nothing here guesses: what the numbers cannot carry comes
back as None, and every half-width is meant as a 95 % one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

#: The part of a tick within which an instant is too close to its ends to be told apart.
AMBIGUOUS = 0.1
#: Fewer samples than this in a window say nothing about what lies between them.
FEWEST_SAMPLES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One tick of an energy counter, bracketed in time.

    The tick happened between `lo_ns` and `hi_ns` and brought the counter to `value_mj`, from
    `previous_mj`. The search began at `held_ns` with the counter at `held_mj`; the first new value,
    `first_mj`, appeared between `first_lo_ns` and `first_hi_ns`: this very tick, or an earlier one
    that was not seen cleanly.
    """

    lo_ns: int
    hi_ns: int
    value_mj: int
    previous_mj: int
    held_ns: int
    held_mj: int
    first_mj: int
    first_lo_ns: int
    first_hi_ns: int

    @property
    def at_ns(self) -> int:
        """The best single instant of the tick."""
        return (self.lo_ns + self.hi_ns) // 2

    @property
    def half_width_s(self) -> float:
        """Half of the bracket, seconds."""
        return (self.hi_ns - self.lo_ns) / 2e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Joules with a 95 % half-width of their timing (not of the sensor's accuracy)."""

    energy_j: float
    half_width_j: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Integral:
    """The integral of power samples over a window, and what it rests on."""

    energy_j: float
    half_width_j: float
    mean_w: float
    max_w: float
    samples: int


def advanced(edge: Edge, now_ns: int, value_mj: int, tick_s: float) -> Edge | None:
    """Return the last tick before `now_ns`, when the counter read `value_mj`, from an earlier one.

    Other counters may have been waited for since. None so close to a tick that it cannot be told
    whether the value is from before or after it: read again.
    """
    passed = (now_ns - edge.at_ns) / (tick_s * 1e9)
    if abs(passed - round(passed)) < AMBIGUOUS and round(passed) > 0:
        return None
    ticks = math.floor(passed)
    if ticks < 1:
        return edge
    later_ns = round(ticks * tick_s * 1e9)
    per_tick_mj = (value_mj - edge.value_mj) // ticks
    return replace(edge, lo_ns=edge.lo_ns + later_ns, hi_ns=edge.hi_ns + later_ns,
                   value_mj=value_mj, previous_mj=value_mj - per_tick_mj)  # fmt: skip


def counter_energy(
    start: Edge, end: Edge, window: tuple[int, int], *, tick_s: float, limit_w: float
) -> Energy | None:
    """Joules of `window` by the counter; None if the counter went backwards.

    `start` is a tick at or before the window's start, `end` one at or after its end; `tick_s` is
    the counter's period and `limit_w` the most the board can draw. The tick that holds an edge of
    the window is split in proportion to time, and how wrong that can be is in the half-width.
    """
    total_j = (end.value_mj - start.value_mj) / 1e3
    if total_j < 0 or end.value_mj < end.held_mj or start.value_mj < start.held_mj:
        return None
    before = _before(start, window[0], tick_s, limit_w)
    after = _after(end, window[1], tick_s, limit_w)
    brackets_j = [limit_w * edge.half_width_s for edge in (start, end)]
    return Energy(
        energy_j=total_j - before.energy_j - after.energy_j,
        half_width_j=math.hypot(before.half_width_j, after.half_width_j, *brackets_j),
    )


def _before(edge: Edge, start_ns: int, tick_s: float, limit_w: float) -> Energy:
    """Return what was drawn between the start tick and the window's start.

    Nothing was running yet, so it continues the tick before the edge.
    """
    gap_s = max(0.0, (start_ns - edge.at_ns) / 1e9)
    before_w = (edge.value_mj - edge.previous_mj) / 1e3 / tick_s
    return _at(before_w, gap_s, limit_w, uncertain_s=gap_s)


def _after(edge: Edge, end_ns: int, tick_s: float, limit_w: float) -> Energy:
    """Return what was drawn between the window's end and the end tick."""
    if edge.at_ns <= end_ns:
        return Energy(energy_j=0.0, half_width_j=0.0)
    first = _first_tick(edge, tick_s)
    if first is not None:
        # One tick holds the window's end, and what came after it was counted.
        until_ns, ticks, unsure_s = first, 1, 0.0
        rest_j, span_j = (edge.value_mj - edge.first_mj) / 1e3, (edge.first_mj - edge.held_mj) / 1e3
    else:
        passed = (edge.at_ns - edge.held_ns) / 1e9 / tick_s
        unsure_s = tick_s if abs(passed - round(passed)) < AMBIGUOUS else 0.0
        until_ns, ticks = float(edge.at_ns), math.floor(passed) + 1
        rest_j, span_j = 0.0, (edge.value_mj - edge.held_mj) / 1e3
    gap_s, span_s = max(0.0, (until_ns - end_ns) / 1e9), ticks * tick_s
    split = _split(span_j, min(gap_s, span_s), span_s, limit_w)
    # Ticks between the window's end and the first look at the counter continue those that follow.
    extra_s = max(0.0, gap_s - span_s)
    extra = _at(span_j / span_s, extra_s, limit_w, uncertain_s=extra_s + unsure_s)
    return Energy(energy_j=rest_j + split.energy_j + extra.energy_j,
                  half_width_j=split.half_width_j + extra.half_width_j)  # fmt: skip


def _first_tick(edge: Edge, tick_s: float) -> float | None:
    """Return when the search's first tick was, ns; None if it slept too long to tell it alone."""
    if edge.first_hi_ns - edge.first_lo_ns >= tick_s * 1e9 / 2:
        return None
    middle_ns = (edge.first_lo_ns + edge.first_hi_ns) / 2
    ticks = round((edge.at_ns - middle_ns) / 1e9 / tick_s)
    on_grid_ns = edge.at_ns - ticks * tick_s * 1e9
    return min(max(on_grid_ns, edge.first_lo_ns), edge.first_hi_ns)


def _at(watts: float, duration_s: float, limit_w: float, *, uncertain_s: float) -> Energy:
    """Return joules at a constant power, of which `uncertain_s` may be anything a board draws."""
    return Energy(energy_j=watts * duration_s,
                  half_width_j=max(watts, limit_w - watts) * uncertain_s)  # fmt: skip


def _split(tick_j: float, part_s: float, tick_s: float, limit_w: float) -> Energy:
    """Return the share of a tick's joules that falls into `part_s` of its `tick_s`.

    The board draws between 0 and `limit_w` (more if the tick itself shows more), which bounds the
    share from both sides.
    """
    limit_w = max(limit_w, tick_j / tick_s)
    share_j = tick_j * min(1.0, part_s / tick_s)
    most_j = min(tick_j, limit_w * part_s)
    least_j = max(0.0, tick_j - limit_w * max(0.0, tick_s - part_s))
    return Energy(energy_j=share_j,
                  half_width_j=max(most_j - share_j, share_j - least_j))  # fmt: skip


def largest_gap_ns(times_ns: Sequence[int], window: tuple[int, int]) -> int:
    """Return the longest stretch of the window without a sample; its whole length without any."""
    start_ns, end_ns = window
    inside = [t for t in times_ns if start_ns < t < end_ns]
    before = [t for t in times_ns if t <= start_ns][-1:]
    after = [t for t in times_ns if t >= end_ns][:1]
    marks = [*(before or [start_ns]), *inside, *(after or [end_ns])]
    return max((b - a for a, b in pairwise(marks)), default=end_ns - start_ns)


def integrate(
    times_ns: Sequence[int], watts: Sequence[float], window: tuple[int, int], *, max_gap_ns: int
) -> Integral | None:
    """Trapezoid of the samples over `window`, its edges interpolated; None if they do not carry it.

    `times_ns` ascends strictly. They do not carry it when fewer than two lie inside, or when a
    stretch longer than `max_gap_ns` has none. The half-width takes the samples as independent
    draws of the curve, and both edges as uncertain by one sampling interval of the observed swing.
    """
    start_ns, end_ns = window
    if end_ns <= start_ns or largest_gap_ns(times_ns, window) > max_gap_ns:
        return None
    inside = [(t, w) for t, w in zip(times_ns, watts, strict=True) if start_ns < t < end_ns]
    if len(inside) < FEWEST_SAMPLES:
        return None
    points = [(start_ns, power_at(times_ns, watts, start_ns)), *inside,
              (end_ns, power_at(times_ns, watts, end_ns))]  # fmt: skip
    energy_j = math.fsum((w0 + w1) / 2 * (t1 - t0) / 1e9 for (t0, w0), (t1, w1) in pairwise(points))
    duration_s = (end_ns - start_ns) / 1e9
    values = [w for _, w in inside]
    return Integral(
        energy_j=energy_j,
        half_width_j=_sampling_half_width(values, duration_s),
        mean_w=energy_j / duration_s,
        max_w=max(values),
        samples=len(inside),
    )


def power_at(times_ns: Sequence[int], watts: Sequence[float], at_ns: int) -> float:
    """Return the power at an instant, interpolated; beyond the samples the nearest one holds."""
    if at_ns <= times_ns[0]:
        return watts[0]
    if at_ns >= times_ns[-1]:
        return watts[-1]
    i = next(i for i, t in enumerate(times_ns) if t >= at_ns)
    share = (at_ns - times_ns[i - 1]) / (times_ns[i] - times_ns[i - 1])
    return watts[i - 1] + share * (watts[i] - watts[i - 1])


def _sampling_half_width(watts: Sequence[float], duration_s: float) -> float:
    n = len(watts)
    mean = math.fsum(watts) / n
    deviation = math.sqrt(math.fsum((w - mean) ** 2 for w in watts) / (n - 1))
    swing_j = (max(watts) - min(watts)) * duration_s / n
    return math.hypot(1.96 * deviation / math.sqrt(n) * duration_s, swing_j)
