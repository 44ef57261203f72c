"""The physics-informed model: the roofline's parts, each as large as the rows say it is.

log(measured / roofline) = log(sum of c_k part_k / sum of part_k) + a few linear terms. Every
`c_k` is positive and held near 1, every linear weight near 0, so that a model without rows is the
roofline itself, and one with few rows extrapolates as the roofline does. Reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from campaign.analysis.predictor.parts import PARTS, ROOFLINE

Array = NDArray[np.float64]

#: Terms beside the parts: what faster boards reach of their data sheets, requests whose
#: prompts are of unknown length, and how full a step is.
CONTEXT = ("log_bandwidth", "input_known", "log_batch")
#: How far factors of parts may lie from 1, on a logarithmic scale: guesses further than the rest.
SURE, GUESSED = 0.5, 1.5
#: Strength of the pull towards the roofline, per row: of the parts' factors, of the linear terms.
PULL, PULL_CONTEXT = 0.005, 0.1
#: Residuals beyond this (35 %) count in proportion, not squared.
ROBUST = 0.3
#: A step of the solver moves no factor further.
_STRIDE, _STEPS, _SETTLED = 0.7, 60, 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Physics:
    """What was learned: a factor of each part, and the linear terms' weights on their scales."""

    factors: tuple[float, ...]
    weights: tuple[float, ...]
    centres: tuple[float, ...]
    spreads: tuple[float, ...]

    def predict(self, parts: Array, context: Array) -> Array:
        """Return joules per output token for rows of parts and of context."""
        scaled = (context - np.array(self.centres)) / np.array(self.spreads)
        joules: Array = (parts @ np.array(self.factors)) * np.exp(scaled @ np.array(self.weights))
        return joules

    def plain(self) -> Mapping[str, object]:
        """Return the model as JSON has it."""
        return {
            "factors": dict(zip(PARTS, self.factors, strict=True)),
            "context": {
                name: {"weight": weight, "centre": centre, "spread": spread}
                for name, weight, centre, spread in zip(
                    CONTEXT, self.weights, self.centres, self.spreads, strict=True
                )
            },
        }


def fit(parts: Array, context: Array, joules: Array) -> Physics:
    """Return the model that rows of parts, context and measured joules per output token ask for.

    Gauss-Newton on logarithms with weights that large residuals lose by; deterministic.
    """
    centres = context.mean(axis=0)
    spreads = context.std(axis=0)
    spreads = np.where(spreads > 1e-9, spreads, np.inf)  # noqa: PLR2004 - constant: no weight
    scaled = (context - centres) / spreads
    rows, kinds = parts.shape
    pull = np.diag(rows * np.concatenate([PULL / _spread_of_factors() ** 2,
                                          np.full(scaled.shape[1], PULL_CONTEXT)]))  # fmt: skip
    found, target = np.zeros(kinds + scaled.shape[1]), np.log(joules)
    for _ in range(_STEPS):
        each = parts * np.exp(found[:kinds])
        total = each.sum(axis=1)
        off = np.log(total) + scaled @ found[kinds:] - target
        slope = np.concatenate([each / total[:, None], scaled], axis=1)
        trust = slope / np.sqrt(1 + (off / ROBUST) ** 2)[:, None]
        step = np.linalg.solve(trust.T @ slope + pull, -(trust.T @ off + pull @ found))
        found = found + np.clip(step, -_STRIDE, _STRIDE)
        if np.abs(step).max() < _SETTLED:
            break
    return Physics(
        factors=tuple(np.exp(found[:kinds]).tolist()),
        weights=tuple(found[kinds:].tolist()),
        centres=tuple(centres.tolist()),
        spreads=tuple(np.where(np.isfinite(spreads), spreads, 1e300).tolist()),
    )


def from_plain(value: Mapping[str, Mapping[str, object]]) -> Physics:
    """Return the model that `plain` described. KeyError or TypeError for anything else."""
    factors, context = value["factors"], value["context"]
    terms = [context[name] for name in CONTEXT]

    def column(key: str) -> tuple[float, ...]:
        return tuple(_number(term[key]) if isinstance(term, Mapping) else np.nan for term in terms)

    return Physics(
        factors=tuple(_number(factors[name]) for name in PARTS),
        weights=column("weight"),
        centres=column("centre"),
        spreads=column("spread"),
    )


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _spread_of_factors() -> Array:
    return np.array([SURE if name in ROOFLINE else GUESSED for name in PARTS])
