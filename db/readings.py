"""What was measured: the value types that meters and engines report and the store keeps.

Pure data: no input or output, no imports beyond the standard library and its neighbour. Units are
in the names (_j joules, _w watts, _s seconds, _ns nanoseconds of CLOCK_MONOTONIC, _tokens). A value
that could not be measured is None, and the reason stands in `reasons` of the same record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from db.records import Reality

# ---- what a meter reports --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerTrace:
    """Power samples of one GPU inside a window: seconds since the window's start, and watts."""

    offsets_s: tuple[float, ...]
    watts: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuEnergy:
    """One GPU in one window.

    `energy_j` is `counter_j` where it can be trusted, else `integrated_j`, else None with a
    reason; `method` says which (``counter``, ``integrated``).
    `timing_uncertainty_j` is the 95 % half-width of `energy_j` (counter tick, edges, sampling),
    `integrated_uncertainty_j` that of `integrated_j`; neither holds `sensor_accuracy`, the
    relative 95 % accuracy of the board's sensor, which is None unless somebody calibrated it.
    `ratio` is counter over integral. `power_field` is the NVML field that was read: ``instant``,
    ``average`` or ``legacy``, and `sensor_period_s` how often it changed. `sibling` marks a GPU
    of the host outside the measured group: it is never part of a sum.
    """

    uuid: str
    index: int
    name: str
    sibling: bool = False
    energy_j: float | None = None
    method: str | None = None
    counter_j: float | None = None
    integrated_j: float | None = None
    ratio: float | None = None
    timing_uncertainty_j: float | None = None
    integrated_uncertainty_j: float | None = None
    sensor_accuracy: float | None = None
    mean_w: float | None = None
    max_w: float | None = None
    samples: int = 0
    power_field: str | None = None
    sensor_period_s: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    utilization_pct: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    trace: PowerTrace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuEnergy:
    """CPU packages and DRAM of the host in one window, from RAPL; None with reasons otherwise."""

    package_j: float | None = None
    dram_j: float | None = None
    method: str | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyEstimate:
    """A modelled, not measured, energy of the board or host; never mixed with `energy_j`."""

    energy_estimated_j: float | None
    method: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the meters say about one window.

    `started_ns`/`ended_ns` are CLOCK_MONOTONIC, `started_at` Unix seconds. `energy_j` is the
    board's: the sum over the group's GPUs, or CPU package plus DRAM on a `cpu:` board; None with
    a reason where it was not measured. `energy_method` names its source (``nvml_counter``,
    ``nvml_integrated``, ``rapl``, ``roofline``). `sensor_accuracy` is relative, weighted by the
    joules of the group's sensors; None unless each of them is calibrated.
    """

    started_ns: int
    ended_ns: int
    started_at: float
    reality: Reality
    energy_j: float | None = None
    energy_method: str | None = None
    timing_uncertainty_j: float | None = None
    sensor_accuracy: float | None = None
    gpus: tuple[GpuEnergy, ...] = ()
    cpu: CpuEnergy | None = None
    estimate: EnergyEstimate | None = None
    reasons: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length of the window in seconds."""
        return (self.ended_ns - self.started_ns) / 1e9


# ---- what an engine reports ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTiming:
    """One request: tokens by the engine's own token ids, latencies in seconds.

    `ttft_s` is arrival to first token, `e2e_s` arrival to last token. Inter-token latency is
    their difference over the tokens after the first.
    """

    input_tokens: int
    output_tokens: int
    ttft_s: float | None
    e2e_s: float

    @property
    def itl_s(self) -> float | None:
        """Mean inter-token latency in seconds; None with fewer than two tokens or no TTFT."""
        if self.ttft_s is None or self.output_tokens < 2:  # noqa: PLR2004 - the first token has no predecessor
            return None
        return (self.e2e_s - self.ttft_s) / (self.output_tokens - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch generated by an engine, in CLOCK_MONOTONIC nanoseconds of the session's clock.

    `prefix_cache_hit_tokens` is None where the engine cannot tell. `running_mean` is the number
    of requests computed together, averaged over the engine's steps; None where it cannot tell.
    `counters` are the engine's own, by its own names, counted over this batch.
    """

    started_ns: int
    ended_ns: int
    requests: tuple[RequestTiming, ...]
    prefix_cache_hit_tokens: int | None = None
    running_mean: float | None = None
    counters: Mapping[str, float] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        """Length of the batch in seconds."""
        return (self.ended_ns - self.started_ns) / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What an engine says about itself after loading.

    `resolved` is its own complete configuration after defaults; `software` maps package to
    version; `pid` is the process that computes.
    """

    resolved: Mapping[str, object]
    software: Mapping[str, str]
    pid: int


# ---- what is stored --------------------------------------------------------------------------


class WindowKind(StrEnum):
    """What a window of a session or attempt covers."""

    IDLE_EMPTY = "idle_empty"  # board empty, before the load
    LOAD = "load"  # loading the engine
    IDLE_RESIDENT = "idle_resident"  # model resident, after the load
    IDLE_END = "idle_end"  # model resident, after the last task
    REPEAT = "repeat"  # one repeat of a task's measurement
    PREFILL = "prefill"  # the same prompts with one output token: a prefill-only run


class Phase(StrEnum):
    """What an engine's steps do; the comment is what bounds them in a batch handed over at once."""

    PREFILL = "prefill"  # prompts only: hand-over to the first request's first token
    MIXED = "mixed"  # prompts and tokens: to the last request's first token
    DECODE = "decode"  # tokens only: to the last token


class PhaseMethod(StrEnum):
    """How the energy of a phase was told apart."""

    STEPS = "steps"  # by the engine's own time stamps, within the window
    PREFILL_RUN = "prefill_run"  # against prefill-only windows of the same task


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseEnergy:
    """One phase of all batches of a window, summed over the board group.

    `tokens` is what the phase worked on where it did so alone: prompt tokens in prefill, generated
    tokens after each request's first in decode. `energy_j` is None with a reason, among them
    ``phases_mixed`` (the phase never occurred alone) and ``phase_unresolved`` (too short for the
    meter); ``phases_mixed`` beside joules says that a part of the phase was mixed and is not in
    them, and leaves `tokens` None. `timing_uncertainty_j` is a 95 % half-width.
    """

    phase: Phase
    method: PhaseMethod
    duration_s: float | None
    energy_j: float | None = None
    timing_uncertainty_j: float | None = None
    tokens: int | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One metered interval with the work done in it. Latencies are means over its requests.

    `phases` are those of a repeat, by every method that was asked for. `running_mean` and
    `counters` are those of its batches, averaged and summed. `straddling` requests were begun or
    ended outside the window; only their tokens inside it count. `latencies` hold, for a window
    under load, percentiles in seconds: ``{"ttft_s": {"p50": …, "p99": …}, …}``.
    """

    kind: WindowKind
    ordinal: int
    reading: Reading
    batches: int = 0
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    ttft_s: float | None = None
    itl_s: float | None = None
    e2e_s: float | None = None
    prefix_cache_hit_tokens: int | None = None
    phases: tuple[PhaseEnergy, ...] = ()
    running_mean: float | None = None
    straddling: int = 0
    counters: Mapping[str, float] = field(default_factory=dict)
    latencies: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What an attempt brings home: its windows, the protocol as done, and the marks of the gates.

    `marks` are reasons an analyst may want to exclude the row for; they do not void it.
    """

    windows: tuple[Window, ...]
    warmup_batches: int
    marks: tuple[str, ...] = ()
