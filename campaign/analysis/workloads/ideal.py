"""The idealised baseline of a trace: its FLOPs at a board's peak and TDP, and what exceeds it.

Pure. Owns the two peaks and the ways of counting FLOPs that publications use; arXiv:2504.17674
takes the sparse peak. A baseline is a supposed lower bound: an estimate below it is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from campaign.analysis.workloads.traffic import Edges, Floats, Ints, Traffic
from db.records import Board
from workers.shapes.shape import Shape

#: Structured sparsity doubles the rate of the matrix units that have it, from Ampere on.
SPARSE = 2.0
SPARSE_SINCE = 8.0
#: How FLOPs are counted: (FLOPs per multiply-accumulate, output matrix at every prompt token).
CONVENTIONS: Mapping[str, tuple[int, bool]] = {
    "2_per_mac": (2, False),
    "2_per_mac_head_everywhere": (2, True),
    "1_per_mac": (1, False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ideal:
    """Joules of a trace at a peak and TDP: with lengths of the bins, and with its own."""

    peak: str
    convention: str
    peak_flops: float
    ceiling_flops: float
    actual_flops: float
    ceiling_j: float
    actual_j: float


def ideals(
    traffic: Traffic, edges: Edges, shape: Shape, board: Board, capability: float | None
) -> tuple[Ideal, ...] | str:
    """Return the baseline for every peak and convention, or in one line why there is none.

    `capability` is the board's compute capability.
    """
    dense = board.bf16_flops or board.fp16_flops
    if dense is None or board.tdp_w is None:
        return f"{board.slug}: its FLOP/s or TDP are not in the catalogue"
    peaks = {"dense": dense}
    if capability is not None and capability >= SPARSE_SINCE:
        peaks["sparse"] = SPARSE * dense
    upper_in = np.array(edges.inputs)[np.searchsorted(edges.inputs, traffic.inputs)]
    upper_out = np.array(edges.outputs)[np.searchsorted(edges.outputs, traffic.outputs)]
    found = []
    for convention, (per_mac, everywhere) in CONVENTIONS.items():
        ceiling = _flops(shape, upper_in, upper_out, everywhere=everywhere) * per_mac / 2
        actual = _flops(shape, traffic.inputs, traffic.outputs, everywhere=everywhere) * per_mac / 2
        ceiling_flops = float((ceiling * traffic.counts).sum())
        actual_flops = float((actual * traffic.counts).sum())
        found += [
            Ideal(peak=peak, convention=convention, peak_flops=rate, ceiling_flops=ceiling_flops,
                  actual_flops=actual_flops, ceiling_j=ideal_j(ceiling_flops, board.tdp_w, rate),
                  actual_j=ideal_j(actual_flops, board.tdp_w, rate))
            for peak, rate in peaks.items()
        ]  # fmt: skip
    return tuple(found)


def ideal_j(flops: float, tdp_w: float, peak_flops: float) -> float:
    """Return the joules of so many FLOPs at a peak and TDP."""
    return flops * tdp_w / peak_flops


def excess(energy_j: float, ideal: float) -> float:
    """Return by what share of the ideal joules others exceed them; below 0 they are less."""
    return energy_j / ideal - 1


def saving(before: float, after: float) -> float:
    """Return the share of joules saved between two excesses over the same ideal."""
    return 1 - (1 + after) / (1 + before)


def _flops(shape: Shape, inputs: Ints, outputs: Ints, *, everywhere: bool) -> Floats:
    """Return the FLOPs of requests of these lengths, 2 per multiply-accumulate.

    Prefill and decode are sums over positions, so two tables answer for every pair.
    """
    most = int((inputs + outputs).max())
    prompts = _positions(shape, int(inputs.max()), decode=False)
    answers = _positions(shape, most, decode=True)
    heads = outputs + (inputs - 1 if everywhere else 0)
    total: Floats = prompts[inputs] + answers[inputs + outputs - 1] - answers[inputs]
    return total + heads * float(shape.head_flops)


def _positions(shape: Shape, most: int, *, decode: bool) -> Floats:
    """Return the layers' FLOPs of the tokens up to each position, from 0 on."""
    each = [shape.layer_flops(at, at, decode=decode) for at in range(1, most + 1)]
    return np.concatenate([[0.0], np.cumsum(np.array(each, np.float64))])
