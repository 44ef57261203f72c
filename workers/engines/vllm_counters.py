"""vLLM's own counters, and its steps counted as they happen: what a batch was in the engine.

Names with ``vllm:`` are those of its metrics; those without are counted here, once per step, from
the statistics it reports with each. Reading costs a tenth of a millisecond. Never imports vllm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Counters and histograms by the names of their samples, less the ``_total`` of a counter.
METRICS = (
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "vllm:num_preemptions_total",
    "vllm:spec_decode_num_drafts_total",
    "vllm:spec_decode_num_draft_tokens_total",
    "vllm:spec_decode_num_accepted_tokens_total",
    "vllm:iteration_tokens_total_sum",
    "vllm:iteration_tokens_total_count",
)
#: Steps of the engine, chunks of prompts included, of which vLLM's histogram knows nothing.
STEPS = "engine_steps"
#: Requests computed together, summed over the steps.
RUNNING = "engine_steps_running"


class Counters:
    """The counters of one loaded engine, from when they were attached to it.

    `manager` is the engine's StatLoggerManager: it calls `record` once per step, in the thread
    that runs the engine, and the registry of metrics it fills is the process's own.
    """

    def __init__(self, manager: Any) -> None:  # noqa: ANN401 - vLLM's, known by its shape
        from prometheus_client import REGISTRY

        self._metrics = REGISTRY.restricted_registry(METRICS)
        self._steps = _Steps()
        manager.stat_loggers.append(self._steps)

    def read(self) -> dict[str, float]:
        """Return every counter since the engine was loaded, by name."""
        found = dict(self._steps.told)
        for metric in self._metrics.collect():
            for sample in metric.samples:
                name = sample.name.removesuffix("_total")
                found[name] = found.get(name, 0.0) + sample.value
        return found


class _Steps:
    """One of vLLM's stat loggers, by its methods: counts steps and what ran in each."""

    def __init__(self) -> None:
        self.told: dict[str, float] = {STEPS: 0.0, RUNNING: 0.0}

    def record(
        self,
        scheduler_stats: Any,  # noqa: ANN401 - vLLM's SchedulerStats
        iteration_stats: Any,  # noqa: ANN401 - vLLM's IterationStats; None without a token
        **_: object,
    ) -> None:
        """Count a step. Its requests are those still running and those it was the last of.

        Under load the engine also turns once without any, to forget those that have ended: such a
        turn computes nothing, and is no step.
        """
        if scheduler_stats is None:
            return
        ended = 0 if iteration_stats is None else len(iteration_stats.finished_requests)
        together = scheduler_stats.num_running_reqs + ended
        if not together:
            return
        told = self.told
        self.told = {
            STEPS: told[STEPS] + 1,
            RUNNING: told[RUNNING] + together,
        }

    def log(self) -> None:
        """Nothing is printed."""

    def log_engine_initialized(self) -> None:
        """Nothing is printed."""

    def record_sleep_state(self, *_: object) -> None:
        """An engine that measures never sleeps."""

    def record_admission_rejection(self, _reason: str) -> None:
        """Whoever is refused hears of it."""


def since(now: Mapping[str, float], earlier: Mapping[str, float]) -> dict[str, float]:
    """Return what was counted between two readings."""
    return {name: value - earlier.get(name, 0.0) for name, value in now.items()}


def running_mean(counted: Mapping[str, float]) -> float | None:
    """Return the requests computed together, averaged over the steps; None without a step."""
    steps = counted.get(STEPS, 0.0)
    return counted.get(RUNNING, 0.0) / steps if steps else None
