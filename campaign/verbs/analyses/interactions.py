"""`analyze interactions`: whether the gains of a grid's factors multiply, or interfere.

Owns the words of its answer. docs/interactions.md says what they mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from campaign.analysis.factorial.design import Design, Effect, Run, design_of
from campaign.analysis.factorial.effects import Effects, effects_of
from campaign.analysis.factorial.runs import (
    RESPONSES,
    alike,
    has,
    only,
    read_runs,
    stored_runs,
)
from campaign.analysis.realities import chosen, in_doubt
from campaign.configuration.reader import nearest
from campaign.storeroom import existing, place, split
from campaign.tabular import count_of, print_table, say, write_json
from db.errors import ConfigError
from db.factors import campaign_measurements
from db.records import Reality

DEFAULT = "joint_optimizations"
ALIASES_SHOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the rows, the response, and which levels."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--campaign", metavar="NAME", default=DEFAULT,
                       help=f"what a campaign measured (default: {DEFAULT})")  # fmt: skip
    where.add_argument("--rows", metavar="FILE",
                       help="a CSV: a column a factor, one the response, replicate and session "
                            "where known")  # fmt: skip
    parser.add_argument("--response", metavar="COLUMN", default=RESPONSES[0],
                        help=f"what is explained (default: {RESPONSES[0]})")  # fmt: skip
    parser.add_argument("--only", metavar="FACTOR=LEVEL,LEVEL", action="append", default=[],
                        help="keep these levels of a factor; again for another")  # fmt: skip
    parser.add_argument("--reality", choices=[str(Reality.REAL), str(Reality.SIMULATED)],
                        help="of a campaign: only these rows (default: real ones, where there "
                             "are any)")  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Print effects and interactions; returns 0."""
    words, overrides = split(args.overrides)
    if words:
        raise ConfigError(f"analyze interactions takes options, no word: {' '.join(words)}")
    runs, reality = _runs(args, overrides)
    design = design_of(runs)
    found = effects_of(design)
    if args.json:
        write_json(_document(design, found, args.response, reality))
        return 0
    print_table(
        ("effect", "ratio", "95 % low", "95 % high", "interval from", "aliased with"),
        [(_words(one.effect), one.ratio, one.low, one.high, one.spread, _aliases(one.aliases))
         for one in found.estimates],
        title=f"{args.response}, {reality} rows: second level over first; of two factors, how much "
              "one changes the other's ratio",
    )  # fmt: skip
    for factor in design.factors:
        say(f"{factor.name}: first {factor.first}, second {factor.second}")
    _say_design(design, found)
    return 0


def _runs(args: argparse.Namespace, overrides: Sequence[str]) -> tuple[list[Run], str]:
    """Return the runs asked for and where they come from."""
    if args.rows is not None:
        if args.reality is not None:
            raise ConfigError("--reality is for a campaign's rows: a file holds what it holds")
        given = read_runs(Path(args.rows).expanduser(), args.response)
        return only(given, args.only), "given"
    if args.response not in RESPONSES:
        near = nearest(args.response, RESPONSES) or f"; one of {', '.join(RESPONSES)}"
        raise ConfigError(f"--response {args.response}: no such column{near}")
    with existing(place(overrides)) as store:
        rows = campaign_measurements(store.store, args.campaign)
    found, reality = _of_one_reality(rows, args)
    return alike(only(stored_runs(found, args.response), args.only)), reality


def _of_one_reality(
    rows: Sequence[Mapping[str, Any]], args: argparse.Namespace
) -> tuple[list[Mapping[str, Any]], str]:
    """Return the rows asked for, else the real ones or where there are none the simulated ones."""
    there = [row for row in rows if has(row, args.response)]
    if not there:
        measured = count_of(len(rows), "measurement")
        raise ConfigError(f"campaign {args.campaign}: {measured}, none of them with "
                          f"{args.response}")  # fmt: skip
    kinds = [row["reality"] for row in there]
    asked = None if args.reality is None else [args.reality]
    taken, left_out = chosen(kinds, [True] * len(kinds), asked)
    found = [row for row, kept in zip(there, taken, strict=True) if kept]
    doubt = in_doubt([row["reality"] for row in found], [row["marks"] for row in found])
    for line in (left_out, doubt):
        if line is not None:
            say(line)
    return found, str(found[0]["reality"])


def _words(effect: Effect) -> str:
    return " x ".join(effect)


def _aliases(aliases: Sequence[Effect]) -> str | None:
    if not aliases:
        return None
    more = f", {len(aliases) - ALIASES_SHOWN} more" if len(aliases) > ALIASES_SHOWN else ""
    return ", ".join(map(_words, aliases[:ALIASES_SHOWN])) + more


def _say_design(design: Design, found: Effects) -> None:
    """Tell people how many runs there are, what is aliased, and what is left to judge by."""
    rest = ", ".join(
        f"{degrees} degrees of freedom {spread}"
        + (f" (SD {sd:.2%})" if (sd := found.relative_sd[spread]) is not None else "")
        for spread, degrees in found.degrees.items()
    )
    say(f"{count_of(found.runs, 'run')}, {count_of(found.replicates, 'replicate')}, "
        f"{count_of(found.sessions, 'session')}; {rest}")  # fmt: skip
    if design.words:
        words = ", ".join(
            f"{'+' if sign > 0 else '-'}{_words(word)}" for word, sign in design.words.items()
        )
        say(f"a fraction of resolution {design.resolution}: always the same: {words}")
    else:
        say("every combination of levels was run: no effect is aliased with another")


def _document(design: Design, found: Effects, response: str, reality: str) -> dict[str, object]:
    """Return the answer as JSON has it."""
    return {
        "response": response, "scale": "logarithm", "reality": reality,
        "runs": found.runs, "replicates": found.replicates, "sessions": found.sessions,
        "degrees_of_freedom": found.degrees, "relative_sd": found.relative_sd,
        "factors": [
            {"name": one.name, "first": one.first, "second": one.second} for one in design.factors
        ],
        "resolution": design.resolution,
        "defining_words": [
            {"factors": word, "sign": sign} for word, sign in design.words.items()
        ],
        "effects": found.estimates,
    }  # fmt: skip
