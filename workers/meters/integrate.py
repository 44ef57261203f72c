"""Joules from power samples. Pure: no clock, no device, no state.

Times are CLOCK_MONOTONIC nanoseconds. Nothing here guesses: what the numbers cannot carry comes
back as None, and every half-width is meant as a 95 % one. How far the samples can be trusted
between each other is decided in workers/meters/unseen.py.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter

from workers.meters.unseen import unseen_w

#: Fewer samples than this in a window say nothing about what lies between them.
FEWEST_SAMPLES = 2
#: How often a power sensor brings a new value, where that has not been seen. None is known to do
#: so less often (Yang, Adamek, Armour 2024); a power that stays the same for longer looks like it.
NOMINAL_PERIOD_S = 0.1
#: How much wider the samples of a fast sensor leave it: on a busy machine their stamps are about as
#: far off as they are apart.
HURRIED = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """What is known of the samples' time: they are `lag_s` old, give or take `unsure_s`.

    `period_s` is how often a new value comes, None where it has not been seen.
    """

    period_s: float | None = None
    lag_s: float = 0.0
    unsure_s: float = 0.0

    @property
    def looks_every_s(self) -> float:
        """How often the sensor looks, as far as that is known."""
        return min(self.period_s or NOMINAL_PERIOD_S, NOMINAL_PERIOD_S)

    @property
    def seen_s(self) -> float:
        """The time, at least, that each sample is the mean of: that makes it old."""
        return 2 * max(0.0, self.lag_s - self.unsure_s)

    @property
    def looks_per_sample(self) -> int:
        """How many times the sensor looked, at most, while one value stood.

        Stamps that are surer than a period are those of updates: it was watched in between.
        """
        watched = self.unsure_s < self.looks_every_s / 2
        return max(1, round(NOMINAL_PERIOD_S / self.looks_every_s)) if watched else 1

    @property
    def fast(self) -> bool:
        """Whether more updates are watched for than samples are taken."""
        return self.looks_per_sample > 1

    @property
    def off_s(self) -> float:
        """How far off the stamps may be, all alike; an update of a fast sensor is easily missed."""
        return max(self.unsure_s, self.looks_every_s) if self.fast else self.unsure_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Integral:
    """The integral of power samples over a window, and what it rests on."""

    energy_j: float
    half_width_j: float
    mean_w: float
    max_w: float
    samples: int


def largest_gap_ns(times_ns: Sequence[int], window: tuple[int, int]) -> int:
    """Return the longest stretch of the window without a sample; its whole length without any."""
    start_ns, end_ns = window
    inside = [t for t in times_ns if start_ns < t < end_ns]
    before = [t for t in times_ns if t <= start_ns][-1:]
    after = [t for t in times_ns if t >= end_ns][:1]
    marks = [*(before or [start_ns]), *inside, *(after or [end_ns])]
    return max(b - a for a, b in pairwise(marks))


def integrate(
    times_ns: Sequence[int], watts: Sequence[float], window: tuple[int, int], *, max_gap_ns: int,
    sensor: Sensor | None = None,
) -> Integral | None:  # fmt: skip
    """Trapezoid of the samples over `window`, its edges interpolated; None if they do not carry it.

    `times_ns` ascends strictly. They do not carry it when fewer than two lie inside, or when a
    stretch longer than `max_gap_ns` has none. A value that is read again and again counts once per
    period of the sensor.
    """
    start_ns, end_ns = window
    if largest_gap_ns(times_ns, window) > max_gap_ns:
        return None
    if sum(start_ns < t < end_ns for t in times_ns) < FEWEST_SAMPLES:
        return None
    sensor = sensor or Sensor()
    times_ns, watts = _updates(times_ns, watts, sensor)
    inside = [(t, w) for t, w in zip(times_ns, watts, strict=True) if start_ns < t < end_ns]
    points = [(start_ns, power_at(times_ns, watts, start_ns)), *inside,
              (end_ns, power_at(times_ns, watts, end_ns))]  # fmt: skip
    energy_j = math.fsum((w0 + w1) / 2 * (t1 - t0) / 1e9 for (t0, w0), (t1, w1) in pairwise(points))
    duration_s = (end_ns - start_ns) / 1e9
    moved_w = [points[-1][1] - points[0][1],  # by which all the samples are early or late
               *(_swing(times_ns, watts, at_ns, sensor) for at_ns in window)]  # fmt: skip
    between_j = unseen_w(times_ns, watts, window, seen_s=sensor.seen_s) * duration_s
    between_j *= HURRIED if sensor.fast else 1.0
    return Integral(
        energy_j=energy_j,
        half_width_j=math.hypot(between_j, *(sensor.off_s * w for w in moved_w)),
        mean_w=energy_j / duration_s,
        max_w=max((w for _, w in inside), default=points[0][1]),
        samples=len(inside),
    )


def _updates(
    times_ns: Sequence[int], watts: Sequence[float], sensor: Sensor
) -> tuple[list[int], list[float]]:
    """Return when the sensor looked, and what it saw: each new value, and lasting ones in turn."""
    period_ns = sensor.looks_every_s * 1e9
    runs = [list(run) for _, run in groupby(zip(times_ns, watts, strict=True), key=itemgetter(1))]
    ends_ns = [run[0][0] for run in runs[1:]] + [times_ns[-1] + round(period_ns)]
    lag_ns = round(sensor.lag_s * 1e9)
    looks: list[tuple[int, float]] = []
    for run, end_ns in zip(runs, ends_ns, strict=True):
        begin_ns, value_w = run[0]
        most = len(run) * sensor.looks_per_sample
        times = min(most, max(1, round((end_ns - begin_ns) / period_ns)))
        step_ns = (end_ns - begin_ns) / times
        looks += [(begin_ns + round(i * step_ns) - lag_ns, value_w) for i in range(times)]
    return [t for t, _ in looks], [w for _, w in looks]


def power_at(times_ns: Sequence[int], watts: Sequence[float], at_ns: int) -> float:
    """Return the power at an instant, interpolated; beyond the samples the nearest one holds."""
    if at_ns <= times_ns[0]:
        return watts[0]
    if at_ns >= times_ns[-1]:
        return watts[-1]
    i = bisect_left(times_ns, at_ns)
    share = (at_ns - times_ns[i - 1]) / (times_ns[i] - times_ns[i - 1])
    return watts[i - 1] + share * (watts[i] - watts[i - 1])


def _swing(times_ns: Sequence[int], watts: Sequence[float], at_ns: int, sensor: Sensor) -> float:
    """Return how much the power varies around an edge, as far as the samples' time is unsure."""
    reach_ns = (sensor.unsure_s + sensor.looks_every_s) * 1e9
    near = [w for t, w in zip(times_ns, watts, strict=True) if abs(t - at_ns) <= reach_ns]
    return max(near) - min(near) if near else max(watts) - min(watts)
