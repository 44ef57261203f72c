"""The names of boards: NVML's product names, the catalogue's slugs, and the label of a node.

Owns the reading of those names from the shipped catalogue, which lies beside this package on
every node. Never asks NVML, and guesses no name.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import cache
from pathlib import Path

CATALOG = Path(__file__).resolve().parent.parent / "conf" / "catalog" / "boards.csv"

#: The node label that names the boards of a node, set when the node starts.
BOARD_LABEL = "campaign/board"
#: Characters that a Ray label value holds at most.
LABEL_CHARACTERS = 63


@cache
def catalog_slugs() -> dict[str, str]:
    """Return the slug of every product the shipped catalogue lists, by its exact NVML name."""
    with CATALOG.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {row["nvml_name"]: row["slug"] for row in rows if row["nvml_name"]}


def label_value(slug: str) -> str:
    """Return a slug as the value of a Ray label, which admits letters, digits and ``-_.``."""
    return slug.replace(":", ".")[:LABEL_CHARACTERS].strip("-_.")


def slug_of_label(value: str, slugs: Iterable[str]) -> str | None:
    """Return the slug whose label this is, among those that are known; None if it is none."""
    return {label_value(slug): slug for slug in slugs}.get(value)
