"""What a trace costs on several set-ups, on the requests that all of them have joules for.

Owns which set-ups are compared and on what, and puts estimates, baselines and savings together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from campaign.analysis.per_request import Sample, Samples, by_regime
from campaign.analysis.setups import Setup, names
from campaign.analysis.sweet_spots.first_principles import Known, known
from campaign.analysis.workloads.energies import Energies, Fitting, MeasuredEnergies
from campaign.analysis.workloads.estimated import Estimate, estimate_of, has_joules
from campaign.analysis.workloads.ideal import Ideal, excess, ideals, saving
from campaign.analysis.workloads.traffic import Binned, Edges
from campaign.catalogue.catalog import Catalog
from db.errors import ConfigError

#: The baseline that no measurement should be below.
BOUND = ("dense", "2_per_mac")


@dataclass(frozen=True, slots=True, kw_only=True)
class Joules:
    """One number for each way of estimating: joules, or shares."""

    ceiling: float
    ceiling_whole: float
    interpolated: float
    interpolated_whole: float

    @classmethod
    def of(cls, estimate: Estimate) -> Joules:
        """Return the joules of an estimate."""
        return cls(**{f.name: getattr(estimate, f"{f.name}_j") for f in fields(cls)})

    def saved_from(self, other: Joules) -> Joules:
        """Return the shares saved against another's joules."""
        shares = {
            f.name: saving(0.0, excess(getattr(self, f.name), getattr(other, f.name)))
            for f in fields(self)
        }
        return Joules(**shares)


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """A baseline, and by what share the joules exceed it: bins against bins, own against own."""

    ideal: Ideal
    ceiling: float
    interpolated: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Costed:
    """One set-up. `saved` is against the costliest one; `below_bound` is a reason for doubt.

    A bound is that of `BOUND`. `without_ideal` says why there is no baseline.
    """

    label: str
    how: str
    reality: str | None
    joules: Joules
    estimate: Estimate
    excesses: tuple[Excess, ...]
    without_ideal: str | None
    below_bound: bool
    saved: Joules


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a trace costs; `baseline` is the costliest set-up, `unused` have nothing to say."""

    requests: int
    compared: int
    costed: tuple[Costed, ...]
    baseline: str
    unused: Mapping[str, str]


def measured(
    samples: Samples, catalog: Catalog, *, fit: bool, most: int
) -> tuple[MeasuredEnergies, ...]:
    """Return the measured joules of each set-up; with `fit`, batches are bounded by memory.

    Raises ConfigError where that is asked and cannot be computed, and for mixed units.
    """
    by_regime(samples)
    by_setup: dict[Setup, list[Sample]] = {}
    for sample in samples.usable:
        if sample.batch_size is not None and sample.batch_size <= most:
            by_setup.setdefault(sample.setup, []).append(sample)
    return tuple(
        MeasuredEnergies(setup, members, _fitting(setup, catalog, most) if fit else None)
        for setup, members in by_setup.items()
    )


def _fitting(setup: Setup, catalog: Catalog, most: int) -> Fitting:
    one = known(setup, catalog)
    if isinstance(one, str):
        raise ConfigError(f"{setup.label}: --batch fit: {one}")
    return Fitting(known=one, most=most)


def answer(binned: Binned, edges: Edges, energies: Sequence[Energies], catalog: Catalog) -> Answer:
    """Return what the trace costs on every set-up. Raises ConfigError where none has joules."""
    named = names(one.setup for one in energies)
    covers = {one.setup: has_joules(binned, edges, one) for one in energies}
    used = [one for one in energies if covers[one.setup].any()]
    if not used:
        raise ConfigError(_nothing(edges, energies))
    shared = np.logical_and.reduce([covers[one.setup] for one in used])
    if not shared.any():
        labels = "; ".join(named[one.setup] for one in used)
        raise ConfigError(
            f"no request is in a bin that all of these have joules for: {labels}; name fewer with "
            "--model, --board, --backend and --only"
        )
    estimates = [estimate_of(binned, edges, one, shared) for one in used]
    joules = [Joules.of(one) for one in estimates]
    costliest = max(range(len(used)), key=lambda at: joules[at].ceiling)
    return Answer(
        requests=binned.traffic.requests,
        compared=estimates[0].covered.requests,
        costed=tuple(
            _costed(named[one.setup], one, estimate, edges, catalog, joules[costliest])
            for one, estimate in zip(used, estimates, strict=True)
        ),
        baseline=named[used[costliest].setup],
        unused={
            named[setup]: "no row has the lengths of a bin"
            for setup, covered in covers.items()
            if not covered.any()
        },
    )


def _nothing(edges: Edges, energies: Sequence[Energies]) -> str:
    """Return in one line why no set-up has joules for any request."""
    if any(one.how == "roofline" for one in energies):
        labels = "; ".join(names(one.setup for one in energies).values())
        return f"{labels}: not one request of the trace fits: more --gpus or another --board"
    sides = (",".join(map(str, side)) for side in (edges.inputs, edges.outputs))
    return (
        f"no row has the lengths of a bin: {' by '.join(sides)} tokens; "
        "--bins rows takes the lengths that were measured"
    )


def _costed(
    label: str,
    energies: Energies,
    estimate: Estimate,
    edges: Edges,
    catalog: Catalog,
    costliest: Joules,
) -> Costed:
    setup, one = energies.setup, known(energies.setup, catalog)
    found: tuple[Ideal, ...] | str = one if isinstance(one, str) else ()
    if isinstance(one, Known):
        capability = _capability(catalog, one.board.slug)
        found = ideals(estimate.covered, edges, one.shape, one.board, capability)
    excesses = tuple(
        Excess(ideal=ideal, ceiling=excess(estimate.ceiling_j, ideal.ceiling_j),
               interpolated=excess(estimate.interpolated_j, ideal.actual_j))
        for ideal in (() if isinstance(found, str) else found)
    )  # fmt: skip
    bound = [e for e in excesses if (e.ideal.peak, e.ideal.convention) == BOUND]
    joules = Joules.of(estimate)
    return Costed(
        label=label,
        how=energies.how,
        reality=setup.reality,
        joules=joules,
        estimate=estimate,
        excesses=excesses,
        without_ideal=found if isinstance(found, str) else None,
        below_bound=any(min(e.ceiling, e.interpolated) < 0 for e in bound),
        saved=joules.saved_from(costliest),
    )


def _capability(catalog: Catalog, board: str) -> float | None:
    """Return a board's compute capability; None for one that has none."""
    try:
        return float(str(catalog.sheet(board)["compute_capability"]))
    except (KeyError, ValueError):
        return None
