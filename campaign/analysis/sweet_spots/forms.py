"""Forms of the joules of one request by its lengths, and their fit.

Owns the terms of each form (arXiv:2602.05695 and what it is compared with) and the way they are
fitted: least squares of the relative error, no coefficient below zero. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Rounds of the fit: the first weighs by what was measured, the others by what was fitted, which
#: takes out the bias towards rows that came out too low.
ROUNDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Joules of a request as a sum of non-negative terms.

    `columns(n_in, n_out)` has a row per request and a column per term.
    """

    name: str
    terms: tuple[str, ...]
    columns: Callable[[Floats, Floats], Floats]

    def energy_j(self, theta: Floats, n_in: Floats, n_out: Floats) -> Floats:
        """Return the joules of requests of these lengths."""
        energy: Floats = self.columns(n_in, n_out) @ theta
        return energy


def six_columns(n_in: Floats, n_out: Floats) -> Floats:
    """Return n_out, n_in^2, n_in n_out, n_in, n_out^2, 1: the terms of theta_0 to theta_5."""
    return np.stack([n_out, n_in**2, n_in * n_out, n_in, n_out**2, np.ones_like(n_in)], axis=1)


#: Energy is linear in both lengths (arXiv:2511.05597).
LINEAR = Form(
    name="linear",
    terms=("joules_per_input_token", "joules_per_output_token", "joules_per_request"),
    columns=lambda n_in, n_out: np.stack([n_in, n_out, np.ones_like(n_in)], axis=1),
)
#: FLOPs of a decoder whose sizes are not known: theta_1 : theta_2 : theta_4 = 1 : 2 : 1.
FLOPS = Form(
    name="flops",
    terms=("joules_per_input_token", "joules_per_output_token", "joules_per_pair"),
    columns=lambda n_in, n_out: np.stack([n_in, n_out, (n_in + n_out) ** 2], axis=1),
)
#: FLOPs and memory traffic: all six terms are free.
SIX = Form(name="six_terms", terms=tuple(f"theta_{term}" for term in range(6)), columns=six_columns)


def fit(form: Form, n_in: Floats, n_out: Floats, energy_j: Floats) -> Floats:
    """Return the coefficients of least relative error, none below zero."""
    columns, scale = form.columns(n_in, n_out), energy_j
    theta = np.zeros(len(form.terms))
    for _ in range(ROUNDS):
        theta = non_negative(columns / scale[:, None], energy_j / scale)
        fitted = columns @ theta
        if not (fitted > 0).all():
            break
        scale = fitted
    return theta


def non_negative(columns: Floats, values: Floats) -> Floats:
    """Return non-negative least squares; columns of any size, they are scaled to one length."""
    from scipy.optimize import nnls

    norms = np.linalg.norm(columns, axis=0)
    norms = np.where(norms > 0, norms, 1.0)
    theta: Floats = nnls(columns / norms, values)[0] / norms
    return theta


def mape(predicted: Floats, measured: Floats) -> float:
    """Return the mean absolute error relative to what was measured, in per cent."""
    return float(100 * np.mean(np.abs(predicted - measured) / measured))
