"""Coefficients that follow from the architecture, beside those fitted to measurements. Pure.

Owns the comparison: what the roofline foretells without a measurement, and how far it is off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from campaign.analysis.sweet_spots.first_principles import Known, roofline_j
from campaign.analysis.sweet_spots.forms import SIX, Floats, fit, mape
from campaign.analysis.sweet_spots.optimum import per_output_token


@dataclass(frozen=True, slots=True, kw_only=True)
class FromArchitecture:
    """The six terms of the roofline at the measured lengths, and its errors in per cent.

    `mape` is that of the roofline's joules against the measured ones, `scaled_mape` after one
    factor, `scale`; `form_mape` is what the six terms lose of the roofline. `output_tokens` are
    its best lengths by input length, not clipped.
    """

    theta: Mapping[str, float]
    form_mape: float
    mape: float
    scale: float
    scaled_mape: float
    output_tokens: Mapping[float, float | None]
    remark: str | None


def from_architecture(
    one: Known | str, batch: int | None, lengths: tuple[Floats, Floats], energy_j: Floats
) -> FromArchitecture | str:
    """Return what the architecture says of these lengths, or in one line why it says nothing."""
    if isinstance(one, str):
        return one
    if batch is None:
        return "the rows say no batch_size"
    told_j = roofline_j(one, batch, *lengths)
    if told_j is None:
        return f"{one.board.slug}: its rates, TDP or idle power are not in the catalogue"
    theta = fit(SIX, *lengths, told_j)
    scale = float(np.median(energy_j / told_j))
    best = {float(n): per_output_token(theta, float(n)) for n in np.unique(lengths[0])}
    return FromArchitecture(
        theta=dict(zip(SIX.terms, map(float, theta), strict=True)),
        form_mape=mape(SIX.energy_j(theta, *lengths), told_j),
        mape=mape(told_j, energy_j),
        scale=scale,
        scaled_mape=mape(scale * told_j, energy_j),
        output_tokens={n: found if 0 < found < np.inf else None for n, found in best.items()},
        remark=one.remark,
    )
