"""What a predictor learned from, so that what it never saw can be told apart.

Owns the digest of a point, two rows that no feature tells apart being one, and what of a point is
new: its model, family or board. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from campaign.analysis.predictor.dataset import Dataset, label
from campaign.analysis.predictor.physics import Array
from campaign.analysis.predictor.point import Point

#: Characters of a digest: among a million points two are taken for one once in 10⁷ sets.
LENGTH = 16
#: What may be new of a point.
GROUPS = ("model", "family", "board")
Names = Mapping[str, tuple[str, ...]]


def digests(features: Array) -> list[str]:
    """Return the digest of each row of features."""
    rounded = np.ascontiguousarray(np.round(features, 9) + 0.0, dtype="<f8")  # + 0.0: no -0.0
    return [hashlib.sha256(row.tobytes()).hexdigest()[:LENGTH] for row in rounded]


def names_of(data: Dataset) -> Names:
    """Return the models, families and boards of a data set; a form of a model by its own name."""
    points = data.inputs.points
    return {kind: tuple(sorted({label(point, kind) for point in points})) for kind in GROUPS}


def new_of(point: Point, names: Names) -> list[str]:
    """Return what of a point is none of these names."""
    return [kind for kind in GROUPS if label(point, kind) not in names[kind]]
