"""`analyze carbon`: operational and embodied carbon of what was measured, as ranges.

Owns the words of its answer. docs/carbon.md says where the ranges come from.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from campaign.analysis.carbon import Assumptions, Carbon, Range, carbon_of, documented, read_range
from campaign.configuration.config import load
from campaign.storeroom import existing, place, split
from campaign.tabular import print_table, say, write_json
from db.asking import Limits, asked, shipped
from db.errors import ConfigError

#: Hours a board works; beyond a share of one it would work more than always.
OPTIONS = {
    "intensity": ("g CO2e per kWh of the grid", 0.0, None),
    "pue": ("power of the building over that of its computers", 1.0, None),
    "lifetime": ("years a board is in use", 0.1, None),
    "utilization": ("share of its life that a board works", 0.01, 1.0),
}
COLUMNS = ("model", "board", "boards", "backend", "workload", "reality", "operational g",
           "embodied g", "embodied share", "why none")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the assumptions; without one its documented range counts."""
    for name, (what, _, _) in OPTIONS.items():
        parser.add_argument(f"--{name}", metavar="LOW,HIGH", help=what)
    parser.add_argument("--footprint", metavar="BOARD=LOW,HIGH", action="append", default=[],
                        help="kg CO2e embodied in a board; again for another")  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Print grams of CO2 equivalent per million output tokens; returns 0."""
    words, overrides = split(args.overrides)
    if words:
        raise ConfigError(f"analyze carbon takes options, no word: {' '.join(words)}")
    assumed = _assumed(args, overrides)
    with (
        existing(place(overrides)) as store,
        asked(
            shipped()["carbon_inputs"], store.url, store.reader_url, limits=Limits(), settings={}
        ) as answer,
    ):
        rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    found = [(row, _carbon(row, assumed)) for row in rows]
    if args.json:
        write_json({
            "per": "million output tokens", "unit": "g CO2e", "assumptions": assumed,
            "configurations": [
                {name: row[name] for name in ("model", "board", "board_count", "backend",
                                              "workload", "reality", "replicates", "task_id")}
                | {"operational": one.operational, "embodied": one.embodied, "reason": one.reason}
                for row, one in found
            ],
        })  # fmt: skip
        return 0
    if not found:
        say("no measurement with joules of output tokens yet")
        return 0
    print_table(COLUMNS, _table(found), title="g CO2e per million output tokens")
    for name in OPTIONS:
        one: Range = getattr(assumed, name)
        say(f"{name} {_span(one)}: {one.source}")
    for board in sorted({str(row["board"]) for row, _ in found} & assumed.footprints.keys()):
        one = assumed.footprints[board]
        say(f"footprint of {board}, {_span(one)} kg: {one.source}")
    say("of the boards alone: CPU, memory and network are not in it")
    return 0


def _assumed(args: argparse.Namespace, overrides: list[str]) -> Assumptions:
    """Return the documented ranges, with those asked for in their place."""
    found = documented()
    configured = load(overrides).run.carbon_intensity_g_per_kwh
    if configured is not None:
        intensity = Range(low=configured, high=configured, source="run.carbon_intensity_g_per_kwh")
        found = replace(found, intensity=intensity)
    for name, (_, least, most) in OPTIONS.items():
        text = getattr(args, name)
        if text is not None:
            given = read_range(text, f"--{name}", least=least, most=most)
            changed: dict[str, Any] = {name: given}
            found = replace(found, **changed)
    footprints = dict(found.footprints)
    for text in args.footprint:
        board, equals, numbers = text.partition("=")
        if not equals or not board:
            raise ConfigError(f"--footprint {text}: write BOARD=LOW,HIGH, in kg")
        footprints[board] = read_range(numbers, f"--footprint {board}=")
    return replace(found, footprints=footprints)


def _carbon(row: Mapping[str, Any], assumed: Assumptions) -> Carbon:
    return carbon_of(
        row["joules_per_million_output_tokens"], row["seconds_per_million_output_tokens"],
        row["board"], row["board_count"], assumed,
    )  # fmt: skip


def _table(found: list[tuple[dict[str, Any], Carbon]]) -> Iterator[tuple[object, ...]]:
    for row, one in found:
        share = None
        if one.embodied is not None:
            least = one.embodied.low / (one.embodied.low + one.operational.high)
            most = one.embodied.high / (one.embodied.high + one.operational.low)
            share = f"{least:.1%} to {most:.1%}"
        yield (row["model"], row["board"], row["board_count"], row["backend"], row["workload"],
               row["reality"], _span(one.operational),
               None if one.embodied is None else _span(one.embodied), share,
               one.reason)  # fmt: skip


def _span(one: Range) -> str:
    return f"{one.low:.4g}" if one.low == one.high else f"{one.low:.4g} to {one.high:.4g}"
