"""Joules from the edges of an energy counter. Pure: no clock, no device, no state.

Times are CLOCK_MONOTONIC nanoseconds. Nothing here guesses: what the numbers cannot carry comes
back as None, and every half-width is meant as a 95 % one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

#: The part of a tick within which an instant is too close to its ends to be told apart.
AMBIGUOUS = 0.1
#: Ticks are countable over a stretch whose accumulated error stays below this part of one.
COUNTABLE = 0.25
#: What is left of the jitter seen, edge by edge, if no more is seen.
CALMING = 0.98
#: Few ticks are ever watched: others may come this much later than those.
UNSEEN_JITTER = 2.0
#: A distance this much longer than the shortest one missed a tick.
MISSED = 1.25
#: A counter that is followed is looked at once per tick, but no more often than this,
FASTEST_NS = 5_000_000
#: and around the middle of the tick, by so many ticks earlier or later: one awakening serves most
#: boards.
EARLY, LATE = 0.35, 0.2


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
class Tick:
    """The period of a counter and how far off it may be, nanoseconds.

    `jitter_ns` is how far from where they are due ticks have been seen to come.
    """

    period_ns: float
    error_ns: float
    jitter_ns: float = 0.0

    @property
    def countable(self) -> bool:
        """Whether it is known well enough to tell one tick from the next."""
        return self.error_ns <= COUNTABLE * self.period_ns

    def drift(self, since_ns: int) -> float:
        """Return how far off the grid may be after `since_ns`, in ticks."""
        return since_ns / self.period_ns * self.error_ns / self.period_ns

    def between(self, first: Edge, later: Edge) -> Tick | None:
        """Return a better period from two edges; None if the ticks between cannot be counted."""
        span_ns = later.at_ns - first.at_ns
        ticks = round(span_ns / self.period_ns)
        if ticks < 1 or self.drift(span_ns) > COUNTABLE:
            return None
        brackets_ns = (first.half_width_s + later.half_width_s) * 1e9
        off_ns = abs(span_ns - ticks * self.period_ns) - ticks * self.error_ns - brackets_ns
        jitter_ns = max(CALMING * self.jitter_ns, off_ns)
        error_ns = (brackets_ns + 2 * jitter_ns) / ticks
        if error_ns >= self.error_ns:
            return replace(self, jitter_ns=jitter_ns)
        return Tick(period_ns=span_ns / ticks, error_ns=error_ns, jitter_ns=jitter_ns)


def tick_between(before: Edge, before_tick: int, edge: Edge, tick: int) -> Tick:
    """Return the period that two clean changes, so many changes apart, speak for."""
    ticks = tick - before_tick
    error_ns = (before.half_width_s + edge.half_width_s) * 1e9
    return Tick(period_ns=(edge.at_ns - before.at_ns) / ticks, error_ns=error_ns / ticks)


def period_of(gaps: Sequence[Tick]) -> Tick:
    """Return the period that distances between ticks speak for; the longer ones missed some."""
    shortest_ns = min(gap.period_ns for gap in gaps)
    single = [gap for gap in gaps if gap.period_ns < MISSED * shortest_ns]
    error_ns = max(gap.error_ns for gap in single)
    spread_ns = max(gap.period_ns for gap in single) - shortest_ns
    return Tick(period_ns=fmean(gap.period_ns for gap in single), error_ns=error_ns + spread_ns / 2,
                jitter_ns=max(0.0, spread_ns - 2 * error_ns))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Joules with a 95 % half-width of their timing (not of the sensor's accuracy)."""

    energy_j: float
    half_width_j: float


def advanced(
    edge: Edge, now_ns: int, value_mj: int, tick_s: float, *, asked_ns: int | None = None,
    error_s: float = 0.0,
) -> Edge | None:  # fmt: skip
    """Return the last tick before `now_ns`, when the counter read `value_mj`, from an earlier one.

    Other counters may have been waited for since. The counter was asked at `asked_ns`, and its
    period may be off by `error_s`. None so close to a tick that it cannot be told whether the value
    is from before or after it: read again.
    """
    tick_ns = tick_s * 1e9
    since_ns = ((now_ns if asked_ns is None else asked_ns) - edge.at_ns, now_ns - edge.at_ns)
    slack = AMBIGUOUS + since_ns[1] / tick_ns * error_s / tick_s
    first, last = since_ns[0] / tick_ns - slack, since_ns[1] / tick_ns + slack
    ticks = max(0, math.floor(first))
    if ticks != max(0, math.floor(last)):
        return None
    if ticks < 1:
        return edge
    later_ns, wider_ns = round(ticks * tick_ns), round(ticks * error_s * 1e9)
    per_tick_mj = (value_mj - edge.value_mj) // ticks
    return replace(edge, lo_ns=edge.lo_ns + later_ns - wider_ns,
                   hi_ns=edge.hi_ns + later_ns + wider_ns,
                   value_mj=value_mj, previous_mj=value_mj - per_tick_mj)  # fmt: skip


def next_look(start: Edge, tick: Tick, after_ns: int) -> tuple[int, int]:
    """Return the span inside the first tick after an instant, in which to look at its value."""
    period_ns = max(1, math.ceil(FASTEST_NS / tick.period_ns)) * tick.period_ns
    begun = math.floor((after_ns - start.at_ns) / period_ns)
    middle_ns = start.at_ns + (begun + 1) * period_ns + tick.period_ns / 2
    return (round(middle_ns - EARLY * tick.period_ns), round(middle_ns + LATE * tick.period_ns))


def counter_energy(
    start: Edge, end: Edge, window: tuple[int, int], *, tick_s: float, limit_w: float,
    tick_error_s: float = 0.0, jitter_s: float = 0.0,
) -> Energy | None:  # fmt: skip
    """Joules of `window` by the counter; None if the counter went backwards.

    `start` is a tick at or before the window's start, `end` one at or after its end; `tick_s` is
    the counter's period, off by up to `tick_error_s`, `jitter_s` how late its ticks come (their
    value may be of then or of when they were due) and `limit_w` the most the board can draw. The
    tick that holds an edge of the window is split in proportion to time, and how wrong that can be
    is in the half-width.
    """
    total_j = (end.value_mj - start.value_mj) / 1e3
    if total_j < 0 or end.value_mj < end.held_mj or start.value_mj < start.held_mj:
        return None
    before = _before(start, window[0], tick_s, limit_w)
    after = _after(end, window[1], tick_s, limit_w)
    late_s = UNSEEN_JITTER * jitter_s
    ticks = max(1.0, (end.at_ns - window[1]) / 1e9 / tick_s)  # to the end tick; one, or some passed
    unsure_s = [start.half_width_s + late_s, end.half_width_s + late_s, ticks * tick_error_s]
    return Energy(
        energy_j=total_j - before.energy_j - after.energy_j,
        half_width_j=math.hypot(
            before.half_width_j, after.half_width_j, *(limit_w * each_s for each_s in unsure_s)
        ),
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
    if first is not None and first <= end_ns:
        # The end was moved past it (to another board's tick): a later tick holds it.
        until_ns, unsure_s = float(edge.at_ns), 0.0
        ticks = max(1, round((edge.at_ns - first) / 1e9 / tick_s))
        rest_j, span_j = 0.0, (edge.value_mj - edge.first_mj) / 1e3
    elif first is not None:
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
