"""Charts of joules per output token: against batch size, lengths, and what an engine runs on.

Owns what is drawn against what. Never chooses rows; the parts of a chart are in specs.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from campaign.report.specs import (
    DASH,
    ENERGY,
    PALETTE,
    Spec,
    chart,
    dots,
    known,
    medians,
    plain,
    rules,
    scaled,
    series,
    sizes,
)


def by_batch(colour: str, batches: Sequence[float], *, log: bool) -> Spec:
    """Return joules per output token against the batch size, a line an engine and workload."""
    x = sizes(batches)
    y, shade = scaled("value", ENERGY, log=log), series(colour)
    line: Spec = {
        "mark": {"type": "line", "opacity": 0.75, "aria": False},
        "encoding": {"x": x, "y": y, "color": shade,
                     "detail": [{"field": "line"}, {"field": "kind"}],
                     "strokeDash": DASH},
    }  # fmt: skip
    layers = [line, rules("y", x, shade, ENERGY, log=log), *dots({"x": x, "y": y}, shade)]
    marks = medians("j", ("series", "line", "kind", "batch"), known("batch"))
    return chart(layers, marks, height=360)


def compared(field: str, *, log: bool) -> Spec:
    """Return the median and quartiles of joules per output token by a field's values."""
    y: Spec = {"field": field, "type": "nominal", "title": None,
               "sort": {"op": "median", "field": "value", "order": "ascending"},
               "axis": {"grid": True, "gridDash": [1, 3]}}  # fmt: skip
    x, shade = scaled("value", ENERGY, log=log), plain(PALETTE[0])
    layers = [rules("x", y, shade, ENERGY, log=log), *dots({"x": x, "y": y}, shade, size=80)]
    return chart(layers, medians("j", (field, "kind"), known(field)), height={"step": 28})


def heat(*, log: bool) -> Spec:
    """Return the median joules per output token by input and output length."""
    x: Spec = {"field": "out_bin", "type": "ordinal", "title": "output length (tokens)",
               "axis": {"labelAngle": 0}}  # fmt: skip
    y: Spec = {"field": "in_bin", "type": "ordinal", "title": "input length (tokens)",
               "sort": "descending"}  # fmt: skip
    scale = {"scheme": "cividis", "type": "log" if log else "linear", "reverse": True}
    colour: Spec = {"field": "value", "type": "quantitative", "title": ENERGY, "scale": scale,
                    "legend": {"format": "~g", "gradientLength": 200, "tickCount": 4}}  # fmt: skip
    ends: list[Spec] = [
        {"joinaggregate": [{"op": "min", "field": "value", "as": "least"},
                           {"op": "max", "field": "value", "as": "most"}]},
    ]  # fmt: skip
    middle = "sqrt(datum.least * datum.most)" if log else "(datum.least + datum.most) / 2"
    ink = {"condition": {"test": f"datum.value > {middle}", "value": "#fff"}, "value": "#111"}
    layers: list[Spec] = [
        {"mark": {"type": "rect", "tooltip": {"content": "data"}},
         "encoding": {"x": x, "y": y, "color": colour}},
        {"mark": {"type": "text", "fontSize": 11, "aria": False, "style": "cell"},
         "encoding": {"x": x, "y": y, "text": {"field": "value", "format": ".2~g"}, "color": ink}},
    ]  # fmt: skip
    cells = medians("j", ("in_bin", "out_bin", "kind"), known("in_bin", "out_bin"))
    return chart(layers, [*cells, *ends], height={"step": 36})
