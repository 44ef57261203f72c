"""When requests arrive: seconds after the first instant of the load, in order. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count

#: Recorded times that lie no further apart are the same.
SAME_S = 1e-6


def constant(rate_rps: float) -> Iterator[float]:
    """Yield one arrival every 1/rate seconds, the first at once, without end."""
    return (ordinal / rate_rps for ordinal in count())


def poisson(rate_rps: float, seed: str) -> Iterator[float]:
    """Yield arrivals of a Poisson process: independent exponential gaps, without end."""
    chance = random.Random(seed)  # noqa: S311 - a workload, not a secret
    at_s = 0.0
    while True:
        at_s += chance.expovariate(rate_rps)
        yield at_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Times of `count` requests, at least one, in order; `lap` begins them anew. Seconds."""

    count: int
    first_s: float
    last_s: float
    lap: Callable[[], Iterable[float]]


def replay(recorded: Recorded, rate_rps: float | None = None) -> Iterator[float]:
    """Yield recorded times from zero on, over and over.

    `rate_rps` stretches them to that mean rate: n-1 gaps over the time between the first and the
    last. A mean gap lies between one lap and the next; laps of times that are all the same follow
    each other at `rate_rps`, or once a second.
    """
    gaps, span_s = recorded.count - 1, recorded.last_s - recorded.first_s
    together = span_s < SAME_S
    stretch = 1.0 if rate_rps is None or together else gaps / rate_rps / span_s
    gap_s = 1.0 / (rate_rps or 1.0) if together else span_s * stretch / gaps
    for lap in count():
        begun_s = lap * (span_s * stretch + gap_s)
        for at_s in recorded.lap():
            yield begun_s + (at_s - recorded.first_s) * stretch
