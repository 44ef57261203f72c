"""What the papers claim, as data: conf/claims/, a file a paper.

Owns the fields of a claim and what is wrong with a file of them. Judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from campaign.configuration.overrides import CONF
from campaign.configuration.reader import nearest
from db.claims import CONDITIONS
from db.errors import ConfigError

FOLDER = CONF / "claims"
REQUIRED = ("id", "section", "claim", "grid")
#: Whoever answers a claim that no statement can: an analysis with an answer of its own.
ANALYSES = ("predictor", "sweet-spot", "workload")


class Form(StrEnum):
    """How a statement's figure becomes the claim's."""

    RATIO = "ratio"  # as it is; its error within a session follows from its rows
    SAVING = "saving"  # 1 - ratio, in percent
    EXCESS = "excess"  # ratio - 1, in percent
    VALUE = "value"  # as it is: a fit or a share, whose error does not follow from its rows


class Interval(StrEnum):
    """Where the interval of a claim's figure can come from."""

    ROWS = "rows"  # the half-widths of the rows' joules, where there is one session
    REPLICATES = "replicates"  # these alone: the figure is not made of whole runs' joules


class Over(StrEnum):
    """How the points of a claim become one figure."""

    MEAN = "mean"
    MEDIAN = "median"
    LEAST = "least"
    MOST = "most"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim. `accept` is the range of figures that confirm it, None an open end.

    `sql` selects point, figure and attempts of counted rows, of which `of` says what they must be
    for a fair comparison, and `points` how many are needed at least. A claim without `sql` is
    answered `by` an analysis, with the figure that `measure` names, or `not_comparable` for the
    reason there.
    """

    id: str
    paper: str
    section: str
    claim: str
    grid: str
    figure: float | None = None
    unit: str = ""
    accept: tuple[float | None, float | None] = (None, None)
    form: Form = Form.RATIO
    over: Over = Over.MEAN
    interval: Interval = Interval.ROWS
    points: int = 1
    of: Mapping[str, Sequence[object]] = field(default_factory=dict)
    sql: str | None = None
    by: str | None = None
    measure: str | None = None
    not_comparable: str | None = None
    note: str | None = None


def load_claims(folder: Path = FOLDER) -> tuple[Claim, ...]:
    """Return every claim, in the order of the papers. Raises ConfigError."""
    import yaml

    found: dict[str, Claim] = {}
    for file in sorted(folder.glob("*.yaml")):
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{file}: cannot be read: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict) or set(content) != {"paper", "claims"}:
            raise ConfigError(f"{file}: must hold `paper:` and `claims:`, nothing else")
        for one in content["claims"] or ():
            claim = read_claim(str(content["paper"]), one, str(file))
            if claim.id in found:
                raise ConfigError(f"{file}: two claims are called {claim.id}")
            found[claim.id] = claim
    if not found:
        raise ConfigError(f"{folder}: no claims there")
    return tuple(found.values())


def read_claim(paper: str, content: object, where: str) -> Claim:
    """Return a claim from what its file says. Raises ConfigError."""
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: a claim is a mapping of fields, not {content!r}")
    name = f"{where}: claim {content.get('id', '(without id)')}"
    known = set(Claim.__slots__) - {"paper"} | {"tolerance"}
    for key in content:
        if key not in known:
            raise ConfigError(f"{name}: {key} is no field{nearest(str(key), known)}")
    for key in REQUIRED:
        if not content.get(key):
            raise ConfigError(f"{name} lacks {key}")
    if sum(content.get(key) is not None for key in ("sql", "by", "not_comparable")) != 1:
        raise ConfigError(f"{name}: give one of sql, by, not_comparable")
    if content.get("by") not in (None, *ANALYSES):
        raise ConfigError(f"{name}: by {content['by']} is none of {', '.join(ANALYSES)}")
    if (content.get("measure") is None) != (content.get("by") is None):
        raise ConfigError(f"{name}: `by` an analysis and its `measure` go together")
    rest = {key: value for key, value in content.items() if key != "tolerance"}
    try:
        rest["form"] = Form(rest.get("form", Form.RATIO))
        rest["over"] = Over(rest.get("over", Over.MEAN))
        rest["interval"] = Interval(rest.get("interval", Interval.ROWS))
        rest["of"] = _conditions(rest.get("of") or {})
        rest["accept"] = _accepted(content)
        return Claim(paper=paper, **rest)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: {error}") from error


def _conditions(asked: Mapping[str, Any]) -> dict[str, Sequence[object]]:
    for column in asked:
        if column not in CONDITIONS:
            raise ValueError(f"of {column}: is none of {', '.join(CONDITIONS)}")
    return {
        column: wanted if isinstance(wanted, list) else [wanted] for column, wanted in asked.items()
    }


def _accepted(content: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return the range that confirms: as given, or the figure within its tolerance."""
    given, tolerance = content.get("accept"), content.get("tolerance")
    if given is not None:
        low, high = given
        return low, high
    if content.get("not_comparable") is not None:
        return None, None
    if tolerance is None or content.get("figure") is None:
        raise ValueError("give accept: [low, high], or a figure and its tolerance")
    around = abs(float(content["figure"])) * float(tolerance)
    return float(content["figure"]) - around, float(content["figure"]) + around
