"""Charts beside the energy per token: phases, idle power, latency, sessions, traces, coverage.

Owns what is drawn against what. Never chooses rows; the parts of a chart are in specs.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from campaign.report.specs import (
    DASH,
    ENERGY,
    PALETTE,
    PHASES,
    Spec,
    chart,
    dots,
    medians,
    plain,
    rules,
    scaled,
    series,
    sizes,
)

#: States of a point, in the order in which they are stacked, with their colours.
STATES = {"done": "#009E73", "leased": "#56B4E9", "pending": "#C9CDD3", "quarantined": "#D55E00",
          "excluded": "#8A8F98"}  # fmt: skip
SHARES = {"pf_share": "prefill", "mx_share": "mixed", "de_share": "decode"}
TOKENS = {"pf": "prefill, per prompt token", "de": "decode, per generated token"}


def phase_share() -> Spec:
    """Return which share of the energy went into prefill and decode, by batch size."""
    named = " : ".join(f"datum.key == '{key}' ? '{name}'" for key, name in SHARES.items())
    transform: list[Spec] = [
        {"filter": " && ".join(f"isValid(datum.{key})" for key in SHARES)},
        {"fold": list(SHARES)},
        {"calculate": f"{named} : ''", "as": "phase"},
        {"aggregate": [{"op": "mean", "field": "value", "as": "value"},
                       {"op": "count", "as": "rows"}, {"op": "min", "field": "i", "as": "first"},
                       {"op": "max", "field": "i", "as": "last"}],
         "groupby": ["batch", "phase"]},
    ]  # fmt: skip
    layer: Spec = {
        "mark": {"type": "bar", "tooltip": {"content": "data"}},
        "encoding": {
            "x": {"field": "batch", "type": "ordinal", "title": "batch size",
                  "axis": {"labelAngle": 0}},
            "y": {"field": "value", "type": "quantitative", "title": "share of the energy",
                  "stack": "normalize", "axis": {"format": ".0%"}},
            "color": _phases(list(SHARES.values()), PHASES),
        },
    }  # fmt: skip
    return chart([layer], transform, height=260)


def phase_tokens(batches: Sequence[float], *, log: bool) -> Spec:
    """Return joules per token of prefill and of decode against the batch size."""
    named = " : ".join(f"datum.key == '{key}' ? '{name}'" for key, name in TOKENS.items())
    transform: list[Spec] = [
        {"fold": list(TOKENS)},
        {"calculate": f"{named} : ''", "as": "phase"},
        {"filter": "isValid(datum.value)"},
        {"calculate": "datum.value", "as": "joules"},
        {"calculate": "null", "as": "hw"},
        *medians("joules", ("phase", "batch", "kind")),
    ]
    x = sizes(batches)
    y = scaled("value", "energy per token (J)", log=log)
    colour = _phases(list(TOKENS.values()), (PHASES[0], PHASES[2]))
    line: Spec = {"mark": {"type": "line", "aria": False},
                  "encoding": {"x": x, "y": y, "color": colour}}  # fmt: skip
    return chart([line, *dots({"x": x, "y": y}, colour)], transform, height=260)


def _phases(names: Sequence[str], colours: Sequence[str]) -> Spec:
    return {"field": "phase", "type": "nominal", "title": None, "sort": list(names),
            "scale": {"domain": list(names), "range": list(colours)}}  # fmt: skip


def net(*, log: bool) -> Spec:
    """Return gross and net joules per output token by board, medians over the same rows.

    Net energy can be zero or less; a logarithmic axis has no place for it.
    """
    y: Spec = {"field": "board", "type": "nominal", "title": None,
               "axis": {"grid": True, "gridDash": [1, 3]}}  # fmt: skip
    transform: list[Spec] = [
        {"filter": "isValid(datum.j) && isValid(datum.net)"},
        {"aggregate": [{"op": "median", "field": "j", "as": "value"},
                       {"op": "median", "field": "net", "as": "net"},
                       {"op": "count", "as": "rows"}, {"op": "min", "field": "i", "as": "first"},
                       {"op": "max", "field": "i", "as": "last"}],
         "groupby": ["board", "kind"]},
    ]  # fmt: skip
    x, colour = scaled("value", ENERGY, log=log), plain(PALETTE[0])
    below: Spec = {**x, "field": "net"}
    placed: list[Spec] = [{"filter": "datum.net > 0"}] if log else []
    layers: list[Spec] = [
        {"transform": placed,
         "mark": {"type": "rule", "aria": False, "strokeWidth": 3, "opacity": 0.35},
         "encoding": {"x": x, "x2": {"field": "net"}, "y": y, "color": colour}},
        {"transform": placed,
         "mark": {"type": "tick", "thickness": 3, "tooltip": {"content": "data"}},
         "encoding": {"x": below, "y": y, "color": {"value": PALETTE[1]}}},
        *dots({"x": x, "y": y}, colour, size=90),
    ]  # fmt: skip
    return chart(layers, transform, height={"step": 28})


def latency(colour: str, *, log: bool, log_latency: bool) -> Spec:
    """Return joules per output token against latency, with the Pareto front of each colour."""
    transform: list[Spec] = [
        {"filter": "isValid(datum.j) && isValid(datum.itl) && datum.itl > 0"},
        {"aggregate": [{"op": "median", "field": "j", "as": "value"},
                       {"op": "median", "field": "itl", "as": "itl"},
                       {"op": "count", "as": "rows"}, {"op": "min", "field": "i", "as": "first"},
                       {"op": "max", "field": "i", "as": "last"}],
         "groupby": ["point", "series", "kind"]},
        {"calculate": "datum.itl * 1000", "as": "itl_ms"},
    ]  # fmt: skip
    order: Spec = {"sort": [{"field": "itl_ms"}, {"field": "value"}],
                   "groupby": ["series", "kind"]}  # fmt: skip
    front: list[Spec] = [
        {"window": [{"op": "min", "field": "value", "as": "best"}], "frame": [None, 0], **order},
        {"window": [{"op": "lag", "field": "best", "as": "before"}], **order},
        {"filter": "!isValid(datum.before) || datum.value < datum.before"},
    ]
    x = scaled("itl_ms", "time between tokens (ms)", log=log_latency)
    y, shade = scaled("value", ENERGY, log=log), series(colour)
    line: Spec = {
        "transform": front,
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2.5, "aria": False},
        "encoding": {"x": x, "y": y, "color": shade, "detail": {"field": "kind"},
                     "order": {"field": "itl_ms"}, "strokeDash": DASH},
    }  # fmt: skip
    return chart(
        [line, *dots({"x": x, "y": y}, shade, size=36, opacity=0.65)], transform, height=380
    )


def spread(colour: str) -> Spec:
    """Return the deviation between sessions against the half-width within one, both in percent."""
    transform: list[Spec] = [
        {"filter": "datum.between > 0 && datum.within > 0"},
        {"calculate": "datum.between * 100", "as": "value"},
        {"calculate": "datum.within * 100", "as": "width"},
        {"calculate": "1", "as": "rows"},
        {"calculate": "datum.i", "as": "first"},
        {"calculate": "datum.i", "as": "last"},
    ]
    x = scaled("width", "half-width within one session (%)", log=True)
    y = scaled("value", "standard deviation between sessions (%)", log=True)
    ends: list[Spec] = [
        {"aggregate": [{"op": "min", "field": "width", "as": "from"},
                       {"op": "max", "field": "width", "as": "to"}]},
        {"fold": ["from", "to"], "as": ["end", "same"]},
    ]  # fmt: skip
    equal: Spec = {
        "transform": ends,
        "mark": {"type": "line", "strokeDash": [4, 4], "color": "#888", "aria": False},
        "encoding": {"x": {**x, "field": "same"}, "y": {**y, "field": "same"}},
    }
    return chart(
        [equal, *dots({"x": x, "y": y}, series(colour), opacity=0.7)], transform, height=300
    )


def ratios(*, log: bool) -> Spec:
    """Return the ratios of like for like with their intervals; 1 is no change."""
    y: Spec = {"field": "what", "type": "nominal", "title": None, "sort": None,
               "axis": {"labelLimit": 300, "grid": True, "gridDash": [1, 3]}}  # fmt: skip
    title = "energy per output token, times"
    x, colour = scaled("value", title, log=log), plain(PALETTE[0])
    one: Spec = {
        "data": {"values": [{"one": 1}]},
        "mark": {"type": "rule", "strokeDash": [4, 4], "color": "#888", "aria": False},
        "encoding": {"x": {**x, "field": "one"}},
    }
    layers = [one, rules("x", y, colour, title, log=log),
              *dots({"x": x, "y": y}, colour, size=80)]  # fmt: skip
    return chart(layers, (), height={"step": 26})


def traces() -> Spec:
    """Return the power samples of windows against time, with the enforced limit."""
    x: Spec = {"field": "s", "type": "quantitative", "title": "time in the window (s)"}
    y: Spec = {"field": "w", "type": "quantitative", "title": "power of a GPU (W)",
               "scale": {"zero": True}}  # fmt: skip
    shade = {**series("window of"), "legend": {"columns": 1, "labelLimit": 620}}
    layers: list[Spec] = [
        {"mark": {"type": "line", "strokeWidth": 1.2},
         "encoding": {"x": x, "y": y, "color": shade, "detail": {"field": "gpu"},
                      "strokeDash": DASH}},
        {"transform": [{"filter": "isValid(datum.limit)"},
                       {"aggregate": [{"op": "max", "field": "limit", "as": "limit"}],
                        "groupby": ["series"]}],
         "mark": {"type": "rule", "strokeDash": [2, 4]},
         "encoding": {"y": {"field": "limit", "type": "quantitative"}, "color": shade}},
    ]  # fmt: skip
    return chart(layers, (), height=300)


def coverage() -> Spec:
    """Return the points of each board by their state."""
    layer: Spec = {
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "y": {"field": "board", "type": "nominal", "title": None},
            "x": {"field": "points", "type": "quantitative", "title": "points", "stack": "zero",
                  "axis": {"format": ",d", "tickCount": 5, "tickMinStep": 1,
                           "labelExpr": "datum.value % 1 ? '' : datum.label"}},
            "color": {"field": "state", "type": "nominal", "title": None, "sort": list(STATES),
                      "scale": {"domain": list(STATES), "range": list(STATES.values())}},
            "order": {"field": "order"},
        },
    }  # fmt: skip
    return chart([layer], (), height={"step": 26})
