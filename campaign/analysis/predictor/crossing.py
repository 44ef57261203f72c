"""The paper's own protocol: repeated cross-validation of the regressors on random rows.

Owns tuning (once per repetition, on a sample of rows) and the table of scores. The target is the
paper's, watt-hours per request. Random folds hold runs of one model on both sides: what they say
of models never seen is in `unseen`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from campaign.analysis.predictor.dataset import Dataset
from campaign.analysis.predictor.folds import folds, sampled
from campaign.analysis.predictor.physics import fit
from campaign.analysis.predictor.regressors import FOREST, REGRESSORS, Setting, learn
from campaign.analysis.predictor.scores import scored, spread

#: Rows that settings are tuned on, and the folds of that.
TUNING_ROWS, TUNING_FOLDS = 5000, 3
PHYSICS, ROOFLINE = "physics", "roofline"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is computed: folds and repetitions, threads, trees of a forest, the seed of all."""

    folds: int = 5
    repeats: int = 5
    threads: int = 2
    seed: int = 0
    trees: int = 60
    regressors: Sequence[str] = tuple(REGRESSORS)


def crossed(data: Dataset, effort: Effort, say: Say) -> dict[str, dict[str, float | None]]:
    """Return mean and spread of every regressor's scores over all folds of all repetitions.

    The roofline alone and the physics-informed model stand beside them, on the same folds.
    """
    each: dict[str, list[dict[str, float]]] = {
        name: [] for name in (*effort.regressors, PHYSICS, ROOFLINE)
    }
    for repetition in range(effort.repeats):
        seed = effort.seed + repetition
        say(f"repetition {repetition + 1} of {effort.repeats}")
        settings = {name: tuned(data, name, effort, seed) for name in effort.regressors}
        for test in folds(data.same, effort.folds, seed):
            for name, scores in _fold(data, test, settings, effort).items():
                each[name].append(scores)
    return {name: spread(found) for name, found in each.items()}


def _fold(
    data: Dataset, test: np.ndarray, settings: Mapping[str, Setting], effort: Effort
) -> dict[str, dict[str, float]]:
    """Return the scores of everyone on one fold."""
    x, y, inputs = data.inputs.features, data.watt_hours, data.inputs
    train, found = ~test, {}
    for name, setting in settings.items():
        predict = learn(name, setting, x[train], y[train], seed=effort.seed, threads=effort.threads)
        found[name] = scored(y[test], predict(x[test]))
    per_token = y[test] / data.joules[test]
    physics = fit(inputs.parts[train], inputs.context[train], data.joules[train])
    found[PHYSICS] = scored(
        y[test], physics.predict(inputs.parts[test], inputs.context[test]) * per_token
    )
    found[ROOFLINE] = scored(y[test], inputs.roofline_j[test] * per_token)
    return found


def tuned(data: Dataset, name: str, effort: Effort, seed: int) -> Setting:
    """Return the setting of least RMSE on a sample of rows, by folds of its own."""
    trees = {"n_estimators": effort.trees} if name == FOREST else {}
    choices = [{**setting, **trees} for setting in REGRESSORS[name].settings]
    if len(choices) == 1:
        return choices[0]
    rows = sampled(data.same, TUNING_ROWS, seed)
    x, y, same = data.inputs.features[rows], data.watt_hours[rows], data.same[rows]
    parts = list(folds(same, TUNING_FOLDS, seed))

    def error(setting: Setting) -> float:
        squared = 0.0
        for test in parts:
            predict = learn(name, setting, x[~test], y[~test], seed=seed, threads=effort.threads)
            squared += float(((predict(x[test]) - y[test]) ** 2).sum())
        return squared

    return min(choices, key=error)
