"""The configuration as typed, immutable values: what the rest of the program sees of it.

Owns the names and units of every setting; a field here is a key of the configuration. Reads
nothing and checks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from db.records import MeasurementProtocol, Reality, Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Where results are kept, and how leases behave. `url` wins over the embedded `path`."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Which boards there are: `kind` is local, ray or simulated.

    `boards` maps a slug to the number of boards, where they are declared and not found.
    `board_wait_s` is how long a session waits for the board lock.
    """

    kind: str
    address: str | None
    boards: Mapping[str, int]
    creation_deadline_s: float
    board_wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterSettings:
    """Which meters run (``auto``: every one that works), how often, and the gates' thresholds.

    `calibration` maps a GPU's UUID or a board's slug to the relative 95 % accuracy of its sensor.
    """

    names: tuple[str, ...]
    interval_s: float
    calibration: Mapping[str, float]
    gates: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Bounds of a run: `max_hours` is a budget, `seed` orders the tasks."""

    max_hours: float | None
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """One block of the grid: the product of these values. Lengths in tokens.

    `options` maps a backend to its flags, each with the values it takes.
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
    options: Mapping[str, Mapping[str, tuple[Scalar, ...]]]
    input_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]
    batch_size: tuple[int, ...]

    @property
    def points(self) -> int:
        """Number of points of the product, before duplicates and exclusions are removed."""
        engine = (self.model, self.weights, self.board, self.version, self.dtype,
                  self.quantization, self.tensor_parallel, self.threads)  # fmt: skip
        workload = (self.input_tokens, self.output_tokens, self.batch_size)
        flags = sum(prod(map(len, self.options[b].values())) for b in self.backend)
        return flags * prod(map(len, (*engine, *workload)))


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
