"""Resamples of a fit: what its coefficients would have been with other noise of the same size.

Pure. Relative residuals are drawn anew over the same lengths, so that no resample lacks a length.
They are taken as independent between rows.
"""

from __future__ import annotations

import numpy as np

from campaign.analysis.sweet_spots.forms import Floats, Form, non_negative

DRAWS = 500


def resampled(
    form: Form,
    theta: Floats,
    lengths: tuple[Floats, Floats],
    energy_j: Floats,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Floats:
    """Return a row of coefficients per resample.

    Residuals are widened by the degrees of freedom that the fit took.
    """
    fitted = form.energy_j(theta, *lengths)
    columns = form.columns(*lengths) / fitted[:, None]
    residuals = energy_j / fitted - 1.0
    free = len(residuals) - int((theta > 0).sum())
    residuals = (residuals - residuals.mean()) * np.sqrt(len(residuals) / max(1, free))
    chance = np.random.default_rng(seed)
    noise = chance.choice(residuals, size=(draws, len(residuals)))
    return np.stack([non_negative(columns, 1.0 + row) for row in noise])
