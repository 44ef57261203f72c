"""The most important findings in words, with how sure they are; or that nothing can be said.

Owns the wording and the choice. A finding is a ratio of rows that differ in one thing, and names
its interval; what is not certain is never called a finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from campaign.report.axes import axes
from campaign.report.cells import Cell, Kind, of_kind
from campaign.report.contrasts import Contrast, contrasts
from campaign.tabular import count_of
from db.claims import IN_DOUBT
from db.records import Reality

Row = Mapping[str, Any]

MOST = 3
#: A change smaller than this is told in percent, a larger one as a factor.
FACTOR = 2.0

IMPORTED = (
    "Nothing can be said: every value was imported, and whether imported rows differ in one thing "
    "alone is not known."
)
#: What a finding of each kind is about.
OF_WHAT = {
    Kind.MEASURED: "",
    Kind.SIMULATED: "As the simulation assumes: ",
    Kind.ESTIMATED: "By estimate, not measured: ",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence, and one on how sure it is."""

    headline: str
    sure: str
    contrast: Contrast


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What can be said of one kind of values, and what cannot, with the reason."""

    kind: Kind
    told: Sequence[Finding]
    unsaid: Sequence[str]
    contrasts: Sequence[Contrast]


def findings(cells: Sequence[Cell], kind: Kind) -> Findings:
    """Return up to three findings, one an axis, and what nothing can be said about."""
    rows = [cell for cell in of_kind(cells, kind) if cell.joules]
    chosen = [cell for cell in rows if not doubtful(cell)]
    found, unclear = contrasts(chosen)
    told: list[Finding] = []
    for contrast in found:
        axes = {finding.contrast.axis.name for finding in told}
        if contrast.certain and contrast.axis.name not in axes and len(told) < MOST:
            told.append(_finding(contrast, kind))
    unsaid = (*_looked_at(told, found), *_unsaid(chosen, kind, found), *_left_out(rows, unclear))
    return Findings(kind=kind, told=told, unsaid=unsaid, contrasts=found)


def doubtful(cell: Cell) -> frozenset[str]:
    """Return the marks of a measured cell that say that its joules may be wrong."""
    marks = (cell.row["marks"] or "").split("\n")
    return IN_DOUBT.intersection(marks) if cell.kind is Kind.MEASURED else frozenset()


def _looked_at(told: Sequence[Finding], found: Sequence[Contrast]) -> Iterator[str]:
    """Yield among how many comparisons the findings were found: some differ by chance alone."""
    tried = sum(one.low is not None for one in found)
    if told and tried > 1:
        yield (f"Found among {tried} comparisons. Each interval is of 95 % by itself: where "
               "nothing changes, about one in twenty would be told all the same.")  # fmt: skip


def unlike_limits(cells: Sequence[Cell], limits: Sequence[Row]) -> Iterator[str]:
    """Yield which measured boards of one name enforced limits that differ and nobody asked for."""
    asked = {(cell.row["board"], cell.row["power_limit_w"]) for cell in cells}
    found: dict[str, set[float]] = {}
    for row in limits:
        board, watts = row["board"], row["power_limit_w"]
        if row["reality"] == Reality.REAL and watts is not None and (board, watts) not in asked:
            found.setdefault(board, set()).add(watts)
    for board, each in found.items():
        if len(each) > 1:
            told = " and ".join(f"{watts:g}" for watts in sorted(each))
            yield (f"Rows of {board} are of GPUs that enforced {told} W without being asked to, "
                   "and count as rows of one board.")  # fmt: skip


def _left_out(rows: Sequence[Cell], unclear: Mapping[str, int]) -> Iterator[str]:
    """Yield which cells no comparison is made of, and why."""
    marked = [doubtful(cell) for cell in rows if doubtful(cell)]
    if marked:
        words = ", ".join(sorted(frozenset().union(*marked)))
        yield f"In no comparison: {count_of(len(marked), 'configuration')} marked {words}."
    if unclear:
        counts = ", ".join(f"{axis} ({count_of(count, 'configuration')})"
                           for axis, count in unclear.items())  # fmt: skip
        yield ("Left out, as several configurations stand for one value and none is chosen: "
               f"{counts}.")  # fmt: skip


def _unsaid(chosen: Sequence[Cell], kind: Kind, found: Sequence[Contrast]) -> list[str]:
    if kind is Kind.EXTERNAL:
        return [IMPORTED]
    if kind is Kind.NONE:
        return ["Nothing can be said yet: no row has joules per output token."]
    if not chosen:
        return ["Nothing can be said: no row has joules that can be compared."]
    if not found:
        rows_told = count_of(len(chosen), "configuration")
        return [f"Nothing can be said: no two of the {rows_told} differ in one thing alone."]
    said = []
    vague = [one for one in found if not one.certain]
    unsure = dict.fromkeys(_named(one) for one in vague if one.low is not None)
    bare = dict.fromkeys(_named(one) for one in vague if one.low is None)
    names = [axis.name for axis in axes(chosen)]
    missing = [name for name in names if name not in {one.axis.name for one in found}]
    if unsure:
        said.append(f"Not certain, the interval holds no change: {', '.join(unsure)}.")
    if bare:
        said.append(f"No interval, too few repeats or models: {', '.join(bare)}.")
    if missing:
        said.append(f"Nothing can be said about {', '.join(missing)}: no two rows differ in "
                    "that alone.")  # fmt: skip
    return said


def _named(contrast: Contrast) -> str:
    """Return what a contrast is of: an axis of numbers, or two values of another."""
    name = contrast.axis.name
    return name if contrast.doublings else f"{name} {contrast.base} → {contrast.to}"


def _finding(contrast: Contrast, kind: Kind) -> Finding:
    name, ratio = contrast.axis.name, contrast.ratio
    subject = f"{name} {shown(contrast.to)} instead of {shown(contrast.base)}"
    if ratio < 1 / FACTOR:
        effect = f"divides the energy per output token by {1 / ratio:.3g}"
    elif ratio > FACTOR:
        effect = f"multiplies the energy per output token by {ratio:.3g}"
    else:
        more = "more" if ratio > 1 else "less"
        effect = f"takes {abs(ratio - 1):.0%} {more} energy per output token".replace("%", " %")
    headline = f"{OF_WHAT[kind]}{subject} {effect}."
    return Finding(
        headline=headline[0].upper() + headline[1:], sure=_sure(contrast), contrast=contrast
    )


def _sure(contrast: Contrast) -> str:
    low, high = contrast.low or 0.0, contrast.high or 0.0
    if contrast.ratio < 1 / FACTOR:
        span = f"between {1 / high:.3g} and {1 / low:.3g} times less"
    elif contrast.ratio > FACTOR:
        span = f"between {low:.3g} and {high:.3g} times as much"
    else:
        span = f"{_change(low)} to {_change(high)}"
    pairs = count_of(contrast.pairs, "like-for-like pair")
    if contrast.over_models:
        return f"95 % interval over {contrast.models} models: {span}; {pairs}."
    models = "one model" if contrast.models == 1 else f"{contrast.models} models"
    return (
        f"Seen in {models} only, so another may differ: {span}, the extremes of {pairs} with the "
        "intervals of their rows."
    )


def _change(ratio: float) -> str:
    """Return a ratio as a change in percent: ``12.0 % less``."""
    return f"{abs(ratio - 1):.1%} {'less' if ratio < 1 else 'more'}".replace("%", " %")


def shown(value: float | str) -> str:
    """Return an end of a contrast as people write it."""
    return f"{value:,.0f}" if isinstance(value, float) else value
