"""`analyze sweet-spot`: the output length of least energy per token, by set-up and batch.

Owns the words of its answer. docs/sweet_spots.md says what they mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from campaign.analysis.sweet_spots.grid import table_of
from campaign.analysis.sweet_spots.holdout import HELD_OUT
from campaign.analysis.sweet_spots.optimum import worded
from campaign.analysis.sweet_spots.resampling import DRAWS
from campaign.analysis.sweet_spots.spot import SweetSpot, SweetSpots, sweet_spots
from campaign.catalogue.catalog import load_catalog
from campaign.tabular import count_of, print_table, printable, say, write_csv, write_json
from campaign.verbs.analyses.asked_rows import (
    add_length_arguments,
    samples_asked,
    say_dropped,
)
from campaign.verbs.analyses.sweet_spot_figures import draw
from campaign.verbs.analyses.written import folder_for, written
from db.errors import ConfigError

GRID_COLUMNS = ("set_up", "batch_size", "input_tokens", "output_tokens", "rows", "energy_j",
                "fitted_energy_j", "joules_per_output_token", "joules_per_total_token")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the rows, and what else to write."""
    add_length_arguments(parser)
    parser.add_argument("--grid", metavar="FILE.csv", help="write the grid of lengths as CSV")
    parser.add_argument("--figures", metavar="DIR", help="draw heat maps there, SVG and PNG")
    parser.add_argument("--draws", type=int, default=DRAWS, metavar="N",
                        help=f"resamples for the intervals (default: {DRAWS})")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of folds and resamples")


def main(args: argparse.Namespace) -> int:
    """Print the sweet spots; returns 0."""
    if not MOST_DRAWS >= args.draws >= FEWEST_DRAWS or args.seed < 0:
        raise ConfigError(f"--draws takes {FEWEST_DRAWS} to {MOST_DRAWS}, --seed 0 or more")
    samples = samples_asked(args)
    found = sweet_spots(samples, load_catalog(), draws=args.draws, seed=args.seed)
    if args.grid is not None:
        with written(Path(args.grid)) as stream:
            write_csv(GRID_COLUMNS, _grid(found), stream)
    if args.figures is not None:
        drawn = draw(found, folder_for(Path(args.figures), "--figures"))
        say(f"{args.figures}: {count_of(len(drawn), 'figure')}")
    if args.json:
        write_json({**asdict(found), "held_out": HELD_OUT})
        return 0
    say_dropped(samples)
    for label, why in found.skipped.items():
        say(f"{label}: skipped: {why}")
    for spot in found.spots:
        _print(spot)
    return 0


FEWEST_DRAWS, MOST_DRAWS = 100, 100_000


def _grid(found: SweetSpots) -> Iterator[tuple[object, ...]]:
    for spot in found.spots:
        named = spot.label.rpartition(", batch ")[0]
        for cell in spot.cells:
            yield (named, spot.batch_size, cell.input_tokens, cell.output_tokens, cell.rows,
                   cell.energy_j, cell.fitted_energy_j, cell.joules_per_output_token,
                   cell.joules_per_total_token)  # fmt: skip


def _print(spot: SweetSpot) -> None:
    """Print one regime for people: errors, coefficients, best lengths, the grid."""
    reality = f"; {spot.setup.reality} rows" if spot.setup.reality else ""
    apart = f"worst over best {spot.worst_over_best:.4g} (J per output token)"
    print(f"{printable(spot.label)}: {count_of(spot.rows, 'row')}, {apart}{reality}\n")
    held = tuple(HELD_OUT)
    print_table(
        ("MAPE %", "in sample", *(name.replace("_", " ") for name in held)),
        [(one.form.replace("_", " "), one.errors.in_sample,
          *(getattr(one.errors, name) for name in held)) for one in spot.forms],
    )  # fmt: skip
    print()
    _print_theta(spot)
    for title, optima in {
        "least energy per output token": spot.per_output_token,
        "least energy per token of prompt and answer": spot.per_total_token,
    }.items():
        print()
        rows = [(f"{one.input_tokens:g}", *worded(one)) for one in optima]
        columns = ("input tokens", "best output tokens", "95 % interval", "of the form", "")
        print_table(columns, rows, title=title)
    print()
    header, rows_ = table_of(spot.cells)
    print_table(header, rows_, title="joules per output token; * best of its row, ** of all")
    print()


def _print_theta(spot: SweetSpot) -> None:
    six, apart = spot.forms[-1], spot.architecture
    rows = [
        (term, value, *six.intervals[term], None if apart is None else apart.theta[term])
        for term, value in six.theta.items()
    ]
    print_table(("six terms", "fitted", "low", "high", "from architecture"), rows)
    if apart is None:
        print(f"from architecture: nothing: {printable(spot.without_architecture or '')}")
        return
    remark = f"; {apart.remark}" if apart.remark else ""
    print(f"the roofline is {apart.mape:.4g} % off, {apart.scaled_mape:.4g} % once scaled by "
          f"{apart.scale:.4g}; six terms lose {apart.form_mape:.3g} % of it{remark}")  # fmt: skip
