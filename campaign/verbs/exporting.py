"""The verb `export`: rows of the store as a file for others, with its data dictionary.

Owns its words. Reads the store and writes two files, both or none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from campaign.analysis.export import beside, target
from campaign.analysis.rows import EVERY, stored_rows
from campaign.storeroom import existing, place, split
from campaign.tabular import count_of, say, write_json
from db.errors import ConfigError
from db.records import Reality


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which rows, and where to."""
    parser.usage = "campaign export -o FILE.parquet|FILE.csv [options] [store overrides]"
    parser.epilog = (
        "Without --campaign and --source: the measurements of all campaigns. Beside FILE lies "
        "FILE.dictionary.md: columns, units, and where the rows come from."
    )
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help=".parquet or .csv")
    parser.add_argument("--campaign", metavar="NAME", help="accepted measurements of this campaign")
    parser.add_argument(
        "--source", metavar="NAME", help=f"rows imported from this source; '{EVERY}' for every one"
    )
    parser.add_argument(
        "--reality",
        action="append",
        choices=[str(kind) for kind in Reality],
        help="only these rows; may be given more than once",
    )


def main(args: argparse.Namespace) -> int:
    """Write one file; returns 0."""
    words, overrides = split(args.overrides)
    if words:
        raise ConfigError(f"export takes no words, only options: {' '.join(words)}")
    path = Path(args.output).expanduser()
    with target(path) as file, existing(place(overrides)) as store:
        rows = stored_rows(
            store.store, campaign=args.campaign, source=args.source, reality=args.reality
        )
        if rows.empty:
            raise ConfigError("there are no such rows in the store: nothing was written")
        file.write(rows)
    say(f"{path}: {count_of(len(rows), 'row')}; {beside(path)} says what the columns are")
    if args.json:
        data = {"file": str(path), "dictionary": str(beside(path)), "rows": len(rows)}
        write_json(data)
    return 0
