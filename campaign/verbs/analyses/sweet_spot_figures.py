"""The heat maps of sweet spots as files, as the report draws them.

Owns their names and titles. Draws nothing by itself.
"""

from __future__ import annotations

import re
from pathlib import Path

from campaign.analysis.sweet_spots.spot import SweetSpots
from campaign.verbs.analyses.written import write_bytes

CAPTION = [
    "Joules per output token. Ring: best output length of the six-term form, 95 % interval;",
    "diamond: outside of what was measured.",
]
#: Beyond this a label is cut in a file's name.
LONGEST = 80


def draw(found: SweetSpots, folder: Path) -> list[Path]:
    """Write a heat map of every set-up and batch, SVG and PNG; return the files. ConfigError."""
    from campaign.report import length_chart, vega

    made = []
    for number, spot in enumerate(found.spots, 1):
        reality = f" ({spot.setup.reality})" if spot.setup.reality else ""
        title = {"text": f"{spot.label}{reality}", "subtitle": CAPTION, "anchor": "start"}
        spec, rows = {**length_chart.heat(spot), "title": title}, length_chart.rows(spot)
        word = re.sub(r"[^A-Za-z0-9.]+", "-", spot.label).strip("-.")[:LONGEST]
        for ending, content in (
            ("svg", vega.svg(spec, rows).encode()), ("png", vega.png(spec, rows)),
        ):  # fmt: skip
            path = folder / f"{number:02d}-{word}.{ending}"
            write_bytes(path, content)
            made.append(path)
    return made
