"""The adapter of the chart library: charts as SVG and PNG, and as what the page's script draws.

Owns all calls of vl-convert, which carries Vega inside: nothing is fetched. Never chooses rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import cast

from campaign.report.points import Point
from campaign.report.specs import Spec
from db.errors import CampaignError

#: Of a PNG, so that 640 points of width are enough for print.
SCALE = 2.0


@cache
def runtime() -> str:
    """Return Vega as one script that defines `vegaEmbed`; it takes seconds to put together."""
    import vl_convert

    # Of the names that a bundle offers, this one alone is bound to something.
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def licence() -> str:
    """Return who made the script, and its licence."""
    import vl_convert

    return (
        f"Vega {vl_convert.get_vega_version()}, University of Washington Interactive Data Lab and \
contributors, BSD-3-Clause"
    )


def compiled(spec: Spec) -> Spec:
    """Return a chart as Vega, without rows, and without the legends that the page writes itself."""
    import vl_convert

    whole = cast("Spec", vl_convert.vegalite_to_vega(json.dumps(spec)))
    legends = cast("list[Spec]", whole.get("legends", []))
    return {**whole, "legends": [one for one in legends if "gradientLength" in one]}


def svg(spec: Spec, rows: Sequence[Point]) -> str:
    """Return a chart as SVG."""
    import vl_convert

    try:
        return vl_convert.vegalite_to_svg(json.dumps(_with(spec, rows)))
    except ValueError as error:  # what Vega says of a chart
        raise CampaignError(f"a figure could not be drawn: {error}") from error


def png(spec: Spec, rows: Sequence[Point]) -> bytes:
    """Return a chart as PNG on white."""
    import vl_convert

    white = {**_with(spec, rows), "background": "white"}
    try:
        return vl_convert.vegalite_to_png(json.dumps(white), scale=SCALE)
    except ValueError as error:
        raise CampaignError(f"a figure could not be drawn: {error}") from error


def _with(spec: Spec, rows: Sequence[Point]) -> Spec:
    return {**spec, "datasets": {"points": list(rows)}}
