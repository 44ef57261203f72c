"""A report as Markdown, for a pull request: findings, tables, and where the numbers come from.

Owns the escaping: no text of the store may become markup. Draws no charts; `--figures` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from campaign.report.build import Report
from campaign.report.page import NOTICES
from campaign.report.tables import Table

#: What Markdown or HTML would take for its own within a line.
SPECIAL = re.compile(r"([\\`*\[\]|<>~&]|\b_|_\b)")
#: A table in a pull request is read, not searched.
MOST_ROWS = 40


def markdown(report: Report) -> str:
    """Return the report as Markdown."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"# Energy report: {escaped(report.title)}"
    yield ""
    yield f"As of {report.made_at:%Y-%m-%d %H:%M} UTC. " + ", ".join(
        f"{name}: {value}" for name, value in report.facts
    )
    if report.kind in NOTICES:
        yield from ("", f"**{NOTICES[report.kind]}**")
    yield from ("", "## Findings", "")
    for number, finding in enumerate(report.findings.told, 1):
        yield f"{number}. **{escaped(finding.headline)}** {escaped(finding.sure)}"
    for said in report.findings.unsaid:
        yield from ("", escaped(said))
    for section in report.sections:
        if section.tables or section.lead:
            yield from ("", f"## {section.title}")
            if section.lead:
                yield from ("", escaped(section.lead))
            for table in section.tables:
                yield from _table(table)


def _table(table: Table) -> Iterator[str]:
    yield from ("", f"### {table.title}", "")
    if table.note:
        yield from (table.note, "")
    yield _row(table.columns)
    yield _row(["--:" if n in table.numbers else ":--" for n in range(len(table.columns))])
    for row in table.rows[:MOST_ROWS]:
        yield _row([escaped(cell) for cell in row])
    left = len(table.rows) - MOST_ROWS
    more = f"{left:,} more rows; all of them: " if left > 0 else ""
    yield from ("", f"{more}`{table.command}`")


def _row(cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |" if isinstance(cells, list | tuple) else ""


def escaped(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))
