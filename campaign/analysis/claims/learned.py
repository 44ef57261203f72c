"""A predictor's own study as evidence for the claims about predictors.

Owns where a figure stands in the findings, and which rows make it comparable. Learns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from campaign.analysis.claims.evidence import Evidence
from db.errors import ConfigError
from db.records import Reality

Findings = Mapping[str, object]


def evidence_of(measure: str, findings: Findings) -> Evidence | str:
    """Return the figure that a study found, or why it has none. `measure` is its path, by `:`."""
    *path, last = measure.split(":")
    place: object = findings
    for name in path:
        place = place.get(name) if isinstance(place, Mapping) else None
    figure = place.get(last) if isinstance(place, Mapping) else None
    if isinstance(figure, bool) or not isinstance(figure, int | float):
        return f"the predictor's study has no {last} of {' '.join(path)}"
    sd = place.get(f"{last}_sd") if isinstance(place, Mapping) else None
    spread = f"its SD over folds is {sd:.3g}" if isinstance(sd, int | float) else "one value"
    rows = _rows(findings).get("rows")
    return Evidence(
        figure=float(figure),
        half_width=None,
        contains=f"no interval: {spread}",
        points=rows if isinstance(rows, int) else 0,
        replicates=1,
        attempts=(),
        sessions=0,
    )


def reality_of(findings: Findings) -> Reality | None:
    """Return the one reality of the rows that were learned from; None where it is not one."""
    realities = _rows(findings).get("realities")
    known = list(realities) if isinstance(realities, Mapping) else []
    try:
        return Reality(known[0]) if len(known) == 1 else None
    except ValueError:
        return None


def _rows(findings: Findings) -> Mapping[str, object]:
    rows = findings.get("rows")
    if not isinstance(rows, Mapping):
        raise ConfigError("--model-dir: its study does not say what it learned from: learn again")
    return rows
