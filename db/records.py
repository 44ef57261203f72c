"""What to measure: the value types that driver, workers and store share.

Pure data: no input or output, no imports beyond the standard library. Units are in the names
(_w watts, _s seconds, _bytes, _tokens). What was measured is in db/readings.py.
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
