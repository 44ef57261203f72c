"""The accuracy and the cost of this meter beside Zeus, CodeCarbon and polling, on known curves.

Takes about thirteen minutes; BENCH_QUICK=1 takes four, with few and short windows. BENCH_JSON=PATH
keeps every window. The targets are ratios and limits: a missed one fails the run.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import pytest

from tests.benchmarks import coverage, tables
from tests.benchmarks.boards import FAMILIES, KINDS
from tests.benchmarks.coverage import LENGTHS_S, Covered
from tests.benchmarks.race import CONDITIONS, FULL, QUICK, Trial, race
from tests.nvml.curve import build

pytestmark = [pytest.mark.nvml, pytest.mark.timeout(2400)]

#: The worst error with counter, relative, by the length of the window in seconds.
LIMITS = {0.5: 1e-3, 2.0: 2e-4}
#: The 95th percentile of a normal distribution.
LARGER = 1.645
COVERED, WIDTHS = 0.95, {0.5: 0.16, 2.0: 0.08, 6.0: 0.03}
#: What no estimate from the samples came below: pulses anywhere in their period are mostly over
#: before the next look, and 60 looks at a quarter of the time are no more than 60 draws.
FLOOR = {("burst", 6.0): 0.045}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything that was found."""

    trials: Sequence[Trial]
    covered: Sequence[Covered]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """Race once, print the tables, keep the windows."""
    if importlib.util.find_spec("zeus") is None:
        pytest.fail("zeus is missing: run make bench", pytrace=False)
    quick = os.environ.get("BENCH_QUICK", "0") not in ("", "0")
    before = os.getloadavg()[0]
    cores = os.cpu_count()
    print(f"\nload average {before:.1f} on {cores} cores before the race", file=sys.stderr)
    covered = coverage.simulated(100 if quick else 1000)
    trials = race(build(tmp_path_factory.mktemp("race")), QUICK if quick else FULL)
    for kind in KINDS:
        for condition in CONDITIONS:
            covered += coverage.raced(trials, kind, condition)
    tables.show(trials, covered)
    if path := os.environ.get("BENCH_JSON"):
        found = {"load_average_before": before, "trials": [asdict(t) for t in trials],
                 "coverage": [asdict(c) for c in covered]}  # fmt: skip
        Path(path).write_text(json.dumps(found))
    return Figures(trials=trials, covered=covered)


def judge(target: str, missed: Sequence[str], cells: int) -> None:
    """Say whether a target was met; a missed one ends the run with a failure."""
    assert cells, f"{target}: nothing to compare"
    print(f"\n{'FAIL' if missed else 'PASS'}  {target}: {cells - len(missed)} of {cells}")
    for line in missed:
        print(f"      {line}")
    if missed:
        pytest.fail(f"{target}: missed in {len(missed)} of {cells}", pytrace=False)


def above(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether ours are larger than theirs, at 5 % (Mann and Whitney's U, one-sided)."""
    pairs = len(ours) * len(theirs)
    larger = sum((a > b) + (a == b) / 2 for a in ours for b in theirs)
    return larger - pairs / 2 > LARGER * math.sqrt(pairs * (len(ours) + len(theirs) + 1) / 12)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("length_s", LIMITS)
def test_error_with_counter_vs_limit(figures: Figures, condition: str, length_s: float) -> None:
    found = tables.of(figures.trials, "aligned", condition, counter=True)
    worst = {kind: max(tables.errors(found, kind, length_s), default=1.0) for kind in KINDS}
    missed = [f"{kind}: {tables.percent(x)} %" for kind, x in worst.items() if x > LIMITS[length_s]]
    judge(
        f"{condition}: at most {100 * LIMITS[length_s]:g} % at {length_s:g} s", missed, len(worst)
    )


@pytest.mark.parametrize("meter", ["aligned", "session"])
@pytest.mark.parametrize("rival", ["zeus", "codecarbon"])
def test_error_vs(figures: Figures, meter: str, rival: str) -> None:
    """The medians of every cell: condition, counter, board and length.

    A larger one that so few windows cannot tell from chance is shown, not counted.
    """
    missed, alike, cells = [], [], 0
    lengths_s = sorted({t.length_s for t in figures.trials} - {0.0})
    for condition in CONDITIONS:
        for counter in (True, False):
            ours = tables.of(figures.trials, meter, condition, counter=counter)
            theirs = tables.of(figures.trials, rival, condition, counter=counter)
            for kind in KINDS:
                for length_s in lengths_s:
                    pair = [tables.errors(x, kind, length_s) for x in (ours, theirs)]
                    if not all(pair):  # it refuses, or shows zero
                        continue
                    own, other = map(median, pair)
                    cells += 1
                    if own <= other:
                        continue
                    counted = "counter" if counter else "no counter"
                    cell = (
                        f"{condition}, {counted}, {kind}, {length_s:g} s: "
                        f"{tables.percent(own)} against {tables.percent(other)} %"
                    )
                    (missed if above(*pair) else alike).append(cell)
    name = tables.names()
    judge(f"{name[meter]}: never worse than {name[rival]}", missed, cells)
    for line in alike:
        print(f"      no difference that so few windows could tell: {line}")


def test_error_is_measured_in_every_window(figures: Figures) -> None:
    ours = [t for t in figures.trials if t.meter in ("aligned", "session")]
    missed = [f"{t.condition}, {t.lane.name}, {t.length_s:g} s: {t.reason}"
              for t in ours if t.error is None]  # fmt: skip
    judge("this meter measured every window", missed, len(ours))


@pytest.mark.parametrize("family", FAMILIES)
def test_coverage_without_counter_vs_95_percent(figures: Figures, family: str) -> None:
    found = [c for c in figures.covered if (c.source, c.family) == ("simulated", family)]
    missed = [f"{c.length_s:g} s: {100 * c.covered:.1f} %" for c in found if c.covered < COVERED]
    judge(f"{family}: the half-width covers the truth", missed, len(found))


@pytest.mark.parametrize("length_s", LENGTHS_S)
def test_width_without_counter_vs_limit(figures: Figures, length_s: float) -> None:
    found = [c for c in figures.covered if (c.source, c.length_s) == ("simulated", length_s)]
    limit = WIDTHS[length_s]
    floor = {c.family: FLOOR.get((c.family, length_s), limit) for c in found}
    known = [c for c in found if limit < c.width <= floor[c.family]]
    missed = [f"{c.family}: {100 * c.width:.1f} %" for c in found if c.width > floor[c.family]]
    judge(f"half-width at most {100 * limit:g} % at {length_s:g} s", missed, len(found))
    for c in known:
        print(f"      {c.family}: {100 * c.width:.1f} %, beyond it as known: the looks say no more")
