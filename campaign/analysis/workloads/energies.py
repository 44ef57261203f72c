"""Joules of batches of equal requests: as they were measured, or as the roofline computes them.

Owns which batch is the largest for a pair of lengths. Never estimates where a measurement is
asked for: what was not measured is None.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from campaign.analysis.per_request import Sample
from campaign.analysis.setups import Setup
from campaign.analysis.sweet_spots.first_principles import Known
from db.records import Workload
from workers.costs.cost import estimate, held_bytes, usable_bytes

#: The largest batch of arXiv:2504.17674.
MOST_TOGETHER = 1024


class Energies(Protocol):
    """Joules of batches on one set-up, by lengths in tokens."""

    @property
    def setup(self) -> Setup:
        """What the joules are of."""

    @property
    def how(self) -> str:
        """Where they come from: ``measured`` or ``roofline``."""

    def largest(self, input_tokens: int, output_tokens: int) -> int:
        """Return the largest batch of these lengths; 0 where there is none."""

    def batch_j(self, input_tokens: int, output_tokens: int, batch: int) -> float | None:
        """Return the joules of a batch; None where they are not known."""


class MeasuredEnergies:
    """Rows of measurements; a batch between two that were measured is charged as the larger one."""

    how = "measured"

    def __init__(
        self, setup: Setup, samples: Iterable[Sample], fits: Fitting | None = None
    ) -> None:
        """Take the mean where a point was measured more than once. `fits` bounds the batches."""
        self.setup = setup
        self._fits = fits
        found: dict[tuple[float, float], dict[int, list[float]]] = {}
        for one in samples:
            if one.batch_size is not None:
                batches = found.setdefault((one.input_tokens, one.output_tokens), {})
                batches.setdefault(one.batch_size, []).append(one.energy_j)
        self._request_j = {
            pair: {batch: sum(each) / len(each) for batch, each in sorted(batches.items())}
            for pair, batches in found.items()
        }

    def lengths(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the whole input and output lengths that were measured, rising."""
        pairs = self._request_j
        inputs, outputs = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
        return tuple(sorted(int(n) for n in inputs)), tuple(sorted(int(n) for n in outputs))

    def largest(self, input_tokens: int, output_tokens: int) -> int:
        """Return the largest batch that was measured, and that fits where that is asked."""
        batches = self._request_j.get((input_tokens, output_tokens), {})
        most = max(batches, default=0)
        if self._fits is not None and batches:
            fits = self._fits.largest(input_tokens, output_tokens)
            most = max((batch for batch in batches if batch <= fits), default=0)
        return most

    def batch_j(self, input_tokens: int, output_tokens: int, batch: int) -> float | None:
        """Return the joules of the smallest measured batch that holds so many requests."""
        batches = self._request_j.get((input_tokens, output_tokens), {})
        held = min((size for size in batches if size >= batch), default=None)
        return None if held is None else held * batches[held]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """Batches by the arithmetic of memory: weights, and the KV cache at the end of the answers.

    What activations take is not counted. At most `most` requests.
    """

    known: Known
    most: int = MOST_TOGETHER

    def largest(self, input_tokens: int, output_tokens: int) -> int:
        """Return how many requests of these lengths fit; 0 where not one does."""
        engine, shape = self.known.engine, self.known.shape
        context, limit = input_tokens + output_tokens, shape.max_position
        if limit is not None and context > limit:
            return 0
        room = usable_bytes(engine, self.known.board)
        if room is None:
            return self.most
        weights, each = held_bytes(engine, shape, context)
        return max(0, min(self.most, int((room - weights) // (each or 1.0))))


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputedEnergies:
    """The roofline's joules: estimates, never measurements."""

    setup: Setup
    fits: Fitting
    how: str = field(default="roofline")

    def largest(self, input_tokens: int, output_tokens: int) -> int:
        """Return the largest batch that fits."""
        return self.fits.largest(input_tokens, output_tokens)

    def batch_j(self, input_tokens: int, output_tokens: int, batch: int) -> float | None:
        """Return what the roofline says of a batch; None where it says nothing."""
        load = Workload(input_tokens=input_tokens, output_tokens=output_tokens, batch_size=batch)
        known = self.fits.known
        cost = estimate(known.engine, known.shape, known.board, load)
        return None if cost is None else cost.energy_j
