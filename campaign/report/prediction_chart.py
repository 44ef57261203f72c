"""Predicted against measured joules per output token, both logarithmic, with the interval's band.

Owns how many marks there are: rows that lie close together share one. Never predicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from campaign.report.compared import SEEN, Compared
from campaign.report.points import MOST_POINTS, Point
from campaign.report.specs import PALETTE, Spec, chart, dots, scaled
from campaign.tabular import count_of

#: Squares of a decade that crowded rows are gathered in.
SQUARES = 12
MEASURED, PREDICTED = "measured (J per output token)", "predicted (J per output token)"
#: Grey is what was learned from.
COLOURS = dict(zip(SEEN, (PALETTE[7], *PALETTE[:4]), strict=True))


def rows(compared: Sequence[Compared], kind: str) -> list[Point]:
    """Return a mark a row; where they are too many, the median of those close together."""
    apart = len(compared) <= MOST_POINTS
    groups: dict[tuple[object, ...], list[Compared]] = {}
    for number, one in enumerate(compared):
        square = (_square(one.measured_j), _square(one.predicted_j))
        groups.setdefault((one.seen, number) if apart else (one.seen, *square), []).append(one)
    return [_point(group, kind) for group in groups.values()]


def _square(joules: float) -> int:
    return math.floor(math.log10(joules) * SQUARES)


def _point(group: Sequence[Compared], kind: str) -> Point:
    measured = median(one.measured_j for one in group)
    predicted = median(one.predicted_j for one in group)
    factor, first = median(one.factor for one in group), group[0]
    name = first.name if len(group) == 1 else f"{count_of(len(group), 'row')}, medians"
    outside = ", outside its training range" if any(one.outside for one in group) else ""
    return {
        "m": float(f"{measured:.4g}"), "p": float(f"{predicted:.4g}"), "seen": first.seen,
        "kind": kind, "rows": len(group),
        "low": float(f"{predicted / factor:.4g}"), "high": float(f"{predicted * factor:.4g}"),
        "told": f"{name}: {kind} {measured:.4g} J per output token, predicted {predicted:.4g} J, "
                f"interval {predicted / factor:.3g} to {predicted * factor:.3g}; "
                f"{first.seen}{outside}",
    }  # fmt: skip


def spec(drawn: Sequence[Point]) -> Spec:
    """Return the chart: marks with their intervals, and the line on which both agree."""
    ends = [float(str(point[name])) for point in drawn for name in ("m", "p")]
    low, high = min(ends) / 1.3, max(ends) * 1.3
    x = _axis(scaled("m", MEASURED, log=True), low, high)
    y = _axis(scaled("p", PREDICTED, log=True), low, high)
    seen = [word for word in SEEN if any(point["seen"] == word for point in drawn)]
    scale: Spec = {"domain": seen, "range": [COLOURS[word] for word in seen]}
    colour: Spec = {"field": "seen", "type": "nominal", "title": None, "sort": seen, "scale": scale}
    interval: Spec = {
        "mark": {"type": "rule", "clip": True, "opacity": 0.3, "aria": False},
        "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colour},
    }
    agree: Spec = {
        "data": {"values": [{"m": end, "p": end} for end in (low, high)]},
        "mark": {"type": "line", "strokeDash": [4, 4], "color": "#888", "aria": False},
        "encoding": {"x": x, "y": y},
    }
    marks = dots({"x": x, "y": y}, colour, size=44, opacity=0.8)
    return chart([agree, interval, *marks], (), height=420)


def _axis(encoding: Spec, low: float, high: float) -> Spec:
    return {**encoding, "scale": {"type": "log", "nice": False, "domain": [low, high]}}
