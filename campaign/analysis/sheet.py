"""A table of raw cells out of a CSV or Parquet file, each row with its line.

Owns the two formats: what a header may be, what an unreadable file is called, and the apostrophe
that keeps spreadsheets from taking a text for a formula. Knows no column's meaning.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from campaign.tabular import FORMULA
from db.errors import ConfigError

if TYPE_CHECKING:
    from _csv import Reader

#: Stands before a text that a spreadsheet would calculate, and before one that begins with itself.
APOSTROPHE = "'"
GUARDED = (*FORMULA, APOSTROPHE)
#: No cell of ours is longer; a quote that is never closed would swallow the file.
LONGEST_CELL = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Columns of equal length by name; `lines` says where each row stands.

    The line is that of the CSV file, counted from 1 with the header; of a Parquet file the row.
    Cells of CSV are text, empty where nothing stands; of Parquet what was written, or None.
    `ragged` are lines with too few or too many cells, and what is wrong with each.
    """

    columns: Mapping[str, Sequence[object]]
    lines: Sequence[int]
    ragged: Mapping[int, str]


def read_sheet(path: Path) -> Sheet:
    """Return the cells of a file. ConfigError for one that is no table."""
    readers: Mapping[str, Callable[[Path], Sheet]] = {".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"{path}: only .csv and .parquet are read")
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        sheet = reader(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    if not sheet.lines and not sheet.ragged:
        raise ConfigError(f"{path}: no rows below its header")
    return sheet


def guarded(text: str) -> str:
    """Return a text as a CSV cell has it: an apostrophe before what looks like a formula."""
    return f"{APOSTROPHE}{text}" if text.startswith(GUARDED) else text


def _unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith(APOSTROPHE) and cell[1:].startswith(GUARDED) else cell


def _csv(path: Path) -> Sheet:
    csv.field_size_limit(LONGEST_CELL)
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = [_unguarded(name).strip() for name in next(reader, [])]
            _require_names(path, header)
            rows, ragged = _rows_of(reader, len(header))
        except csv.Error as error:
            raise ConfigError(f"{path}: line {reader.line_num}: {error}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not UTF-8 text: save it as CSV in UTF-8") from error
    columns = {
        name: [_unguarded(row[at]).strip() for row in rows.values()]
        for at, name in enumerate(header)
    }
    return Sheet(columns=columns, lines=tuple(rows), ragged=ragged)


def _rows_of(reader: Reader, width: int) -> tuple[dict[int, list[str]], dict[int, str]]:
    """Return the rows by the line each begins at, and what is wrong with the others."""
    rows: dict[int, list[str]] = {}
    ragged: dict[int, str] = {}
    begins = reader.line_num + 1
    for row in reader:
        if len(row) == width:
            rows[begins] = row
        elif row:
            ragged[begins] = f"{len(row)} cells below {width} columns"
        begins = reader.line_num + 1
    return rows, ragged


def _require_names(path: Path, header: Sequence[str]) -> None:
    if not any(header):
        raise ConfigError(f"{path}: empty; its first line must name the columns")
    if "" in header:
        raise ConfigError(f"{path}: column {list(header).index('') + 1} has no name")
    twice = next((name for name in header if list(header).count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{path}: two columns are called {twice}")


def _parquet(path: Path) -> Sheet:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            table = file.read()
    except ArrowException as error:
        words = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path} is no Parquet file, or cut short: {words}") from error
    header = [str(name) for name in table.column_names]
    _require_names(path, header)
    columns = {name: column.to_pylist() for name, column in zip(header, table.columns, strict=True)}
    return Sheet(columns=columns, lines=range(1, table.num_rows + 1), ragged={})
