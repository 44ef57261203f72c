"""Rows of evidence as a file that `import` reads back, with the dictionary of its columns.

Owns the two formats it writes, and the promise that a file has its name only once it is whole.
Host names, users and paths are not among the columns; UUIDs are hashed where the rows come from.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from campaign.analysis.columns import COLUMNS, ORIGIN_REALITY, Column, Kind
from campaign.analysis.rows import records
from campaign.analysis.sheet import guarded
from campaign.tabular import count_of, printable
from db.errors import ConfigError

if TYPE_CHECKING:
    from pandas import DataFrame

FORMATS = (".csv", ".parquet")
#: What the dictionary counts, for whoever has to tell where the rows come from.
COUNTED = ("reality", "source", "campaign", "weights", "board", "backend", "backend_version",
           "software", "driver", "power_limit_w", "protocol", "energy_method")  # fmt: skip
#: How every file is to be read.
FORM = (
    "A missing value is an empty cell, never zero. `campaign import` reads the file back. In CSV "
    "an apostrophe stands before a text that a spreadsheet would take for a formula."
)
Record = dict[str, str | float | None]


class Target:
    """A file to be, and its dictionary beside it; both lie aside until they are whole."""

    def __init__(self, path: Path, data: Path, dictionary: Path) -> None:
        """Take the places that `target` opened."""
        self.path, self._data, self._dictionary = path, data, dictionary

    def write(self, frame: DataFrame) -> None:
        """Write rows and dictionary. OSError where the disk is full."""
        found = [_exported(record) for record in records(frame)]
        written = _csv if self.path.suffix.lower() == ".csv" else _parquet
        written(self._data, found)
        self._dictionary.write_text(dictionary(self.path.name, found), encoding="utf-8")


@contextmanager
def target(path: Path) -> Iterator[Target]:
    """Open the files aside and give them their names at the end; on any error they vanish.

    ConfigError before anything is done where they cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"-o {path}: name a .csv or a .parquet file")
    if path.is_dir():
        raise ConfigError(f"-o {path} is a folder: name a file in it")
    names = (path, beside(path))
    asides = [name.with_name(f".{name.name}.{os.getpid()}.part") for name in names]
    with ExitStack() as cleaning:
        for aside in asides:
            try:
                aside.touch(exist_ok=False)
            except OSError as error:
                raise ConfigError(f"-o {path} cannot be written: {error.strerror}") from error
            cleaning.callback(aside.unlink, missing_ok=True)
        yield Target(path, *asides)
        for aside, name in zip(reversed(asides), reversed(names), strict=True):
            aside.replace(name)


def beside(path: Path) -> Path:
    """Return where the dictionary of a file lies."""
    return path.with_name(f"{path.name}.dictionary.md")


def _exported(record: Record) -> Record:
    """Return a row as others get it: what it was where it was measured, not how it came here."""
    told = {column.name: record[column.name] for column in COLUMNS}
    return told | {"reality": record[ORIGIN_REALITY]}


def _csv(path: Path, found: Sequence[Record]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(column.name for column in COLUMNS)
        for record in found:
            writer.writerow(_cell(record[column.name]) for column in COLUMNS)


def _cell(value: str | float | None) -> str | float | None:
    return guarded(value) if isinstance(value, str) else value


def _parquet(path: Path, found: Sequence[Record]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    types = {
        Kind.TEXT: pa.string(),
        Kind.WHOLE: pa.int64(),
        Kind.NUMBER: pa.float64(),
    }
    fields = [
        pa.field(
            column.name,
            types[column.kind],
            metadata={"unit": column.unit or "", "meaning": column.meaning},
        )
        for column in COLUMNS
    ]
    about = {"campaign": json.dumps(provenance(found), ensure_ascii=False)}
    table = pa.Table.from_pylist(found, schema=pa.schema(fields, metadata=about))
    parquet.write_table(table, path)


def provenance(found: Sequence[Record]) -> Mapping[str, object]:
    """Return what wrote the rows, and how many of them each board, driver, … stands in."""
    counts: dict[str, dict[str, int]] = {}
    for name in COUNTED:
        for record in found:
            value = record[name]
            if value is not None:
                of_one = counts.setdefault(name, {})
                of_one[str(value)] = of_one.get(str(value), 0) + 1
    return {
        "program": _program(),
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": len(found),
        "rows_by": counts,
    }


def _program() -> str:
    try:
        return f"campaign {version('campaign')}"
    except PackageNotFoundError:
        return "campaign"  # a checkout that was never installed


def dictionary(name: str, found: Sequence[Record]) -> str:
    """Return the data dictionary of a file as Markdown: each column, then where rows come from."""
    about = provenance(found)
    counts = about["rows_by"]
    assert isinstance(counts, dict)  # noqa: S101 - made above
    filled = {c.name: sum(r[c.name] is not None for r in found) for c in COLUMNS}
    lines = [
        f"# {_plain(name)}",
        "",
        f"{count_of(len(found), 'row')}, written by {about['program']} at {about['exported_at']}.",
        FORM,
        "",
        "| column | kind | unit | meaning | rows that have it |",
        "|---|---|---|---|---|",
        *(_line(column, filled[column.name]) for column in COLUMNS),
        "",
        "## Where the rows come from",
        "",
        "| | value | rows |",
        "|---|---|---|",
        *(
            f"| {field} | {_plain(value)} | {rows} |"
            for field, values in counts.items()
            for value, rows in sorted(values.items())
        ),
    ]
    return "\n".join(lines) + "\n"


def _line(column: Column, filled: int) -> str:
    cells = (f"`{column.name}`", column.kind, column.unit or "", column.meaning, str(filled))
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    return printable(text).replace("|", "\\|")
