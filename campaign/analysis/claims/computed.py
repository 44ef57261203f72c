"""Claims that no statement can answer: by which figure of an analysis, and what that takes.

Owns the names of those figures (`measure` in a claim) and what is said where they cannot be had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from campaign.analysis.claims import lengths
from campaign.analysis.claims.claim import Claim
from campaign.analysis.claims.lengths import Of
from db.claims import Counted, Found
from db.errors import ConfigError
from workers.workloads.traces import Trace

Finder = Callable[[Counted, Of], list[Found]]

#: By name: a figure of a fit to the lengths.
FITS: Mapping[str, lengths.Figure] = {
    "six_terms_mape": lengths.error_of_six,
    "linear_over_six": lengths.linear_over_six,
    "missed_by_formula": lengths.missed_by_formula,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a claim may be answered with beside the rows: traces by claim, findings of a study."""

    traces: Mapping[str, Trace] = field(default_factory=dict)
    findings: Mapping[str, object] | None = None


def finder(claim: Claim, beside: Beside) -> Finder | None:
    """Return what finds a claim's figure in the rows; None where something else is needed.

    Raises ConfigError for a measure that the analysis does not have.
    """
    if claim.sql is not None:
        return lambda rows, of: rows.find(claim.id, claim.sql or "", of)
    if claim.by == "sweet-spot":
        figure = FITS.get(claim.measure or "")
        if figure is None:
            known = ", ".join(FITS)
            raise ConfigError(f"claim {claim.id}: measure {claim.measure}: one of {known}")
        return partial(lengths.fitted, claim.id, figure)
    if claim.by == "workload" and claim.id in beside.traces:
        return partial(lengths.saved, claim.id, beside.traces[claim.id])
    return None


def lacking(claim: Claim, beside: Beside, rows: Counted) -> str | None:
    """Return what a claim that an analysis answers needs, and what there is."""
    if claim.by == "sweet-spot":
        return lengths.there(claim.id, rows, claim.of)
    if claim.by == "workload" and claim.id in beside.traces:
        return lengths.covered(claim.id, beside.traces[claim.id], rows, claim.of)
    if claim.by == "workload":
        return f"name its trace: --trace {claim.id}=TRACE"
    if claim.by == "predictor":
        return "needs a predictor, of `campaign analyze predictor --save DIR`: --model-dir DIR"
    return None
