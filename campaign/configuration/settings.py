"""The configuration as typed, immutable values: what the rest of the program sees of it.

Owns the names and units of every setting; a field here is a key of the configuration. Reads
nothing and checks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod

from db.records import MeasurementProtocol, Reality, Scalar

#: Arrivals that have a rate of requests.
RATED = ("constant", "poisson", "trace")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Where results are kept, and how leases behave. `url` wins over the embedded `path`.

    `patience_s` is how long a run waits for a store that is away.
    """

    url: str | None
    reader_url: str | None
    path: str | None
    lease_s: float
    beat_s: float
    task_deadline_s: float
    max_faults: int
    max_lost: int
    max_invalid: int
    retry_delay_s: float
    patience_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Which boards there are: `kind` is local, ray or simulated.

    `boards` maps a slug to the number of boards, where they are declared and not found; beyond
    those that are there, an autoscaler may bring them. `isolation` is what a session has for
    itself, its ``node`` or its ``gpu``. Nodes answer and actors are created within
    `creation_deadline_s`; a session waits `board_wait_s` for the board lock, and then
    `empty_wait_s` for others to leave the board.
    """

    kind: str
    address: str | None
    boards: Mapping[str, int]
    isolation: str
    creation_deadline_s: float
    board_wait_s: float
    empty_wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterSettings:
    """Which meters run (``auto``: every one that works), how often, and the gates' thresholds.

    `calibration` maps a GPU's UUID or a board's slug to the relative 95 % accuracy of its sensor.
    `goodput` are the deadlines that a good request under load meets, milliseconds by their names
    in ``vllm bench serve --goodput``: they count requests and change nothing that is measured.
    """

    names: tuple[str, ...]
    interval_s: float
    calibration: Mapping[str, float]
    gates: Mapping[str, float]
    goodput: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How a run is ordered, and what its boards cost: nothing here changes what is measured.

    `seed` orders the tasks. `price_per_gpu_hour` maps a board's slug to a price in whatever
    currency, `carbon_intensity_g_per_kwh` is that of the electricity; None is not said.
    `boards_per_node` is what a node of GPUs holds. The run is over at `deadline`, a time or
    seconds from its start, of which it keeps `margin_s` free; SIGTERM and SIGHUP let it work
    `grace_s` on.
    """

    seed: int
    price_per_gpu_hour: Mapping[str, float]
    carbon_intensity_g_per_kwh: float | None
    boards_per_node: int
    deadline: str | float | None
    margin_s: float
    grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings:
    """The most that what is left of a plan may take; None is no bound.

    `hours` is wall-clock, `gpu_hours` is that of every board together.
    """

    hours: float | None
    gpu_hours: float | None
    kwh: float | None
    price: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """One block of the grid: the product of these values. Lengths in tokens.

    `speculation` holds None, ``ngram`` or the name of a draft model; `mode` may be ``auto``: what
    the arrival asks for. `options` maps a backend to its flags, each with the values it takes.
    A value that only some arrivals, decodings or speculations use is the default for the others.
    """

    model: tuple[str, ...]
    weights: tuple[str, ...]
    board: tuple[str, ...]
    backend: tuple[str, ...]
    version: tuple[str | None, ...]
    dtype: tuple[str, ...]
    quantization: tuple[str | None, ...]
    tensor_parallel: tuple[int, ...]
    threads: tuple[int | None, ...]
    mode: tuple[str, ...]
    speculation: tuple[str | None, ...]
    speculative_tokens: tuple[int | None, ...]
    power_limit_w: tuple[float | None, ...]
    options: Mapping[str, Mapping[str, tuple[Scalar, ...]]]
    input_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]
    batch_size: tuple[int, ...]
    requests: tuple[int | None, ...]
    lengths: tuple[str, ...]
    prefix_tokens: tuple[int, ...]
    arrival: tuple[str, ...]
    rate_rps: tuple[float | None, ...]
    decoding: tuple[str, ...]
    beams: tuple[int, ...]
    temperature: tuple[float, ...]
    top_p: tuple[float, ...]

    @property
    def points(self) -> int:
        """Number of points of the product, before duplicates and exclusions are removed."""
        engine = (self.model, self.weights, self.board, self.version, self.dtype, self.mode,
                  self.quantization, self.tensor_parallel, self.threads,
                  self.power_limit_w)  # fmt: skip
        lengths = (self.input_tokens, self.output_tokens, self.batch_size, self.requests,
                   self.lengths, self.prefix_tokens)  # fmt: skip
        flags = sum(prod(map(len, self.options[b].values())) for b in self.backend)
        chosen = len(self.speculations) * len(self.arrivals) * len(self.decodings)
        return flags * chosen * prod(map(len, (*engine, *lengths)))

    @property
    def speculations(self) -> tuple[tuple[str | None, int | None], ...]:
        """Who proposes tokens and how many; none where nobody does."""
        return tuple(
            (name, tokens)
            for name in self.speculation
            for tokens in (self.speculative_tokens if name is not None else (None,))
        )

    @property
    def arrivals(self) -> tuple[tuple[str, float | None], ...]:
        """How requests arrive and at which rate; none where the arrival has no rate."""
        return tuple(
            (arrival, rate)
            for arrival in self.arrival
            for rate in (self.rate_rps if arrival in RATED else (None,))
        )

    @property
    def decodings(self) -> tuple[tuple[str, int, float, float], ...]:
        """How tokens are chosen: decoding, beams, temperature, top-p."""
        found: dict[tuple[str, int, float, float], None] = {}
        for decoding in self.decoding:
            beams = self.beams if decoding == "beam" else (1,)
            sampled = decoding == "sample"
            for values in product(beams, self.temperature if sampled else (1.0,),
                                  self.top_p if sampled else (1.0,)):  # fmt: skip
                found[(decoding, *values)] = None
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A whole campaign. `blocks` are the named parts of its grid, at least one.

    `resolved` is the composed configuration as YAML, without passwords.
    """

    campaign: str
    owner: str
    blocks: Mapping[str, Axes]
    protocol: MeasurementProtocol
    store: StoreSettings
    cluster: ClusterSettings
    meter: MeterSettings
    run: RunSettings
    budget: BudgetSettings
    replicates: int
    reality: Reality
    catalog: str | None
    resolved: str

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models of every block, in order, each once."""
        return tuple(dict.fromkeys(m for axes in self.blocks.values() for m in axes.model))

    @property
    def boards(self) -> tuple[str, ...]:
        """Boards of every block, in order, each once; ``here`` is not yet resolved."""
        return tuple(dict.fromkeys(b for axes in self.blocks.values() for b in axes.board))
