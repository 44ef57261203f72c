"""Which rows are held out together.

Pure. Rows that no feature tells apart never stand on both sides; groups are held out whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from campaign.analysis.predictor.dataset import Labels

Mask = NDArray[np.bool_]
#: More groups than this are held out several at a time: each part costs a fit.
MOST_PARTS = 10


def folds(same: Labels, count: int, seed: int) -> Iterator[Mask]:
    """Yield the rows held out by each fold of a shuffle; equal points stay together."""
    order = np.random.default_rng(seed).permutation(np.unique(same))
    for part in np.array_split(order, min(count, len(order))):
        yield np.isin(same, part)


def left_out(groups: Labels, seed: int = 0) -> Iterator[Mask]:
    """Yield the rows held out when each group is left out, or several where there are many."""
    names = np.unique(groups)
    if len(names) > MOST_PARTS:
        names = np.random.default_rng(seed).permutation(names)
    for part in np.array_split(names, min(MOST_PARTS, len(names))):
        yield np.isin(groups, part)


def sampled(same: Labels, most: int, seed: int) -> Labels:
    """Return the rows of a sample of at most so many, of whole points."""
    order = np.random.default_rng(seed).permutation(np.unique(same))
    counts = np.bincount(same)[order].cumsum()
    return np.flatnonzero(np.isin(same, order[: max(1, int((counts <= most).sum()))]))
