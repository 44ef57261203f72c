"""How wrong the mean of a sensor's samples can be about what it did not look at. Pure.

A power sensor that sees 25 ms of every 100 ms (A100, H100: Yang, Adamek, Armour, "Part-time Power
Measurements", 2024) leaves the rest to be judged from the samples. It owns that judgement: one of
three orders is found in them, and each has its own error.

- They follow the curve. Either it is smooth in time, or hardly any sample lies between two levels:
  a power that jumps seldom while the sensor looks does so seldom while it does not. Each step lies
  somewhere between two samples. Only a sensor that looks for a while can tell.
- They follow a rhythm: sorted by the phase of some frequency, they form a smooth curve although
  they do not in time. Each step lies somewhere between two neighbouring phases.
- They follow neither: what was not seen is as random as what was.

The figures were found by simulation, on square, ramp, burst and noise curves with periods of 15 ms
to 1.5 s that keep 5 % off the divisors of the sensor's; tests/unit/test_unseen.py repeats it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

#: The part of the samples that lies between the lowest and the highest one, by more than this part
#: of their distance: up to the first figure the power changes seldom, from the second one often.
LEVEL, SELDOM = 0.02, (0.1, 0.3)
#: The part of the time that a sensor must see at least, for jumps to show.
LONG_ENOUGH = 0.1
#: Squared steps between samples, relative to independent samples (1): up to the first figure they
#: are smooth, from the second one they are not; and likewise: each tends to undo the one before.
SMOOTH, UNDOING = (0.4, 0.65), (1.25, 1.65)
#: 95 % half-widths in root sums of squared steps: for samples that follow the curve, that are
#: independent, that undo each other, and that follow a rhythm.
SLOW, RANDOM, BACK_AND_FORTH, RHYTHM = 0.48, 1.3, 0.8, 1.0
#: A rhythm is believed if it leaves at most this part of the squared steps.
SMOOTHED = 0.15
#: Frequencies that leave at most this much more are as good as the best one.
ALIKE = 1.05
#: Rhythms are sought among this many samples; fewer fit any, more would take seconds.
FEWEST, MOST = 16, 400
#: With fewer samples than this it cannot be told how they follow each other.
FEWEST_TO_JUDGE = 3
#: A stretch between samples so many times longer than usual has some missing.
GAP = 1.5
#: Frequencies tried, per sample.
FINENESS = 2.5
#: Samples that are all alike, or drift, may all be of one phase: the part of one that is not ruled
#: out by the others.
HIDDEN = 0.52


#: A sample: where in its period, 0 to 1, and its watts.
Phased = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """A period of the samples: their mean over it, and what the gaps between phases leave open."""

    mean_w: float
    half_width_w: float


def unseen_w(
    times_ns: Sequence[int], watts: Sequence[float], window: tuple[int, int], *,
    seen_s: float = 0.0,
) -> float:  # fmt: skip
    """Return the 95 % half-width, watts, of the samples' mean power over the window.

    Each sample is the mean of `seen_s` at least.
    """
    start_ns, end_ns = window
    inside = [(t, w) for t, w in zip(times_ns, watts, strict=True) if start_ns < t < end_ns]
    values = [w for _, w in inside]
    mean_w = math.fsum(values) / max(1, len(values))
    hidden_w = math.hypot(HIDDEN * abs(mean_w) / max(1, len(values)),
                          _missing_w(times_ns, watts, window))  # fmt: skip
    rhythm = _rhythm([t / 1e9 for t, _ in inside], values)
    if rhythm is not None:
        in_time_w = _mean_in_time(inside)
        return math.hypot(RHYTHM * rhythm.half_width_w, rhythm.mean_w - in_time_w, hidden_w)
    jumping = _along(_jumps(times_ns, watts, window, seen_s), SELDOM)
    return math.hypot(_factor(values, jumping) * _steps_w(times_ns, watts, window), hidden_w)


def _jumps(
    times_ns: Sequence[int], watts: Sequence[float], window: tuple[int, int], seen_s: float
) -> float:
    """Return the part of the samples in which the power may have jumped: those between levels.

    They are those of the window, with the one before and the one after it.
    """
    first, last = bisect_right(times_ns, window[0]) - 1, bisect_left(times_ns, window[1])
    near = slice(max(0, first), last + 1)
    gaps_ns = [b - a for a, b in pairwise(times_ns[near])]
    if not gaps_ns or seen_s * 1e9 < LONG_ENOUGH * median(gaps_ns):
        return 1.0
    low_w, high_w = min(watts[near]), max(watts[near])
    margin_w = LEVEL * (high_w - low_w)
    return fmean(low_w + margin_w < w < high_w - margin_w for w in watts[near])


def _steps_w(times_ns: Sequence[int], watts: Sequence[float], window: tuple[int, int]) -> float:
    """Return the root sum of squared steps, each weighted with its part of the window."""
    length_ns = window[1] - window[0]
    points = list(zip(times_ns, watts, strict=True))
    return math.hypot(*(
        (w1 - w0) * max(0, min(t1, window[1]) - max(t0, window[0])) / length_ns
        for (t0, w0), (t1, w1) in pairwise(points)
    ))  # fmt: skip


def _missing_w(times_ns: Sequence[int], watts: Sequence[float], window: tuple[int, int]) -> float:
    """Return what the power may have done while samples failed to come: anything it was seen to."""
    gaps_ns = [b - a for a, b in pairwise(times_ns)]
    if not gaps_ns:
        return 0.0
    usual_ns = GAP * median(gaps_ns)
    marks = [min(window[0], times_ns[0]), *times_ns, max(window[1], times_ns[-1])]
    missing_ns = math.fsum(
        max(0.0, min(b, window[1]) - max(a, window[0]) - usual_ns) for a, b in pairwise(marks)
    )
    return (max(watts) - min(watts)) * missing_ns / (window[1] - window[0])


def _squared_steps(values: Sequence[float]) -> float:
    return math.fsum((b - a) ** 2 for a, b in pairwise(values))


def _factor(values: Sequence[float], jumping: float) -> float:
    """Return the half-width of a mean in root sums of squared steps, by how samples follow.

    `jumping` is how sure it is that the power jumps often, 0 to 1.
    """
    n = len(values)
    if n < FEWEST_TO_JUDGE:
        return RANDOM
    mean = math.fsum(values) / n
    spread = math.fsum((v - mean) ** 2 for v in values)
    if spread == 0.0:
        return SLOW
    roughness = _squared_steps(values) / (2 * spread) * n / (n - 1)
    unordered = RANDOM + (BACK_AND_FORTH - RANDOM) * _along(roughness, UNDOING)
    return SLOW + (unordered - SLOW) * _along(roughness, SMOOTH) * jumping


def _along(value: float, way: tuple[float, float]) -> float:
    """Return how far along a way a value has come, 0 to 1."""
    return min(1.0, max(0.0, (value - way[0]) / (way[1] - way[0])))


def _mean_in_time(inside: Sequence[tuple[int, float]]) -> float:
    area = math.fsum((w0 + w1) / 2 * (t1 - t0) for (t0, w0), (t1, w1) in pairwise(inside))
    return area / (inside[-1][0] - inside[0][0])


def _rhythm(times_s: Sequence[float], watts: Sequence[float]) -> Rhythm | None:
    """Return the samples in the order of the phase that makes them smoothest, if it is smooth."""
    n = len(watts)
    if not FEWEST <= n <= MOST:
        return None
    since = [t - times_s[0] for t in times_s]
    fastest_hz = (n - 1) / since[-1] / 2
    tries = math.floor(FINENESS * n)
    rough = {hz: _squared_steps([w for _, w in _by_phase(since, watts, hz)])
             for hz in (fastest_hz * (i + 1) / tries for i in range(tries))}  # fmt: skip
    smooth = min(rough.values())
    if smooth >= SMOOTHED * _squared_steps(watts):
        return None
    # Frequencies too close to be told apart differ in how far apart the phases lie.
    alike = [_circle(_by_phase(since, watts, hz)) for hz in rough if rough[hz] <= ALIKE * smooth]
    return max(alike, key=lambda rhythm: rhythm.half_width_w)


def _circle(points: Sequence[Phased]) -> Rhythm:
    steps = [(w1 - w0, p1 - p0, (w0 + w1) / 2) for (p0, w0), (p1, w1) in pairwise(points)]
    return Rhythm(mean_w=math.fsum(middle * gap for _, gap, middle in steps),
                  half_width_w=math.hypot(*(step * gap for step, gap, _ in steps)))  # fmt: skip


def _by_phase(since: Sequence[float], watts: Sequence[float], hz: float) -> list[Phased]:
    """Sort samples by their phase at a frequency, and close the circle."""
    points = sorted([(t * hz % 1.0, w) for t, w in zip(since, watts, strict=True)])
    points.append((points[0][0] + 1.0, points[0][1]))
    return points
