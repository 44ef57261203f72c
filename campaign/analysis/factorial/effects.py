"""Effects and interactions of a two-level design on the logarithm of a response, with intervals.

Pure. An effect that is the same throughout a session is judged by the spread between sessions, one
that varies inside by the spread within them (a split plot): the residuals of the fit, replicates
included, are taken apart accordingly. Where nothing is left over there is no interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray

from campaign.analysis.factorial.design import Design, Effect
from db.errors import ConfigError
from workers.student import student

Matrix = NDArray[np.float64]

BETWEEN, WITHIN = "between sessions", "within sessions"
CLOSE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One effect as a factor on the response, with a 95 % interval, None where it has none.

    Of one factor: its second level over its first. Of two: by how much the second level of one
    changes the ratio of the other; 1 means that their gains multiply. `aliases` cannot be told from
    it. `spread` says what the interval was taken from.
    """

    effect: Effect
    ratio: float
    low: float | None
    high: float | None
    spread: str
    aliases: tuple[Effect, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What a design says: its estimates, largest first, and what they rest on.

    `degrees` of freedom and `relative_sd` of the residuals are by spread.
    """

    estimates: tuple[Estimate, ...]
    runs: int
    replicates: int
    sessions: int
    degrees: dict[str, int]
    relative_sd: dict[str, float | None]


def effects_of(design: Design) -> Effects:
    """Return main effects and interactions of two factors. Raises ConfigError."""
    wanted = _told_apart(design)
    replicates = _indicators([str(run.replicate) for run in design.runs])
    sessions = _indicators([run.session or str(n) for n, run in enumerate(design.runs)])
    model = np.column_stack([replicates, *(design.column(effect) for effect in wanted)])
    if np.linalg.matrix_rank(model) < model.shape[1]:
        raise ConfigError(
            f"interactions: {len(design.runs)} runs do not tell {len(wanted)} effects apart: "
            f"{_missing(design)}"
        )
    response = np.array([log(run.response) for run in design.runs])
    inverse = np.linalg.pinv(model)
    found = inverse @ response
    spreads = _spreads(model, sessions, response)
    estimates = []
    for number, effect in enumerate(wanted, start=replicates.shape[1]):
        weights = inverse[number]
        inside = np.abs(sessions.T @ weights).max() < CLOSE
        spread = WITHIN if inside else BETWEEN
        degrees, variance = spreads[spread]
        estimates.append(
            _estimate(design, effect, found[number], weights, spread, degrees, variance)
        )
    estimates.sort(key=lambda one: -abs(log(one.ratio)))
    return Effects(
        estimates=tuple(estimates),
        runs=len(design.runs),
        replicates=replicates.shape[1],
        sessions=sessions.shape[1],
        degrees={name: degrees for name, (degrees, _) in spreads.items()},
        relative_sd={name: None if v is None else sqrt(v) for name, (_, v) in spreads.items()},
    )


def _told_apart(design: Design) -> list[Effect]:
    """Return effects of one and of two factors, one of each set of aliases, the shortest."""
    names = [factor.name for factor in design.factors]
    every: list[Effect] = [(name,) for name in names]
    every += list(combinations(names, 2))
    kept: list[Effect] = []
    for effect in every:
        if effect in design.words:
            continue
        if not any(alias in kept for alias in design.aliases(effect)):
            kept.append(effect)
    return kept


def _indicators(labels: Sequence[str]) -> Matrix:
    known = sorted(set(labels))
    return np.array([[float(label == one) for one in known] for label in labels])


def _spreads(
    model: Matrix, sessions: Matrix, response: Matrix
) -> dict[str, tuple[int, float | None]]:
    """Return degrees of freedom and variance of the residuals between and within sessions.

    Between: what sessions explain beyond the model, as a variance of single runs.
    """
    both = np.column_stack([model, sessions])
    rank, wide = np.linalg.matrix_rank(model), np.linalg.matrix_rank(both)
    left, least = _residual(model, response), _residual(both, response)
    between, within = int(wide - rank), int(len(response) - wide)
    return {
        BETWEEN: (between, max(left - least, 0.0) / between if between else None),
        WITHIN: (within, least / within if within else None),
    }


def _residual(model: Matrix, response: Matrix) -> float:
    fitted = model @ np.linalg.lstsq(model, response, rcond=None)[0]
    return float(np.sum((response - fitted) ** 2))


def _estimate(
    design: Design, effect: Effect, found: float, weights: Matrix, spread: str, degrees: int,
    variance: float | None,
) -> Estimate:  # fmt: skip
    # Levels are -1 and +1: the coefficient is half of a main effect, a quarter of an interaction's.
    times = 2.0 ** len(effect)
    low = high = None
    if variance is not None:
        width = times * student(degrees) * sqrt(variance * float(weights @ weights))
        low, high = exp(times * found - width), exp(times * found + width)
    return Estimate(
        effect=effect,
        ratio=exp(times * found),
        low=low,
        high=high,
        spread=spread if variance is not None else f"{spread}: nothing is left to tell it from",
        aliases=tuple(design.aliases(effect)),
    )


def _missing(design: Design) -> str:
    """Return how many combinations of levels were run."""
    seen = len({tuple(row) for row in design.columns.tolist()})
    names = ", ".join(factor.name for factor in design.factors)
    return f"{seen} of {2 ** len(design.factors)} combinations of {names} were measured"
