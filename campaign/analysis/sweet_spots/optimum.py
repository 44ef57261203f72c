"""The output length of least energy per token, by the six-term form. Pure.

Owns both readings, per output token and per token in all, and how an optimum outside of what was
measured is said: clipped to the measured range, with the word for where it lies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from campaign.analysis.sweet_spots.forms import Floats

#: The quantiles of a 95 per cent interval.
LOW, HIGH = 0.025, 0.975


def per_output_token(theta: Floats, n_in: float) -> float:
    """Return the output length of least E / n_out; infinite where it only falls, 0 where it rises.

    n* = sqrt((theta_1 n^2 + theta_3 n + theta_5) / theta_4); arXiv:2602.05695.
    """
    fixed_j = theta[1] * n_in**2 + theta[3] * n_in + theta[5]
    if theta[4] <= 0:
        return np.inf if fixed_j > 0 else 0.0
    return float(np.sqrt(fixed_j / theta[4]))


def per_total_token(theta: Floats, n_in: float) -> float:
    """Return the output length of least E / (n_in + n_out); 0 where it rises from the first on.

    n* = -n + sqrt(n^2 + (A - B n) / C) with A = theta_1 n^2 + theta_3 n + theta_5,
    B = theta_0 + theta_2 n, C = theta_4. Infinite where there is no C and it falls.
    """
    fixed_j = theta[1] * n_in**2 + theta[3] * n_in + theta[5]
    excess_j = fixed_j - (theta[0] + theta[2] * n_in) * n_in
    if excess_j <= 0:
        return 0.0
    if theta[4] <= 0:
        return np.inf
    return float(-n_in + np.sqrt(n_in**2 + excess_j / theta[4]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """The best output length for an input length, with a 95 per cent bootstrap interval, in tokens.

    `unclipped` is the form's own, None where it has none; `output_tokens`, `low` and `high` are
    clipped to the measured range. `where` is ``inside``, ``below`` or ``above`` that range;
    `inside_share` is the share of the bootstrap that lies inside.
    """

    input_tokens: float
    unclipped: float | None
    output_tokens: float
    low: float
    high: float
    where: str
    inside_share: float

    @property
    def clipped(self) -> bool:
        """Whether the form's optimum, or an end of its interval, lies outside of the range."""
        return self.where != "inside" or self.inside_share < HIGH - LOW


def optimum(
    best: Callable[[Floats, float], float],
    theta: Floats,
    draws: Floats,
    n_in: float,
    measured: tuple[float, float],
) -> Optimum:
    """Return the optimum of one input length.

    `draws` has a row of coefficients per resample; `measured` is the range of output lengths.
    """
    shortest, longest = measured
    found = best(theta, n_in)
    drawn = np.array([best(row, n_in) for row in draws])
    low, high = np.quantile(drawn, (LOW, HIGH), method="closest_observation")
    inside = (drawn >= shortest) & (drawn <= longest)
    return Optimum(
        input_tokens=n_in,
        unclipped=found if 0 < found < np.inf else None,
        output_tokens=float(np.clip(found, shortest, longest)),
        low=float(np.clip(low, shortest, longest)),
        high=float(np.clip(high, shortest, longest)),
        where="below" if found < shortest else "above" if found > longest else "inside",
        inside_share=float(inside.mean()),
    )


def worded(one: Optimum) -> tuple[int, str, float | None, str]:
    """Return best length, interval, the form's own, and a remark; what is clipped says so."""
    word = "" if one.where == "inside" else f"clipped: {one.where} the measured range"
    if not word and one.clipped:
        word = f"interval clipped: {one.inside_share:.0%} of it inside the measured range"
    if one.unclipped is None:
        word += "; the form has no minimum" if word else "the form has no minimum"
    interval = f"{one.low:.0f} to {one.high:.0f}"
    if one.low == one.high and one.where != "inside":
        interval = f"{'≥' if one.where == 'above' else '≤'} {one.low:.0f}"
    return round(one.output_tokens), interval, one.unclipped, word
