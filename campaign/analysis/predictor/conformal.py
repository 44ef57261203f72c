"""Intervals that hold for models never seen: conformal, on logarithms, a model counting as one.

The residuals are those of predictions for models whose like was held out. Models, not rows, are
taken for exchangeable: a row's chance is shared within its model, and one part of G + 1 belongs
to the model that is asked about. With few models no high level can be promised; what can is said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from campaign.analysis.predictor.dataset import Labels
from campaign.analysis.predictor.folds import Mask
from campaign.analysis.predictor.physics import Array

LEVEL = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """How far around a prediction the truth lies: between it over `factor` and it times `factor`.

    `level` was asked for; `promised` is what so many `models` can promise.
    """

    factor: float
    level: float
    promised: float
    models: int

    def covers(self, measured: Array, predicted: Array) -> Mask:
        """Return which measurements lie within."""
        inside: Mask = np.abs(np.log(measured / predicted)) <= np.log(self.factor)
        return inside

    @property
    def width(self) -> float:
        """Width over the prediction."""
        return self.factor - 1 / self.factor


def interval(measured: Array, predicted: Array, models: Labels, level: float) -> Interval:
    """Return the interval that residuals of held-out models ask for."""
    off = np.abs(np.log(measured / predicted))
    names, numbers, counts = np.unique(models, return_inverse=True, return_counts=True)
    share = 1 / counts[numbers.ravel()] / (len(names) + 1)
    order = np.argsort(off)
    reached = np.cumsum(share[order])
    at = min(int(np.searchsorted(reached, level - 1e-12)), len(off) - 1)
    return Interval(
        factor=float(np.exp(off[order][at])),
        level=level,
        promised=min(level, len(names) / (len(names) + 1)),
        models=len(names),
    )
