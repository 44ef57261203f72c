"""A board's sensors, read as often as they answer: when each showed something new.

It owns the reads and their stamps, CLOCK_MONOTONIC nanoseconds. It never interprets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from workers.meters.binding import Gpu, SensorError

#: What is read: the energy counter in millijoules, and power in watts by its fields.
COUNTER, FIELDS = "counter", ("instant", "average", "legacy")


@dataclass(slots=True, kw_only=True)
class Series:
    """The values of one sensor: each with the instant it was first seen, and how sure that is.

    `stamps_us` are the driver's own of each value, where it gives any. `reads` counts all reads.
    """

    at_ns: list[int] = field(default_factory=list)
    widths_ns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    stamps_us: list[int | None] = field(default_factory=list)
    reads: int = 0
    looked_ns: int = 0

    def note(self, before_ns: int, after_ns: int, value: float, stamp_us: int | None) -> None:
        """Take one read; an old value only moves what the next change is bracketed by."""
        self.reads += 1
        if not self.values or value != self.values[-1]:
            since_ns = self.looked_ns or before_ns
            self.at_ns.append((since_ns + after_ns) // 2)
            self.widths_ns.append(after_ns - since_ns)
            self.values.append(value)
            self.stamps_us.append(stamp_us)
        self.looked_ns = before_ns


#: A value, and the driver's own stamp of it in Unix microseconds, where it gives one.
Read = Callable[[], tuple[float, int | None]]


def readers(gpu: Gpu) -> dict[str, Read]:
    """Return what reads each sensor that this board has."""
    found: dict[str, Read] = {}
    if gpu.has_counter:
        found[COUNTER] = lambda: (float(gpu.energy_mj()), None)
    for name in FIELDS:
        try:
            gpu.power_of(name)
        except SensorError:
            continue
        found[name] = partial(gpu.power_of, name)
    return found


def watch(sensors: Mapping[str, Read], until_ns: int) -> dict[str, Series]:
    """Read sensors in turn, without a pause, until an instant. Raises SensorError."""
    series = {name: Series() for name in sensors}
    while time.monotonic_ns() < until_ns:
        for name, read in sensors.items():
            before_ns = time.monotonic_ns()
            value, stamp_us = read()
            series[name].note(before_ns, time.monotonic_ns(), value, stamp_us)
    return series


def latencies_us(calls: Mapping[str, Callable[[], object]], times: int) -> dict[str, list[float]]:
    """Return how long each of some calls took, so many times in turn."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(times):
        for name, call in calls.items():
            began_ns = time.perf_counter_ns()
            call()
            found[name].append((time.perf_counter_ns() - began_ns) / 1e3)
    return found
