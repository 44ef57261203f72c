"""Everything that is found out about a predictor from one data set, and the predictor itself.

Owns the order of work and the form of the findings. Writes no file.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from campaign.analysis.predictor.conformal import Interval
from campaign.analysis.predictor.crossing import (
    PHYSICS,
    TUNING_ROWS,
    Effort,
    Say,
    crossed,
    tuned,
)
from campaign.analysis.predictor.dataset import Dataset
from campaign.analysis.predictor.features import NAMES
from campaign.analysis.predictor.folds import MOST_PARTS
from campaign.analysis.predictor.influence import ROWS as INFLUENCE_ROWS
from campaign.analysis.predictor.influence import influence
from campaign.analysis.predictor.physics import Array, Physics, fit
from campaign.analysis.predictor.ranges import Ranges, ranges_of
from campaign.analysis.predictor.regressors import (
    FOREST,
    SVM_ROWS,
    TREE_ROWS,
    Estimator,
    forest,
    one_thread_each,
    versions,
)
from campaign.analysis.predictor.seen import Names, digests, names_of
from campaign.analysis.predictor.unseen import (
    ASKED,
    FOREST_LOG,
    FOREST_ROWS,
    FOREST_TREES,
    Learner,
    calibrated,
    coverage,
    errors,
    unseen,
)
from workers.costs.cost import VERSION

#: What a saved predictor predicts by, and whose errors stand for it.
WAYS = {PHYSICS: PHYSICS, FOREST: FOREST_LOG}
Findings = Mapping[str, object]
#: What is computed on fewer rows or in fewer parts than there are, to end in minutes.
CAPS = {
    "rows a setting is tuned on": TUNING_ROWS,
    "rows a support vector machine learns from": SVM_ROWS,
    "rows each tree of a forest sees": TREE_ROWS,
    "rows a forest learns from where groups are left out": FOREST_ROWS,
    "its trees there": FOREST_TREES,
    "rows influence is computed on": INFLUENCE_ROWS,
    "parts that groups are left out in": MOST_PARTS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A predictor: the physics-informed model and a forest, their intervals and their range.

    Intervals are by who predicts and by what is asked about. `points` are digests of what it
    learned from, each once, `names` the groups of those.
    """

    physics: Physics
    forest: Estimator
    intervals: Mapping[str, Mapping[str, Interval]]
    ranges: Ranges
    points: tuple[str, ...]
    names: Names


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A predictor with what is known about it."""

    learned: Learned
    findings: Findings


def studied(data: Dataset, effort: Effort, level: float, say: Say) -> Study:
    """Return predictor and findings of a data set."""
    with one_thread_each():
        setting = tuned(data, FOREST, effort, effort.seed)
        learner = Learner(data=data, setting=setting, seed=effort.seed, threads=effort.threads)
        table = crossed(data, effort, say)
        beyond = unseen(data, learner, say)
        say("influence of features")
        groups = influence(data, setting, parts=effort.folds, seed=effort.seed,
                           threads=effort.threads)  # fmt: skip
        learned = _learned(data, learner, beyond, level)
    findings = {
        "rows": _rows(data),
        "protocol": {
            "folds": effort.folds,
            "repeats": effort.repeats,
            "seed": effort.seed,
            "caps": CAPS,
        },
        "cross_validation": {"unit": "Wh per request", "regressors": table},
        "left_out": {"unit": "J per output token", **errors(data, beyond)},
        "intervals": _covered(data, beyond, level),
        "influence": {"unit": "mean error of log joules added by a shuffle", "groups": groups},
        "physics": learned.physics.plain(),
        "forest": dict(setting),
        "versions": {"estimate": VERSION, "python": platform.python_version(), **versions()},
    }
    return Study(learned=learned, findings=findings)


def _learned(
    data: Dataset, learner: Learner, beyond: Mapping[str, Mapping[str, Array]], level: float
) -> Learned:
    inputs = data.inputs
    return Learned(
        physics=fit(inputs.parts, inputs.context, data.joules),
        forest=forest(inputs.features, np.log(data.joules), learner.setting, seed=learner.seed),
        intervals={way: calibrated(data, beyond, name, level) for way, name in WAYS.items()},
        ranges=ranges_of(inputs),
        points=tuple(sorted(set(digests(inputs.features)))),
        names=names_of(data),
    )


def _covered(
    data: Dataset, beyond: Mapping[str, Mapping[str, Array]], level: float
) -> dict[str, object]:
    """Return coverage and width of intervals for what was left out of everything."""
    return {
        way: {kind: coverage(data, beyond, name, level, kind) for kind in ASKED}
        for way, name in WAYS.items()
    }


def _rows(data: Dataset) -> dict[str, object]:
    """Return what was learned from: how much, of what, and how much of it had to be filled in."""
    gaps: dict[str, int] = {}
    origins: dict[str, int] = {}
    for point in data.inputs.points:
        for gap in point.gaps:
            gaps[gap] = gaps.get(gap, 0) + 1
        origin = point.build.origin.partition(":")[0].partition(",")[0]
        origins[origin] = origins.get(origin, 0) + 1
    return {
        "rows": len(data),
        "different_points": len(set(data.same.tolist())),
        "left_out": list(data.left_out),
        "realities": dict(data.realities),
        "sources": list(data.sources),
        "differ_unread_in": dict(data.mixed),
        "models": list(data.labels("model")[1]),
        "families": list(data.labels("family")[1]),
        "boards": list(data.labels("board")[1]),
        "features": list(NAMES),
        "filled_in": gaps,
        "sizes_from": origins,
    }
