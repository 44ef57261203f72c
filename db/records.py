"""The value types that driver, workers and store share: what to measure, and what was measured.

Pure data: no input or output, no imports beyond the standard library. Units are in the names
(_j joules, _w watts, _s seconds, _ns nanoseconds of CLOCK_MONOTONIC, _bytes, _tokens). A value
that could not be measured is None, and the reason stands in `reasons` of the same record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Scalar = str | int | float | bool | None


class Reality(StrEnum):
    """Where the numbers of a row come from."""

    REAL = "real"  # measured on the board it names
    SIMULATED = "simulated"  # computed by a model, or metered through a stand-in library
    EXTERNAL = "external"  # measured by others, imported


class Weights(StrEnum):
    """Where the weights of a model come from."""

    REAL = "real"  # a hub repository or a local folder
    RANDOM = "random"  # drawn like a real initialisation from the architecture


class TaskState(StrEnum):
    """States of a task; the comment is the transition that leads there."""

    PENDING = "pending"  # enqueued, released, retried or voided
    LEASED = "leased"  # claimed by a session
    DONE = "done"  # finished with an accepted result
    QUARANTINED = "quarantined"  # failed too often, or permanently
    EXCLUDED = "excluded"  # provably infeasible, found while running


class Outcome(StrEnum):
    """How an attempt ended; the comment is what counts it."""

    OK = "ok"  # accepted as the task's result
    FAULTED = "faulted"  # raised; at most `max_faults`
    LOST = "lost"  # lease expired or its owner died; at most `max_lost`
    INVALID = "invalid"  # voided by a gate; at most `max_invalid`
    RELEASED = "released"  # given back on purpose; free
    SUPERSEDED = "superseded"  # finished after another result was accepted; kept, never counted


# ---- what to measure -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """An exact GPU product, or `cpu:<model>:<threads>`, with the data-sheet values used to plan.

    Rates are dense (not sparse); `memory_bytes` is what the product is sold with. `dtype` is the
    number format it computes fast in, of those models are published in: what ``auto`` takes.
    """

    slug: str
    nvml_name: str | None = None
    memory_bytes: int | None = None
    memory_bandwidth_bytes_s: float | None = None
    bf16_flops: float | None = None
    fp16_flops: float | None = None
    tdp_w: float | None = None
    idle_w: float | None = None
    dtype: str = "bfloat16"

    @property
    def is_cpu(self) -> bool:
        """Whether this is a machine measured without a GPU."""
        return self.slug.startswith("cpu:")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model: its name, where its weights come from, and the shape that is measured.

    `architecture` is the content of a Hugging Face ``config.json`` (scalars only); it defines the
    model when the weights are random. `commit` is the resolved hub commit of real weights, and
    `folder` the local path they are read from (never part of the identity).
    """

    name: str
    weights: Weights
    architecture: Mapping[str, Scalar | tuple[Scalar, ...]] = field(default_factory=dict)
    commit: str | None = None
    folder: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What is loaded once: a model in a backend on a board group. The unit of dispatch.

    `options` are backend flags by their own names (vLLM: EngineArgs fields). `threads` is the
    number of CPU threads the engine may compute with; None leaves it to the board.
    """

    model: ModelSpec
    backend: str
    board: str
    board_count: int = 1
    version: str | None = None
    dtype: str = "bfloat16"
    quantization: str | None = None
    tensor_parallel: int = 1
    threads: int | None = None
    options: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Short text for people: backend, model, parallelism if any, board."""
        tp = f" tp{self.tensor_parallel}" if self.tensor_parallel > 1 else ""
        return f"{self.backend} {self.model.name}{tp} on {self.board}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A batch of equal requests: lengths in tokens, `batch_size` requests handed over at once."""

    input_tokens: int
    output_tokens: int
    batch_size: int

    @property
    def label(self) -> str:
        """Short text for people, e.g. ``64→32 x8``."""
        return f"{self.input_tokens}→{self.output_tokens} x{self.batch_size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementProtocol:
    """How a task is measured. Every number is part of the task's identity; `name` is not.

    A window repeats the batch until `window_s` have passed. Warm-up batches (at most
    `warmup_max`) end early once the last `warmup_agree` durations lie within
    `warmup_tolerance` of their mean. Windows are repeated at least `repeats` times and at most
    `repeats_max`, until the relative 95 % half-width over repeats is below `interval_target`.
    `energy` is ``measured`` (a row without joules cannot complete the task) or ``any``.
    `idle_s` is the length of the idle window at both ends of a session. `phases` says how prefill
    and decode are told apart: ``none``, ``steps``, ``prefill_run`` (as many windows more of the
    same prompts with one output token) or ``both``.
    """

    name: str
    window_s: float
    repeats: int
    repeats_max: int
    interval_target: float
    warmup_max: int
    warmup_agree: int
    warmup_tolerance: float
    idle_s: float
    energy: str = "any"
    phases: str = "steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One engine x one workload x one replicate: the unit of lease, retry and result."""

    key: str
    engine: EngineSpec
    workload: Workload
    protocol: MeasurementProtocol
    reality: Reality
    replicate: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """Points that cannot work, kept with their reason: the grid has no silent holes.

    `workload` is None where the whole engine is infeasible; `points` says how many it stands for.
    """

    engine: EngineSpec
    workload: Workload | None
    reason: str
    detail: str
    points: int


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

    `prefix_cache_hit_tokens` is None where the engine cannot tell.
    """

    started_ns: int
    ended_ns: int
    requests: tuple[RequestTiming, ...]
    prefix_cache_hit_tokens: int | None = None

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

    `phases` are those of a repeat, by every method that was asked for.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What an attempt brings home: its windows, the protocol as done, and the marks of the gates.

    `marks` are reasons an analyst may want to exclude the row for; they do not void it.
    """

    windows: tuple[Window, ...]
    warmup_batches: int
    marks: tuple[str, ...] = ()
