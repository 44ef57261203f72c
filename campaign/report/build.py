"""A report before it has a form: findings, charts and tables of a campaign, in sections.

Owns which sections there are and what stands in them. Takes the answers of the store as they
were at one moment; never asks it, and knows neither HTML nor Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from campaign.analysis.predictor.saved import Predictor
from campaign.catalogue.catalog import load_catalog
from campaign.report import tables
from campaign.report.cells import TIMES, Cell, Kind, cells, main_kind
from campaign.report.charts import (
    Chart,
    charts,
    coverage_chart,
    ratio_chart,
    trace_chart,
    without_shares,
)
from campaign.report.findings import Findings, findings, unlike_limits
from campaign.report.imported import imported, imported_points
from campaign.report.points import Point, bin_lengths, points
from campaign.report.prediction import prediction, without
from campaign.report.sections import Section
from campaign.report.spots import spots
from campaign.report.traces import trace_rows
from campaign.tabular import count_of

Row = Mapping[str, Any]
Answers = Mapping[str, Sequence[Row]]

LIKE_FOR_LIKE = (
    "Like for like compares rows that differ in nothing else. The charts after it show medians and "
    "quartiles of all rows, which differ in more."
)


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
    predictor: Predictor | None = None,
    claims: Sequence[Section] = (),
) -> Report:
    """Return the report of the store's answers. ConfigError for a predictor's odd study.

    `claims` is the section of published claims, which were judged at the same moment.
    """
    found, others = cells(answers), answers.get("external", ())
    drawn = points(found)
    imports = imported_points(others, len(drawn))
    bin_lengths(drawn, imports)
    kind = main_kind(found)
    if kind is Kind.NONE and any(point["j"] is not None for point in imports):
        kind = Kind.EXTERNAL
    whole = [*drawn, *imports]
    colour = _colour([point for point in whole if point["kind"] == kind])
    told = findings(found, kind)
    if kind is Kind.MEASURED:
        unlike = unlike_limits(found, answers["power_limits"])
        told = replace(told, unsaid=(*told.unsaid, *unlike))
    catalog = load_catalog()
    asked = prediction(answers["evidence"], kind, predictor, catalog) if predictor else (
        without(campaign))  # fmt: skip
    fitted = [spots(answers["lengths"], kind, campaign, catalog), asked] if found else []
    wholes = [*_before(answers, whole, told, colour), *fitted, *claims, *imported(others),
              *_after(answers, whole, found, told, colour), _origin(answers)]  # fmt: skip
    return Report(
        campaign=campaign,
        made_at=made_at,
        public=public,
        kind=kind,
        facts=_facts(whole, kind, _once(answers["coverage"])),
        findings=told,
        points=whole,
        sections=[section for section in wholes if not section.empty],
        colour=colour,
    )


def _colour(points: Sequence[Point]) -> str:
    """Return the field that tells most apart: boards, else models, else engines."""
    for name in ("board", "model", "engine"):
        if len({point[name] for point in points}) > 1:
            return name
    return "board"


def _facts(points: Sequence[Point], kind: Kind, coverage: Sequence[Row]) -> list[tuple[str, str]]:
    """Return the figures at the top: how much there is, and where it comes from."""
    asked = sum(int(row["points"]) for row in coverage)
    done = sum(int(row["points"]) for row in coverage if row["state"] == "done")
    chosen = [point for point in points if point["kind"] == kind]
    named = f"{kind} configurations" if kind is not Kind.NONE else "configurations"
    boards = {str(point["board"]).rpartition(f"{TIMES} ")[2] for point in chosen}
    facts = [
        ("points done", f"{done:,} of {asked:,}"),
        (named, f"{len(chosen):,}"),
        ("models", f"{len({point['model'] for point in chosen}):,}"),
        ("boards", f"{len(boards):,}"),
    ]
    joules = [float(str(point["j"])) for point in chosen if point["j"]]
    if joules:
        facts.append(("J per output token", f"{min(joules):.3g} to {max(joules):.3g}"))
    return facts


def _before(
    answers: Answers,
    drawn: Sequence[Point],
    told: Findings,
    colour: str,
) -> list[Section]:
    """Return what was asked for, and what energy and latency came out."""
    by_section = _by_section(drawn, colour)
    return [
        Section(id="coverage", title="Coverage",
                charts=list(coverage_chart(_states(_once(answers["coverage"])))),
                tables=tables.coverage(answers["coverage"]) if answers["coverage"] else ()),
        Section(id="energy", title="Energy per output token", charts=by_section.get("energy", ())),
        Section(id="compare", title="Boards, engines and settings",
                lead=LIKE_FOR_LIKE if told.contrasts or "compare" in by_section else "",
                charts=[*ratio_chart(tables.ratio_rows(told)), *by_section.get("compare", ())],
                tables=[tables.like_for_like(told.contrasts)] if told.contrasts else ()),
        Section(id="phases", title="Prefill and decode", lead=without_shares(drawn),
                charts=by_section.get("phases", ())),
        Section(id="net", title="Gross and net", charts=by_section.get("net", ())),
        Section(id="latency", title="Latency against energy", charts=by_section.get("latency", ())),
    ]  # fmt: skip


def _after(
    answers: Answers, drawn: Sequence[Point], found: Sequence[Cell], told: Findings, colour: str
) -> list[Section]:
    """Return how far the numbers can be trusted."""
    spread = tables.spread([cell for cell in found if cell.kind is told.kind])
    validity = tables.validity(answers["validity"])
    return [
        Section(id="traces", title="Power traces",
                charts=list(trace_chart(trace_rows(answers["traces"])))),
        Section(id="validity", title="Validity", tables=[validity] if validity.rows else ()),
        Section(id="spread", title="Spread between sessions",
                charts=_by_section(drawn, colour).get("spread", ()),
                tables=[spread] if spread else ()),
    ]  # fmt: skip


def _by_section(drawn: Sequence[Point], colour: str) -> dict[str, list[Chart]]:
    found: dict[str, list[Chart]] = {}
    for chart in charts(drawn, colour):
        found.setdefault(chart.section, []).append(chart)
    return found


def _origin(answers: Answers) -> Section:
    sessions = answers["provenance"]
    made = tables.provenance(sessions, answers["power_limits"]) if sessions else ()
    lead = "" if made else "No session has an accepted row yet."
    return Section(id="provenance", title="Provenance", lead=lead, tables=made)


def _once(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the coverage that count no point twice, whoever asks for it."""
    return [row for row in rows if row["campaign"] is None]


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
