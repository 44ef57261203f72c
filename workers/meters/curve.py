"""The energy of one GPU inside a window, as a function of time. Pure.

It owns the joules of parts of a window: spans that begin and end anywhere between the ticks of a
counter, or between power samples. It never extends beyond what was read: a span outside is None.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

from db.readings import GpuEnergy
from workers.meters.counting import Edge, Energy
from workers.meters.gpureport import GAP_INTERVALS, Report
from workers.meters.integrate import Sensor, integrate

#: A part of a window, CLOCK_MONOTONIC nanoseconds.
Span = tuple[int, int]
#: The instants at which spans begin and end, by the tick that holds them.
Marks = Mapping[int, Sequence[int]]

#: How long a power field takes to follow the power, seconds; longer if it is seen to change less.
SENSOR_PERIOD_S = {"instant": 0.1, "average": 1.0, "legacy": 1.0}
#: A course without two points has no power.
FEWEST_POINTS = 2


class Curve(Protocol):
    """One GPU's energy inside a window."""

    @property
    def resolution_s(self) -> float:
        """How far apart its values are, seconds; 0 where it is known at every instant."""

    @property
    def errors_add(self) -> bool:
        """Whether the errors of its parts are alike and add up, or independent of each other."""

    def parts(self, spans: Sequence[Span]) -> tuple[Energy | None, ...]:
        """Return the joules of each of the spans, which ascend and do not overlap.

        Together they are all that happened: between them the load was another. None where a span
        is not covered.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterCurve:
    """The course of an energy counter: its joules at the instants of its ticks.

    Both ascend, `times_ns` strictly. `unsure_s` is how far off the instant of a tick may be.
    """

    times_ns: tuple[int, ...]
    joules: tuple[float, ...]
    resolution_s: float
    unsure_s: float = 0.0

    @property
    def errors_add(self) -> bool:
        """Its errors are alike: what lags, the sensor or the engine's stamps, does so each time."""
        return True

    def parts(self, spans: Sequence[Span]) -> tuple[Energy | None, ...]:
        """Return the joules of each of the spans; the ticks that hold their ends are split."""
        marks: dict[int, list[int]] = {}
        for at_ns in sorted({at_ns for span in spans for at_ns in span}):
            tick = bisect_right(self.times_ns, at_ns) - 1
            if tick >= 0 and at_ns <= self.times_ns[-1]:
                marks.setdefault(tick, []).append(at_ns)
        ends: dict[int, Energy] = {}
        for tick, inside in marks.items():
            ends.update(zip(inside, self._split(tick, marks), strict=True))
        return tuple(_between(ends.get(start_ns), ends.get(end_ns)) for start_ns, end_ns in spans)

    def _split(self, tick: int, marks: Marks) -> Iterator[Energy]:
        """Return the joules from the first point to each of the marks in a tick.

        The power of the tick before goes on until the first mark, that of the tick after begins at
        the last one.
        """
        origin_j = self.joules[tick] - self.joules[0]
        if marks[tick][-1] == self.times_ns[tick]:
            change_w = _change_w(self._power_w(tick - 1, marks), self._power_w(tick, marks))
            yield Energy(energy_j=origin_j, half_width_j=change_w * self.unsure_s)
            return
        before = [self._power_w(n, marks) for n in (tick - 1, tick - 2)]
        ends = (self.times_ns[tick], *marks[tick], self.times_ns[tick + 1])
        after = [self._power_w(n, marks) for n in (tick + 1, tick + 2)]
        if ends[-1] in marks.get(tick + 1, ()):
            after = [None, None]  # it begins there, and not at the last mark in this tick
        lengths_s = [(end - start) / 1e9 for start, end in pairwise(ends)]
        powers = [before[0], *[None] * (len(lengths_s) - 2), after[0]]
        shares_j, wrong_j = _shared(self.joules[tick + 1] - self.joules[tick], lengths_s, powers)
        wrong_j += _change_w(*before) * lengths_s[0] + _change_w(*after) * lengths_s[-1]
        wrong_j += _change_w(before[0], after[0]) * self.unsure_s
        for reached_j in accumulate(shares_j[:-1]):
            yield Energy(energy_j=origin_j + reached_j, half_width_j=wrong_j)

    def _power_w(self, tick: int, marks: Marks) -> float | None:
        """Return the power of a tick; None beyond the course and where a mark lies inside."""
        if (
            not 0 <= tick < len(self.times_ns) - 1
            or marks.get(tick, (0,))[-1] > self.times_ns[tick]
        ):
            return None
        length_ns = self.times_ns[tick + 1] - self.times_ns[tick]
        return (self.joules[tick + 1] - self.joules[tick]) * 1e9 / length_ns


def _shared(
    whole_j: float, lengths_s: Sequence[float], powers_w: Sequence[float | None]
) -> tuple[list[float], float]:
    """Share a tick's joules among its pieces; returns them and how many are not accounted for.

    What the known powers leave is drawn where the power is not known, but no more there than the
    known ones are. Whatever contradicts that goes to the known pieces in proportion.
    """
    known_j = [w * s for w, s in zip(powers_w, lengths_s, strict=True) if w is not None]
    unknown_s = math.fsum(s for w, s in zip(powers_w, lengths_s, strict=True) if w is None)
    if math.fsum(known_j) <= 0:
        return [whole_j * s / math.fsum(lengths_s) for s in lengths_s], whole_j
    rest_j = whole_j - math.fsum(known_j)
    most_w = max(w for w in powers_w if w is not None)
    hidden_j = min(max(0.0, rest_j), most_w * unknown_s)
    scale = (whole_j - hidden_j) / math.fsum(known_j)
    hidden_w = hidden_j / unknown_s if unknown_s > 0 else 0.0
    shares_j = [(hidden_w if w is None else w * scale) * s
                for w, s in zip(powers_w, lengths_s, strict=True)]  # fmt: skip
    return shares_j, abs(rest_j - hidden_j)


def _change_w(one: float | None, other: float | None) -> float:
    return 0.0 if one is None or other is None else abs(one - other)


def _between(start: Energy | None, end: Energy | None) -> Energy | None:
    if start is None or end is None:
        return None
    return Energy(energy_j=end.energy_j - start.energy_j,
                  half_width_j=start.half_width_j + end.half_width_j)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledCurve:
    """The power samples of a board without a counter that can be trusted."""

    times_ns: tuple[int, ...]
    watts: tuple[float, ...]
    sensor: Sensor
    resolution_s: float
    max_gap_ns: int

    @property
    def errors_add(self) -> bool:
        """Spans are sampled independently of each other."""
        return False

    def parts(self, spans: Sequence[Span]) -> tuple[Energy | None, ...]:
        """Return the joules of each of the spans, where enough samples lie inside."""
        found = [integrate(self.times_ns, self.watts, span, max_gap_ns=self.max_gap_ns,
                           sensor=self.sensor) for span in spans]  # fmt: skip
        return tuple(None if part is None
                     else Energy(energy_j=part.energy_j, half_width_j=part.half_width_j)
                     for part in found)  # fmt: skip


def curve_of(report: Report, gpu: GpuEnergy, *, interval_s: float) -> Curve | None:
    """Return the course of what a GPU's energy rests on: its counter, or its samples."""
    if gpu.method == "counter":
        return _counted(report)
    if gpu.method != "integrated" or gpu.power_field is None:
        return None
    period_s = max(gpu.sensor_period_s or 0.0, SENSOR_PERIOD_S[gpu.power_field])
    return SampledCurve(
        times_ns=report.times_ns, watts=report.watts, sensor=report.sensor,
        resolution_s=max(interval_s, period_s), max_gap_ns=round(GAP_INTERVALS * interval_s * 1e9),
    )  # fmt: skip


def _counted(report: Report) -> CounterCurve | None:
    """Return a counter's course, with the tick before the window in front of it."""
    start, end, tick_s = report.start, report.end, report.tick_s
    if isinstance(start, str) or isinstance(end, str) or tick_s is None:
        return None
    if len(report.counts) < FEWEST_POINTS:
        return None
    points = [(start.at_ns - round(tick_s * 1e9), start.previous_mj), *report.counts]
    span_s = (report.counts[-1][0] - report.counts[0][0]) / 1e9
    return CounterCurve(
        times_ns=tuple(at_ns for at_ns, _ in points),
        joules=tuple(value_mj / 1e3 for _, value_mj in points),
        # Ticks that were missed make it coarser than the counter.
        resolution_s=max(tick_s, span_s / (len(report.counts) - 1)),
        # What lags behind the ticks' grid does so at either end of a span.
        unsure_s=_widest(start, end) + 2 * report.jitter_s,
    )


def _widest(*edges: Edge) -> float:
    return max(edge.half_width_s for edge in edges)
