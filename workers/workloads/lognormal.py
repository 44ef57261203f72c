"""A lognormal distribution cut off at its most, fitted to a mean and a standard deviation. Pure.

Prompt lengths of text are skewed to the right and have an end. What is fitted is the distribution
as cut, so that what is drawn has the moments that were published.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL = NormalDist()
#: Corrections until both moments are right to a millionth; the published ones need about ten.
ROUNDS = 500
CLOSE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Lognormal:
    """exp of a normal variable of mean `mu` and deviation `sigma`, if that is below `most`."""

    mu: float
    sigma: float
    most: float

    def share(self, below: float) -> float:
        """Return the probability of a value below another."""
        return min(1.0, self._normal(below) / self._normal(self.most))

    def at(self, share: float) -> float:
        """Return the value below which a share (0 to 1, both excluded) of all values lies."""
        return math.exp(self.mu + self.sigma * _NORMAL.inv_cdf(share * self._normal(self.most)))

    def moments(self) -> tuple[float, float]:
        """Return mean and standard deviation."""
        first, second = self._raw(1), self._raw(2)
        return first, math.sqrt(second - first * first)

    def _raw(self, order: int) -> float:
        """Return the expectation of a power; the textbook's, with the tail taken off."""
        whole = math.exp(order * self.mu + (order * self.sigma) ** 2 / 2)
        edge = (math.log(self.most) - self.mu) / self.sigma
        return whole * _NORMAL.cdf(edge - order * self.sigma) / _NORMAL.cdf(edge)

    def _normal(self, value: float) -> float:
        return _NORMAL.cdf((math.log(value) - self.mu) / self.sigma)


def fitted(mean: float, std: float, most: float) -> Lognormal:
    """Return the distribution below `most` with these moments; ValueError if there is none."""
    wanted_mean, wanted_std = mean, std
    for _ in range(ROUNDS):
        variance = math.log1p((wanted_std / wanted_mean) ** 2)
        found = Lognormal(
            mu=math.log(wanted_mean) - variance / 2, sigma=math.sqrt(variance), most=most
        )
        try:
            real_mean, real_std = found.moments()
        except (ValueError, ArithmeticError):  # it left the numbers there are
            break
        if abs(real_mean / mean - 1) < CLOSE and abs(real_std / std - 1) < CLOSE:
            return found
        wanted_mean *= mean / real_mean
        wanted_std *= std / real_std
    raise ValueError(f"no lognormal below {most} has mean {mean} and deviation {std}")
