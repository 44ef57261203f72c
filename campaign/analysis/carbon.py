"""Carbon of what was measured: operational, and embodied in the boards, as ranges.

Owns both formulas. Operational: joules x PUE x intensity of the grid. Embodied: the board's
documented footprint, spread over the hours it works in its lifetime, for the hours of the
measurement. A board without a documented footprint has none here, with that reason; nothing is
filled in. CPU, DRAM and network are in neither, except where a footprint says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite

from campaign.catalogue.sheets import rows
from db.errors import ConfigError

J_PER_KWH = 3.6e6
HOURS_PER_YEAR = 8766.0
S_PER_HOUR = 3600.0
G_PER_KG = 1000.0
UNVERIFIED = " (from memory: verify before relying on it)"
NO_FOOTPRINT = "no documented footprint of this board"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """From the least to the most a quantity may be, and who says so."""

    low: float
    high: float
    source: str = ""

    def __mul__(self, other: Range) -> Range:
        """Return the range of a product of two quantities above zero."""
        return Range(low=self.low * other.low, high=self.high * other.high)

    def per(self, other: Range) -> Range:
        """Return the range of a quotient of two quantities above zero."""
        return Range(low=self.low / other.high, high=self.high / other.low)

    def times(self, factor: float) -> Range:
        """Return the range of a multiple."""
        return Range(low=self.low * factor, high=self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What carbon depends on beyond the joules.

    `intensity` in g/kWh of the grid, `pue` of the building, `lifetime` in years, `utilization` as
    the share of its life that a board works, `footprints` in kg a board by its slug.
    """

    intensity: Range
    pue: Range
    lifetime: Range
    utilization: Range
    footprints: Mapping[str, Range]


@dataclass(frozen=True, slots=True, kw_only=True)
class Carbon:
    """Grams of CO2 equivalent; `embodied` is None with a `reason`."""

    operational: Range
    embodied: Range | None
    reason: str | None = None


def documented() -> Assumptions:
    """Return the ranges of the shipped catalogue, conf/catalog/carbon.csv and embodied.csv.

    The source of a figure that nobody has verified says so.
    """
    found = {str(row["quantity"]): _range(row, "low", "high") for row in rows("carbon.csv")}
    boards = {str(row["board"]): _range(row, "low_kg", "high_kg") for row in rows("embodied.csv")}
    return Assumptions(footprints=boards, **found)


def _range(row: Mapping[str, object], low: str, high: str) -> Range:
    source = str(row["source"]) + (UNVERIFIED if row["evidence"] == "memory" else "")
    return Range(low=float(str(row[low])), high=float(str(row[high])), source=source)


def read_range(text: str, option: str, *, least: float = 0.0, most: float | None = None) -> Range:
    """Return ``LOW,HIGH`` or one number as a range. Raises ConfigError."""
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    bound = inf if most is None else most
    fits = all(isfinite(n) and least <= n <= bound for n in numbers)
    if len(numbers) not in (1, 2) or not fits or numbers[0] > numbers[-1]:
        limits = f"from {least:g}" + ("" if most is None else f" to {most:g}")
        raise ConfigError(f"{option} {text}: give LOW,HIGH or one number, {limits}")
    return Range(low=numbers[0], high=numbers[-1], source="given")


def carbon_of(
    energy_j: float, duration_s: float, board: str, boards: int, assumed: Assumptions
) -> Carbon:
    """Return the carbon of joules that boards took in a time of their own."""
    operational = (assumed.intensity * assumed.pue).times(energy_j / J_PER_KWH)
    footprint = assumed.footprints.get(board)
    if footprint is None:
        return Carbon(operational=operational, embodied=None, reason=NO_FOOTPRINT)
    hours = (assumed.lifetime * assumed.utilization).times(HOURS_PER_YEAR)
    used = boards * duration_s / S_PER_HOUR
    return Carbon(operational=operational, embodied=footprint.per(hours).times(used * G_PER_KG))
