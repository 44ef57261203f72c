"""The findings of a study as tables: the same for a terminal and for a model card.

Owns titles, columns and digits. A missing number stays missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from campaign.analysis.predictor.crossing import PHYSICS, ROOFLINE
from campaign.analysis.predictor.paper import TABLE_II
from campaign.analysis.predictor.regressors import FOREST, REGRESSORS
from campaign.analysis.predictor.study import Findings
from campaign.analysis.predictor.unseen import ASKED, FOREST_LOG, KINDS, POINT
from campaign.tabular import MISSING

Tree = Mapping[str, "Tree | object"]
TITLES = {
    **{name: one.title for name, one in REGRESSORS.items()},
    FOREST_LOG: "Random Forest, of logarithms",
    PHYSICS: "Physics-informed",
    ROOFLINE: "Roofline alone",
}
#: What an interval is for.
WORDS = {
    POINT: "another point of what was seen", "model": "a model never seen",
    "family": "a family never seen", "board": "a board never seen",
}  # fmt: skip
#: Scores that are shown, and their digits.
DIGITS = {"rmse": 4, "r2": 3, "mae": 4, "mape_pct": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One table for people."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Sequence[object], ...]


def shown(findings: Findings) -> Iterator[Shown]:
    """Yield every table of a study."""
    yield _crossed(_at(findings, "cross_validation", "regressors"))
    yield _left_out(_at(findings, "left_out"))
    yield _intervals(_at(findings, "intervals"))
    groups = _at(findings, "influence", "groups")
    yield Shown(
        title="Influence: error of log joules that shuffling features adds to a forest's",
        columns=("features", "added error"),
        rows=tuple((name, _number(value, 3)) for name, value in groups.items()),
    )
    factors = _at(findings, "physics", "factors")
    yield Shown(
        title="Physics-informed: the size of each part of the roofline, 1 is first principles'",
        columns=("part", "factor"),
        rows=tuple((name, _number(value, 2)) for name, value in factors.items()),
    )


def _crossed(table: Tree) -> Shown:
    rows = []
    for name, found in table.items():
        paper = TABLE_II.get(name, {})
        cells = [_both(found, paper, score, digits) for score, digits in DIGITS.items()]
        rows.append((TITLES[name], *(cell for pair in cells for cell in pair)))
    heads = ("RMSE Wh", "R²", "MAE Wh", "MAPE %")
    return Shown(
        title="Random folds, Wh per request, ± SD over folds; 2511.05597 Table II beside it",
        columns=("regressor", *(name for head in heads for name in (head, f"paper's {head}"))),
        rows=tuple(rows),
    )


def _both(ours: object, paper: Mapping[str, float], score: str, digits: int) -> tuple[str, str]:
    return _spread(ours, score, digits), _spread(paper, score, digits)


def _spread(found: object, score: str, digits: int) -> str:
    values = found if isinstance(found, Mapping) else {}
    middle, sd = values.get(score), values.get(f"{score}_sd")
    if middle is None:
        return MISSING
    return f"{_number(middle, digits)}{'' if sd is None else f' ± {_number(sd, digits)}'}"


def _left_out(found: Tree) -> Shown:
    rows: list[Sequence[object]] = []
    for kind in KINDS:
        errors = _at(found, kind)
        if "reason" in errors:
            rows.append((f"each {kind}", errors["reason"], *[MISSING] * 4))
            continue
        for name in (ROOFLINE, FOREST, FOREST_LOG, PHYSICS):
            one = _at(errors, name)
            rows.append((
                f"each {kind} ({errors['groups']})", TITLES[name], _percent(one["median_error"]),
                _percent(one["p90_error"]), _number(one["log_residual_median"], 2),
                _number(one["log_residual_sd"], 2),
            ))  # fmt: skip
    return Shown(
        title="Left out whole, J per output token: relative errors and residuals of logarithms",
        columns=("left out", "predictor", "median error", "90 % below", "log residual", "its SD"),
        rows=tuple(rows),
    )


def _intervals(found: Tree) -> Shown:
    rows: list[Sequence[object]] = []
    for name, kinds in found.items():
        for kind in ASKED:
            one = _at({"kinds": kinds}, "kinds", kind)
            title = TITLES[FOREST_LOG] if name == FOREST else TITLES[name]
            if "reason" in one:
                rows.append((title, WORDS[kind], one["reason"], MISSING, MISSING))
                continue
            rows.append((title, WORDS[kind], _percent(one["level"]), _percent(one["coverage"]),
                         _percent(one["median_relative_width"])))  # fmt: skip
    return Shown(
        title="Intervals for what was left out of fit and calibration: coverage and width together",
        columns=("predictor", "asked about", "asked for", "covered", "median width / prediction"),
        rows=tuple(rows),
    )


def _at(tree: Tree, *path: str) -> Tree:
    """Return a branch of the findings; empty where there is none."""
    for name in path:
        inner = tree.get(name)
        tree = inner if isinstance(inner, Mapping) else {}
    return tree


def _number(value: object, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else MISSING


def _percent(value: object) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, int | float) else MISSING
