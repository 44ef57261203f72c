"""The tables of a report: rows of text and numbers, the same for the page and for Markdown.

Owns what stands in a table and in which order. Every number is one of a named query, or a ratio
of such numbers; what is missing is an en dash.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from campaign.report.cells import TIMES, Cell
from campaign.report.contrasts import Contrast
from campaign.report.findings import Findings, shown
from campaign.report.points import Point
from campaign.tabular import MISSING, count_of

Row = Mapping[str, Any]
STATES = ("done", "leased", "pending", "quarantined", "excluded")
#: The line of all campaigns together.
ALL = "all, each point once"
#: Voided attempts and failures, as people call them.
WHAT = {
    "mark": "marked, accepted",
    "reason": "value missing or weak",
    "invalid": "voided by a gate",
    "faulted": "attempt failed",
    "lost": "attempt lost",
    "voided": "withdrawn",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A titled table; the columns `numbers` are aligned right. `command` gives its rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    command: str
    numbers: frozenset[int] = frozenset()
    note: str = ""


def coverage(rows: Iterable[Row]) -> list[Table]:
    """Return what became of the points of each campaign, and why some have no value.

    What several campaigns ask for is in the line of each, and once in that of all and in the why.
    """
    by_campaign: dict[str | None, Counter[str]] = {}
    why: Counter[tuple[str, str]] = Counter()
    for row in rows:
        name = row["campaign"]
        by_campaign.setdefault(name, Counter())[row["state"]] += int(row["points"])
        if name is None and row["state"] in ("excluded", "quarantined"):
            why[row["state"], row["reason"] or "unknown"] += int(row["points"])
    if len(by_campaign) == 1 + 1:
        del by_campaign[None]
    named = [
        (name or ALL, f"{sum(counts.values()):,}", *(f"{counts[state]:,}" for state in STATES))
        for name, counts in by_campaign.items()
    ]
    reasons = [(state, reason, f"{count:,}") for (state, reason), count in why.most_common()]
    columns = ("campaign", "points", "done", "in work", "waiting", "quarantined", "excluded")
    asked = "campaign query report_coverage"
    tables = [
        Table(
            title="What became of the points",
            columns=columns,
            rows=named,
            command=asked,
            numbers=frozenset(range(1, 7)),
        )
    ]
    if reasons:
        why_none = Table(title="Why points have no value", rows=reasons,
                         columns=("state", "reason", "points"), command=asked,
                         numbers=frozenset({2}))  # fmt: skip
        tables.append(why_none)
    return tables


def like_for_like(contrasts: Sequence[Contrast]) -> Table:
    """Return the ratios of rows that differ in one thing, the surest and largest first."""
    rows = [
        (
            one.axis.name,
            f"{shown(one.base)} → {shown(one.to)}",
            f"{one.ratio:.3g}",
            MISSING if one.low is None or one.high is None else f"{one.low:.3g} to {one.high:.3g}",
            "95 % over models" if one.over_models else "extremes of the pairs",
            f"{one.pairs:,}",
            f"{one.models:,}",
        )
        for one in contrasts
    ]
    return Table(
        title="Like for like",
        columns=("axis", "from → to", f"{TIMES} energy", "interval", "of what", "pairs", "models"),
        rows=rows, command="campaign query report_cells", numbers=frozenset({2, 3, 5, 6}),
        note="Ratio of joules per output token between rows that differ in nothing else. Numbers "
             "are compared over the commonest span; other spans count by their doublings.",
    )  # fmt: skip


def ratio_rows(told: Findings) -> list[Point]:
    """Return the same ratios as a chart takes them."""
    return [
        {
            "what": f"{one.axis.name}: {shown(one.base)} → {shown(one.to)}",
            "value": one.ratio, "low": one.low, "high": one.high, "kind": str(told.kind),
            "told": f"{one.axis.name}: {shown(one.base)} → {shown(one.to)}, "
                    f"{TIMES} {one.ratio:.3g} ({count_of(one.pairs, 'pair')})",
        }
        for one in told.contrasts
    ]  # fmt: skip


def validity(rows: Sequence[Row]) -> Table:
    """Return how often each gate and reason occurs."""
    accepted = sum(int(row["attempts"]) for row in rows if row["what"] == "accepted")
    told = [
        (
            str(row["word"]),
            WHAT.get(str(row["what"]), str(row["what"])),
            f"{row['attempts']:,}",
            f"{row['attempts'] / accepted:.1%}".replace("%", " %")
            if row["what"] in ("mark", "reason") and accepted
            else MISSING,
        )
        for row in rows
        if row["what"] != "accepted"
    ]
    return Table(
        title="Gates and reasons", columns=("word", "what it did", "attempts", "of accepted rows"),
        rows=told, command="campaign query report_validity", numbers=frozenset({2, 3}),
        note=f"{accepted:,} accepted rows in all. The words are explained in docs/measurement.md.",
    )  # fmt: skip


def spread(cells: Sequence[Cell]) -> Table | None:
    """Return the medians of both kinds of spread, of the configurations that have both."""
    ratios = []
    for cell in cells:
        deviation = cell.row["joules_per_output_token_sd"]
        within = cell.row["joules_relative_half_width_within"]
        apart = cell.row["sessions"] == cell.row["replicates"]
        if cell.joules and deviation and within and apart:
            ratios.append((deviation / cell.joules, within))
    if not ratios:
        return None
    between, inside = (statistics.median(values) for values in zip(*ratios, strict=True))
    row = (f"{len(ratios):,}", f"{between:.2%}".replace("%", " %"),
           f"{inside:.2%}".replace("%", " %"))  # fmt: skip
    return Table(
        title="Spread", rows=[row],
        command="campaign query replicates_spread", numbers=frozenset({0, 1, 2}),
        columns=("configurations with replicates", "deviation between sessions, median",
                 "half-width within one, median"),
    )  # fmt: skip


def provenance(sessions: Sequence[Row], limits: Sequence[Row]) -> list[Table]:
    """Return what measured: software by board and engine, and the boards as their driver told."""
    rows = [
        (
            row["board"], row["backend"], row["reality"], row["meter"] or MISSING,
            ", ".join(f"{name} {version}" for name, version in sorted(row["software"].items()))
            or MISSING,
            f"{row['sessions']:,}", ", ".join(row["hosts"]),
            f"{_day(row['first_started_at'])} to {_day(row['last_started_at'])}",
        )
        for row in sessions
    ]  # fmt: skip
    columns = ("board", "engine", "reality", "meter", "software", "sessions", "hosts", "when")
    tables = [Table(title="Sessions", columns=columns, rows=rows,
                    command="campaign query report_provenance",
                    numbers=frozenset({5}))]  # fmt: skip
    if limits:
        gpus = [
            (
                row["board"], row["reality"], row["gpu"] or MISSING, _figure(row["power_limit_w"]),
                _figure(row["max_w"]), row["power_field"] or MISSING,
                _span(row["temperature_min_c"], row["temperature_max_c"]),
                f"{row['gpus']:,}", f"{row['windows']:,}",
            )
            for row in limits
        ]  # fmt: skip
        tables.append(Table(title="GPUs", rows=gpus,
                            columns=("board", "reality", "product", "power limit W", "most W",
                                     "power field", "°C", "GPUs", "windows"),
                            command="campaign query report_power_limits",
                            numbers=frozenset({3, 4, 6, 7, 8})))  # fmt: skip
    return tables


def _day(moment: datetime) -> str:
    """Return the day of a moment in UTC, as the head of a report has it."""
    return f"{moment.astimezone(UTC):%Y-%m-%d}"


def _span(low: float | None, high: float | None) -> str:
    return MISSING if low is None else f"{_figure(low)} to {_figure(high)}"


def _figure(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4g}"
