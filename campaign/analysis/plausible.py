"""Whether a row's values can all be true: units that were mixed, groups that do not fit together.

Owns the arithmetic between columns and the power that a board can draw. A row that contradicts
itself is bad; nothing here corrects one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime

from campaign.analysis.cells import Value, shown
from campaign.analysis.columns import ENERGIES
from campaign.catalogue.catalog import Catalog
from campaign.configuration.reader import nearest
from db.errors import ConfigError
from db.records import Board, Reality, Weights

#: Two ways to the same number may differ by what straddles the edges of a window, not by more.
APART = 2.0
#: What a mistaken unit multiplies by.
UNITS = {3600.0: "Wh or W·h", 3.6e6: "kWh", 1000.0: "a thousand"}
UNIT_WITHIN = 1.1
#: A metered board draws no more than this multiple of its TDP, and no less than this share of it:
#: idle boards draw a tenth.
MOST_TDP, LEAST_TDP = 1.5, 0.01

Row = Mapping[str, Value]


def problems_of(row: Row, boards: Mapping[str, Board | str], *, energy: bool) -> Iterator[str]:
    """Say everything that cannot be true of one row. With `energy` it must have one.

    `boards` holds the board of each slug, or why it is none.
    """
    yield from _words(row)
    board = boards.get(str(row["board"]))
    if isinstance(board, str):
        yield board
    elif board is not None and board.tdp_w is not None:
        yield from _power(row, board.tdp_w)
    yield from _sizes(row)
    yield from _energies(row)
    if energy and all(row[name] is None for name in ENERGIES) and not row["reasons"]:
        yield f"no energy: give one of {', '.join(ENERGIES)}, or say why not in reasons"


def board_or_problem(slug: str, catalog: Catalog) -> Board | str:
    """Return a board by its exact slug, or why there is none."""
    try:
        board = catalog.board(slug)
    except ConfigError as error:
        return f"{error}; a mapping translates names (values), catalog_file adds boards"
    return board if slug == board.slug else f"board {slug}: its slug is {board.slug}"


def _words(row: Row) -> Iterator[str]:
    for name, words in (("reality", Reality), ("weights", Weights)):
        word = row[name]
        if word is not None and word not in list(words):
            yield f"{name} {word!r} is not known{nearest(str(word), list(words))}"
    options, began = row["options"], row["measured_at"]
    if options is not None and not _flags(str(options)):
        form = 'write {"enforce_eager": true}, or leave it empty'
        yield f"options {shown(options)} is no JSON object; {form}"
    if began is not None and not _moment(str(began)):
        form = "write 2026-01-31T12:00:00Z, or leave it empty"
        yield f"measured_at {shown(began)} is no time of ISO 8601; {form}"


def _flags(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):  # the second of lists in lists in lists
        return False


def _moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _sizes(row: Row) -> Iterator[str]:
    for part, whole in (("active_params_b", "total_params_b"), ("tensor_parallel", "gpus")):
        if _above(row[part], row[whole]):
            yield f"{part} {row[part]:g} is more than {whole} {row[whole]:g}"


def _above(part: Value, whole: Value) -> bool:
    return isinstance(part, float) and isinstance(whole, float) and part > whole


def _energies(row: Row) -> Iterator[str]:
    """Compare every energy that a row says twice."""
    for name, factors, divisors in (
        ("energy_j_per_request", ("energy_j",), ("requests",)),
        ("energy_j_per_request", ("energy_j_per_output_token", "mean_output_tokens"), ()),
        ("energy_j_per_output_token", ("energy_j",), ("requests", "mean_output_tokens")),
        ("energy_j", ("power_w", "duration_s"), ()),
    ):
        said, found = row[name], _product(row, factors, divisors)
        if not isinstance(said, float) or found is None:
            continue
        ratio = max(said / found, found / said)
        if ratio > APART:
            words = " x ".join(factors) + "".join(f" / {d}" for d in divisors)
            yield (
                f"{name} {said:g} contradicts {words} = {found:g}, {ratio:.4g} times apart"
                f"{_unit(ratio)}"
            )


def _product(row: Row, factors: tuple[str, ...], divisors: tuple[str, ...]) -> float | None:
    product = 1.0
    for name in (*factors, *divisors):
        value = row[name]
        if not isinstance(value, float):
            return None
        product = product / value if name in divisors else product * value
    return product


def _unit(ratio: float) -> str:
    """Name the unit that was likely mixed in."""
    for factor, unit in UNITS.items():
        if factor / UNIT_WITHIN < ratio < factor * UNIT_WITHIN:
            return f": mixed units? ({unit} among joules)"
    return ""


def _power(row: Row, tdp_w: float) -> Iterator[str]:
    gpus = row["gpus"]
    if not isinstance(gpus, float):
        return
    for words, power_w in (
        ("power_w", row["power_w"]),
        ("energy_j / duration_s", _product(row, ("energy_j",), ("duration_s",))),
    ):
        if isinstance(power_w, float) and not LEAST_TDP <= power_w / gpus / tdp_w <= MOST_TDP:
            yield (
                f"{words} is {power_w:.4g} W, which {gpus:g} {row['board']} of {tdp_w:g} W cannot "
                "draw: other units, or another group?"
            )
            return
