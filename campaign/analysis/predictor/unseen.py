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
from campaign.analysis.predictor.folds import Mask, left_out, sampled
from campaign.analysis.predictor.physics import Array, fit
from campaign.analysis.predictor.regressors import FOREST, Setting, learn
from campaign.analysis.predictor.scores import relative

FOREST_LOG = "random_forest_log"
#: What may be left out, and what a report calls it.
KINDS = ("model", "build", "family", "board")
#: Rows that a forest learns from where groups are left out: more change its errors little.
FOREST_ROWS = 4000
Guess = Callable[[Mask, Mask], Array]


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
        known = np.flatnonzero(train)
        known = known[sampled(self.data.same[known], FOREST_ROWS, self.seed)]
        target = np.log(y[known]) if logs else y[known]
        predict = learn(
            FOREST, self.setting, x[known], target, seed=self.seed, threads=self.threads
        )
        return np.exp(predict(x[test])) if logs else predict(x[test])


def held_out(data: Dataset, guess: Guess, kind: str) -> Array:
    """Return predictions of every row by a model that saw nothing of its group."""
    groups, _ = data.labels(kind)
    found = np.full(len(data), np.nan)
    for test in left_out(groups):
        found[test] = guess(~test, test)
    return found


def unseen(data: Dataset, learner: Learner, say: Say) -> dict[str, dict[str, Array]]:
    """Return predictions by what was left out and by who predicted.

    Kinds with one group only are not there: nothing would be left to learn from.
    """
    found = {}
    for kind in KINDS:
        count = len(data.labels(kind)[1])
        if count > 1:
            say(f"leaving out each {kind}: {count}")
            found[kind] = {
                name: held_out(data, guess, kind) for name, guess in learner.guesses().items()
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
                    "median_error_by_group": _by_group(data.joules, predicted, groups, names),
                }
                for name, predicted in found[kind].items()
            },
        }
    return table


def _by_group(
    measured: Array, predicted: Array, groups: Labels, names: tuple[str, ...]
) -> dict[str, float]:
    off = np.abs(predicted / measured - 1)
    return {name: float(np.median(off[groups == at])) for at, name in enumerate(names)}


def calibrating(found: Mapping[str, Mapping[str, Array]], name: str) -> Array:
    """Return the predictions whose residuals calibrate: by what saw no model of such sizes.

    Where all models are of one size, by what saw no such model: two there are at least.
    """
    return found["build" if "build" in found else "model"][name]


def calibrated(data: Dataset, predicted: Array, level: float) -> Interval:
    """Return the interval around predictions for models never seen."""
    return interval(data.joules, predicted, data.labels("model")[0], level)


def coverage(
    data: Dataset, found: Mapping[str, Mapping[str, Array]], name: str, level: float, kind: str
) -> dict[str, object]:
    """Return how often intervals hold for groups left out of fit and calibration, and how wide.

    Coverage and median width belong together: a wide interval holds easily.
    """
    groups, names = data.labels(kind)
    if kind not in found:
        return {"level": level, "reason": f"all rows are of one {kind}"}
    models, _ = data.labels("model")
    residuals, predicted = calibrating(found, name), found[kind][name]
    inside, widths = np.zeros(len(data), dtype=bool), np.zeros(len(data))
    for at in range(len(names)):
        test = groups == at
        around = interval(data.joules[~test], residuals[~test], models[~test], level)
        inside[test] = around.covers(data.joules[test], predicted[test])
        widths[test] = around.width
    return {
        "level": level,
        "coverage": float(inside.mean()),
        "coverage_by_group": {
            label: float(inside[groups == at].mean()) for at, label in enumerate(names)
        },
        "median_relative_width": float(np.median(widths)),
    }
