"""A report as one HTML file: the template, its style and script, and the rows inside.

Owns the form of the page and its content policy, under which nothing can be fetched and only the
two scripts of this file run. Everything of the store is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from campaign.report import vega
from campaign.report.build import Report
from campaign.report.cells import Kind
from campaign.report.payload import embedded, packed

FOLDER = Path(__file__).parent

#: What a reader must know before any number, by the kind of values.
NOTICES = {
    Kind.SIMULATED: "Every value here is simulated: it says what a roofline model assumes, not "
    "what a board drew.",
    Kind.ESTIMATED: "Every energy here is an estimate, not a measurement: no energy meter could be "
    "read.",
    Kind.EXTERNAL: "Every value here was measured by others and imported.",
    Kind.NONE: "No row has an energy yet.",
}


def page(report: Report) -> str:
    """Return the report as one HTML file."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined
    )
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    drawn = any(section.charts for section in report.sections) or report.points
    runtime, script = (vega.runtime(), _script()) if drawn else ("", "")
    return environment.get_template("page.html").render(
        report=report,
        notice=NOTICES.get(report.kind),
        policy=_policy(runtime, script),
        # Our own texts and JSON without <, > and &: the only ones that are not escaped.
        style=Markup(style),  # noqa: S704
        charts=Markup(embedded(_charts(report))),  # noqa: S704
        points=packed(report.points),
        runtime=Markup(runtime),  # noqa: S704
        script=Markup(script),  # noqa: S704
        licence=vega.licence() if drawn else "",
    )


def _script() -> str:
    return (FOLDER / "page.js").read_text(encoding="utf-8")


def _charts(report: Report) -> dict[str, object]:
    charts = [chart for section in report.sections for chart in section.charts]
    return {
        "campaign": report.campaign,
        "kind": str(report.kind),
        "colour": report.colour,
        "charts": {
            chart.id: {
                "spec": vega.compiled(chart.spec),
                "rows": chart.rows,
                "by": list(chart.by),
                "needs": list(chart.needs),
                "one_kind": chart.one_kind,
                "query": chart.query,
            }
            for chart in charts
        },
    }


def _policy(*scripts: str) -> str:
    """Return the content policy: nothing from outside, and no script but these."""
    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in scripts if script)
    run = f"script-src {hashes}; " if hashes else ""
    return (
        f"default-src 'none'; {run}style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
