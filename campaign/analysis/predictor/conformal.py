"""Intervals for a group that was never seen: conformal, on logarithms, each group counting as one.

The residuals are those of predictions for groups that were held out: models, families, boards, or
points for a question about what was seen. A row's chance is shared within its group. Which part of
the residuals an interval has to hold is learned from the groups themselves: so much that each of
them, by the residuals of the others, is covered as often as was asked for, in the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from campaign.analysis.predictor.dataset import Labels
from campaign.analysis.predictor.folds import Mask
from campaign.analysis.predictor.physics import Array

LEVEL = 0.9
#: Parts of the residuals that are tried, as shares of what lies beyond the level.
_TRIED = 64
#: Beyond so many groups one more or less moves nothing, and the level itself is taken.
_MANY = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """How far around a prediction the truth lies: between it over `factor` and it times `factor`.

    `level` was asked for; `promised` is what so many `groups` can promise of another one, whatever
    it is like.
    """

    factor: float
    level: float
    promised: float
    groups: int

    def covers(self, measured: Array, predicted: Array) -> Mask:
        """Return which measurements lie within."""
        inside: Mask = np.abs(np.log(measured / predicted)) <= np.log(self.factor)
        return inside

    @property
    def width(self) -> float:
        """Width over the prediction."""
        return self.factor - 1 / self.factor


def interval(
    measured: Array, predicted: Array, units: Labels, level: float, groups: int | None = None
) -> Interval:
    """Return the interval that residuals of held-out groups ask for.

    `units` number what counts as one; `groups`, where it is another number, what was held out.
    """
    count = len(np.unique(units)) if groups is None else groups
    off = np.abs(np.log(measured / predicted))
    order = np.argsort(off)
    off, numbers = off[order], np.unique(units, return_inverse=True)[1].ravel()[order]
    share = 1 / np.bincount(numbers)[numbers]
    part = np.array([_part(off, share, numbers, level)])
    return Interval(
        factor=float(np.exp(_reached(off, share, part)[0])),
        level=level,
        promised=min(level, count / (count + 1)),
        groups=count,
    )


def _part(off: Array, share: Array, numbers: Labels, level: float) -> float:
    """Return the least part of rising residuals by which every unit is covered in the mean.

    1 where none is enough: the largest residual is taken.
    """
    units = int(numbers.max()) + 1
    if not 1 < units <= _MANY:
        return level
    tried = np.linspace(level - (1 - level), 1.0, _TRIED)
    covered = np.zeros(_TRIED)
    for unit in range(units):
        own = numbers == unit
        reached = _reached(off[~own], share[~own], tried)
        covered += np.searchsorted(off[own], reached, side="right") / own.sum() / units
    enough = np.flatnonzero(covered >= level)
    return float(tried[enough[0]]) if len(enough) else 1.0


def _reached(off: Array, share: Array, parts: Array) -> Array:
    """Return the residuals, rising, that these parts of them do not exceed."""
    summed = np.cumsum(share) / share.sum()
    at = np.searchsorted(summed, parts - 1e-12)
    reached: Array = off[np.minimum(at, len(off) - 1)]
    return reached
