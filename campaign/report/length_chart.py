"""The heat map of one sweet spot: joules per output token over both lengths, the optimum on it.

Owns where a length stands: each that was measured has a cell, all are of one size, and what lies
between two of them is placed by its logarithm. Never fits.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from campaign.analysis.sweet_spots.optimum import Optimum
from campaign.analysis.sweet_spots.spot import SweetSpot
from campaign.report.points import Point, spanned
from campaign.report.specs import ENERGY, Spec, chart

#: Beyond so many cells in a line their numbers would overlap.
MOST_WRITTEN = 9
CELL, BEST = "cell", "best"
HEIGHT_OF_ROW = 44
#: A mark that is seen on dark and light cells alike: white with a dark rim.
RIM = {"stroke": "#111", "strokeWidth": 1.6}


def rows(spot: SweetSpot) -> list[Point]:
    """Return the cells of the grid, and the optimum of each input length."""
    inputs, outputs = _lengths(spot)
    return [
        *_cells(spot, inputs, outputs),
        *(_best(one, inputs, outputs) for one in spot.per_output_token),
    ]


def heat(spot: SweetSpot) -> Spec:
    """Return the heat map: input length upwards, output length to the right."""
    inputs, outputs = _lengths(spot)
    x = _axis("x", "output length (tokens)", outputs)
    y = _axis("y", "input length (tokens)", inputs)
    log = spanned(cell.joules_per_output_token for cell in spot.cells)
    layers = [_tiles(x, y, log=log)]
    if len(outputs) <= MOST_WRITTEN:
        layers.append(_numbers(x, y, log=log))
    return chart([*layers, *_optima(x, y)], (), height=HEIGHT_OF_ROW * len(inputs))


def _lengths(spot: SweetSpot) -> tuple[list[float], list[float]]:
    """Return the input and the output lengths that were measured, in their order."""
    inputs = sorted({cell.input_tokens for cell in spot.cells})
    return inputs, sorted({cell.output_tokens for cell in spot.cells})


def _axis(field: str, title: str, lengths: Sequence[float]) -> Spec:
    names = ", ".join(f"'{length:g}'" for length in lengths)
    return {"field": field, "type": "quantitative", "title": title,
            "scale": {"domain": [-0.5, len(lengths) - 0.5], "nice": False, "zero": False},
            "axis": {"values": list(range(len(lengths))), "grid": False, "ticks": False,
                     "labelExpr": f"[{names}][datum.value]"}}  # fmt: skip


def _tiles(x: Spec, y: Spec, *, log: bool) -> Spec:
    scale = {"scheme": "cividis", "type": "log" if log else "linear", "reverse": True}
    colour: Spec = {"field": "j", "type": "quantitative", "title": ENERGY, "scale": scale,
                    "legend": {"format": "~g", "gradientLength": 200, "tickCount": 4}}  # fmt: skip
    return {
        "transform": [
            {"filter": f"datum.what == '{CELL}'"},
            *({"calculate": f"datum.{axis} {sign} 0.5", "as": f"{axis}_{end}"}
              for axis in "xy" for end, sign in (("low", "-"), ("high", "+"))),
        ],
        "mark": {"type": "rect", "tooltip": {"content": "data"}},
        "encoding": {"x": {**x, "field": "x_low"}, "x2": {"field": "x_high"},
                     "y": {**y, "field": "y_low"}, "y2": {"field": "y_high"}, "color": colour},
    }  # fmt: skip


def _numbers(x: Spec, y: Spec, *, log: bool) -> Spec:
    middle = "sqrt(datum.least * datum.most)" if log else "(datum.least + datum.most) / 2"
    ends: list[Spec] = [
        {"filter": f"datum.what == '{CELL}'"},
        {"joinaggregate": [{"op": "min", "field": "j", "as": "least"},
                           {"op": "max", "field": "j", "as": "most"}]},
    ]  # fmt: skip
    ink = {"condition": {"test": f"datum.j > {middle}", "value": "#fff"}, "value": "#111"}
    return {
        "transform": ends,
        "mark": {"type": "text", "fontSize": 11, "dy": 13, "aria": False, "style": "cell"},
        "encoding": {"x": x, "y": y, "text": {"field": "j", "format": ".2~g"}, "color": ink},
    }


def _optima(x: Spec, y: Spec) -> Iterator[Spec]:
    """Yield the interval twice, a pale one below, so that it is seen on every colour; its point."""
    within: Spec = {"x": {**x, "field": "x_low"}, "x2": {"field": "x_high"}, "y": y}
    for colour, width in (("#fff", 4.5), ("#111", 1.8)):
        yield {
            "transform": [{"filter": f"datum.what == '{BEST}' && datum.low < datum.high"}],
            "mark": {"type": "rule", "color": colour, "strokeWidth": width, "aria": False},
            "encoding": within,
        }
    for test, shape, size in (("==", "circle", 75), ("!=", "diamond", 90)):
        yield {
            "transform": [{"filter": f"datum.what == '{BEST}' && datum.where {test} 'inside'"}],
            "mark": {"type": "point", "filled": True, "color": "#fff", "opacity": 1,
                     "shape": shape, "size": size, "tooltip": {"content": "data"}, **RIM},
            "encoding": {"x": x, "y": y},
        }  # fmt: skip


def _cells(spot: SweetSpot, inputs: Sequence[float], outputs: Sequence[float]) -> Iterator[Point]:
    for cell in spot.cells:
        each, fitted = cell.joules_per_output_token, cell.fitted_energy_j / cell.output_tokens
        yield {
            "what": CELL, "in": cell.input_tokens, "out": cell.output_tokens, "j": each,
            "x": outputs.index(cell.output_tokens), "y": inputs.index(cell.input_tokens),
            "told": f"{cell.input_tokens:g} → {cell.output_tokens:g} tokens: {each:.4g} J per "
                    f"output token, mean of {cell.rows}; fitted {fitted:.4g} J",
        }  # fmt: skip


def _best(one: Optimum, inputs: Sequence[float], outputs: Sequence[float]) -> Point:
    where = "" if one.where == "inside" else f", {one.where} what was measured"
    return {
        "what": BEST, "in": one.input_tokens, "out": one.output_tokens, "low": one.low,
        "high": one.high, "where": one.where,
        "x": _place(one.output_tokens, outputs), "y": inputs.index(one.input_tokens),
        "x_low": _place(one.low, outputs), "x_high": _place(one.high, outputs),
        "told": f"{one.input_tokens:g} input tokens: least energy per output token at "
                f"{one.output_tokens:.0f}, 95 % interval {one.low:.0f} to {one.high:.0f}{where}",
    }  # fmt: skip


def _place(length: float, lengths: Sequence[float]) -> float:
    """Return where a length stands among those measured, by its logarithm between two of them."""
    below = min(max(bisect_right(lengths, length) - 1, 0), len(lengths) - 2)
    low, high = lengths[below], lengths[below + 1]
    return below + math.log(length / low) / math.log(high / low)
