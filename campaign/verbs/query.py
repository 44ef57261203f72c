"""The verb `query`: a named question, or one of your own in SQL, answered as rows.

Owns the choice of form: a table for people, JSON or CSV for machines, all on stdout. Never
writes to the store; how SQL is kept harmless is db/asking.py's business.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from itertools import islice

from campaign.storeroom import existing, place, split
from campaign.tabular import (
    ROWS_FOR_PEOPLE,
    count_of,
    print_table,
    say,
    write_csv,
    write_json_rows,
)
from db.asking import Answer, Limits, Question, asked, question, shipped
from db.errors import ConfigError
from db.records import Weights

MOST_ROWS = 10**9
print_rows = partial(print_table, most=None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options; the question itself stands among the words of the command line."""
    parser.epilog = (
        'campaign query NAME | "select …" [store overrides]. SQL runs on a login that may only '
        "read: the embedded store has one, on another Postgres name it with store.reader_url."
    )
    parser.add_argument("--list", action="store_true", help="list the named queries")
    parser.add_argument("--csv", action="store_true", help="write CSV with a header")
    parser.add_argument(
        "--weights",
        choices=[str(kind) for kind in Weights],
        default=str(Weights.REAL),
        help="which weights the comparison views show (default: real)",
    )
    parser.add_argument(
        "--limit",
        type=int,
        metavar="ROWS",
        help=f"no more rows than this; 0 for all (default: {ROWS_FOR_PEOPLE} as a table, else all)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long the query may run (default: 60)",
    )


def main(args: argparse.Namespace) -> int:
    """Answer one question; returns the exit code."""
    words, overrides = split(args.overrides)
    if args.csv and args.json:
        raise ConfigError("--csv and --json are two forms of one answer: choose one")
    if args.list:
        rows = [(asking.name, asking.purpose) for asking in shipped().values()]
        _write(args, Answer(columns=("name", "purpose"), rows=iter(rows)))
        return 0
    most = _most(args)
    asking = _question(words) if most is None else _question(words).first(most + 1)
    limits = Limits(statement_s=_seconds(args.timeout))
    settings = {"campaign.weights": args.weights}
    with existing(place(overrides)) as store:
        urls = (store.url, store.reader_url)
        with asked(asking, *urls, limits=limits, settings=settings) as answer:
            written = _write(args, replace(answer, rows=islice(answer.rows, most)))
            more = written == most and next(answer.rows, None) is not None
    if more:
        say(f"the first {count_of(written, 'row')}; --limit 0 gives all of them")
    if written == 0:
        say(f"no rows{_why_none(asking, args.weights)}")
    return 0


def _question(words: list[str]) -> Question:
    if not words:
        raise ConfigError(f"query what? one of {', '.join(shipped())}, or SQL in quotes")
    if len(words) > 1:
        raise ConfigError(
            f"query takes one name or one SQL string, not {len(words)} words: quote the SQL"
        )
    return question(words[0])


def _most(args: argparse.Namespace) -> int | None:
    """Return how many rows are wanted, None for all: people read a table, machines the rest."""
    if args.limit is None:
        return None if args.json or args.csv else ROWS_FOR_PEOPLE
    if not 0 <= args.limit <= MOST_ROWS:
        raise ConfigError(f"--limit {args.limit}: give how many rows, or 0 for all of them")
    return args.limit or None


def _seconds(timeout: float) -> float:
    if not 0 < timeout <= 24 * 3600:
        raise ConfigError(f"--timeout {timeout:g}: give seconds, more than 0 and at most a day")
    return timeout


def _write(args: argparse.Namespace, answer: Answer) -> int:
    write = write_json_rows if args.json else write_csv if args.csv else print_rows
    written = write(answer.columns, answer.rows)
    sys.stdout.flush()  # a reader that left, as `head` does, is noticed here and not at exit
    return written


def _why_none(asking: Question, weights: str) -> str:
    """Return what may explain an empty answer of the views that compare."""
    compared = ("comparable", "energy_per_output_token", "energy_per_prompt", "energy_wh")
    if not any(view in asking.sql for view in compared):
        return ""
    return (
        f": comparisons show measured energy of real boards with {weights} weights; "
        "`campaign query measurements` shows every row"
    )
