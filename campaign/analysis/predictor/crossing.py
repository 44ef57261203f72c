"""The paper's own protocol: repeated cross-validation of the regressors on random rows.

Owns tuning (once per repetition, on a sample of rows) and the table of scores. The target is the
paper's, watt-hours per request. Random folds hold runs of one model on both sides: what they say
of models never seen is in `unseen`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from campaign.analysis.predictor.dataset import Dataset
from campaign.analysis.predictor.folds import Mask, folds, sampled
from campaign.analysis.predictor.physics import fit
from campaign.analysis.predictor.regressors import FOREST, REGRESSORS, Setting, learn
from campaign.analysis.predictor.scores import scored, spread
from campaign.analysis.predictor.side_by_side import each_of

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
        for name, scores in _repetition(data, tuple(each), seed, effort):
            each[name].append(scores)
    return {name: spread(found) for name, found in each.items()}


def _repetition(
    data: Dataset, names: Sequence[str], seed: int, effort: Effort
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the scores of everyone on every fold of one repetition."""
    found = each_of(lambda name: tuned(data, name, effort, seed), effort.regressors, effort.threads)
    settings = dict(zip(effort.regressors, found, strict=True))
    work = [(name, test) for test in folds(data.same, effort.folds, seed) for name in names]
    scores = each_of(lambda one: _score(data, *one, settings, effort), work, effort.threads)
    yield from zip((name for name, _ in work), scores, strict=True)


def _score(
    data: Dataset, name: str, test: Mask, settings: Mapping[str, Setting], effort: Effort
) -> dict[str, float]:
    """Return the scores of one on one fold."""
    y, inputs, train = data.watt_hours, data.inputs, ~test
    per_token = y[test] / data.joules[test]
    if name == ROOFLINE:
        return scored(y[test], inputs.roofline_j[test] * per_token)
    if name == PHYSICS:
        physics = fit(inputs.parts[train], inputs.context[train], data.joules[train])
        return scored(
            y[test], physics.predict(inputs.parts[test], inputs.context[test]) * per_token
        )
    x = inputs.features
    predict = learn(name, settings[name], x[train], y[train], seed=effort.seed)
    return scored(y[test], predict(x[test]))


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
            predict = learn(name, setting, x[~test], y[~test], seed=seed)
            squared += float(((predict(x[test]) - y[test]) ** 2).sum())
        return squared

    return min(choices, key=error)
