"""The verb `import`: rows that others measured, from CSV or Parquet, into the store and out again.

Owns its words and what it says. A row is checked before the store is opened; all go in together
or none. They are external whatever the file calls them, and never enter a comparison unasked. What
is removed is a whole source, named twice.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from campaign.analysis.columns import CATALOGUE_MODEL, ORIGIN_REALITY
from campaign.analysis.mapping import shipped
from campaign.analysis.rows import RowsRead, read_file, records, told
from campaign.catalogue.catalog import load_catalog
from campaign.configuration.config import load
from campaign.configuration.reader import nearest
from campaign.storeroom import existing, place, split
from campaign.tabular import count_of, say, write_json
from db.errors import ConfigError
from db.external import named, remove, sources, write_external
from db.place import Place, opened
from db.standing import snapshot

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,62}", re.ASCII)
#: So many models without an architecture are named.
NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """What became of a file. `written` is None where nothing was to be written."""

    path: Path
    source: str
    read: RowsRead
    repeated: int
    written: int | None

    @property
    def rows(self) -> int:
        """How many good rows the file has."""
        return len(self.read.frame)

    @property
    def known(self) -> int:
        """How many of them have their model's architecture in the catalogue."""
        return int(self.read.frame[CATALOGUE_MODEL].notna().sum())

    @property
    def unknown_models(self) -> list[str]:
        """Models that are kept with the parameters the file gives."""
        frame = self.read.frame
        return sorted(frame["model"][frame[CATALOGUE_MODEL].isna()].unique())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the file, whose it is, and what to do with bad rows."""
    parser.usage = (
        "campaign import FILE.csv|FILE.parquet --source NAME [options] [store overrides]\n"
        "       campaign import --remove NAME --confirm NAME [store overrides]"
    )
    parser.epilog = "The columns, and how a mapping is written: docs/import.md."
    parser.add_argument("--source", metavar="NAME", help="who measured the rows")
    names = ", ".join(shipped())
    parser.add_argument("--map", metavar="MAPPING", help=f"{names}, or a YAML file of your own")
    parser.add_argument("--dry-run", action="store_true", help="check the file, write nothing")
    parser.add_argument("--skip-bad", action="store_true", help="import the rows that are good")
    parser.add_argument("--remove", metavar="NAME", help="take every row of this source back out")
    parser.add_argument("--confirm", metavar="NAME", help="its name once more, or nothing is done")


def main(args: argparse.Namespace) -> int:
    """Import one file, or remove what was imported; returns 0."""
    words, overrides = split(args.overrides)
    if args.remove is not None:
        return _remove(args, words, overrides)
    if len(words) != 1:
        raise ConfigError(f"import takes one FILE, not {len(words)}")
    if args.source is None or args.confirm is not None:
        wrong = "--source NAME is needed" if args.source is None else "--confirm is for --remove"
        raise ConfigError(f"import FILE: {wrong}")
    if not NAME.fullmatch(args.source):
        raise ConfigError(
            f"--source {args.source!r} is no name; use letters, digits, '-', '_' and '.'"
        )
    settings = load(overrides)
    path = Path(words[0]).expanduser()
    own = Path(settings.catalog).expanduser() if settings.catalog else None
    read = read_file(path, mapping=args.map, catalog=load_catalog(own))
    if read.bad and not args.skip_bad:
        fix = f"{path}: nothing was imported; mend these, or leave them out with --skip-bad"
        raise ConfigError("\n".join((*told(path, read.bad), fix)))
    if read.frame.empty:
        raise ConfigError("\n".join((*told(path, read.bad), f"{path}: no row is left")))
    found = list(_rows(path, args.source, read))
    written = None
    if not args.dry_run:
        where = Place(url=settings.store.url, folder=settings.store.path)
        with opened(where, writing=True) as store:
            written = store.store.retrying(partial(write_external, found=found))
    repeated = len(found) - len({row["digest"] for row in found})
    done = Import(path=path, source=args.source, read=read, repeated=repeated, written=written)
    for line in _words(done):
        say(line)
    if args.json:
        write_json(_data(done))
    return 0


def _remove(args: argparse.Namespace, words: list[str], overrides: list[str]) -> int:
    """Take a source out of the store, if it was named twice. Raises ConfigError."""
    name = args.remove
    if words or args.source or args.map or args.dry_run or args.skip_bad:
        raise ConfigError("import --remove NAME takes --confirm NAME and nothing else")
    with existing(place(overrides), writing=True) as store:
        with snapshot(store.store) as connection:
            known = sources(connection)
        if name not in known:
            fix = nearest(name, known) if known else "; nothing was imported yet"
            raise ConfigError(f"--remove {name}: no imported source is called so{fix}")
        if args.confirm != name:
            rows = count_of(known[name], "row")
            raise ConfigError(
                f"--remove {name}: {rows} would go for good, nothing was done; to do it, say "
                f"--remove {name} --confirm {name}"
            )
        removed = store.store.retrying(partial(remove, source=name))
    say(f"{name}: {count_of(removed, 'row')} removed")
    if args.json:
        write_json({"source": name, "removed": removed})
    return 0


def _rows(path: Path, source: str, read: RowsRead) -> Iterator[Mapping[str, object]]:
    """Yield rows as the store has them, with where each one stood."""
    file = hashlib.sha256(path.read_bytes()).hexdigest()
    for line, record in zip(read.lines, records(read.frame), strict=True):
        beside = {
            "source": source,
            "origin_source": record["source"],
            "origin_reality": record[ORIGIN_REALITY],
            "file_sha256": file,
            "line": line,
        }
        yield named({name: cell for name, cell in record.items() if name != "reality"} | beside)


def _words(done: Import) -> Iterator[str]:
    yield from (f"left out: {line}" for line in told(done.path, done.read.bad))
    rows = count_of(done.rows, "row")
    if done.written is None:
        yield f"{done.source}: {rows} can be imported; nothing was written"
    else:
        there = done.rows - done.repeated - done.written
        before = f", {there} of {rows} were there already" if there else ""
        yield f"{done.source}: {count_of(done.written, 'row')} imported{before}"
    if done.repeated:
        yield f"{count_of(done.repeated, 'row')} of the file say what another one says: kept once"
    models = done.read.frame["model"].nunique()
    yield (
        f"{done.known} of {rows}, {models - len(done.unknown_models)} of {models} models, have "
        "their architecture in the catalogue"
    )
    if done.unknown_models:
        more = len(done.unknown_models) - NAMED
        named = ", ".join(done.unknown_models[:NAMED]) + (f" and {more} more" if more > 0 else "")
        yield f"kept with the parameters the file gives: {named}"


def _data(done: Import) -> Mapping[str, object]:
    return {
        "file": str(done.path),
        "source": done.source,
        "rows": done.rows,
        "imported": done.written,
        "repeated": done.repeated,
        "models": int(done.read.frame["model"].nunique()),
        "rows_with_architecture": done.known,
        "models_without_architecture": done.unknown_models,
        "bad": [{"line": line, "problem": text} for line, text in done.read.bad.items()],
    }
