"""Lengths and times of a trace's requests. Owns which rows a workload takes, and in which order."""

from __future__ import annotations

import logging
import random
from array import array
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, islice, repeat
from pathlib import Path

from db.errors import ConfigError
from db.records import Workload
from workers.workloads.arrivals import Recorded
from workers.workloads.lengths import Pair
from workers.workloads.tracefiles import locate, require_rows
from workers.workloads.traces import Trace, fitting, order_of, read_trace

log = logging.getLogger("campaign.traced")


class Traced:
    """The requests of a trace: its rows in order of time for a replay, else drawn at random.

    Prompt and output of a row stay together.
    """

    def __init__(self, workload: Workload, folder: Path) -> None:
        """Read the trace. Raises ConfigError where it is not there, or not what its name says."""
        self.dropped = Counter(over_input_tokens=0, over_output_tokens=0)
        self._work = workload
        self._trace = _read(*locate(workload.lengths, folder))
        require_rows(workload.lengths, self._trace.rows)
        self._fitting = fitting(self._trace, workload.input_tokens, workload.output_tokens)
        if not self._fitting:
            raise ConfigError(
                f"input_tokens={workload.input_tokens} and output_tokens={workload.output_tokens} "
                f"leave out every request of {workload.lengths}"
            )

    def drawn(self) -> Iterator[Pair]:
        """Yield lengths without end; a replay begins again after the last row."""
        if self._work.arrival == "trace":
            order = order_of(self._trace)
            rows: Iterator[int] = chain.from_iterable(repeat(order))
        else:
            chance = random.Random(f"lengths/{self._work.lengths}")  # noqa: S311 - a workload
            rows = (chance.randrange(len(self._trace)) for _ in repeat(None))
        inputs, outputs = self._trace.input_tokens, self._trace.output_tokens
        for row in rows:
            if inputs[row] > self._work.input_tokens:
                self.dropped["over_input_tokens"] += 1
            elif outputs[row] > self._work.output_tokens:
                self.dropped["over_output_tokens"] += 1
            else:
                yield inputs[row], outputs[row]

    def recorded(self) -> Recorded:
        """Return when the requests of a replay came: as many as are asked for, or all."""
        if self._work.requests is not None and self._work.requests <= self._fitting:
            times_s = array("d", islice(self._times_s(), self._work.requests))
            return Recorded(
                count=len(times_s), first_s=times_s[0], last_s=times_s[-1], lap=lambda: times_s
            )
        first_s = next(self._times_s())
        last_s = next(self._times_s(backwards=True))
        return Recorded(count=self._fitting, first_s=first_s, last_s=last_s, lap=self._times_s)

    def _times_s(self, *, backwards: bool = False) -> Iterator[float]:
        trace, order = self._trace, order_of(self._trace)
        for row in reversed(order) if backwards else order:
            if (trace.input_tokens[row] <= self._work.input_tokens
                    and trace.output_tokens[row] <= self._work.output_tokens):  # fmt: skip
                yield trace.times_s[row]


@lru_cache(maxsize=1)
def _read(path: Path, digest: str) -> Trace:
    """Read a trace once for workloads that follow each other; checks that it is the one named."""
    trace = read_trace(path)
    if not trace.sha256.startswith(digest):
        raise ConfigError(
            f"trace {path}: its SHA-256 begins with {trace.sha256[:12]}, not {digest[:12]}; "
            "remove the file and fetch it again"
        )
    log.info("trace_read file=%s rows=%d dropped=%s", path.name, trace.rows, dict(trace.dropped))
    return trace
