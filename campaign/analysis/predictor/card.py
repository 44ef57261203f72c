"""The card of a predictor: what it learned from, how good it is, where it holds.

Owns the words of card.md. What it says is in predictor.json as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from campaign.analysis.predictor.study import Study
from campaign.analysis.predictor.told import WORDS, Shown, shown
from campaign.tabular import MISSING, plain


def card(study: Study) -> str:
    """Return a Markdown page about a predictor."""
    lines = ["# Predictor of energy per output token", "", *_use(study), *_rows(study)]
    for table in shown(study.findings):
        lines += ["", f"## {table.title}", "", *_table(table)]
    lines += ["", "## Training range", "", *_ranges(study)]
    lines += ["", "## Protocol", "", *_items(study.findings.get("protocol"))]
    lines += ["", "## Versions", "", *_items(study.findings.get("versions"))]
    return "\n".join(lines) + "\n"


def _use(study: Study) -> Iterator[str]:
    yield "Joules of all GPUs of a group per generated token, from what runs on which boards."
    yield "It reads neither power, latency nor duration. An interval is for what of a point is"
    yield "new to it; outside the training range a prediction says so and is a guess."
    yield ""
    for way, kinds in study.learned.intervals.items():
        for kind, one in kinds.items():
            yield (f"- {way}, {WORDS[kind]}: within a factor of {one.factor:.2f} at "
                   f"{one.level:.0%}; {one.groups} can promise {one.promised:.1%}")  # fmt: skip


def _rows(study: Study) -> Iterator[str]:
    yield ""
    yield "## Rows"
    yield ""
    yield from _items(study.findings.get("rows"))


def _items(value: object) -> Iterator[str]:
    for name, cell in value.items() if isinstance(value, Mapping) else ():
        yield f"- {name}: {_inline(plain(cell))}"


def _inline(value: object) -> str:
    match value:
        case dict():
            return (
                "; ".join(f"{_safe(name)} ({_safe(cell)})" for name, cell in value.items())
                or MISSING
            )
        case list():
            return ", ".join(map(_safe, value)) or MISSING
    return _safe(value)


def _safe(value: object) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in " ".join(str(value).split()))


def _table(table: Shown) -> Iterator[str]:
    yield f"| {' | '.join(table.columns)} |"
    yield f"|{'---|' * len(table.columns)}"
    for row in table.rows:
        yield f"| {' | '.join(map(_safe, row))} |"


def _ranges(study: Study) -> Iterator[str]:
    ranges = study.learned.ranges
    yield from (f"- {_safe(name)}: {low:.6g} to {high:.6g}"
                for name, (low, high) in ranges.numbers.items())  # fmt: skip
    yield from (f"- {name}: {', '.join(map(_safe, words))}" for name, words in ranges.words.items())
