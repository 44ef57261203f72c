"""Rows beside what a predictor says of them, each marked with whether it was learned from.

Owns that mark. Leaves out, by reason, what the predictor cannot be asked about. Learns nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from campaign.analysis.own import described
from campaign.analysis.predictor.crossing import PHYSICS
from campaign.analysis.predictor.dataset import Inputs, inputs_of
from campaign.analysis.predictor.point import energy_j
from campaign.analysis.predictor.saved import Predictor
from campaign.analysis.predictor.seen import digests
from campaign.analysis.predictor.told import WORDS
from campaign.analysis.rows import catalogue_names
from campaign.catalogue.catalog import Catalog
from db.errors import ConfigError

Row = Mapping[str, Any]

#: What a row is that the predictor learned from; what others are is said by their interval.
LEARNED = "in its training set"
#: What a row can be to a predictor, the best known first.
SEEN = (LEARNED, *WORDS.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One row: joules per output token measured and predicted, and whether it was learned from.

    `factor` is half of the interval's width either way; `outside` says that a feature lies outside
    the training range.
    """

    name: str
    measured_j: float
    predicted_j: float
    factor: float
    seen: str
    outside: bool

    @property
    def error(self) -> float:
        """How far off it is, as a share of what was measured."""
        return abs(self.predicted_j / self.measured_j - 1)

    @property
    def held(self) -> bool:
        """Whether the interval holds what was measured."""
        return 1 / self.factor <= self.predicted_j / self.measured_j <= self.factor


def compared(
    rows: Sequence[Row], predictor: Predictor, catalog: Catalog
) -> tuple[list[Compared], Counter[str]]:
    """Return every row that it can be asked about, and how many it cannot, by reason."""
    names = catalogue_names([row["model"] for row in rows], catalog)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in described(map(dict, rows)):
        told = {**row, "catalogue_model": names.get(row["model"])}
        if energy_j(told):
            groups.setdefault((row["model"], row["board"]), []).append(told)
    found: list[Compared] = []
    left_out: Counter[str] = Counter()
    for group in groups.values():
        try:
            inputs = inputs_of(group, catalog, range(1, len(group) + 1))
        except ConfigError as error:
            left_out[str(error).partition(": ")[2]] += len(group)
        else:
            found += _asked(group, inputs, predictor)
    return found, left_out


def _asked(rows: Sequence[Row], inputs: Inputs, predictor: Predictor) -> Iterator[Compared]:
    predicted = predictor.predict(inputs, PHYSICS)
    for at, (row, digest) in enumerate(zip(rows, digests(inputs.features), strict=True)):
        point = inputs.points[at]
        kind, around, lacking = predictor.around(point, PHYSICS)
        learned = predictor.learned is not None and digest in predictor.learned
        outside = predictor.ranges.outside(inputs.features[at].tolist(), point)
        yield Compared(
            name=f"{row['model']} on {row['board']}, {row['workload']}",
            measured_j=energy_j(row) or 0.0, predicted_j=float(predicted[at]),
            factor=around.factor, seen=LEARNED if learned else WORDS[(*lacking, kind)[0]],
            outside=bool(outside),
        )  # fmt: skip
