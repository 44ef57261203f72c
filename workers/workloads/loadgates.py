"""The gates of what an engine did with its requests: whether it reached the batch and kept up.

Pure; the thresholds are `Gates` of workers/validity.py. Counters are read by the names vLLM gives
them; an engine that does not count is not judged. The words are explained in docs/workloads.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from db.errors import InvalidMeasurement
from db.readings import Window

PREEMPTIONS = "vllm:num_preemptions"
#: Requests in the engine at a window's end less those at its start: what a queue grew by.
BACKLOG = "backlog_growth"
#: A queue that grows by less than this part of the requests is one that comes and goes.
GROWTH = 0.05


def check_batch_reached(windows: Sequence[Window], reachable: float, fraction: float) -> None:
    """Void where the engine computed clearly fewer requests together than it could have."""
    for window in windows:
        running = window.running_mean
        if running is not None and running < fraction * reachable:
            message = (
                f"{running:.1f} requests were computed together in the mean, of {reachable:.1f} "
                "that these lengths allow: a smaller batch, or more memory for the KV cache"
            )
            raise InvalidMeasurement("batch_not_reached", message)


def load_marks(windows: Sequence[Window], lateness: float) -> Iterator[str]:
    """Yield the marks of windows; `lateness` is the part of TTFT that the generator may add."""
    if any(window.counters.get(PREEMPTIONS, 0) > 0 for window in windows):
        yield "preempted"
    if any(_late(window, lateness) for window in windows):
        yield "generator_late"
    growth = sum(window.counters.get(BACKLOG, 0.0) for window in windows)
    requests = sum(window.requests for window in windows)
    if growth > max(GROWTH * requests, 3 * math.sqrt(requests)):
        yield "overloaded"


def _late(window: Window, lateness: float) -> bool:
    late, first = window.latencies.get("late_s"), window.latencies.get("ttft_s")
    return late is not None and first is not None and late["mean"] > lateness * first["mean"]
