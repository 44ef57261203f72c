"""From raw cells to values, column by column; what is wrong with a row is kept with its line.

Owns what a valid cell is: the form of a number, ranges, names. Never mends one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal

from campaign.analysis.columns import COLUMNS, REQUIRED, Column, Kind
from campaign.analysis.mapping import Unknown
from campaign.analysis.sheet import Sheet

#: The longest text; a cell of more is a file that slipped, not a name.
LONGEST = 5000
SHOWN = 40
#: What a whole number of the store holds.
MOST_WHOLE = 2**31 - 1

Value = str | float | None
Problems = dict[int, list[str]]


class Wrong(ValueError):
    """A cell is not what its column holds; the text says how."""


def values_of(sheet: Sheet) -> tuple[dict[str, list[Value]], Problems]:
    """Return every column's values, and by line what is wrong; a wrong cell's value is None."""
    problems: Problems = {line: [text] for line, text in sheet.ragged.items()}
    found: dict[str, list[Value]] = {}
    for column in COLUMNS:
        cells = sheet.columns.get(column.name)
        if cells is None:
            found[column.name] = [None] * len(sheet.lines)
        else:
            found[column.name] = _column(column, cells, sheet.lines, problems)
    for name in REQUIRED:
        for line, value in zip(sheet.lines, found[name], strict=True):
            if value is None and line not in problems:
                problems[line] = [f"{name} is missing"]
    return found, problems


def _column(
    column: Column, cells: Sequence[object], lines: Sequence[int], problems: Problems
) -> list[Value]:
    read: Callable[[Column, object], Value] = _text if column.kind is Kind.TEXT else _number
    values: list[Value] = []
    for line, cell in zip(lines, cells, strict=True):
        value: Value = None
        if isinstance(cell, Unknown):
            there = problems.setdefault(line, [])
            if cell.problem not in there:  # two columns of ours may read one of theirs
                there.append(cell.problem)
        elif cell is not None and cell != "":
            try:
                value = read(column, cell)
            except Wrong as wrong:
                problems.setdefault(line, []).append(str(wrong))
        values.append(value)
    return values


def _text(column: Column, cell: object) -> str | None:
    if not isinstance(cell, str | int | float) or isinstance(cell, bool):
        raise Wrong(f"{column.name} {shown(cell)} is not text")
    text = str(cell).strip()
    if not text.isprintable():
        raise Wrong(f"{column.name} {shown(cell)} holds characters that cannot be printed")
    if len(text) > LONGEST:
        raise Wrong(f"{column.name} has {len(text)} characters, at most {LONGEST} are kept")
    return text or None


def _number(column: Column, cell: object) -> float:
    if isinstance(cell, bool) or not isinstance(cell, str | int | float | Decimal):
        raise Wrong(f"{column.name} {shown(cell)} is not a number")
    try:
        number = _float(cell)
    except ValueError:
        raise Wrong(_no_number(column, str(cell))) from None
    if math.isnan(number):
        raise Wrong(f"{column.name} is NaN; leave the cell empty where nothing was measured")
    whole = column.kind is Kind.WHOLE
    if math.isinf(number) or (number < column.least if whole else number <= 0):
        bound = f"at least {column.least}" if whole else "above zero"
        raise Wrong(f"{column.name} {shown(cell)} is out of range; it must be {bound} and finite")
    if whole and (number != int(number) or number > MOST_WHOLE):
        raise Wrong(f"{column.name} {shown(cell)} is not a whole number up to {MOST_WHOLE}")
    return number


def _float(cell: str | float | Decimal) -> float:
    """Return a number as it is written in ASCII; Python would read more, such as 1_000."""
    if isinstance(cell, str) and (not cell.isascii() or "_" in cell):
        raise ValueError(cell)
    return float(cell)


def _no_number(column: Column, cell: str) -> str:
    """Say why a text is no number: most often it has a unit, or a comma."""
    told = f"{column.name} {shown(cell)} is not a number"
    try:
        float(cell.partition(" ")[0])
    except ValueError:
        return f"{told}; digits and a point, no thousands" if "," in cell else told
    return f"{told}; the column is in {column.unit}, cells have no units"


def shown(cell: object) -> str:
    """Return a cell for a message, its beginning where it is long."""
    text = repr(cell)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
