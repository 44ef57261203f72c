"""How well a form foretells lengths that it was not fitted on. Pure.

Owns what is held out: random fifths of the length pairs, and the corners and edges of the grid.
Rows of one length pair stay together, so that a repeat of a row never tells its own answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from campaign.analysis.sweet_spots.forms import Floats, Form, fit, mape

Mask = NDArray[np.bool_]

FOLDS, REPETITIONS = 5, 5
#: What each hold-out leaves for the test, in words.
HELD_OUT: Mapping[str, str] = {
    "folds": f"random {FOLDS} folds of the length pairs, {REPETITIONS} times",
    "corners": "the four corners: shortest and longest inputs with shortest and longest outputs",
    "longest_inputs": "every pair with the longest input",
    "longest_outputs": "every pair with the longest output",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """MAPE in per cent, in sample and by what was held out; None where too little is left.

    `folds_sd` is the standard deviation between repetitions.
    """

    in_sample: float
    folds: float | None
    folds_sd: float | None
    corners: float | None
    longest_inputs: float | None
    longest_outputs: float | None


def errors(form: Form, n_in: Floats, n_out: Floats, energy_j: Floats, seed: int = 0) -> Errors:
    """Return a form's errors on rows that it was fitted on, and on those that it was not."""
    theta = fit(form, n_in, n_out, energy_j)
    folds = _folds(form, n_in, n_out, energy_j, seed)
    low_in, high_in = n_in == n_in.min(), n_in == n_in.max()
    low_out, high_out = n_out == n_out.min(), n_out == n_out.max()
    corners = (low_in | high_in) & (low_out | high_out)

    def held(test: Mask) -> float | None:
        missed = _missed(form, n_in, n_out, energy_j, test)
        return None if missed is None else float(100 * missed.mean())

    return Errors(
        in_sample=mape(form.energy_j(theta, n_in, n_out), energy_j),
        folds=float(np.mean(folds)) if folds else None,
        folds_sd=float(np.std(folds, ddof=1)) if len(folds) > 1 else None,
        corners=held(corners),
        longest_inputs=held(high_in),
        longest_outputs=held(high_out),
    )


def pair_of(n_in: Floats, n_out: Floats) -> NDArray[np.intp]:
    """Return for each row the number of its length pair."""
    pairs = np.stack([n_in, n_out], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)


def _folds(form: Form, n_in: Floats, n_out: Floats, energy_j: Floats, seed: int) -> list[float]:
    """Return the MAPE over all rows, each foretold by a fit without it, of every repetition."""
    found = []
    for tests in _random_folds(pair_of(n_in, n_out), seed):
        parts = [_missed(form, n_in, n_out, energy_j, test) for test in tests]
        there = [part for part in parts if part is not None]
        if len(there) == len(parts):
            found.append(float(100 * np.concatenate(there).mean()))
    return found


def _random_folds(pairs: NDArray[np.intp], seed: int) -> Iterator[list[Mask]]:
    chance = np.random.default_rng(seed)
    count = int(pairs.max()) + 1
    for _ in range(REPETITIONS):
        fold_of = chance.permutation(np.arange(count) % FOLDS)
        yield [fold_of[pairs] == fold for fold in range(min(FOLDS, count))]


def _missed(form: Form, n_in: Floats, n_out: Floats, energy_j: Floats, test: Mask) -> Floats | None:
    """Return the relative errors of the test rows; None where the rest cannot hold the form."""
    train = ~test
    left = pair_of(n_in[train], n_out[train]) if train.any() else np.zeros(0, np.intp)
    if len(np.unique(left)) <= len(form.terms):
        return None
    theta = fit(form, n_in[train], n_out[train], energy_j[train])
    predicted = form.energy_j(theta, n_in[test], n_out[test])
    relative: Floats = np.abs(predicted - energy_j[test]) / energy_j[test]
    return relative
