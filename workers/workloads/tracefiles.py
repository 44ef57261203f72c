"""Which traces there are, where their files lie, and the names that say what is in them.

Owns conf/catalog/traces.csv and the folder of trace files. A name of the catalogue with a
checksum stands for that content; every other file is named by its own: ``NAME@`` and the first
twelve digits of its SHA-256. Never downloads.
"""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from db.embedded_place import default_folder
from db.errors import ConfigError

CATALOG = Path(__file__).resolve().parents[2] / "conf" / "catalog"
DIGITS = 12
_NAMED = re.compile(rf"(?P<name>[\w.-]+)@(?P<digest>[0-9a-f]{{{DIGITS}}})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A trace of the catalogue. What nobody has published is None; means are tokens."""

    name: str
    file: str
    url: str
    licence: str
    source: str
    bytes: int | None
    rows: int | None
    sha256: str | None
    input_mean: float | None
    output_mean: float | None


@cache
def listed() -> Mapping[str, Listed]:
    """Return the traces of the catalogue by name."""
    with (CATALOG / "traces.csv").open(newline="", encoding="utf-8") as stream:
        return {row["name"]: _listed(row) for row in csv.DictReader(stream)}


def _listed(row: Mapping[str, str]) -> Listed:
    return Listed(
        name=row["name"],
        file=row["file"],
        url=row["url"],
        licence=row["licence"],
        source=row["source"],
        bytes=int(row["bytes"]) if row["bytes"] else None,
        rows=int(row["rows"]) if row["rows"] else None,
        sha256=row["sha256"] or None,
        input_mean=float(row["input_mean"]) if row["input_mean"] else None,
        output_mean=float(row["output_mean"]) if row["output_mean"] else None,
    )


def traces_folder() -> Path:
    """Return where trace files lie, unless a session is told otherwise."""
    return default_folder() / "traces"


def is_file(lengths: str) -> bool:
    """Whether these lengths are a file of one's own, written as a path."""
    return lengths.startswith(("./", "../", "/", "~"))


def is_trace(lengths: str) -> bool:
    """Whether these lengths name a trace, resolved or not; nothing is opened."""
    return is_file(lengths) or lengths in listed() or _NAMED.fullmatch(lengths) is not None


def resolve(lengths: str, folder: Path | None = None) -> str:
    """Return the name that says what is measured, for `Workload.lengths`.

    A file of one's own is read through where it lies, and nothing is written. A trace without a
    published checksum has to be there. Anything else is its own name. Raises ConfigError.
    """
    if is_file(lengths):
        return _named(Path(lengths).expanduser())
    known = listed().get(lengths)
    if known is None or known.sha256 is not None:
        return lengths
    path = (folder or traces_folder()) / known.file
    if not path.is_file():
        raise ConfigError(_absent(lengths))
    return f"{lengths}@{sha256_of(path)[:DIGITS]}"


def adopt(path: Path, folder: Path) -> str:
    """Keep a copy of a trace in the folder, so that a campaign continues without the original.

    Returns its name. Raises ConfigError.
    """
    name = _named(path)
    target = folder / f"{name}.csv"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".adopting-", delete=False) as aside:
            made = Path(aside.name)
        try:
            shutil.copyfile(path, made)
            made.chmod(0o644)
            made.replace(target)
        finally:
            made.unlink(missing_ok=True)
    return name


def _named(path: Path) -> str:
    """Return the name that a file's content gives it. Raises ConfigError where it is no trace."""
    from workers.workloads.traces import read_trace

    stem = re.sub(r"[^\w.-]", "-", path.stem)
    return f"{stem}@{read_trace(path).sha256[:DIGITS]}"


def file_of(lengths: str, folder: Path) -> Path | None:
    """Return where the file of these lengths is, as they are written; None if there is none."""
    if is_file(lengths):
        return Path(lengths).expanduser()
    known = listed().get(lengths.partition("@")[0])
    path = folder / (known.file if known else f"{lengths}.csv")
    return path if is_trace(lengths) and path.is_file() else None


def require_rows(lengths: str, rows: int) -> None:
    """Raise ConfigError where a file has not the published rows, and no checksum can tell."""
    known = listed().get(lengths.partition("@")[0])
    if known is not None and known.sha256 is None and known.rows not in (None, rows):
        raise ConfigError(f"trace {known.name}: it has {known.rows:,} rows, this file {rows:,}")


def locate(lengths: str, folder: Path) -> tuple[Path, str]:
    """Return the file of a resolved name, and how its SHA-256 begins. Raises ConfigError."""
    named = _NAMED.fullmatch(lengths)
    known = listed().get(named["name"] if named else lengths)
    digest: str | None = named["digest"] if named else (known.sha256 if known else None)
    if digest is None:
        raise ConfigError(f"lengths {lengths}: it was never resolved to a file")
    path = folder / (known.file if known else f"{lengths}.csv")
    if not path.is_file():
        raise ConfigError(_absent(known.name if known else lengths))
    return path, digest


def _absent(lengths: str) -> str:
    if lengths in listed():
        return f"trace {lengths}: not on this machine; `campaign fetch {lengths}` brings it"
    own = lengths.partition("@")[0]
    return f"trace {lengths}: not on this machine; `campaign fetch ./{own}.csv` keeps a copy of it"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
