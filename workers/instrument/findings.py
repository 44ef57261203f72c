"""What the series of a board's sensors say of the sensors. Pure: no clock, no device.

Where the numbers cannot carry an answer it is None. Instants are nanoseconds, results seconds.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median, stdev

import numpy as np
from numpy.typing import NDArray

#: Fewer changes than this say nothing of a period.
FEWEST = 5
#: A distance counts if its ends are bracketed to this part of a period.
KNOWN = 0.2
#: So many distances are whole numbers of periods, each to this part of one period: an update that
#: shows what was shown before is not seen, and two that a late reader saw as one are none.
MOST, NEAR = 0.9, 0.25
#: Distances that are tried as the period.
TRIED = 200
#: Windows of a moving mean, and ages of its end, that are tried, seconds.
WINDOWS_S = (0.001, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.075, 0.1, 0.125,
             0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5)  # fmt: skip
AGES_S = tuple(n / 200 for n in range(41))
#: Sensors whose means differ by less than this part over the phases of a load see all of it.
SEEN_ALIKE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """How often something new is shown, and how the distances spread, seconds.

    Of distances that are known: a reader that was held up sees no change, or sees it late.
    """

    period_s: float
    shortest_s: float
    longest_s: float
    jitter_s: float
    bracket_s: float
    changes: int


def period(at_ns: Sequence[int], widths_ns: Sequence[int]) -> Period | None:
    """Return the period of changes; the first one is when the watch began.

    It is the longest distance that nearly all of those that are known are whole numbers of.
    """
    changes = list(zip(at_ns[1:], widths_ns[1:], strict=True))
    gaps_s = np.array([b - a for a, b in pairwise(at_ns[1:])], dtype=float) / 1e9
    brackets_s = np.array([max(pair) for pair in pairwise(widths_ns[1:])], dtype=float) / 1e9
    tried_s = np.sort(gaps_s[brackets_s <= KNOWN * gaps_s])
    for one_s in tried_s[:: -max(1, len(tried_s) // TRIED)]:
        known_s = gaps_s[brackets_s <= KNOWN * one_s]
        rounds = known_s / one_s
        fits = np.abs(rounds - np.maximum(1, np.round(rounds))) <= NEAR
        if len(known_s) >= FEWEST and fits.mean() >= MOST:
            single_s = known_s[np.abs(rounds - 1) <= NEAR].tolist()
            return Period(period_s=fmean(single_s), shortest_s=float(known_s.min()),
                          longest_s=float(known_s.max()),
                          jitter_s=stdev(single_s) if len(single_s) > 1 else 0.0,
                          bracket_s=median(widths_ns[1:]) / 1e9,
                          changes=len(changes))  # fmt: skip
    return None


def quantum_mj(values: Sequence[float]) -> int | None:
    """Return the largest step that all steps of a counter are made of, millijoules."""
    steps = [round(b - a) for a, b in pairwise(values)]
    return math.gcd(*steps) if steps else None


def apart_s(first_ns: Sequence[int], others_ns: Sequence[int]) -> float | None:
    """Return how far the changes of one sensor are from the nearest of another, in the median."""
    if len(first_ns) < FEWEST or len(others_ns) < FEWEST:
        return None
    nearest = []
    for at in first_ns[1:]:
        place = bisect_left(others_ns, at)
        nearest.append(min(abs(at - other) for other in others_ns[max(0, place - 1) : place + 1]))
    return median(nearest) / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Averaging:
    """What a sensor shows: the mean of `window_s` that ended `age_s` before it was first seen.

    `explained` is the part of its variance that this leaves no doubt of.
    """

    window_s: float
    age_s: float
    low_w: float
    high_w: float
    explained: float


def averaging(
    at_ns: Sequence[int], watts: Sequence[float], stretches_ns: Sequence[tuple[int, int]]
) -> Averaging | None:
    """Return the moving mean of a load, on and off, that fits what a sensor showed best."""
    if len(watts) < FEWEST * 2 or len(set(watts)) == 1 or not stretches_ns:
        return None
    origin_ns = stretches_ns[0][0]
    times = (np.array(at_ns[1:], dtype=float) - origin_ns) / 1e9
    shown = np.array(watts[1:], dtype=float)
    edges = (np.array(stretches_ns, dtype=float).ravel() - origin_ns) / 1e9
    worked = np.repeat(np.cumsum([b - a for a, b in zip(edges[::2], edges[1::2], strict=True)]), 2)
    worked[::2] = np.concatenate(([0.0], worked[1:-1:2]))
    inside = (times > edges[0]) & (times < edges[-1])
    times, shown = times[inside], shown[inside]
    if len(shown) < FEWEST * 2 or float(np.ptp(shown)) == 0.0:
        return None
    fits = [
        _fitted(times, shown, edges, worked, window, age) for window in WINDOWS_S for age in AGES_S
    ]
    return max(fits, key=lambda fit: fit.explained)


Numbers = NDArray[np.float64]


def _fitted(
    times: Numbers, shown: Numbers, edges: Numbers, worked: Numbers, window_s: float, age_s: float
) -> Averaging:
    """Return the least squares line of what was shown on the part of a window that was worked."""
    ends = times - age_s
    part = (np.interp(ends, edges, worked) - np.interp(ends - window_s, edges, worked)) / window_s
    centred, spread = part - part.mean(), shown - shown.mean()
    slope = float(centred @ spread) / float(centred @ centred) if centred.any() else 0.0
    left = spread - slope * centred
    low_w = float(shown.mean() - slope * part.mean())
    return Averaging(window_s=window_s, age_s=age_s, low_w=low_w, high_w=low_w + slope,
                     explained=1 - float(left @ left) / float(spread @ spread))  # fmt: skip


def fed_by_sensor(counted_w: Sequence[float], sensed_w: Sequence[float]) -> float | None:
    """Return how much of what a sensor gets wrong a counter gets wrong as well: 0 none, 1 all.

    The runs hold the same load at other phases of the sensor, so whatever differs is an error.
    None where the sensor shows every phase alike, and nothing can be told.
    """
    if len(counted_w) < FEWEST or stdev(sensed_w) < SEEN_ALIKE * fmean(sensed_w):
        return None
    centre = fmean(sensed_w)
    off_w = [watts - centre for watts in sensed_w]
    return math.fsum(off * watts for off, watts in zip(off_w, counted_w, strict=True)) / math.fsum(
        off * off for off in off_w
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Values of the same thing, and how they differ; `relative` is a standard deviation."""

    mean: float
    sd: float
    relative: float
    values: tuple[float, ...]


def spread(values: Sequence[float | None]) -> Spread | None:
    """Return the spread of values; None where any of them, or a second one, is missing."""
    known = [value for value in values if value is not None]
    if len(known) < max(2, len(values)):
        return None
    mean, sd = fmean(known), stdev(known)
    return Spread(mean=mean, sd=sd, relative=sd / mean if mean else 0.0, values=tuple(known))


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Return smallest, median, 99th of a hundred, and largest of some values."""
    ordered = sorted(values)
    return {"least": ordered[0], "median": median(ordered),
            "p99": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
            "most": ordered[-1]}  # fmt: skip
