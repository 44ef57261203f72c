"""The generation of a board, as compute capability: what its tensor cores know how to compute.

Read from the shipped catalogue; of a board that is not in it nothing is known, and nothing is
concluded.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from campaign.catalogue.sheets import rows

TURING = 7.5
AMPERE = 8.0
ADA = 8.9


def capability(slug: str) -> float | None:
    """Return a board's compute capability, such as 8.9; None where it is not known."""
    return _known().get(slug)


@cache
def _known() -> Mapping[str, float]:
    return {
        str(row["slug"]): float(str(row["compute_capability"]))
        for row in rows("boards.csv")
        if row["vendor"] == "NVIDIA"
    }
