"""The sweet spot of one set-up and batch: forms, errors, best output lengths, the grid itself.

Owns what a regime needs to be analysed, and puts the parts together. Pure but for the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from campaign.analysis.per_request import Sample, Samples, by_regime
from campaign.analysis.setups import Setup, names
from campaign.analysis.sweet_spots.first_principles import flops_form, known
from campaign.analysis.sweet_spots.forms import FLOPS, LINEAR, SIX, Floats, Form, fit
from campaign.analysis.sweet_spots.grid import Cell, cells_of
from campaign.analysis.sweet_spots.holdout import Errors, errors, pair_of
from campaign.analysis.sweet_spots.optimum import (
    HIGH,
    LOW,
    Optimum,
    optimum,
    per_output_token,
    per_total_token,
)
from campaign.analysis.sweet_spots.resampling import DRAWS, resampled
from campaign.analysis.sweet_spots.transfer import FromArchitecture, from_architecture
from campaign.catalogue.catalog import Catalog
from campaign.tabular import count_of
from db.errors import ConfigError

#: Length pairs that six terms and their residuals take, and lengths that a square takes.
FEWEST_PAIRS, FEWEST_LENGTHS = 8, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A form on one regime: coefficients by term, with 95 per cent bootstrap intervals."""

    form: str
    theta: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    errors: Errors


@dataclass(frozen=True, slots=True, kw_only=True)
class SweetSpot:
    """What one set-up and batch says. Energies are joules of one request; `label` names it."""

    label: str
    setup: Setup
    batch_size: int | None
    rows: int
    input_range: tuple[float, float]
    output_range: tuple[float, float]
    forms: tuple[Fitted, ...]
    per_output_token: tuple[Optimum, ...]
    per_total_token: tuple[Optimum, ...]
    cells: tuple[Cell, ...]
    worst_over_best: float
    architecture: FromArchitecture | None
    without_architecture: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SweetSpots:
    """All regimes of a set of rows; `skipped` says in one line why a regime has no answer."""

    spots: tuple[SweetSpot, ...]
    skipped: Mapping[str, str]
    rows: int
    dropped: Mapping[str, int]


def sweet_spots(
    samples: Samples, catalog: Catalog, *, draws: int = DRAWS, seed: int = 0
) -> SweetSpots:
    """Return the sweet spot of every regime. Raises ConfigError where none has one."""
    spots, skipped = [], {}
    regimes = by_regime(samples)
    named = names(setup for setup, _ in regimes)
    for (setup, batch), members in regimes.items():
        label = f"{named[setup]}, batch {batch or 'unknown'}"
        why = lacking(members)
        if why is None:
            spots.append(_spot(label, members, catalog, draws=draws, seed=seed))
        else:
            skipped[label] = why
    if not spots:
        label, why = next(iter(skipped.items()))
        more = f"; and {len(skipped) - 1} more like it" if len(skipped) > 1 else ""
        raise ConfigError(f"no sweet spot: {label}: {why}{more}")
    return SweetSpots(spots=tuple(spots), skipped=skipped, rows=samples.rows,
                      dropped=samples.dropped)  # fmt: skip


def lacking(members: Sequence[Sample]) -> str | None:
    """Return in one line what a regime lacks to be fitted; None if nothing."""
    n_in, n_out, energy_j = _arrays(members)
    pairs = int(pair_of(n_in, n_out).max()) + 1
    if pairs < FEWEST_PAIRS:
        found = count_of(pairs, "pair")
        return f"too few rows: {found} of lengths, six terms take {FEWEST_PAIRS} or more"
    for name, values in {"input": n_in, "output": n_out}.items():
        if len(np.unique(values)) < FEWEST_LENGTHS:
            there = ", ".join(f"{value:g}" for value in np.unique(values))
            return f"{name} lengths are {there} alone; a square takes {FEWEST_LENGTHS} or more"
    if np.ptp(energy_j) == 0:
        return f"every request takes {energy_j[0]:.4g} J, whatever its lengths: not a measurement"
    return None


def _arrays(members: Sequence[Sample]) -> tuple[Floats, Floats, Floats]:
    columns = [(s.input_tokens, s.output_tokens, s.energy_j) for s in members]
    n_in, n_out, energy_j = np.array(columns, dtype=np.float64).T
    return n_in, n_out, energy_j


def _spot(
    label: str, members: Sequence[Sample], catalog: Catalog, *, draws: int, seed: int
) -> SweetSpot:
    """Return what the rows of one set-up and batch say."""
    setup, batch = members[0].setup, members[0].batch_size
    n_in, n_out, energy_j = _arrays(members)
    one = known(setup, catalog)
    flops = FLOPS if isinstance(one, str) else flops_form(one.shape)
    fits = {form.name: _fitted(form, (n_in, n_out), energy_j, draws, seed)
            for form in (LINEAR, flops, SIX)}  # fmt: skip
    fitted, drawn = fits[SIX.name]
    theta = np.array(list(fitted.theta.values()))
    measured = (float(n_out.min()), float(n_out.max()))
    inputs = [float(length) for length in np.unique(n_in)]
    cells = cells_of(n_in, n_out, energy_j, SIX.energy_j(theta, n_in, n_out))
    each = [cell.joules_per_output_token for cell in cells]
    apart = from_architecture(one, batch, (n_in, n_out), energy_j)
    return SweetSpot(
        label=label,
        setup=setup,
        batch_size=batch,
        rows=len(members),
        input_range=(float(n_in.min()), float(n_in.max())),
        output_range=measured,
        forms=tuple(found for found, _ in fits.values()),
        per_output_token=tuple(
            optimum(per_output_token, theta, drawn, length, measured) for length in inputs
        ),
        per_total_token=tuple(
            optimum(per_total_token, theta, drawn, length, measured) for length in inputs
        ),
        cells=cells,
        worst_over_best=max(each) / min(each),
        architecture=None if isinstance(apart, str) else apart,
        without_architecture=apart if isinstance(apart, str) else None,
    )


def _fitted(
    form: Form, lengths: tuple[Floats, Floats], energy_j: Floats, draws: int, seed: int
) -> tuple[Fitted, Floats]:
    """Return a form's fit, and the coefficients of its resamples."""
    theta = fit(form, *lengths, energy_j)
    drawn = resampled(form, theta, lengths, energy_j, draws=draws, seed=seed)
    low, high = np.quantile(drawn, (LOW, HIGH), axis=0)
    ends = [(float(lowest), float(highest)) for lowest, highest in zip(low, high, strict=True)]
    found = Fitted(
        form=form.name,
        theta=dict(zip(form.terms, map(float, theta), strict=True)),
        intervals=dict(zip(form.terms, ends, strict=True)),
        errors=errors(form, *lengths, energy_j, seed),
    )
    return found, drawn
