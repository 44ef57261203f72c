"""How far predictions can be trusted beyond the rows: for models, families and boards left out.

Owns the comparison that the paper did not make, on joules per output token: the roofline alone, a
forest on features as the paper trained it and on logarithms, and the physics-informed model; and
the coverage of intervals for what was left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from campaign.analysis.predictor.conformal import Interval, interval
from campaign.analysis.predictor.crossing import PHYSICS, ROOFLINE, Say
from campaign.analysis.predictor.dataset import Dataset, Labels
from campaign.analysis.predictor.folds import MOST_PARTS, Mask, folds, left_out, sampled
from campaign.analysis.predictor.physics import Array, fit
from campaign.analysis.predictor.regressors import FOREST, Setting, learn
from campaign.analysis.predictor.scores import relative
from campaign.analysis.predictor.side_by_side import each_of

FOREST_LOG = "random_forest_log"
#: Single points of models that were seen, and the groups that may be left out whole.
POINT = "point"
KINDS = ("model", "build", "family", "board")
#: What a question may be about that no row is of; each has an interval of its own.
ASKED = (POINT, "model", "family", "board")
#: Fewer groups of a kind than this say too little of the next; their models count instead.
FEW = 8
#: Rows that a forest learns from where groups are left out, and its trees where there are more
#: rows than that: more of either change its errors little.
FOREST_ROWS, FOREST_TREES = 4000, 30
Guess = Callable[[Mask, Mask], Array]
Guessed = Mapping[str, Mapping[str, Array]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """Learns from some rows of a data set and predicts others, in joules per output token."""

    data: Dataset
    setting: Setting
    seed: int
    threads: int

    def guesses(self) -> Mapping[str, Guess]:
        """Return every way to predict, by name."""
        return {
            ROOFLINE: lambda _train, test: self.data.inputs.roofline_j[test],
            FOREST: lambda train, test: self._forest(train, test, logs=False),
            FOREST_LOG: lambda train, test: self._forest(train, test, logs=True),
            PHYSICS: self.physics,
        }

    def physics(self, train: Mask, test: Mask) -> Array:
        """Return what the physics-informed model says."""
        inputs = self.data.inputs
        model = fit(inputs.parts[train], inputs.context[train], self.data.joules[train])
        return model.predict(inputs.parts[test], inputs.context[test])

    def _forest(self, train: Mask, test: Mask, *, logs: bool) -> Array:
        x, y = self.data.inputs.features, self.data.joules
        known, setting = np.flatnonzero(train), dict(self.setting)
        if len(known) > FOREST_ROWS:
            known = known[sampled(self.data.same[known], FOREST_ROWS, self.seed)]
            setting["n_estimators"] = min(setting.get("n_estimators", FOREST_TREES), FOREST_TREES)
        target = np.log(y[known]) if logs else y[known]
        predict = learn(FOREST, setting, x[known], target, seed=self.seed)
        return np.exp(predict(x[test])) if logs else predict(x[test])


def _parts(data: Dataset, kind: str) -> list[Mask]:
    """Return the rows that are held out together."""
    if kind == POINT:
        return list(folds(data.same, MOST_PARTS, 0))
    return list(left_out(data.labels(kind)[0]))


def held_out(data: Dataset, guess: Guess, kind: str, threads: int = 1) -> Array:
    """Return predictions of every row by a model that saw nothing of its group."""
    found, parts = np.full(len(data), np.nan), _parts(data, kind)
    for test, guessed in zip(
        parts, each_of(lambda test: guess(~test, test), parts, threads), strict=True
    ):
        found[test] = guessed
    return found


def unseen(data: Dataset, learner: Learner, say: Say) -> dict[str, dict[str, Array]]:
    """Return predictions by what was left out and by who predicted.

    Kinds with one group only are not there: nothing would be left to learn from.
    """
    found = {}
    for kind in (POINT, *KINDS):
        count = len(data) if kind == POINT else len(data.labels(kind)[1])
        if count > 1:
            say(f"leaving out each {kind}: {count} in {len(_parts(data, kind))} parts")
            found[kind] = {
                name: held_out(data, guess, kind, learner.threads)
                for name, guess in learner.guesses().items()
                if kind != POINT or name in (PHYSICS, FOREST_LOG)  # random folds tell the others
            }
    return found


def errors(data: Dataset, found: Mapping[str, Mapping[str, Array]]) -> dict[str, object]:
    """Return relative errors of predictions by what was left out; a reason where nothing was."""
    table: dict[str, object] = {}
    for kind in KINDS:
        groups, names = data.labels(kind)
        if kind not in found:
            table[kind] = {"groups": len(names), "reason": f"all rows are of one {kind}"}
            continue
        table[kind] = {
            "groups": len(names),
            **{
                name: {
                    **relative(data.joules, predicted),
                    "median_error_by_group": _by_group(np.median, off, groups, names),
                    "mape_pct_by_group": _by_group(np.mean, 100 * off, groups, names),
                }
                for name, predicted in found[kind].items()
                for off in [np.abs(predicted / data.joules - 1)]
            },
        }
    return table


def _by_group(
    middle: Callable[[Array], np.floating], off: Array, groups: Labels, names: tuple[str, ...]
) -> dict[str, float]:
    return {name: float(middle(off[groups == at])) for at, name in enumerate(names)}


def calibrated(data: Dataset, found: Guessed, name: str, level: float) -> dict[str, Interval]:
    """Return the interval around predictions for each of what may be asked.

    What cannot be left out, as the one board of all rows, has none.
    """
    return {
        kind: _interval(data, found[kind][name], kind, level) for kind in ASKED if kind in found
    }


def _interval(
    data: Dataset, predicted: Array, kind: str, level: float, kept: Mask | None = None
) -> Interval:
    """Return the interval that the residuals of some rows ask for; of all, where `kept` is None."""
    rows = np.ones(len(data), dtype=bool) if kept is None else kept
    groups = (data.same if kind == POINT else data.labels(kind)[0])[rows]
    count = len(np.unique(groups))
    units = groups if count >= FEW else data.labels("model")[0][rows]
    return interval(data.joules[rows], predicted[rows], units, level, count)


def coverage(
    data: Dataset, found: Guessed, name: str, level: float, kind: str
) -> dict[str, object]:
    """Return how often intervals hold for groups left out of fit and calibration, and how wide.

    Coverage and median width belong together: a wide interval holds easily.
    """
    if kind not in found:
        return {"level": level, "reason": f"all rows are of one {kind}"}
    predicted = found[kind][name]
    inside, widths = np.zeros(len(data), dtype=bool), np.zeros(len(data))
    for test in _parts(data, kind):
        around = _interval(data, predicted, kind, level, ~test)
        inside[test] = around.covers(data.joules[test], predicted[test])
        widths[test] = around.width
    return {
        "level": level,
        "coverage": float(inside.mean()),
        **({} if kind == POINT else {"coverage_by_group": _shares(inside, *data.labels(kind))}),
        "median_relative_width": float(np.median(widths)),
    }


def _shares(inside: Mask, groups: Labels, names: tuple[str, ...]) -> dict[str, float]:
    return {label: float(inside[groups == at].mean()) for at, label in enumerate(names)}
