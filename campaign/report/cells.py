"""A cell: one configuration with its mean over replicates, which is what every chart draws.

Owns the kind of a value, its interval, and the words for an engine. Reads the answers of the
queries report_cells and report_phases; never asks the store, never mixes kinds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from workers.student import student

Row = Mapping[str, Any]

TIMES = "\N{MULTIPLICATION SIGN}"


class Kind(StrEnum):
    """Where a value comes from; values of two kinds are never mixed unasked."""

    MEASURED = "measured"
    EXTERNAL = "external"
    SIMULATED = "simulated"
    ESTIMATED = "estimated"
    NONE = "none"


#: What one's own values can be, the surest first.
OWN = (Kind.MEASURED, Kind.SIMULATED, Kind.ESTIMATED)


class Basis(StrEnum):
    """What an interval of 95 % contains."""

    BETWEEN = "between sessions"
    WITHIN = "within one session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % half-width, in the unit of its value."""

    half_width: float
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseMeans:
    """One phase of a configuration: joules per token, and its share of the energy.

    The share is of the replicates in which every phase is known; None where there is none.
    """

    joules_per_token: float | None
    share: float | None


#: The phases of a request, in the order in which they come, and one of which nothing is known.
PHASES = ("prefill", "mixed", "decode")
UNKNOWN = PhaseMeans(joules_per_token=None, share=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One configuration of one kind. Joules are per output token; None where there are none.

    `row` is what the query answered; `phases` are prefill, mixed and decode as far as they are
    known, by the better method there is.
    """

    row: Row
    kind: Kind
    joules: float | None
    interval: Interval | None
    phases: Mapping[str, PhaseMeans] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The model; that its weights are drawn is part of its name."""
        drawn = "" if self.row["weights"] == "real" else f" ({self.row['weights']} weights)"
        return f"{self.row['model']}{drawn}"

    @property
    def board(self) -> str:
        """The board, with how many of them work as one."""
        count = self.row["board_count"]
        return str(self.row["board"]) if count == 1 else f"{count} {TIMES} {self.row['board']}"

    @property
    def engine(self) -> str:
        """The engine with its version."""
        return " ".join(filter(None, (self.row["backend"], self.row["backend_version"])))

    @property
    def precision(self) -> str:
        """Number format of activations, and of the weights where that is another."""
        return " ".join(filter(None, (self.row["dtype"], self.row["quantization"])))

    @property
    def decoding(self) -> str:
        """How tokens are chosen, and whether they are looked ahead."""
        row = self.row
        words = [row["decoding"]]
        if row["beams"] > 1:
            words.append(f"{row['beams']} beams")
        if row["decoding"] == "sample":
            words.append(f"T={row['temperature']:g}, top-p={row['top_p']:g}")
        if row["speculation"]:
            ahead = f"{row['speculative_tokens']} by {row['draft'] or row['speculation']}"
            words.append(f"+ speculation, {ahead}")
        return " ".join(words)

    @property
    def variant(self) -> str:
        """What else of the engine was chosen: flags, mode, threads, a declared power limit."""
        row = self.row
        words = [f"{key}={value}" for key, value in sorted((row["options"] or {}).items())]
        words += [row["mode"]] if row["mode"] != "offline" else []
        words += [f"{row['threads']} threads"] if row["threads"] else []
        words += [f"{row['power_limit_w']:g} W limit"] if row["power_limit_w"] else []
        return " ".join(words)

    @property
    def words(self) -> tuple[str, ...]:
        """Marks and reasons, each once; a reason may be several words long."""
        said = [*(self.row["marks"] or "").split("\n"), *(self.row["reasons"] or "").split("\n")]
        return tuple(sorted({word for word in said if word}))


def cells(answers: Mapping[str, Sequence[Row]]) -> list[Cell]:
    """Return the cells of a report, in the order of the query."""
    phases = _phases(answers["phases"])
    return [_cell(row, phases.get(_identity(row), {})) for row in answers["cells"]]


def _identity(row: Row) -> tuple[object, ...]:
    names = ("engine_id", "protocol_id", "workload", "backend_version", "reality", "energy_method",
             "estimate_method")  # fmt: skip
    return tuple(row[name] for name in names)


def _phases(rows: Iterable[Row]) -> dict[tuple[object, ...], dict[str, PhaseMeans]]:
    """Return the phases of each configuration.

    A method that tells every phase goes before one that does not; else time stamps of steps go
    before a second run.
    """
    found: dict[tuple[object, ...], dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault(_identity(row), {}).setdefault(row["method"], []).append(row)
    return {
        key: _means(max(methods.values(), key=lambda one: (_whole(one) > 0, _by_steps(one))))
        for key, methods in found.items()
    }


def _whole(rows: Sequence[Row]) -> float:
    """Return the joules of the replicates in which a method knows every phase, 0 without any."""
    known = {row["phase"]: row["told_apart_j"] for row in rows if row["told_apart_j"]}
    return math.fsum(known.values()) if {"prefill", "decode"} <= known.keys() else 0.0


def _by_steps(rows: Sequence[Row]) -> bool:
    return bool(rows[0]["method"] == "steps")


def _means(rows: Sequence[Row]) -> dict[str, PhaseMeans]:
    """Return the phases by one method. Where all are known, one that is not there takes nothing."""
    whole = _whole(rows)
    means = {
        row["phase"]: PhaseMeans(
            joules_per_token=row["joules_per_token"],
            share=(row["told_apart_j"] or 0.0) / whole if whole else None,
        )
        for row in rows
    }
    if whole:
        means.setdefault("mixed", PhaseMeans(joules_per_token=None, share=0.0))
    return means


def _cell(row: Row, phases: Mapping[str, PhaseMeans]) -> Cell:
    kind = kind_of(row)
    estimated = kind is Kind.ESTIMATED
    name = "estimated_joules_per_output_token" if estimated else "joules_per_output_token"
    return Cell(
        row=row,
        kind=kind,
        joules=row[name],
        interval=None if estimated else interval(row),
        phases=phases if kind in (Kind.MEASURED, Kind.SIMULATED) else {},
    )


def kind_of(row: Row) -> Kind:
    """Return the kind of a row's joules per output token."""
    if row["joules_per_output_token"] is not None:
        return {"real": Kind.MEASURED}.get(row["reality"]) or Kind(row["reality"])
    if row["estimated_joules_per_output_token"] is not None:
        return Kind.ESTIMATED
    return Kind.NONE


def interval(row: Row) -> Interval | None:
    """Return the interval of the mean: between sessions where there are two, else within one."""
    sessions, deviation = row["sessions"], row["joules_per_output_token_sd"]
    if sessions > 1 and sessions == row["replicates"] and deviation is not None:
        width = student(sessions - 1) * deviation / math.sqrt(sessions)
        return Interval(half_width=width, basis=Basis.BETWEEN)
    within = row["joules_per_output_token_within_session_half_width"]
    return None if within is None else Interval(half_width=within, basis=Basis.WITHIN)


def of_kind(cells: Iterable[Cell], kind: Kind) -> Iterator[Cell]:
    """Return the cells of one kind."""
    return (cell for cell in cells if cell.kind is kind)


def main_kind(cells: Iterable[Cell]) -> Kind:
    """Return the kind a report speaks of first: measured where anything was."""
    found = {cell.kind for cell in cells}
    return next((kind for kind in OWN if kind in found), Kind.NONE)
