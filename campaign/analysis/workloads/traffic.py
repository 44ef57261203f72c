"""The lengths of a trace's requests, counted, and the bins that they fall into. Pure.

Owns the bins of arXiv:2504.17674 in both of its readings, and what they leave out. Never clips a
length: what is longer than the last bin is dropped and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from db.errors import ConfigError
from workers.workloads.traces import Trace

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: The paper's bins: the set of input lengths as it is printed, and the powers of two from 2^4 to
#: 2^13 that it is said to be, which hold 16 and 64 as well. Output lengths are the same in both.
OUTPUTS = (8, 16, 32, 64, 128, 256, 512)
READINGS: Mapping[str, tuple[int, ...]] = {
    "printed": (32, 128, 256, 512, 1024, 2048, 4096, 8192),
    "powers": (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """The upper ends of bins, in tokens, rising. A length belongs to the first that holds it."""

    inputs: tuple[int, ...] = READINGS["printed"]
    outputs: tuple[int, ...] = OUTPUTS

    def __post_init__(self) -> None:
        """Raise ConfigError for edges that are not rising, or not there."""
        for name, edges in {"input": self.inputs, "output": self.outputs}.items():
            if not edges or edges[0] < 1 or any(b <= a for a, b in pairwise(edges)):
                told = ",".join(map(str, edges)) or "none"
                raise ConfigError(f"{name} edges {told}: give rising whole numbers from 1 up")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long prompts or answers are, in tokens; the standard deviation is a sample's."""

    mean: float
    standard_deviation: float
    median: float
    p99: float


def lengths_of(values: Ints, counts: Ints) -> Lengths:
    """Return how long requests are, of lengths and how many have each."""
    order = np.argsort(values)
    rising, until = values[order], np.cumsum(counts[order])
    requests = int(until[-1])
    mean = float((values * counts).sum() / requests)
    squares = float((counts * (values - mean) ** 2).sum())

    def quantile(share: float) -> float:
        at = share * (requests - 1)
        low, high = rising[
            np.searchsorted(until, [int(at), min(int(at) + 1, requests - 1)], "right")
        ]
        return float(low + (at - int(at)) * (high - low))

    return Lengths(mean=mean, standard_deviation=float(np.sqrt(squares / max(requests - 1, 1))),
                   median=quantile(0.5), p99=quantile(0.99))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Pairs of lengths and how many requests have each; arrays of one length.

    `dropped` counts rows of the file that are not here, by reason.
    """

    inputs: Ints
    outputs: Ints
    counts: Ints
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """How many requests there are."""
        return int(self.counts.sum())

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens of all prompts, and of all answers."""
        return int((self.inputs * self.counts).sum()), int((self.outputs * self.counts).sum())

    @property
    def lengths(self) -> Mapping[str, Lengths]:
        """How long prompts (`input`) and answers (`output`) are."""
        return {"input": lengths_of(self.inputs, self.counts),
                "output": lengths_of(self.outputs, self.counts)}  # fmt: skip

    def where(self, mask: NDArray[np.bool_]) -> Traffic:
        """Return the part that a mask over the pairs keeps."""
        return Traffic(inputs=self.inputs[mask], outputs=self.outputs[mask],
                       counts=self.counts[mask], dropped=self.dropped)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Binned:
    """Traffic that the edges hold, with the number of its bin along each length.

    `dropped` are requests by reason, the file's own included; `dropped_input_share` and
    `dropped_output_share` the share of the trace's tokens that those beyond the edges had.
    `input_inflation` is tokens of the bins over tokens of the requests.
    """

    traffic: Traffic
    rows: Ints
    columns: Ints
    dropped: Mapping[str, int]
    dropped_input_share: float
    dropped_output_share: float
    input_inflation: float
    output_inflation: float


def traffic_of(trace: Trace) -> Traffic:
    """Return the requests of a trace by their lengths."""
    inputs = np.frombuffer(trace.input_tokens, np.uint32).astype(np.int64)
    outputs = np.frombuffer(trace.output_tokens, np.uint32).astype(np.int64)
    base = int(outputs.max()) + 1
    pairs, counts = np.unique(inputs * base + outputs, return_counts=True)
    return Traffic(inputs=pairs // base, outputs=pairs % base, counts=counts.astype(np.int64),
                   dropped=trace.dropped)  # fmt: skip


def binned(traffic: Traffic, edges: Edges) -> Binned:
    """Return the traffic by bin. Raises ConfigError where the edges leave out every request."""
    rows = np.searchsorted(edges.inputs, traffic.inputs)
    columns = np.searchsorted(edges.outputs, traffic.outputs)
    long_in, long_out = rows == len(edges.inputs), columns == len(edges.outputs)
    kept = ~(long_in | long_out)
    if not kept.any():
        raise ConfigError(
            f"nothing of the trace is left: every request has more than {edges.inputs[-1]} prompt "
            f"or {edges.outputs[-1]} output tokens; give longer --input-edges and --output-edges"
        )
    held, before = traffic.where(kept), traffic.tokens
    upper_in = np.array(edges.inputs)[rows[kept]]
    upper_out = np.array(edges.outputs)[columns[kept]]
    counts, after = held.counts, held.tokens
    dropped = {"over_input_edges": int(traffic.counts[long_in].sum()),
               "over_output_edges": int(traffic.counts[long_out & ~long_in].sum())}  # fmt: skip
    return Binned(
        traffic=held, rows=rows[kept], columns=columns[kept],
        dropped={**traffic.dropped, **{why: count for why, count in dropped.items() if count}},
        dropped_input_share=1 - after[0] / before[0],
        dropped_output_share=1 - after[1] / before[1],
        input_inflation=float((upper_in * counts).sum()) / after[0],
        output_inflation=float((upper_out * counts).sum()) / after[1],
    )  # fmt: skip
