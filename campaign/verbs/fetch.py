"""The verb `fetch`: bring request traces into the user's data folder, checked by their SHA-256.

Owns its words and what it says. A trace gets its name only once its checksum is right; where none
was published, campaigns name the trace by the one that is found.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from campaign.catalogue.download import download
from campaign.configuration.reader import nearest
from campaign.tabular import count_of, print_table, say, write_json
from db.errors import ConfigError
from workers.workloads.tracefiles import (
    DIGITS,
    Listed,
    adopt,
    is_file,
    listed,
    require_rows,
    sha256_of,
    traces_folder,
)

Row = dict[str, object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to bring and where from."""
    parser.usage = "campaign fetch [TRACE | ./FILE.csv ...] [--from FILE|URL] [--json]"
    parser.epilog = "Without a name it lists the traces there are and which of them are here."
    parser.add_argument("--from", dest="origin", metavar="FILE|URL",
                        help="where else the same file is: a mirror, a copy")  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Bring what was named, or say what there is; returns 0."""
    folder, names = traces_folder(), list(args.overrides)
    if args.origin is not None and len(names) != 1:
        raise ConfigError("fetch: --from is where one trace is; name that one")
    rows = [_fetch(name, args.origin, folder) for name in names]
    rows = rows or [_row(trace, folder / trace.file) for trace in listed().values()]
    if args.json:
        write_json(rows)
    elif names:
        for row in rows:
            say(_sentence(row))
    else:
        columns = ("name", "rows", "licence", "source", "path")
        print_table(columns, [[row[column] for column in columns] for row in rows])
    return 0


def _fetch(name: str, origin: str | None, folder: Path) -> Row:
    """Bring one trace and read it through. Raises ConfigError."""
    if is_file(name):
        if origin is not None:
            raise ConfigError(f"fetch: {name} is a file of your own; leave --from out")
        resolved = adopt(Path(name).expanduser(), folder)
        return _counted({"name": resolved, "path": str(folder / f"{resolved}.csv")})
    if name not in listed():
        own = f"; a file of your own is written ./{name}" if Path(name).is_file() else ""
        raise ConfigError(f"fetch: there is no trace {name}{own or nearest(name, listed())}")
    trace = listed()[name]
    target = folder / trace.file
    if not target.exists():
        _bring(trace, origin or trace.url, target)
    elif trace.sha256 not in (None, sha256_of(target)):
        raise ConfigError(f"fetch {name}: {target} is another file; remove it, then fetch")
    row = _counted(_row(trace, target))
    try:
        require_rows(name, int(str(row["rows"])))
    except ConfigError as error:
        raise ConfigError(f"fetch: {error}; remove {target}, then fetch") from error
    return row


def _bring(trace: Listed, origin: str, target: Path) -> None:
    """Copy or download a trace aside, check it, and give it its name."""
    aside = target.with_name(f".{target.name}.part")
    say(f"fetching {origin}")
    try:
        if "://" in origin:
            download(origin, aside, trace.bytes)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(origin).expanduser(), aside)
        digest = sha256_of(aside)
    except ConfigError as error:
        raise ConfigError(f"fetch {trace.name}: {error}") from error
    except OSError as error:
        raise ConfigError(f"fetch {trace.name}: {error.filename}: {error.strerror}") from error
    if trace.sha256 not in (None, digest):
        size = aside.stat().st_size
        aside.unlink()
        raise ConfigError(
            f"fetch {trace.name}: {origin} is another file: its SHA-256 begins with "
            f"{digest[:DIGITS]} ({size} bytes), that of the trace with "
            f"{(trace.sha256 or '')[:DIGITS]} ({trace.bytes} bytes); nothing was kept"
        )
    if trace.sha256 is None:
        _require_rows(trace, origin, aside)
    aside.replace(target)


def _require_rows(trace: Listed, origin: str, aside: Path) -> None:
    """Raise ConfigError, keeping nothing, where a file without a checksum is not the trace."""
    from workers.workloads.traces import read_trace

    try:
        require_rows(trace.name, read_trace(aside).rows)
    except ConfigError as error:
        aside.unlink()
        raise ConfigError(f"fetch {trace.name}: {origin}: {error}; nothing was kept") from error


def _row(trace: Listed, path: Path) -> Row:
    """Return what is known of a trace; `path` is None where it is not here."""
    return {
        "name": trace.name, "rows": trace.rows, "sha256": trace.sha256, "licence": trace.licence,
        "source": trace.source, "url": trace.url, "path": str(path) if path.exists() else None,
    }  # fmt: skip


def _counted(row: Row) -> Row:
    """Return the row of a trace that is here, with what reading it through found."""
    from workers.workloads.traces import read_trace

    found = read_trace(Path(str(row["path"])))
    counts = {"sha256": found.sha256, "rows": found.rows, "requests": len(found)}
    return {**row, **counts, "dropped": dict(found.dropped)}


def _sentence(row: Row) -> str:
    """Return in a line what was brought, and what of it no campaign will ask for."""
    dropped = row["dropped"] if isinstance(row["dropped"], dict) else {}
    left_out = "".join(f", {count} left out ({why})" for why, count in dropped.items())
    requests = count_of(int(str(row["requests"])), "request")
    said = f"{row['name']}: {requests}{left_out} in {row['path']}"
    known = listed().get(str(row["name"]))
    if known is None or known.sha256 is not None:
        return said
    name = f"{known.name}@{str(row['sha256'])[:DIGITS]}"
    return f"{said}; no checksum is published, only its rows are checked: tasks name it {name}"
