"""Like for like: what one axis does to the joules per output token, all else being equal.

Owns the pairs, the ratio and its interval. Rows are paired only where they differ in nothing but
the axis; what has no such pair gets no ratio. Where several rows could be one of a pair, none is
chosen. Works on the cells of one kind.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from campaign.catalogue.ablations import base_of
from campaign.report.axes import COLUMNS, Axis, axes
from campaign.report.cells import Cell
from workers.student import student

#: With so many models an interval over them says what another model would do.
MODELS_FOR_INTERVAL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """The ratio of joules per output token, `to` over `base`, all else being equal.

    Numbers are compared at the ends of what was measured; `doublings` lie between them. `low` and
    `high` are its 95 % interval over models where there are `MODELS_FOR_INTERVAL` (`over_models`);
    else the extremes of the pairs with the intervals of their rows, None where a row has none.
    """

    axis: Axis
    base: float | str
    to: float | str
    ratio: float
    low: float | None
    high: float | None
    over_models: bool
    pairs: int
    models: int
    doublings: float | None

    @property
    def certain(self) -> bool:
        """Whether the interval lies on one side of 1."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high

    @property
    def weight(self) -> float:
        """How much it changes at the least, as a logarithm."""
        if self.low is None or self.high is None or not self.certain:
            return 0.0
        return min(abs(math.log(self.low)), abs(math.log(self.high)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two rows that differ in one thing: the logarithm of their ratio, NaN width if unknown."""

    model: str
    log_ratio: float
    half_width: float


def contrasts(cells: Iterable[Cell]) -> tuple[list[Contrast], dict[str, int]]:
    """Return what every axis does, the largest change that is certain first.

    And, by axis, how many cells are in no pair because several have the same place in it.
    """
    usable = [cell for cell in cells if cell.joules]
    found: list[Contrast] = []
    unclear: dict[str, int] = {}
    for axis in axes(usable):
        groups, left_out = _matched(axis, usable)
        found += _along(axis, groups)
        unclear |= {axis.name: left_out} if left_out else {}
    return sorted(found, key=lambda one: (-one.weight, one.axis.name, str(one.to))), unclear


def _matched(axis: Axis, cells: Sequence[Cell]) -> tuple[list[Mapping[float | str, Cell]], int]:
    """Return groups of cells that differ in one axis, and how many were not alone with a value."""
    matched: dict[tuple[str, ...], dict[float | str, list[Cell]]] = defaultdict(dict)
    rest = [name for name in COLUMNS if name not in axis.columns]
    for cell in cells:
        group = matched[tuple(str(cell.row[name]) for name in rest)]
        group.setdefault(axis.value(cell), []).append(cell)
    compared = [group for group in matched.values() if len(group) > 1]
    single = [{value: some[0] for value, some in group.items() if len(some) == 1}
              for group in compared]  # fmt: skip
    left_out = sum(len(some) for group in compared for some in group.values() if len(some) > 1)
    return [group for group in single if len(group) > 1], left_out


def _along(axis: Axis, groups: Sequence[Mapping[float | str, Cell]]) -> Iterator[Contrast]:
    """Yield the contrasts of one axis: end against end of numbers, all against the commonest."""
    if not groups:
        return
    if isinstance(next(iter(groups[0])), float):
        yield _numeric(axis, groups)
        return
    seen = Counter(value for group in groups for value in group)
    base = min(seen, key=lambda value: (-seen[value], str(value)))
    for to in sorted((value for value in seen if value != base), key=str):
        pairs = [_pair(group[base], group[to]) for group in groups if {base, to} <= group.keys()]
        if pairs:
            yield _contrast(axis, base, to, pairs, None)


def _numeric(axis: Axis, groups: Sequence[Mapping[float | str, Cell]]) -> Contrast:
    """Return the contrast between the commonest ends; other spans count by their doublings."""
    ends = [(min(map(float, group)), max(map(float, group))) for group in groups]
    spans = Counter(ends)
    base, to = max(spans, key=lambda span: (spans[span], _doublings(*span)))
    wanted = _doublings(base, to)
    pairs = [
        _pair(group[first], group[last], wanted / _doublings(first, last))
        for group, (first, last) in zip(groups, ends, strict=True)
    ]
    return _contrast(axis, base, to, pairs, wanted)


def _doublings(low: float, high: float) -> float:
    return math.log2(high / low)


def _pair(base: Cell, to: Cell, stretch: float = 1.0) -> Pair:
    """Return the logarithm of a ratio, with what the intervals of both rows leave open."""
    ratio, open_ = 0.0, 0.0
    for cell, sign in ((base, -1), (to, 1)):
        joules = cell.joules or math.nan
        ratio += sign * math.log(joules)
        width = math.nan if cell.interval is None else cell.interval.half_width
        open_ = math.hypot(open_, width / joules)
    # A model with one value changed, or with other weights, is no further model.
    model = base_of(str(base.row["model"]))
    return Pair(model=model, log_ratio=ratio * stretch, half_width=open_ * stretch)


def _contrast(
    axis: Axis,
    base: float | str,
    to: float | str,
    pairs: Sequence[Pair],
    doublings: float | None,
) -> Contrast:
    """Return a contrast; pairs of one model are no independent witnesses, so models are."""
    by_model: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        by_model[pair.model].append(pair.log_ratio)
    means = [statistics.fmean(values) for values in by_model.values()]
    centre = statistics.fmean(means)
    over_models = len(means) >= MODELS_FOR_INTERVAL
    if over_models:
        width = student(len(means) - 1) * statistics.stdev(means) / math.sqrt(len(means))
        low, high = centre - width, centre + width
    else:
        low = min(pair.log_ratio - pair.half_width for pair in pairs)
        high = max(pair.log_ratio + pair.half_width for pair in pairs)
    known = over_models or not any(math.isnan(pair.half_width) for pair in pairs)
    return Contrast(
        axis=axis,
        base=base,
        to=to,
        ratio=math.exp(centre),
        low=math.exp(low) if known else None,
        high=math.exp(high) if known else None,
        over_models=over_models,
        pairs=len(pairs),
        models=len(means),
        doublings=doublings,
    )
