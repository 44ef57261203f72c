"""Rows as text: a table for people, JSON and CSV for machines, and words on stderr.

The one place that turns values into text. JSON and CSV are written row by row, so a result may
be larger than memory. Never guesses: a missing value stays missing in all three.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from math import isfinite
from typing import TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Sequence[object]

#: People read no more; machines ask for --json or --csv.
ROWS_FOR_PEOPLE = 1000
#: What a spreadsheet takes for a formula at the start of a cell.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: From here on a number is shown with all of its digits before the point.
LONG = 1e5
#: Wider than this many terminals, and cells would become columns of single words.
MOST_WRAPPED = 2
MISSING = "\N{EN DASH}"


def plain(value: object) -> object:
    """Return a value as JSON has it; NaN and infinity become text, as Postgres writes them."""
    match value:
        case None | bool() | int() | str():
            return value
        case float() | Decimal():
            return _plain_number(value)
        case datetime():
            return value.isoformat()
        case bytes():
            return value.hex()
        case Mapping():
            return {str(key): plain(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(inner) for inner in value]
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    return str(value)


def _plain_number(value: float | Decimal) -> object:
    if not isfinite(value):
        return str(value)
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    return float(value)


def write_json(value: object, stream: TextIO | None = None) -> None:
    """Write one JSON document and a newline."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False), file=stream or sys.stdout)


def write_json_rows(
    columns: Sequence[str], rows: Iterable[Row], stream: TextIO | None = None
) -> int:
    """Write rows as one JSON list of objects, a row a line; returns how many."""
    out, written = stream or sys.stdout, 0
    for row in rows:
        record = {name: plain(cell) for name, cell in zip(columns, row, strict=True)}
        out.write(("[\n" if written == 0 else ",\n") + json.dumps(record, ensure_ascii=False))
        written += 1
    out.write("\n]\n" if written else "[]\n")
    return written


def write_csv(columns: Sequence[str], rows: Iterable[Row], stream: TextIO | None = None) -> int:
    """Write rows as CSV with a header; returns how many. A missing value is an empty cell.

    Text that a spreadsheet would take for a formula gets a leading apostrophe; numbers do not.
    """
    out, written = csv.writer(stream or sys.stdout, lineterminator="\n"), 0
    out.writerow([_csv_cell(name) for name in columns])
    for row in rows:
        out.writerow([_csv_cell(cell) for cell in row])
        written += 1
    return written


def _csv_cell(value: object) -> object:
    cell = plain(value)
    if isinstance(cell, list | dict):
        return json.dumps(cell, ensure_ascii=False)
    if isinstance(cell, str) and cell.startswith(FORMULA):
        return f"'{cell}"
    return cell


def count_of(number: int, noun: str) -> str:
    """Return a count in words: ``1 task``, ``2 tasks``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def say(text: str) -> None:
    """Tell people something, on stderr; stdout is for data."""
    print("\n".join(printable(line) for line in text.split("\n")), file=sys.stderr)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Row],
    *,
    title: str | None = None,
    stream: TextIO | None = None,
    most: int | None = ROWS_FOR_PEOPLE,
) -> int:
    """Print rows for people, `most` of them; returns how many.

    In a narrow terminal text wraps at its spaces; what is still too wide is one record a block.
    """
    out = stream or sys.stdout
    source = iter(rows)
    shown = list(islice(source, most))
    if not shown:
        return 0
    table = _Cells(
        names=[printable(name) for name in columns],
        rows=[[_cell(value) for value in row] for row in shown],
        numeric=[all(_is_number(row[n]) for row in shown) for n in range(len(columns))],
        title=title,
    )
    console = Console(file=out, highlight=False)
    if not console.is_terminal:
        _print_lines(console, table)
    elif _fits(console.width, table):
        _print_wrapped(console, table)
    else:
        _print_records(out, table)
    if next(source, None) is not None:
        print(f"the first {most} rows; --json and --csv give all of them", file=out)
    return len(shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """A table as text; `numeric` columns hold numbers alone."""

    names: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[bool]
    title: str | None

    def columns(self) -> Iterator[tuple[str, ...]]:
        """Yield the cells of each column, its name first."""
        return zip(self.names, *self.rows, strict=True)


def _print_lines(console: Console, table: _Cells) -> None:
    """Print a row a line, however long it is."""
    widths = [max(map(cell_len, column)) for column in table.columns()]
    stroke = "-" if console.options.ascii_only else "─"
    rule = stroke * (sum(widths) + 2 * len(widths) - 1)
    lines = (_line(row, widths, table.numeric) for row in table.rows)
    head = [table.title] if table.title else []
    for line in (*head, _line(table.names, widths, table.numeric), rule, *lines):
        print(line, file=console.file)


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    """Return cells in their columns, numbers on the right of theirs."""
    padded = (
        (" " * (width - cell_len(cell)) + cell) if right else cell + " " * (width - cell_len(cell))
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    )
    return "  ".join(padded).rstrip()


def _fits(width: int, table: _Cells) -> bool:
    """Whether a table fits into a terminal with its text wrapped, and not into single words."""
    least = most = 2 * len(table.names) - 1
    for column, right in zip(table.columns(), table.numeric, strict=True):
        whole = max(map(cell_len, column))
        most += whole
        words = (cell_len(word) for cell in column for word in cell.split())
        least += whole if right else max(words, default=0)
    return least <= width and most <= MOST_WRAPPED * width


def _print_wrapped(console: Console, table: _Cells) -> None:
    """Print a table for a terminal, text wrapped at its spaces."""
    title = Text(table.title, style="italic") if table.title else None
    laid_out = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", show_edge=False,
                     padding=(0, 1, 0, 0))  # fmt: skip
    for name, right in zip(table.names, table.numeric, strict=True):
        laid_out.add_column(Text(name), justify="right" if right else "left", no_wrap=right,
                            overflow="fold")  # fmt: skip
    for row in table.rows:
        laid_out.add_row(*map(Text, row))
    with console.capture() as captured:
        console.print(laid_out)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()), file=console.file)


def _print_records(out: TextIO, table: _Cells) -> None:
    """Print a record a block, a cell a line."""
    if table.title:
        print(table.title, file=out)
    width = max(map(len, table.names))
    for number, row in enumerate(table.rows, 1):
        print(f"── {number} ──", file=out)
        for name, cell in zip(table.names, row, strict=True):
            print(f"{name:<{width}}  {cell}", file=out)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float | Decimal) and value is not True)


def _cell(value: object) -> str:
    """Return a value as people read it: four digits of a float, lists with commas."""
    match value:
        case None:
            return MISSING
        case float() | Decimal():
            return f"{value:.4g}" if abs(float(value)) < LONG else f"{value:.0f}"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
        case list() | tuple():
            return ", ".join(_cell(inner) for inner in value)
        case Mapping():
            return json.dumps(plain(value), ensure_ascii=False)
    return printable(str(plain(value)))


def printable(text: str) -> str:
    """Return a text on one line, without what would steer the terminal."""
    return text if text.isprintable() else "".join(_visible(text))


def _visible(text: str) -> Iterator[str]:
    for character in text:
        if character.isprintable():
            yield character
        else:
            yield " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"
