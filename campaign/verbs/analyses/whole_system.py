"""`analyze whole-system`: what CPU and DRAM add to the boards, and whether models change places.

Owns the summary; the numbers are those of the query whole_system.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from campaign.storeroom import existing, place, split
from campaign.tabular import count_of, print_table, say, write_json
from db.asking import Limits, asked, shipped
from db.errors import ConfigError
from db.records import Reality

COLUMNS = ("model", "board", "board_count", "backend", "workload", "reality", "replicates",
           "board_joules_per_output_token", "cpu_joules_per_output_token",
           "dram_joules_per_output_token", "host_share", "rank_of_boards", "rank_of_whole",
           "reordered")  # fmt: skip
#: What the models of a group have in common: all that the query holds equal.
HELD = ("board", "board_count", "backend", "backend_version", "weights", "dtype", "quantization",
        "tensor_parallel", "threads", "options", "mode", "speculation", "speculative_tokens",
        "draft", "power_limit_w", "reality", "protocol_id", "workload")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare nothing: the rows are those with a metered host."""
    parser.epilog = "campaign analyze whole-system [store overrides]"


def main(args: argparse.Namespace) -> int:
    """Print the share of the host and what it reorders; returns 0."""
    words, overrides = split(args.overrides)
    if words:
        raise ConfigError(f"analyze whole-system takes no word: {' '.join(words)}")
    with (
        existing(place(overrides)) as store,
        asked(
            shipped()["whole_system"], store.url, store.reader_url, limits=Limits(), settings={}
        ) as answer,
    ):
        rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    summaries = [_summary(reality, rows) for reality in Reality]
    told = [one for one in summaries if one is not None]
    if args.json:
        write_json({"summary": told, "configurations": rows})
        return 0
    if not rows:
        say("no measurement has both CPU and DRAM: RAPL must be readable (`campaign doctor`), and "
            "the node not shared (cluster.isolation=node)")  # fmt: skip
        return 0
    print_table(COLUMNS, [tuple(row[name] for name in COLUMNS) for row in rows])
    for one in told:
        share = one["host_share"]
        say(
            f"{one['reality']}: CPU and DRAM are {share['low']:.1%} to {share['high']:.1%} of the "
            f"whole, {share['median']:.1%} in the median; in {count_of(one['groups'], 'group')} of "
            f"models that can be compared, {one['reordered']} of {one['compared']} places change"
        )
    return 0


def _summary(reality: Reality, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the shares and changes of place of one reality's rows."""
    of_it = [row for row in rows if row["reality"] == reality]
    if not of_it:
        return None
    shares = [row["host_share"] for row in of_it]
    compared = [row for row in of_it if row["compared"] > 1]
    return {
        "reality": str(reality),
        "host_share": {"low": min(shares), "median": median(shares), "high": max(shares)},
        "compared": len(compared),
        "reordered": sum(row["reordered"] for row in compared),
        "groups": len({tuple(str(row[name]) for name in HELD) for row in compared}),
    }
