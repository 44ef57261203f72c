"""Which features a forest's predictions rest on: groups of them shuffled together.

Features of one group move together (a board's memory and its bandwidth), so shuffling one alone
would ask about boards that nobody builds. Errors are of rows that were held out.
"""

from __future__ import annotations

import numpy as np

from campaign.analysis.predictor.dataset import Dataset
from campaign.analysis.predictor.features import groups
from campaign.analysis.predictor.folds import Mask, folds, sampled
from campaign.analysis.predictor.regressors import FOREST, Setting, learn
from campaign.analysis.predictor.side_by_side import each_of

#: Shuffles of a group in each fold.
SHUFFLES = 3
#: Rows that are enough to see it.
ROWS = 5000


def influence(
    data: Dataset, setting: Setting, *, parts: int, seed: int, threads: int
) -> dict[str, float]:
    """Return by group how much its shuffle adds to the mean error of log joules, largest first."""
    rows = sampled(data.same, ROWS, seed)
    x, y, same = data.inputs.features[rows], np.log(data.joules[rows]), data.same[rows]

    def added(test: Mask) -> dict[str, float]:
        predict = learn(FOREST, setting, x[~test], y[~test], seed=seed)
        random = np.random.default_rng(seed)
        before = float(np.abs(predict(x[test]) - y[test]).mean())
        found = {}
        for name, columns in groups().items():
            errors = []
            for _ in range(SHUFFLES):
                mixed = x[test].copy()
                order = random.permutation(len(mixed))
                mixed[:, columns] = mixed[order][:, columns]
                errors.append(float(np.abs(predict(mixed) - y[test]).mean()) - before)
            found[name] = float(np.mean(errors))
        return found

    each = each_of(added, folds(same, parts, seed), threads)
    means = {name: float(np.mean([one[name] for one in each])) for name in groups()}
    return dict(sorted(means.items(), key=lambda item: -item[1]))
