"""What is varied: the axes along which rows can be like for like, and what a row is called on each.

Owns the columns that make a configuration, and those that an axis leaves free. An engine brings its
version and its options with it: it is called by as many of them as tell it from others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from campaign.report.cells import Cell

#: Everything that makes a configuration; an axis leaves its own columns out.
COLUMNS = (
    "model", "weights", "model_commit", "board", "board_count", "backend", "backend_version",
    "dtype", "quantization", "tensor_parallel", "threads", "options", "mode", "speculation",
    "speculative_tokens", "draft", "power_limit_w", "protocol_id", "input_tokens", "output_tokens",
    "batch_size", "requests_asked", "lengths", "prefix_tokens", "arrival", "rate_rps", "decoding",
    "beams", "temperature", "top_p",
)  # fmt: skip
#: What a version is among the settings of an engine; no option is called so.
VERSION = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One thing that is varied: its name, its columns, and what it is called in a cell.

    `value` is a number where doubling it makes sense, and text elsewhere.
    """

    name: str
    columns: frozenset[str]
    value: Callable[[Cell], float | str]


def axes(cells: Sequence[Cell]) -> list[Axis]:
    """Return every axis, for these cells."""
    return [
        _number("batch size", "batch_size"),
        _number("input length", "input_tokens"),
        _number("output length", "output_tokens"),
        _axis("board", lambda cell: str(cell.row["board"]), "board"),
        _axis("engine", _engine(cells), "backend", "backend_version", "options"),
        _axis("precision", lambda cell: cell.precision, "dtype", "quantization"),
        _number("tensor parallel size", "tensor_parallel", "board_count"),
        _axis("decoding", lambda cell: cell.decoding, "decoding", "beams", "temperature", "top_p",
              "speculation", "speculative_tokens", "draft"),
        _axis("power limit", lambda cell: _limit(cell.row["power_limit_w"]), "power_limit_w"),
    ]  # fmt: skip


def _axis(name: str, value: Callable[[Cell], float | str], *columns: str) -> Axis:
    return Axis(name=name, columns=frozenset(columns), value=value)


def _number(name: str, column: str, *more: str) -> Axis:
    return _axis(name, lambda cell: float(cell.row[column]), column, *more)


def _limit(watts: float | None) -> str:
    return "as it is" if watts is None else f"{watts:g} W"


def _engine(cells: Iterable[Cell]) -> Callable[[Cell], str]:
    """Return what an engine is called: its backend, and the settings that vary among its rows."""
    seen: dict[str, list[Mapping[str, str]]] = {}
    for cell in cells:
        known, settings = seen.setdefault(cell.row["backend"], []), _settings(cell)
        if settings not in known:
            known.append(settings)
    varied = {backend: _varied(known) for backend, known in seen.items()}

    def called(cell: Cell) -> str:
        settings = _settings(cell)
        words = [settings.get(name, f"no {name}") for name in varied[cell.row["backend"]]]
        return " ".join((cell.row["backend"], *words))

    return called


def _settings(cell: Cell) -> Mapping[str, str]:
    """Return the version and the options of an engine in words."""
    options = {name: f"{name}={value}" for name, value in (cell.row["options"] or {}).items()}
    return {VERSION: cell.row["backend_version"] or "of unknown version", **options}


def _varied(known: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the settings that are not the same in all of these."""
    names = {name for settings in known for name in settings}
    return sorted(name for name in names if len({one.get(name) for one in known}) > 1)
