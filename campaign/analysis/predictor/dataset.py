"""Rows turned into numbers to learn from, and the rows that nothing can be learned from refused.

Owns what counts as too few, as the same point, and as a unit that was mixed up. Never drops a row
without saying so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from campaign.analysis.per_request import LENGTHS_AND_BATCH
from campaign.analysis.predictor.features import NAMES, features_of
from campaign.analysis.predictor.parts import PARTS, parts_of, roofline_j
from campaign.analysis.predictor.physics import Array
from campaign.analysis.predictor.point import EAGER, Cells, Point, Points, energy_j, flags_of
from campaign.catalogue.ablations import base_of
from campaign.catalogue.catalog import Catalog
from campaign.tabular import count_of
from db.errors import ConfigError

if TYPE_CHECKING:
    from pandas import DataFrame

#: Below this a fold has too few rows to be judged by.
FEWEST_ROWS, FEWEST_POINTS, FEWEST_MODELS = 20, 10, 2
#: No cause multiplies a row's energy by so much beside the others': a unit was mixed up (3600).
ODD = 1500.0
#: Smallest spread of a logarithm that is no constant.
_CONSTANT = 1e-9
#: What rows say of how they ran and no feature reads.
UNREAD = ("backend", "options", "mode", "threads", "speculation", "speculative_tokens", "draft",
          "declared_power_limit_w", "weights", "protocol", "workload")  # fmt: skip
#: What was asked for, as far as features tell it: equal for replicates, whose mean batch and drawn
#: lengths differ a little from run to run.
ASKED = ("model", "board", "gpus", "tensor_parallel", "expert_parallel", "data_parallel", "dtype",
         "quantization", "batch_size", "workload")  # fmt: skip

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Points in numbers, row by row: features, the roofline's parts, the context of physics."""

    points: tuple[Point, ...]
    features: Array
    parts: Array
    context: Array

    @property
    def roofline_j(self) -> Array:
        """Joules per output token that the roofline alone says."""
        return np.array([roofline_j(dict(zip(PARTS, row, strict=True))) for row in self.parts])

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Inputs with what was measured; `realities` counts rows by reality.

    `same` numbers the points: equal for rows that no feature tells apart or that were asked for
    alike, which therefore must never stand on both sides of a fold. `mixed` counts the values,
    "not set" among them, of each `UNREAD` column in which rows differ; a workload's are without its
    lengths and batch, options without `EAGER`. `left_out` says which rows are not there, and why.
    """

    inputs: Inputs
    joules: Array
    same: Labels
    realities: Mapping[str, int]
    mixed: Mapping[str, int]
    sources: tuple[str, ...]
    left_out: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def watt_hours(self) -> Array:
        """Watt-hours per request: the target of 2511.05597."""
        lengths = np.array([point.output_tokens for point in self.inputs.points])
        return np.asarray(self.joules * lengths / 3600.0)

    def labels(self, kind: str) -> tuple[Labels, tuple[str, ...]]:
        """Return the number and the names of each row's model, build, family or board.

        A model with values changed (``@layers=42``) is a form of one, and no further model.
        """
        words = [label(point, kind) for point in self.inputs.points]
        if kind == "model":
            words = list(map(base_of, words))
        names = tuple(sorted(set(words)))
        at = {name: number for number, name in enumerate(names)}
        return np.array([at[word] for word in words], dtype=np.int64), names


def label(point: Point, kind: str) -> str:
    """Return the name of a point's model, build, family or board."""
    if kind == "build":
        frame = point.build.frame
        return (f"{point.build.family} of {frame.layers} layers, {frame.hidden} wide, "
                f"{point.build.total / 1e9:.3g}B")  # fmt: skip
    return {"model": point.model, "family": point.build.family, "board": point.board.slug}[kind]


def inputs_of(rows: Sequence[Cells], catalog: Catalog, lines: Sequence[int]) -> Inputs:
    """Return rows in numbers. ConfigError names the first row that no point can be made of."""
    points, read = Points(catalog), []
    for line, row in zip(lines, rows, strict=True):
        read.append(points.of(row, f"row {line}"))
    features, parts = [], []
    for line, point in zip(lines, read, strict=True):
        try:
            parts.append(list(parts_of(point).values()))
        except ConfigError as error:
            raise ConfigError(f"row {line}: {error}") from error
        features.append(list(features_of(point).values()))
    return Inputs(
        points=tuple(read),
        features=_finite(np.array(features, dtype=float), NAMES, lines),
        parts=_finite(np.array(parts, dtype=float), PARTS, lines),
        context=np.array([_context(point) for point in read], dtype=float),
    )


def _context(point: Point) -> tuple[float, float, float]:
    bandwidth = point.board.memory_bandwidth_bytes_s or 1.0
    return float(np.log(bandwidth)), float(point.input_known), float(np.log(point.batch))


def _finite(values: Array, names: Sequence[str], lines: Sequence[int]) -> Array:
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        row, column = wrong[0]
        raise ConfigError(f"row {lines[row]}: {names[column]} is {values[row, column]}, no number "
                          "to learn from")  # fmt: skip
    return values


def dataset_of(frame: DataFrame, catalog: Catalog) -> Dataset:
    """Return what can be learned from a frame of evidence. ConfigError where that is nothing."""
    rows: list[Cells] = frame.to_dict("records")
    measured = [energy_j(row) for row in rows]
    kept = [at for at, joules in enumerate(measured) if joules is not None]
    missing = len(rows) - len(kept)
    left_out = (f"{count_of(missing, 'row')} without energy per output token",) if missing else ()
    _require_enough(len(kept), left_out)
    joules = np.array([measured[at] or np.nan for at in kept], dtype=float)
    inputs = inputs_of([rows[at] for at in kept], catalog, [at + 1 for at in kept])
    found = Dataset(
        inputs=inputs,
        joules=joules,
        same=_same(inputs, frame.iloc[kept]),
        realities=_counted(rows[at].get("reality") for at in kept),
        mixed=_mixed(frame.iloc[kept]),
        sources=tuple(_counted(rows[at].get("source") for at in kept)),
        left_out=left_out,
    )
    _require_sense(found)
    return found


def _counted(words: object) -> Mapping[str, int]:
    cells = words if hasattr(words, "__iter__") else ()
    return dict(Counter(word if isinstance(word, str) else "not stated" for word in cells))


def _mixed(frame: DataFrame) -> Mapping[str, int]:
    told = frame.reindex(columns=UNREAD)
    words = told["workload"].astype("str").str.replace(LENGTHS_AND_BATCH, "", regex=True)
    flags = told["options"].map(_unread_flags)
    counts = told.assign(workload=words, options=flags).nunique(dropna=False)
    return {name: count for name, count in counts.items() if count > 1}


def _unread_flags(options: object) -> str:
    """Return a row's flags but for `EAGER`, in one order."""
    flags = flags_of(options)
    return str(sorted((name, repr(flag)) for name, flag in flags.items() if name != EAGER))


def _same(inputs: Inputs, frame: DataFrame) -> Labels:
    """Return a number for each row, equal for rows of equal features or of one question."""
    alike = np.unique(np.round(inputs.features, 9), axis=0, return_inverse=True)[1].ravel()
    found = np.arange(len(frame))
    while True:
        before = found
        for labels in (alike, _asked(inputs, frame)):
            least = np.full(len(frame), len(frame))
            np.minimum.at(least, labels, found)
            found = least[labels]
        if (found == before).all():
            return np.asarray(np.unique(found, return_inverse=True)[1], dtype=np.int64).ravel()


def _asked(inputs: Inputs, frame: DataFrame) -> Labels:
    """Return a number for each row, equal for rows that say that they were asked for alike."""
    asked = frame.reindex(columns=ASKED).assign(eager=[point.eager for point in inputs.points])
    known = asked[["batch_size", "workload"]].notna().all(axis=1).to_numpy()
    groups = asked.groupby(list(asked), dropna=False, sort=False).ngroup().to_numpy()
    alone = groups.max(initial=0) + 1 + np.arange(len(frame))
    numbers = np.unique(np.where(known, groups, alone), return_inverse=True)[1]
    return np.asarray(numbers, dtype=np.int64).ravel()


def _require_enough(rows: int, left_out: Sequence[str]) -> None:
    if rows < FEWEST_ROWS:
        why = f" ({'; '.join(left_out)})" if left_out else ""
        found = count_of(rows, "row")
        raise ConfigError(f"{found} with energy{why}: a predictor needs at least {FEWEST_ROWS}")


def _require_sense(data: Dataset) -> None:
    """Raise ConfigError for rows of one model, of one energy, or of units that were mixed up."""
    models = data.labels("model")[1]
    if len(models) < FEWEST_MODELS:
        raise ConfigError(f"all rows are of {models[0]}: a predictor needs at least two models")
    if np.log(data.joules).std() < _CONSTANT:
        raise ConfigError("every row has the same energy per output token: nothing to learn")
    different = len(set(data.same.tolist()))
    if different < FEWEST_POINTS:
        found = f"{count_of(different, 'different point')} among {count_of(len(data), 'row')}"
        raise ConfigError(f"only {found}: a predictor needs at least {FEWEST_POINTS}")
    ratio = np.log(data.joules / data.inputs.roofline_j)
    off = np.abs(ratio - np.median(ratio))
    if off.max() > np.log(ODD):
        at = int(off.argmax())
        times = float(np.exp(ratio[at] - np.median(ratio)))
        raise ConfigError(
            f"{int((off > np.log(ODD)).sum())} rows have another unit than the rest: that of "
            f"{data.inputs.points[at].model} with {data.joules[at]:.3g} J per output token is "
            f"{times:.3g} times what the other rows let expect; 3600 means Wh for J"
        )
