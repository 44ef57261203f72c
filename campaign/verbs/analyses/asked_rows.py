"""The rows of evidence as joules of one request, for analyses of lengths.

Owns the option that keeps rows apart, and how what was left out is said.
"""

from __future__ import annotations

import argparse

from campaign.analysis.columns import BY_NAME
from campaign.analysis.per_request import Samples, samples_of
from campaign.configuration.reader import nearest
from campaign.tabular import say
from campaign.verbs.analyses.evidence import add_rows, evidence
from db.errors import ConfigError


def add_row_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where rows come from, and what keeps them apart."""
    add_rows(parser)
    parser.add_argument("--by", metavar="COLUMN,...", default="",
                        help="further columns that keep rows apart")  # fmt: skip


def is_asked(args: argparse.Namespace) -> bool:
    """Whether rows are named at all."""
    return any((args.rows, args.source, args.campaign))


def samples_asked(args: argparse.Namespace) -> Samples:
    """Return the rows that the options name, as joules of one request. Raises ConfigError."""
    also = _columns(args.by)
    frame = evidence(args)
    if not len(frame):
        raise ConfigError(f"{args.source or args.campaign}: no rows yet")
    plain = frame.astype(object).where(frame.notna(), None)
    return samples_of(plain.to_dict("records"), also)


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
