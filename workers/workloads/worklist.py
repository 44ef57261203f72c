"""The requests of a workload: how long each is and when it arrives, with prompts never seen before.

Owns the join of lengths, arrivals and prompts. The lengths and the times follow from the workload
alone, the prompts from a seed as well: every engine is asked for the same, and no cache can answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path

from db.errors import ConfigError, TaskFault
from db.records import Workload
from workers.engines.engine import Request
from workers.workloads import arrivals
from workers.workloads.batching import SETTLED, STEP_TOKENS, reachable_mean
from workers.workloads.lengths import FIXED, Drawn, Fixed, Lengths, Pair, problem, tasks
from workers.workloads.prompts import Prompts
from workers.workloads.traced import Traced
from workers.workloads.tracefiles import is_file


class Worklist:
    """The requests of one task; `output_tokens` overrides what each of them generates."""

    def __init__(
        self, workload: Workload, *, vocabulary: int, seed: str, traces: Path,
        output_tokens: int | None = None,
    ) -> None:  # fmt: skip
        """Open what the lengths come from. Raises TaskFault where that cannot be."""
        self.workload = workload
        self._output_tokens = output_tokens
        self._prompts = Prompts(
            vocabulary=vocabulary, seed=seed, prefix_tokens=workload.prefix_tokens
        )
        try:
            self._lengths = open_lengths(workload, traces)
        except ConfigError as error:
            raise TaskFault("bad_workload", str(error), permanent=True) from error
        #: The lengths of one pass: all requests that are asked for, or one batch.
        self.once = tuple(islice(self.lengths(), workload.requests or workload.batch_size))
        #: How many were left out of one pass for their length, by the counter's name.
        self.left_out = self.dropped()

    def dropped(self) -> dict[str, float]:
        """Return how many requests were left out so far, by the counter's name."""
        return {f"dropped_{why}": float(n) for why, n in self._lengths.dropped.items()}

    @property
    def first(self) -> tuple[Pair, ...]:
        """The lengths of the first batch."""
        return self.once[: self.workload.batch_size]

    def batches(self) -> Iterator[tuple[Pair, ...]]:
        """Yield the lengths of one pass as they are handed over: in batches, or all at once."""
        size = len(self.once) if self.workload.arrival == "at_once" else self.workload.batch_size
        return (self.once[at : at + size] for at in range(0, len(self.once), size))

    def lengths(self) -> Iterator[Pair]:
        """Yield lengths without end, the same ones at every call."""
        for prompt, output in self._lengths.drawn():
            yield prompt, self._output_tokens or output

    def reachable(
        self, step_tokens: int | None, lookahead: int, places: int | None
    ) -> float | None:
        """Return how many requests could be computed together in the mean.

        None where that is not for the engine to reach: requests that arrive in their own time may
        find it idle, and without `places` it computes a static batch as it is. Nor where nobody can
        tell: a search of beams asks for its tokens one by one, and static batches whose answers
        are unlike take unlike times.
        """
        work, most = self.workload, self.workload.batch_size
        if work.beams > 1 or work.arrival not in ("static", "at_once", "closed"):
            return None
        batches = tuple(self.batches())
        if work.arrival == "static":
            if places is None or len({output for _, output in self.once}) > 1:
                return None
            most = min(most, places)
        elif work.arrival == "closed":
            settled = SETTLED * work.batch_size  # of a load that goes on
            batches = (self.once if work.requests else tuple(islice(self.lengths(), settled)),)
        steps = [
            [(prompt, -(-output // (1 + lookahead))) for prompt, output in lengths]
            for lengths in batches
        ]
        best = reachable_mean(steps, most, step_tokens or STEP_TOKENS)
        if work.arrival == "closed":  # the step after an answer is under way as its client asks
            decoded = sum(taken for batch in steps for _, taken in batch)
            best *= decoded / (decoded + sum(map(len, steps)))
        return best

    def turn(self) -> None:
        """Let the prompts from here on begin with another common prefix."""
        self._prompts.turn()

    def requests(self, lengths: Sequence[Pair]) -> tuple[Request, ...]:
        """Return requests of these lengths, each with a prompt that never comes again."""
        prompts = self._prompts.of([tokens for tokens, _ in lengths])
        return tuple(
            Request(prompt=prompt, output_tokens=output)
            for prompt, (_, output) in zip(prompts, lengths, strict=True)
        )

    def arrivals_s(self, turn: int = 0) -> Iterator[float]:
        """Yield seconds from the start of the load at which requests arrive, without end.

        Every `turn` of a Poisson process is another draw. Those of a closed load arrive when a
        client is free: all at once, here.
        """
        work = self.workload
        if work.arrival == "trace":
            return arrivals.replay(self._lengths.recorded(), work.rate_rps)
        if work.rate_rps is None:
            return (0.0 for _ in count())
        if work.arrival == "poisson":
            seed = f"arrivals/{work.rate_rps}/{turn}"
            return arrivals.poisson(work.rate_rps, seed)
        return arrivals.constant(work.rate_rps)


def open_lengths(workload: Workload, folder: Path) -> Lengths:
    """Return the lengths of a workload; `folder` holds the traces. Raises ConfigError."""
    wrong = problem(workload)
    if wrong is not None or is_file(workload.lengths):
        raise ConfigError(f"workload: {wrong or f'{workload.lengths} was never resolved'}")
    if workload.lengths == FIXED:
        return Fixed(workload)
    if workload.lengths in tasks():
        return Drawn(workload)
    return Traced(workload, folder)
