"""A trace replayed on simulated boards, to see what its bins got wrong.

Owns in which batches the requests are handed over: those of a bin together, or as they came. A
batch takes as long as its longest request, as a static batch does. Nothing of it is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from campaign.analysis.workloads.energies import Fitting
from campaign.analysis.workloads.traffic import Edges
from db.errors import ConfigError
from workers.engines.engine import Request
from workers.engines.simulated import open_simulated

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """Joules of the same requests in batches of their bin, and in batches as they came."""

    requests: int
    grouped_j: float
    grouped_batches: int
    arrival_j: float
    arrival_batches: int


def replayed(pairs: Sequence[Pair], edges: Edges, fits: Fitting, seed: int = 0) -> Replayed:
    """Return what the requests cost on simulated boards; every one has to fit in a bin.

    Raises ConfigError where one does not fit in memory, or the boards' power is not known.
    """
    bins = [_bin(pair, edges) for pair in pairs]
    grouped = list(_grouped(pairs, bins, fits))
    arrival = list(_as_they_came(pairs, edges, fits))
    return Replayed(
        requests=len(pairs),
        grouped_j=_metered(grouped, fits, seed),
        grouped_batches=len(grouped),
        arrival_j=_metered(arrival, fits, seed),
        arrival_batches=len(arrival),
    )


def _bin(pair: Pair, edges: Edges) -> Pair:
    """Return the upper edges of the bin that holds a request."""
    held = [min((edge for edge in side if edge >= length), default=0)
            for side, length in zip((edges.inputs, edges.outputs), pair, strict=True)]  # fmt: skip
    return held[0], held[1]


def _grouped(
    pairs: Sequence[Pair], bins: Sequence[Pair], fits: Fitting
) -> Iterator[Sequence[Pair]]:
    """Yield batches of requests of one bin, each the largest that fits, in order of arrival."""
    members: dict[Pair, list[Pair]] = {}
    for pair, where in zip(pairs, bins, strict=True):
        members.setdefault(where, []).append(pair)
    for where, requests in members.items():
        size = _held(where, fits)
        yield from (requests[at : at + size] for at in range(0, len(requests), size))


def _as_they_came(pairs: Sequence[Pair], edges: Edges, fits: Fitting) -> Iterator[Sequence[Pair]]:
    """Yield batches in order of arrival, each as large as the bin of its longest lengths allows."""
    batch: list[Pair] = []
    longest = (0, 0)
    for pair in pairs:
        wider = max(longest[0], pair[0]), max(longest[1], pair[1])
        if batch and len(batch) >= _held(_bin(wider, edges), fits):
            yield batch
            batch, wider = [], pair
        batch.append(pair)
        longest = wider
    if batch:
        yield batch


def _held(lengths: Pair, fits: Fitting) -> int:
    size = fits.largest(*lengths)
    if not size:
        raise ConfigError(f"replay: no request of {lengths[0]} in and {lengths[1]} out fits on "
                          f"{fits.known.board.slug}")  # fmt: skip
    return size


def _metered(batches: Sequence[Sequence[Pair]], fits: Fitting, seed: int) -> float:
    """Return the joules of batches, one after the other, on boards that deviate as `seed` says."""
    spec = replace(fits.known.engine, options={})
    engine, meter, _ = open_simulated(spec, fits.known.board, seed)
    engine.prepare()
    engine.load()
    meter.open()
    for batch in batches:
        engine.generate(
            [Request(prompt=range(inputs), output_tokens=outputs) for inputs, outputs in batch]
        )
    energy_j = meter.close().energy_j
    engine.close()
    if energy_j is None or not isfinite(energy_j):
        raise ConfigError(f"replay: the power of {fits.known.board.slug} is not known")
    return energy_j
