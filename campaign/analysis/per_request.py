"""Rows of measurements as joules of one request, with what they were measured on.

Owns how a row's energy and lengths are read from the columns of an import, and which rows cannot
be used, by reason. Never fills a missing value, and never mixes rows of different set-ups.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan

from db.errors import ConfigError

Record = Mapping[str, object]

#: What a workload in words says of lengths and batch: columns of their own.
LENGTHS_AND_BATCH = re.compile(r"^\d+→\d+ x\d+\b")
#: Energies of one row that lie further apart are in different units. Under load they differ by
#: the requests that straddle an edge of the window.
MOST_DIFFERENT = 10.0
#: Joules per token of one regime that lie further apart are in different units.
MOST_APART = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What rows must share to be compared by their lengths alone; None where a row says nothing.

    `catalogue_model` is the name that the catalogue knows its architecture by;
    `conditions` is what a workload says beyond lengths and batch: arrivals, requests, a data set.
    `also` are further columns that tell rows apart, with their values.
    """

    model: str
    board: str
    catalogue_model: str | None = None
    backend: str | None = None
    gpus: int | None = None
    tensor_parallel: int | None = None
    expert_parallel: int | None = None
    data_parallel: int | None = None
    dtype: str | None = None
    quantization: str | None = None
    backend_version: str | None = None
    weights: str | None = None
    reality: str | None = None
    source: str | None = None
    conditions: str | None = None
    also: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """Short text for people: what differs from the plain case, too."""
        words = [self.backend or "", self.backend_version or "", self.model]
        words += [self.quantization or "", "random weights" if self.weights == "random" else ""]
        parallel = {
            "tp": self.tensor_parallel,
            "ep": self.expert_parallel,
            "dp": self.data_parallel,
        }
        words += [f"{name}{count}" for name, count in parallel.items() if count and count > 1]
        boards = f"{self.gpus} x {self.board}" if self.gpus and self.gpus > 1 else self.board
        words += ["on", boards, self.conditions or ""]
        words += [f"{name}={value}" for name, value in self.also]
        return " ".join(word for word in words if word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement: `energy_j` joules of one request with these lengths, in tokens.

    `batch_size` is the most that were computed together; None where the row does not say.
    """

    setup: Setup
    batch_size: int | None
    input_tokens: float
    output_tokens: float
    energy_j: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What can be used of a set of rows, and how many cannot, by reason."""

    usable: tuple[Sample, ...]
    rows: int
    dropped: Mapping[str, int]


def samples_of(records: Sequence[Record], also: Sequence[str] = ()) -> Samples:
    """Return the rows that have lengths and joules of a request.

    Raises ConfigError where no row can be used, and for values that no measurement gives.
    """
    usable: list[Sample] = []
    dropped: Counter[str] = Counter()
    for row, record in enumerate(records, 1):
        found = _sample(record, row, also)
        if isinstance(found, str):
            dropped[found] += 1
        else:
            usable.append(found)
    if not usable:
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
        raise ConfigError(f"none of {len(records)} rows can be used{f' ({why})' if why else ''}")
    return Samples(usable=tuple(usable), rows=len(records), dropped=dict(dropped))


def by_regime(samples: Samples) -> dict[tuple[Setup, int | None], list[Sample]]:
    """Return the samples of each set-up and batch. Raises ConfigError for mixed units."""
    regimes: dict[tuple[Setup, int | None], list[Sample]] = {}
    for sample in samples.usable:
        regimes.setdefault((sample.setup, sample.batch_size), []).append(sample)
    for (setup, batch), members in regimes.items():
        each = [s.energy_j / (s.input_tokens + s.output_tokens) for s in members]
        if max(each) >= MOST_APART * min(each):
            raise ConfigError(
                f"{setup.label}, batch {batch}: joules per token from {min(each):.3g} to "
                f"{max(each):.3g}; that far apart they are in mixed units, give all in joules"
            )
    return regimes


def _sample(record: Record, row: int, also: Sequence[str]) -> Sample | str:
    """Return a row as a sample, or in a word why it cannot be one."""
    model, board = _text(record, "model"), _text(record, "board")
    if model is None or board is None:
        return "no_model" if model is None else "no_board"
    workload = _text(record, "workload") or ""
    if "lengths=" in workload:
        return "mixed_lengths"
    inputs = _positive(record, "input_tokens", row)
    outputs = _positive(record, "mean_output_tokens", row)
    outputs = outputs or _positive(record, "output_tokens", row)
    if inputs is None or outputs is None:
        return "no_input_tokens" if inputs is None else "no_output_tokens"
    energy_j = _energy(record, outputs, row)
    if energy_j is None:
        return "no_energy"
    setup = Setup(
        model=model, board=board, catalogue_model=_text(record, "catalogue_model"),
        backend=_text(record, "backend"),
        gpus=_count(record, "gpus", row), tensor_parallel=_count(record, "tensor_parallel", row),
        expert_parallel=_count(record, "expert_parallel", row),
        data_parallel=_count(record, "data_parallel", row), dtype=_text(record, "dtype"),
        quantization=_text(record, "quantization"),
        backend_version=_text(record, "backend_version"), weights=_text(record, "weights"),
        reality=_text(record, "reality"), source=_text(record, "source"),
        conditions=LENGTHS_AND_BATCH.sub("", workload).strip() or None,
        also=tuple((name, _text(record, name) or "") for name in also),
    )  # fmt: skip
    return Sample(setup=setup, batch_size=_count(record, "batch_size", row), input_tokens=inputs,
                  output_tokens=outputs, energy_j=energy_j)  # fmt: skip


def _energy(record: Record, outputs: float, row: int) -> float | None:
    """Return the joules of one request by the first column that is there; others must agree."""
    whole, requests = _positive(record, "energy_j", row), _positive(record, "requests", row)
    token = _positive(record, "energy_j_per_output_token", row)
    found = {
        "energy_j_per_output_token": token * outputs if token else None,
        "energy_j_per_request": _positive(record, "energy_j_per_request", row),
        "energy_j / requests": whole / requests if whole and requests else None,
    }
    there = {name: value for name, value in found.items() if value is not None}
    if there and max(there.values()) > MOST_DIFFERENT * min(there.values()):
        told = ", ".join(f"{value:.4g} J by {name}" for name, value in there.items())
        raise ConfigError(f"row {row}: one request takes {told}: mixed units; give all in joules")
    return next(iter(there.values()), None)


def _text(record: Record, column: str) -> str | None:
    value = record.get(column)
    if value is None or value == "" or (isinstance(value, float) and isnan(value)):
        return None
    return str(value)


def _positive(record: Record, column: str, row: int) -> float | None:
    """Return a quantity; None where it is missing. Raises ConfigError for what none can be."""
    value = record.get(column)
    if value is None or value == "":
        return None
    try:
        number = float(str(value))
    except ValueError:
        raise ConfigError(f"row {row}: {column} is {value!r}, not a number") from None
    if isnan(number):
        return None
    if not isfinite(number) or number <= 0:
        raise ConfigError(f"row {row}: {column} is {number:g}; it has to be more than 0")
    return number


def _count(record: Record, column: str, row: int) -> int | None:
    number = _positive(record, column, row)
    if number is not None and number != int(number):
        raise ConfigError(f"row {row}: {column} is {number:g}, not a whole number")
    return None if number is None else int(number)
