"""The charts as Vega-Lite: what is drawn against what, with which interval and scale.

Owns the look of a chart. Every chart takes the points of points.py by the name `points`; medians
are computed by Vega, on the page and for figures alike. Never chooses rows.
"""

from __future__ import annotations

from collections.abc import Sequence

Spec = dict[str, object]

#: Okabe and Ito's colours, in an order that also works on a dark page; grey is what is left over.
PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#8A8F98",
)  # fmt: skip
#: Phases: prefill, mixed, decode.
PHASES = ("#E69F00", "#8A8F98", "#0072B2")
SOLID = "datum.kind == 'measured'"
#: Lines are dashed but where they were measured.
DASH = {"condition": {"test": SOLID, "value": [1, 0]}, "value": [5, 4]}
#: Marks of what was not measured here: a square where others did, a diamond where nobody did.
HOLLOW = {
    "square": "datum.kind == 'external'",
    "diamond": "datum.kind != 'measured' && datum.kind != 'external'",
}
ENERGY = "energy per output token (J)"

#: A power of ten, or zero: its line of the grid is the stronger one.
ROUND = "datum.value <= 0 || abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6"

#: So many values can stand on an axis themselves.
MOST_TICKS = 12

CONFIG: Spec = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
             "labelLimit": 190, "titlePadding": 8, "gridColor": "#8884", "domainColor": "#888",
             "tickColor": "#888", "labelOverlap": True},
    "axisQuantitative": {"gridOpacity": {"condition": {"test": ROUND, "value": 1}, "value": 0.3}},
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
               "orient": "top", "labelLimit": 170, "columns": 3, "symbolType": "circle",
               "symbolStrokeWidth": 2, "symbolSize": 70},
    "point": {"size": 60, "strokeWidth": 1.8},
    "rule": {"strokeWidth": 1.4},
    "line": {"strokeWidth": 1.8},
}  # fmt: skip


def chart(
    layers: Sequence[Spec], transform: Sequence[Spec], *, height: object, **more: object
) -> Spec:
    """Return a chart of layers over the points."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"name": "points"},
        "width": 640,
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": CONFIG,
        "transform": list(transform),
        "layer": list(layers),
        **more,
    }


def medians(field: str, by: Sequence[str], where: str = "true") -> list[Spec]:
    """Return the transform to the median of a field by group.

    `low` and `high` are the interval of a row that stands alone, else the quartiles; `first` and
    `last` number the rows of a group.
    """
    return [
        {"filter": f"isValid(datum.{field}) && ({where})"},
        {"calculate": f"isValid(datum.hw) ? max(datum.{field} - datum.hw, datum.{field} / 100)"
                      " : null", "as": "lo"},
        {"calculate": f"isValid(datum.hw) ? datum.{field} + datum.hw : null", "as": "hi"},
        {"aggregate": [
            {"op": "median", "field": field, "as": "value"},
            {"op": "q1", "field": field, "as": "q1"},
            {"op": "q3", "field": field, "as": "q3"},
            {"op": "max", "field": "lo", "as": "lo"},
            {"op": "max", "field": "hi", "as": "hi"},
            {"op": "count", "as": "rows"},
            {"op": "min", "field": "i", "as": "first"},
            {"op": "max", "field": "i", "as": "last"},
         ], "groupby": list(by)},
        {"calculate": "datum.rows == 1 ? datum.lo : datum.q1", "as": "low"},
        {"calculate": "datum.rows == 1 ? datum.hi : datum.q3", "as": "high"},
    ]  # fmt: skip


def known(*fields: str) -> str:
    """Return the test that a row says something of these fields; imported ones may not."""
    return " && ".join(f"isValid(datum.{field}) && datum.{field} !== ''" for field in fields)


def scaled(field: str, title: str, *, log: bool, **more: object) -> Spec:
    """Return a quantitative encoding; logarithmic where decades are spanned."""
    scale: Spec = {"type": "log", "nice": False, "padding": 8} if log else {"zero": True}
    # On a linear axis that format would write 10 as 1e+1.
    axis: Spec = {"tickCount": 6, "format": "~g"} if log else {"tickCount": 6}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis,
            **more}  # fmt: skip


def sizes(batches: Sequence[float]) -> Spec:
    """Return the encoding of the batch size; where they are few, those that occur on its axis."""
    axis: Spec = {"format": "~g", "grid": False}
    axis |= {"values": list(batches)} if len(batches) <= MOST_TICKS else {"tickCount": 8}
    return {"field": "batch", "type": "quantitative", "title": "batch size", "axis": axis,
            "scale": {"type": "log", "base": 2, "padding": 12}}  # fmt: skip


def plain(colour: str) -> Spec:
    """Return the encoding of one colour for all."""
    return {"value": colour}


def series(title: str) -> Spec:
    """Return the encoding of the colour."""
    return {"field": "series", "type": "nominal", "title": title,
            "scale": {"range": list(PALETTE)}}  # fmt: skip


def dots(encoding: Spec, colour: Spec, **mark: object) -> list[Spec]:
    """Return points: filled where they were measured, hollow where others did or nobody."""
    told = {"type": "point", "tooltip": {"content": "data"}, **mark}
    marks: list[tuple[str, Spec]] = [(SOLID, {"filled": True})]
    marks += [(test, {"filled": False, "shape": shape}) for shape, test in HOLLOW.items()]
    return [
        {"transform": [{"filter": test}], "mark": {**told, **form},
         "encoding": {**encoding, "color": colour}}
        for test, form in marks
    ]  # fmt: skip


def rules(axis: str, other: Spec, colour: Spec, title: str, *, log: bool) -> Spec:
    """Return the intervals along an axis, where there are any."""
    across = "y" if axis == "x" else "x"
    return {
        "transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}],
        "mark": {"type": "rule", "aria": False},
        "encoding": {axis: scaled("low", title, log=log), f"{axis}2": {"field": "high"},
                     across: other, "color": colour},
    }  # fmt: skip
