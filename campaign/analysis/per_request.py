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

from campaign.analysis.setups import NONE, Setup, names, said
from campaign.tabular import count_of
from db.errors import ConfigError
from db.records import Reality

Record = Mapping[str, object]

#: What a workload in words says of lengths and batch: columns of their own.
LENGTHS_AND_BATCH = re.compile(r"^\d+→\d+ x\d+\b")
#: Energies of one row that lie further apart are in different units. Under load they differ by
#: the requests that straddle an edge of the window.
MOST_DIFFERENT = 10.0
#: Joules per token of one regime that lie further apart are in different units.
MOST_APART = 1000.0


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
        raise ConfigError(
            f"none of {count_of(len(records), 'row')} can be used{f' ({why})' if why else ''}"
        )
    return Samples(usable=tuple(usable), rows=len(records), dropped=dict(dropped))


def by_regime(samples: Samples) -> dict[tuple[Setup, int | None], list[Sample]]:
    """Return the samples of each set-up and batch. Raises ConfigError for mixed units."""
    regimes: dict[tuple[Setup, int | None], list[Sample]] = {}
    for sample in samples.usable:
        regimes.setdefault((sample.setup, sample.batch_size), []).append(sample)
    named = names(setup for setup, _ in regimes)
    for (setup, batch), members in regimes.items():
        each = [s.energy_j / (s.input_tokens + s.output_tokens) for s in members]
        if max(each) >= MOST_APART * min(each):
            raise ConfigError(
                f"{named[setup]}, batch {batch}: joules per token from {min(each):.3g} to "
                f"{max(each):.3g}; that far apart they are in mixed units, give all in joules"
            )
    return regimes


def only(samples: Samples, asked: Sequence[str]) -> Samples:
    """Return the samples of the set-ups asked for: ``name=value,value`` as in their names, or none.

    Raises ConfigError for a name that no set-up has, and where nothing is left.
    """
    usable = samples.usable
    for text in asked:
        name, _, values = text.partition("=")
        there = {one.setup: said(one.setup) for one in usable}
        if not values or not any(name in words for words in there.values()):
            known = ", ".join(dict.fromkeys(word for words in there.values() for word in words))
            raise ConfigError(f"--only {text}: write NAME=VALUE,... of one of {known}")
        kept = values.split(",")
        levels = {str(words.get(name, NONE)) for words in there.values()}
        usable = tuple(s for s in usable if str(there[s.setup].get(name, NONE)) in kept)
        if not usable:
            raise ConfigError(f"--only {text}: of {name} there is {', '.join(sorted(levels))}")
    left = len(samples.usable) - len(usable)
    dropped = {**samples.dropped, **({"not_asked_for": left} if left else {})}
    return Samples(usable=usable, rows=samples.rows, dropped=dropped)


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
    reality, origin = _text(record, "reality"), _text(record, "origin_reality")
    setup = Setup(
        model=model, board=board, catalogue_model=_text(record, "catalogue_model"),
        model_commit=_text(record, "model_commit"), backend=_text(record, "backend"),
        gpus=_count(record, "gpus", row), tensor_parallel=_count(record, "tensor_parallel", row),
        expert_parallel=_count(record, "expert_parallel", row),
        data_parallel=_count(record, "data_parallel", row), dtype=_text(record, "dtype"),
        quantization=_text(record, "quantization"), options=_text(record, "options"),
        mode=_text(record, "mode"), threads=_count(record, "threads", row),
        speculation=_text(record, "speculation"),
        speculative_tokens=_count(record, "speculative_tokens", row),
        draft=_text(record, "draft"),
        declared_power_limit_w=_positive(record, "declared_power_limit_w", row),
        backend_version=_text(record, "backend_version"), weights=_text(record, "weights"),
        protocol=_text(record, "protocol"), reality=reality,
        origin_reality=origin if reality == Reality.EXTERNAL != origin else None,
        source=_text(record, "source"),
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
