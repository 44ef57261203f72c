"""What a trace costs by its bins: ceiling and interpolated, in fractional and in whole batches.

Pure. Owns the arithmetic of arXiv:2504.17674 and what is better than it; what no bin has joules
for is left out and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from campaign.analysis.workloads.energies import Energies
from campaign.analysis.workloads.traffic import Binned, Edges, Floats, Ints, Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One bin that requests fell into: lengths of its upper edges, its largest batch, its joules.

    `batches` is fractional: requests over batch. `whole_j` are the joules of whole batches, the
    last one as small as it is; `energy_j` those of the fractional ones.
    """

    input_tokens: int
    output_tokens: int
    requests: int
    batch_size: int
    batches: float
    energy_j: float
    whole_j: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Joules of the requests in `covered`. Ceiling takes each as long as its bin.

    `uncovered` are requests by reason: `not_measured`, or `does_not_fit`. `as_ceiling` are those
    whose neighbours had no joules to interpolate with.
    """

    covered: Traffic
    ceiling_j: float
    ceiling_whole_j: float
    interpolated_j: float
    interpolated_whole_j: float
    bins: tuple[Bin, ...]
    uncovered: Mapping[str, int]
    as_ceiling: int


def has_joules(binned: Binned, edges: Edges, energies: Energies) -> NDArray[np.bool_]:
    """Return for each pair of lengths whether its bin has joules."""
    return np.isfinite(_table(edges, energies)[1][binned.rows, binned.columns])


def estimate_of(
    binned: Binned, edges: Edges, energies: Energies, shared: NDArray[np.bool_] | None = None
) -> Estimate:
    """Return what the requests cost; `shared` keeps those that every engine has joules for."""
    batches, request_j = _table(edges, energies)
    rows, columns, traffic = binned.rows, binned.columns, binned.traffic
    there = np.isfinite(request_j[rows, columns])
    uncovered = {
        "does_not_fit" if energies.how == "roofline" else "not_measured":
            int(traffic.counts[~there].sum()),
        "left_out_for_comparison": 0 if shared is None
            else int(traffic.counts[there & ~shared].sum()),
    }  # fmt: skip
    kept = there if shared is None else there & shared
    held = traffic.where(kept)
    rows, columns = rows[kept], columns[kept]
    each = _interpolated(request_j, edges, held, rows, columns)
    missing = ~np.isfinite(each)
    each = np.where(missing, request_j[rows, columns], each)
    bins = _bins(held, edges, energies, (rows, columns), batches)
    whole = np.ones(batches.shape)
    for one in bins:
        at = edges.inputs.index(one.input_tokens), edges.outputs.index(one.output_tokens)
        whole[at] = one.whole_j / one.energy_j
    return Estimate(
        covered=held,
        ceiling_j=sum(one.energy_j for one in bins),
        ceiling_whole_j=sum(one.whole_j for one in bins),
        interpolated_j=float((each * held.counts).sum()),
        interpolated_whole_j=float((each * whole[rows, columns] * held.counts).sum()),
        bins=bins,
        uncovered={why: count for why, count in uncovered.items() if count},
        as_ceiling=int(held.counts[missing].sum()),
    )


def _table(edges: Edges, energies: Energies) -> tuple[Ints, Floats]:
    """Return the largest batch of every bin, and the joules of one of its requests, NaN for none.

    Of every bin, since those without requests are neighbours of others in the interpolation.
    """
    shape = len(edges.inputs), len(edges.outputs)
    batches, request_j = np.zeros(shape, np.int64), np.full(shape, np.nan)
    for row, column in np.ndindex(shape):
        lengths = edges.inputs[row], edges.outputs[column]
        batch = energies.largest(*lengths)
        joules = energies.batch_j(*lengths, batch) if batch else None
        if joules is not None:
            batches[row, column], request_j[row, column] = batch, joules / batch
    return batches, request_j


def _interpolated(
    request_j: Floats, edges: Edges, traffic: Traffic, rows: Ints, columns: Ints
) -> Floats:
    """Return the joules of a request of each pair of lengths, linear in both within its bin.

    Below the first edge the line through the first two goes on. NaN where a corner has no joules,
    or the line runs into the ground.
    """
    low_row, high_row, part_in = _between(edges.inputs, traffic.inputs, rows)
    low_col, high_col, part_out = _between(edges.outputs, traffic.outputs, columns)
    low = (1 - part_out) * request_j[low_row, low_col] + part_out * request_j[low_row, high_col]
    high = (1 - part_out) * request_j[high_row, low_col] + part_out * request_j[high_row, high_col]
    each: Floats = (1 - part_in) * low + part_in * high
    return np.where(each > 0, each, np.nan)


def _between(edges: tuple[int, ...], lengths: Ints, at: Ints) -> tuple[Ints, Ints, Floats]:
    """Return the edges on both sides of each length, and how far it is from the lower one."""
    if len(edges) == 1:
        return at, at, np.zeros(len(at))
    upper, there = np.maximum(at, 1), np.array(edges, np.float64)
    lower = upper - 1
    return lower, upper, (lengths - there[lower]) / (there[upper] - there[lower])


def _bins(
    traffic: Traffic,
    edges: Edges,
    energies: Energies,
    at: tuple[Ints, Ints],
    batches: Ints,
) -> tuple[Bin, ...]:
    counts = np.zeros(batches.shape, np.int64)
    np.add.at(counts, at, traffic.counts)
    found = []
    for row, column in zip(*np.nonzero(counts), strict=True):
        lengths, batch = (edges.inputs[row], edges.outputs[column]), int(batches[row, column])
        requests = int(counts[row, column])
        full, rest = divmod(requests, batch)
        whole_j = energies.batch_j(*lengths, batch) or 0.0
        rest_j = (energies.batch_j(*lengths, rest) or whole_j) if rest else 0.0
        found.append(Bin(
            input_tokens=lengths[0], output_tokens=lengths[1], requests=requests,
            batch_size=batch, batches=requests / batch, energy_j=requests / batch * whole_j,
            whole_j=full * whole_j + rest_j,
        ))  # fmt: skip
    return tuple(found)
