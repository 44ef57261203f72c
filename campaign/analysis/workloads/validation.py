"""The estimate of the first requests of a trace beside their replay on simulated boards.

Owns which requests are replayed. Both sides are computed; neither is a measurement.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice

import numpy as np

from campaign.analysis.setups import Setup
from campaign.analysis.sweet_spots.first_principles import known
from campaign.analysis.workloads.energies import ComputedEnergies, Fitting
from campaign.analysis.workloads.estimated import Estimate, estimate_of
from campaign.analysis.workloads.replay import Pair, Replayed, replayed
from campaign.analysis.workloads.traffic import Edges, Traffic, binned
from campaign.catalogue.catalog import Catalog
from db.errors import ConfigError
from workers.workloads.traces import Trace, order_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """One set-up: what bins say of requests, and what replaying them took."""

    label: str
    estimate: Estimate
    replay: Replayed


def validated(
    label: str,
    setup: Setup,
    trace: Trace,
    edges: Edges,
    catalog: Catalog,
    requests: int,
    most: int,
) -> Validation:
    """Return both sides for the first requests that a bin holds. Raises ConfigError."""
    one = known(setup, catalog)
    if isinstance(one, str):
        raise ConfigError(f"replay: {label}: {one}")
    fits = Fitting(known=one, most=most)
    pairs = first_pairs(trace, edges, requests)
    held = binned(_counted(pairs), edges)
    return Validation(
        label=label,
        estimate=estimate_of(held, edges, ComputedEnergies(setup=setup, fits=fits)),
        replay=replayed(pairs, edges, fits),
    )


def first_pairs(trace: Trace, edges: Edges, requests: int) -> list[Pair]:
    """Return the lengths of the first requests, in order of time, that the edges hold."""
    held = (
        (trace.input_tokens[row], trace.output_tokens[row])
        for row in order_of(trace)
        if trace.input_tokens[row] <= edges.inputs[-1]
        and trace.output_tokens[row] <= edges.outputs[-1]
    )
    return list(islice(held, requests))


def _counted(pairs: list[Pair]) -> Traffic:
    counts = Counter(pairs)
    lengths = np.array(list(counts), np.int64)
    return Traffic(inputs=lengths[:, 0], outputs=lengths[:, 1],
                   counts=np.array(list(counts.values()), np.int64))  # fmt: skip
