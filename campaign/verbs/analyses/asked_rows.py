"""Where an analysis gets its rows: a file, an imported source, or a campaign of the store.

Owns these options, that exactly one of them is given, and for analyses of lengths what keeps rows
apart and how what was left out is said. Measured and simulated rows come together where both are
asked for, and not otherwise. Never writes to the store.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from campaign.analysis.columns import BY_NAME, ENERGIES, ORIGIN_REALITY
from campaign.analysis.per_request import Samples, only, samples_of
from campaign.analysis.realities import CHOICES, chosen, in_doubt, kind_of
from campaign.analysis.rows import read_rows, stored_rows
from campaign.configuration.reader import nearest
from campaign.storeroom import existing, place, split
from campaign.tabular import say
from db.errors import ConfigError

if TYPE_CHECKING:
    from pandas import DataFrame


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Define the options that name rows."""
    parser.add_argument("--rows", type=Path, metavar="FILE", help="CSV or Parquet, as imported")
    parser.add_argument("--map", metavar="NAME", help="names of the file's columns, as imported")
    parser.add_argument("--skip-bad", action="store_true", help="leave bad rows of a file out")
    parser.add_argument(
        "--source", metavar="NAME", help="an imported source of the store; * is all"
    )
    parser.add_argument("--campaign", metavar="NAME", help="a campaign of the store")
    parser.add_argument("--reality", action="append", choices=CHOICES,
                        help="only these rows; may be given more than once (default: no simulated "
                             "ones beside measured ones)")  # fmt: skip


def rows_asked(args: argparse.Namespace) -> DataFrame:
    """Return the rows that the options name. ConfigError unless they name one place.

    Says in a line where simulated ones were left out, and where joules are in doubt.
    """
    frame = _rows(args)
    pairs = zip(frame["reality"], frame[ORIGIN_REALITY], strict=True)
    kinds = [kind_of(*(word if isinstance(word, str) else None for word in pair)) for pair in pairs]
    says = frame[list(ENERGIES)].notna().any(axis=1).tolist()
    taken, left_out = chosen(kinds, says, args.reality)
    found = frame[taken].reset_index(drop=True)
    marks = [str(words).split(";") for words in found["reasons"]]
    doubt = in_doubt([kind for kind, kept in zip(kinds, taken, strict=True) if kept], marks)
    for line in (left_out, doubt):
        if line is not None:
            say(line)
    return found


def _rows(args: argparse.Namespace) -> DataFrame:
    words, overrides = split(args.overrides)
    if words:
        raise ConfigError(f"{words[0]}: no such option; rows are named by --rows, --source or "
                          "--campaign")  # fmt: skip
    named = [name for name in ("rows", "source", "campaign") if getattr(args, name) is not None]
    if not named:
        raise ConfigError("which rows? give --rows FILE, --source NAME or --campaign NAME")
    if "rows" in named:
        if len(named) > 1 or overrides:
            raise ConfigError("--rows reads a file alone: leave the store's options out")
        return read_rows(args.rows, mapping=args.map, skip_bad=args.skip_bad)
    if args.map or args.skip_bad:
        raise ConfigError("--map and --skip-bad are for --rows FILE")
    with existing(place(overrides)) as store:
        return stored_rows(store.store, campaign=args.campaign, source=args.source)


def add_length_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where rows come from, and what keeps them apart."""
    add_rows(parser)
    parser.add_argument("--by", metavar="COLUMN,...", default="",
                        help="further columns that keep rows apart")  # fmt: skip
    parser.add_argument("--only", metavar="NAME=VALUE,...", action="append", default=[],
                        help="set-ups with these values of a column or an option; again for "
                             "another")  # fmt: skip


def is_asked(args: argparse.Namespace) -> bool:
    """Whether rows are named at all."""
    return any((args.rows, args.source, args.campaign))


def samples_asked(args: argparse.Namespace) -> Samples:
    """Return the rows that the options name, as joules of one request. Raises ConfigError."""
    also = _columns(args.by)
    frame = rows_asked(args)
    if not len(frame):
        raise ConfigError(f"{args.source or args.campaign}: no rows yet")
    plain = frame.astype(object).where(frame.notna(), None)
    return only(samples_of(plain.to_dict("records"), also), args.only)


def say_dropped(samples: Samples) -> None:
    """Tell people which rows were not used."""
    if samples.dropped:
        why = ", ".join(f"{count} {reason}" for reason, count in samples.dropped.items())
        say(f"{len(samples.usable)} of {samples.rows} rows used; left out: {why}")


def _columns(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in BY_NAME:
            raise ConfigError(f"--by {name}: no such column{nearest(name, BY_NAME)}")
    return names
