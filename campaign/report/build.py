"""A report before it has a form: findings, charts and tables of a campaign, in sections.

Owns which sections there are and what stands in them. Takes the answers of the store as they
were at one moment; never asks it, and knows neither HTML nor Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from campaign.report import tables
from campaign.report.cells import Cell, Kind, cells, main_kind, of_kind
from campaign.report.charts import Chart, charts, coverage_chart, ratio_chart, trace_chart
from campaign.report.findings import Findings, findings
from campaign.report.points import Point, points
from campaign.report.tables import Table
from campaign.report.traces import trace_rows
from campaign.tabular import count_of

Row = Mapping[str, Any]
Answers = Mapping[str, Sequence[Row]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the report with its charts and tables; empty ones are left out."""

    id: str
    title: str
    lead: str = ""
    charts: Sequence[Chart] = field(default=())
    tables: Sequence[Table] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All there is to say of a campaign, or of all of a store (`campaign` is None)."""

    campaign: str | None
    made_at: datetime
    public: bool
    kind: Kind
    facts: Sequence[tuple[str, str]]
    findings: Findings
    points: Sequence[Point]
    sections: Sequence[Section]
    colour: str

    @property
    def title(self) -> str:
        """What the report is about."""
        return self.campaign or "All campaigns"


def built(
    answers: Answers,
    *,
    campaign: str | None,
    made_at: datetime,
    public: bool,
    beside: Sequence[Section] = (),
) -> Report:
    """Return the report of the store's answers; `beside` are sections of other analyses."""
    found = cells(answers)
    kind = main_kind(found)
    drawn = points(found)
    colour = _colour([point for point in drawn if point["kind"] == kind])
    told = findings(found, kind)
    return Report(
        campaign=campaign,
        made_at=made_at,
        public=public,
        kind=kind,
        facts=_facts(found, kind, answers["coverage"]),
        findings=told,
        points=drawn,
        sections=[*_sections(answers, found, drawn, told, colour), *beside, _origin(answers)],
        colour=colour,
    )


def _colour(points: Sequence[Point]) -> str:
    """Return the field that tells most apart: boards, else models, else engines."""
    for name in ("board", "model", "engine"):
        if len({point[name] for point in points}) > 1:
            return name
    return "board"


def _facts(found: Sequence[Cell], kind: Kind, coverage: Sequence[Row]) -> list[tuple[str, str]]:
    """Return the figures at the top: how much there is, and where it comes from."""
    points = sum(int(row["points"]) for row in coverage)
    done = sum(int(row["points"]) for row in coverage if row["state"] == "done")
    chosen = list(of_kind(found, kind))
    facts = [
        ("points done", f"{done:,} of {points:,}"),
        (f"{kind} configurations" if kind is not Kind.NONE else "configurations",
         f"{len(chosen):,}"),
        ("models", f"{len({cell.model for cell in chosen}):,}"),
        ("boards", f"{len({cell.row['board'] for cell in chosen}):,}"),
    ]  # fmt: skip
    joules = [cell.joules for cell in chosen if cell.joules]
    if joules:
        facts.append(("J per output token", f"{min(joules):.3g} to {max(joules):.3g}"))
    return facts


def _sections(
    answers: Answers,
    found: Sequence[Cell],
    drawn: Sequence[Point],
    told: Findings,
    colour: str,
) -> list[Section]:
    by_section: dict[str, list[Chart]] = {}
    for chart in charts(drawn, colour):
        by_section.setdefault(chart.section, []).append(chart)
    chosen = [cell for cell in found if cell.kind is told.kind]
    spread = tables.spread(chosen)
    validity = tables.validity(answers["validity"])
    wholes = [
        Section(id="coverage", title="Coverage",
                charts=list(coverage_chart(_states(answers["coverage"]))),
                tables=tables.coverage(answers["coverage"]) if answers["coverage"] else ()),
        Section(id="energy", title="Energy per output token", charts=by_section.get("energy", ())),
        Section(id="compare", title="Boards, engines and settings",
                lead="Like for like compares rows that differ in nothing else. The charts after it "
                     "show medians and quartiles of all rows, which differ in more.",
                charts=[*ratio_chart(tables.ratio_rows(told)), *by_section.get("compare", ())],
                tables=[tables.like_for_like(told.contrasts)] if told.contrasts else ()),
        Section(id="phases", title="Prefill and decode", charts=by_section.get("phases", ())),
        Section(id="net", title="Gross and net", charts=by_section.get("net", ())),
        Section(id="latency", title="Latency against energy", charts=by_section.get("latency", ())),
        Section(id="traces", title="Power traces",
                charts=list(trace_chart(trace_rows(answers["traces"])))),
        Section(id="validity", title="Validity", tables=[validity] if validity.rows else ()),
        Section(id="spread", title="Spread between sessions",
                charts=by_section.get("spread", ()), tables=[spread] if spread else ()),
    ]  # fmt: skip
    return [section for section in wholes if section.charts or section.tables]


def _origin(answers: Answers) -> Section:
    sessions = answers["provenance"]
    made = tables.provenance(sessions, answers["power_limits"]) if sessions else ()
    lead = "" if made else "No session has an accepted row yet."
    return Section(id="provenance", title="Provenance", lead=lead, tables=made)


def _states(rows: Sequence[Row]) -> list[Point]:
    """Return points by board and state."""
    counted: dict[tuple[str, str], int] = {}
    for row in rows:
        key = row["board"] or "whole engines", row["state"]
        counted[key] = counted.get(key, 0) + int(row["points"])
    return [
        {"board": board, "state": state, "points": count, "order": tables.STATES.index(state),
         "told": f"{board}: {count_of(count, 'point')} {state}"}
        for (board, state), count in counted.items()
    ]  # fmt: skip
