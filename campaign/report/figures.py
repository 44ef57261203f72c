"""The charts of a report as files, SVG and PNG, as the page shows them before anyone filters.

Owns the names of the files. One kind of values alone: what was measured, where anything was.
"""

from __future__ import annotations

from collections.abc import Iterator

from campaign.report import vega
from campaign.report.build import Report
from campaign.report.cells import Kind
from campaign.report.points import grouped
from campaign.report.specs import Spec


def figures(report: Report) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each figure."""
    chosen = [point for point in report.points if point["kind"] == report.kind]
    rows = grouped(chosen, report.colour)
    for section in report.sections:
        for chart in section.charts:
            own = rows if chart.rows is None else chart.rows
            spec = {**chart.spec, **_said(report)}
            yield f"{chart.id}.svg", vega.svg(spec, own).encode()
            yield f"{chart.id}.png", vega.png(spec, own)


def _said(report: Report) -> Spec:
    """Return the title of a figure of values that were not measured here; none of others."""
    if report.kind in (Kind.MEASURED, Kind.NONE):
        return {}
    return {"title": {"text": f"{report.kind} values", "anchor": "start", "fontSize": 13}}
