"""The reproduction table of a report: what papers claim, beside what the rows say.

Owns its words and which claims are listed: those that rows could be judged on. The verdicts are
campaign/analysis/claims' business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from campaign.analysis.claims.claim import load_claims
from campaign.analysis.claims.computed import Beside
from campaign.analysis.claims.judging import Judged, Verdict, judge
from campaign.analysis.claims.shapes import sizes_of
from campaign.analysis.predictor.saved import Predictor
from campaign.report.sections import Section
from campaign.report.tables import Table
from campaign.tabular import MISSING
from db.claims import Counted
from db.records import Reality

COLUMNS = ("what it says", "paper", "paper's figure", "ours", "95 % interval", "it contains",
           "rows", "verdict", "why")  # fmt: skip
#: The verdicts that are one; the others say why there is none.
DECIDED = (Verdict.CONFIRMED, Verdict.DIFFERS)


def reproduction(rows: Counted, predictor: Predictor | None = None) -> Iterator[Section]:
    """Yield the section, where these rows, or a study, have a figure beside that of any claim."""
    rows.tell_shapes(sizes_of)
    beside = Beside(findings=None if predictor is None else predictor.findings)
    judged = [judge(claim, rows, beside) for claim in load_claims()]
    told = [line for one in judged for line in _line(one)]
    if not told:
        return
    yield Section(
        id="reproduction",
        title="Reproduction of published claims",
        lead=_lead(judged),
        tables=[
            Table(title="Claims", columns=COLUMNS, rows=told, command="campaign analyze claims",
                  numbers=frozenset({2, 3, 4, 6}))
        ],
    )  # fmt: skip


def _lead(judged: Sequence[Judged]) -> str:
    """Return how many claims have a verdict, and how many have a figure of ours without one."""
    seen = [one for one in judged if one.evidence is not None]
    decided = sum(one.verdict in DECIDED for one in seen)
    said = f"{decided} of {len(judged)} claims can be judged on these rows. "
    if decided < len(seen):
        said += (
            f"Of {len(seen) - decided} more a figure of ours stands beside the paper's and decides "
            "nothing: the last column says why. "
        )
    return (
        f"{said}campaign analyze claims says what the other {len(judged) - len(seen)} lack. "
        "docs/claims.md says what a verdict means."
    )


def _line(one: Judged) -> Iterator[tuple[str, ...]]:
    evidence, claim = one.evidence, one.claim
    if evidence is None:
        return
    unit = " %" if claim.unit == "%" else ""
    width = evidence.half_width
    low, high = (
        (None, None) if width is None else (evidence.figure - width, evidence.figure + width)
    )
    simulated = " (simulated)" if one.reality == Reality.SIMULATED else ""
    yield (
        claim.claim, claim.paper,
        MISSING if claim.figure is None else f"{claim.figure:g}{unit}",
        f"{evidence.figure:.4g}{unit}",
        MISSING if low is None or high is None else f"{low:.4g} to {high:.4g}",
        evidence.contains or MISSING,
        f"{len(evidence.attempts) or evidence.points:,}", f"{one.verdict}{simulated}",
        one.why or MISSING,
    )  # fmt: skip
