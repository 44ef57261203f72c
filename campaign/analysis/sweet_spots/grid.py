"""The measured grid of lengths as cells: joules per token, measured and by the six-term form. Pure.

Owns its form as a table for people: a row per input length, a column per output length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from campaign.analysis.sweet_spots.forms import Floats

#: What marks the best cell of a row, and of the whole grid.
BEST_OF_ROW, BEST = "*", "**"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One pair of lengths, in tokens: joules of a request, the mean over its rows, and fitted."""

    input_tokens: float
    output_tokens: float
    rows: int
    energy_j: float
    fitted_energy_j: float

    @property
    def joules_per_output_token(self) -> float:
        """Measured joules per token of the answer."""
        return self.energy_j / self.output_tokens

    @property
    def joules_per_total_token(self) -> float:
        """Measured joules per token of prompt and answer."""
        return self.energy_j / (self.input_tokens + self.output_tokens)


def cells_of(n_in: Floats, n_out: Floats, energy_j: Floats, fitted_j: Floats) -> tuple[Cell, ...]:
    """Return a cell for every pair of lengths, in their order."""
    pairs = np.stack([n_in, n_out], axis=1)
    unique, number = np.unique(pairs, axis=0, return_inverse=True)
    number = number.reshape(-1)
    rows = np.bincount(number)
    measured = np.bincount(number, energy_j) / rows
    fitted = np.bincount(number, fitted_j) / rows
    return tuple(
        Cell(input_tokens=float(i), output_tokens=float(o), rows=int(count), energy_j=float(joules),
             fitted_energy_j=float(form))
        for (i, o), count, joules, form in zip(unique, rows, measured, fitted, strict=True)
    )  # fmt: skip


def table_of(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of measured joules per output token, the best ones marked."""
    outputs = sorted({cell.output_tokens for cell in cells})
    at = {(cell.input_tokens, cell.output_tokens): cell.joules_per_output_token for cell in cells}
    best = min(at.values())
    rows = []
    for length in sorted({cell.input_tokens for cell in cells}):
        there = [at.get((length, output)) for output in outputs]
        lowest = min(value for value in there if value is not None)
        marks = {lowest: BEST_OF_ROW} | {best: BEST}
        rows.append([
            f"{length:g}",
            *("" if value is None else f"{value:.4g}{marks.get(value, '')}" for value in there),
        ])  # fmt: skip
    return ["in \\ out", *(f"{output:g}" for output in outputs)], rows
