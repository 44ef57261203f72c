"""What to measure: the value types that driver, workers and store share.

Pure data: no input or output, no imports beyond the standard library. Units are in the names
(_w watts, _s seconds, _bytes, _tokens). What was measured is in db/readings.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum

Scalar = str | int | float | bool | None

#: How requests arrive: the words of `Workload.arrival`. `OPEN` ones come whether others are
#: answered or not; `ONLINE` needs an engine in that mode.
OPEN = ("constant", "poisson", "trace")
ONLINE = ("closed", *OPEN)
ARRIVALS = ("static", "at_once", *ONLINE)
DECODINGS = ("greedy", "beam", "sample")


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
    fp8_flops: float | None = None
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
    number of CPU threads the engine may compute with; None leaves it to the board. `mode` is
    ``offline`` or ``online`` (a server's engine, which takes requests while it computes).
    `speculation` is ``draft_model`` (`draft` proposes) or ``ngram``, with `speculative_tokens`
    looked ahead. `power_limit_w` is declared and verified, never set; None takes it as it is.
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
    mode: str = "offline"
    speculation: str | None = None
    speculative_tokens: int | None = None
    draft: ModelSpec | None = None
    power_limit_w: float | None = None

    @property
    def label(self) -> str:
        """Short text for people: backend, model, parallelism if any, board."""
        tp = f" tp{self.tensor_parallel}" if self.tensor_parallel > 1 else ""
        return f"{self.backend} {self.model.name}{tp} on {self.board}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The requests asked of an engine, how they arrive, and how their tokens are chosen.

    `input_tokens` and `output_tokens` are the lengths of every request; where `lengths` names a
    distribution or a trace, the most that one may have. `prefix_tokens` of each prompt are common
    to all. `requests` are asked for in all; None: one batch.

    `arrival` is ``static`` (batches of `batch_size`, each ends before the next begins),
    ``at_once`` (all are handed over; the engine takes them as it can), ``closed`` (`batch_size`
    clients, each sends its next request when its last one is answered), ``constant``, ``poisson``
    (`rate_rps` requests per second, at most `batch_size` of them computed at a time) or ``trace``
    (at the trace's own times; `rate_rps` stretches them to that mean rate).

    `decoding` is ``greedy``, ``beam`` (with `beams`) or ``sample`` (with `temperature`, `top_p`).
    """

    input_tokens: int
    output_tokens: int
    batch_size: int
    requests: int | None = None
    lengths: str = "fixed"
    prefix_tokens: int = 0
    arrival: str = "static"
    rate_rps: float | None = None
    decoding: str = "greedy"
    beams: int = 1
    temperature: float = 1.0
    top_p: float = 1.0

    @property
    def label(self) -> str:
        """Short text for people, e.g. ``64→32 x8`` and whatever is not the default."""
        sizes = f"{self.input_tokens}→{self.output_tokens} x{self.batch_size}"
        chosen = (f"{f.name}={value}" for f in fields(self)[3:]
                  if (value := getattr(self, f.name)) != f.default)  # fmt: skip
        return " ".join((sizes, *chosen))

    @property
    def is_online(self) -> bool:
        """Whether requests arrive while others are computed."""
        return self.arrival in ONLINE

    @property
    def needs_places(self) -> bool:
        """Whether more may be there than `batch_size`, so that the engine has to hold them back."""
        if self.arrival == "at_once":
            return self.requests is not None and self.requests > self.batch_size
        return self.arrival in OPEN


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
