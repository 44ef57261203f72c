"""A two-level design: factors with a first and a second level, runs, and what is aliased with what.

Pure. Owns the coding of levels (-1 the first, +1 the second) and the alias structure, which is read
from the runs themselves, not from how they were meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from campaign.tabular import count_of
from db.errors import ConfigError

Level = str | float | bool | None
Effect = tuple[str, ...]

#: More factors have more subsets than anybody reads.
MOST_FACTORS = 12
#: Aliases of more factors than this are not listed.
LONGEST_ALIAS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measured run: its levels by factor, its response (above zero), and where it ran."""

    levels: Mapping[str, Level]
    response: float
    replicate: int = 0
    session: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """A factor with its two levels."""

    name: str
    first: Level
    second: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Runs of two-level factors. `columns` are -1 and +1, a row a run, a column a factor.

    `words` are the sets of factors whose product is the same in every run: the defining relation of
    a fraction, each with its sign.
    """

    factors: tuple[Factor, ...]
    runs: tuple[Run, ...]
    columns: NDArray[np.float64]
    words: Mapping[Effect, int]

    @property
    def resolution(self) -> int | None:
        """Length of the shortest word; None where every combination was run."""
        return min(map(len, self.words), default=None)

    def column(self, effect: Effect) -> NDArray[np.float64]:
        """Return the contrast of an effect: the product of its factors' columns."""
        names = [factor.name for factor in self.factors]
        chosen = self.columns[:, [names.index(name) for name in effect]]
        return np.asarray(np.prod(chosen, axis=1), dtype=np.float64)

    def aliases(self, effect: Effect) -> list[Effect]:
        """Return the effects of at most three factors that cannot be told from this one."""
        order = [factor.name for factor in self.factors]
        found = [_sorted(set(effect) ^ set(word), order) for word in self.words]
        return sorted((one for one in found if 0 < len(one) <= LONGEST_ALIAS), key=len)


def design_of(runs: Sequence[Run]) -> Design:
    """Return the design that these runs make. Raises ConfigError, one line."""
    if not runs:
        raise ConfigError("interactions: no runs with joules")
    factors = _factors(runs)
    columns = np.array(
        [[1.0 if run.levels[f.name] == f.second else -1.0 for f in factors] for run in runs]
    )
    return Design(
        factors=factors, runs=tuple(runs), columns=columns, words=_words(factors, columns)
    )


def _factors(runs: Sequence[Run]) -> tuple[Factor, ...]:
    names = list(dict.fromkeys(name for run in runs for name in run.levels))
    factors = []
    for name in names:
        lacking = sum(name not in run.levels for run in runs)
        if lacking:
            raise ConfigError(f"interactions: {count_of(lacking, 'row')} without {name}")
        levels = sorted({run.levels[name] for run in runs}, key=_order)
        if len(levels) > 2:  # noqa: PLR2004 - a factor of such a design has two levels
            raise ConfigError(
                f"interactions: {name} has {len(levels)} levels ({', '.join(map(str, levels))}); a "
                f"factor has two: keep two with --only {name}={levels[0]},{levels[-1]}"
            )
        if len(levels) == 2:  # noqa: PLR2004 - same
            factors.append(Factor(name=name, first=levels[0], second=levels[1]))
    if len(factors) < 2:  # noqa: PLR2004 - an interaction is of two
        found = ", ".join(factor.name for factor in factors) or "none"
        raise ConfigError(f"interactions: two factors with two levels are needed; found: {found}")
    if len(factors) > MOST_FACTORS:
        raise ConfigError(f"interactions: {len(factors)} factors; at most {MOST_FACTORS}")
    return tuple(factors)


def _order(level: Level) -> tuple[int, float, str]:
    """None and false come first, then numbers, then words: the plain form is the first level."""
    if level is None or level is False:
        return 0, 0.0, ""
    if isinstance(level, bool | int | float):
        return 1, float(level), ""
    return (1 if level == "static" else 2), -1.0, level


def _words(factors: Sequence[Factor], columns: NDArray[np.float64]) -> dict[Effect, int]:
    found: dict[Effect, int] = {}
    for size in range(1, len(factors) + 1):
        for chosen in combinations(range(len(factors)), size):
            product = reduce(np.multiply, (columns[:, n] for n in chosen))
            if np.all(product == product[0]):
                found[tuple(factors[n].name for n in chosen)] = int(product[0])
    return found


def _sorted(names: set[str], order: Sequence[str]) -> Effect:
    return tuple(name for name in order if name in names)
