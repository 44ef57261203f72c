"""How often the half-width of a board without counter covers the truth, and how wide it is.

Many windows through the product's own `integrate`, on the simulated sensor of the unit tests; the
same figures of the race come from its trials. It judges nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.boards import FAMILIES
from tests.benchmarks.race import Trial
from tests.unit.test_unseen import load, trial

LENGTHS_S = (0.5, 2.0, 6.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """The windows of one family and length: the covered part of them, the median half-width."""

    source: str
    family: str
    length_s: float
    windows: int
    covered: float
    width: float


def simulated(windows: int) -> list[Covered]:
    """So many windows of each family and length, each of another load."""
    found = []
    for length_s in LENGTHS_S:
        for family in FAMILIES:
            rng = random.Random(f"{family} {length_s}")
            pairs = [trial(load(family, rng), length_s, rng) for _ in range(windows)]
            off = [
                (abs(i.energy_j / truth_j - 1), i.half_width_j / truth_j) for i, truth_j in pairs
            ]
            found.append(_covered("simulated", family, length_s, off))
    return found


def raced(trials: Sequence[Trial], kind: str, condition: str) -> list[Covered]:
    """This meter's windows without counter on one kind of board, all families together."""
    found = []
    for length_s in LENGTHS_S:
        off = [
            (abs(t.error), t.width) for t in trials
            if (t.meter, t.condition, t.lane.kind, t.lane.counter, t.length_s)
            == ("session", condition, kind, False, length_s)
            and t.error is not None and t.width is not None
        ]  # fmt: skip
        if off:
            found.append(_covered(f"{kind}, {condition}", "all", length_s, off))
    return found


def _covered(
    source: str, family: str, length_s: float, off: Sequence[tuple[float, float]]
) -> Covered:
    return Covered(
        source=source, family=family, length_s=length_s, windows=len(off),
        covered=sum(error <= width for error, width in off) / len(off),
        width=median(width for _, width in off),
    )  # fmt: skip
