"""`campaign analyze predictor`: learn energy per output token from rows, and say how far it holds.

Owns the options and the form of the answer. Never writes to the store; a folder to save to is
written whole or not at all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from campaign.analysis.predictor.conformal import LEVEL
from campaign.analysis.predictor.crossing import Effort
from campaign.analysis.predictor.dataset import dataset_of
from campaign.analysis.predictor.regressors import REGRESSORS
from campaign.analysis.predictor.saved import require_free, write
from campaign.analysis.predictor.study import CAPS, studied
from campaign.analysis.predictor.told import shown
from campaign.analysis.predictor.unseen import FOREST_ROWS
from campaign.catalogue.catalog import load_catalog
from campaign.tabular import count_of, print_table, say, write_json
from campaign.verbs.analyses.asked_rows import add_rows, rows_asked
from db.errors import ConfigError

MOST_FOLDS, MOST_REPEATS, MOST_THREADS, MOST_TREES = 20, 20, 64, 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define where the rows are, where the predictor goes, and how much is computed."""
    add_rows(parser)
    parser.add_argument("--save", type=Path, metavar="DIR", help="where to keep the predictor")
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="of rows (default: 5)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N",
                        help="of all folds, tuned anew (default: 5)")  # fmt: skip
    parser.add_argument("--level", type=float, default=LEVEL, metavar="SHARE",
                        help=f"of truths that intervals hold (default: {LEVEL:g})")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of every draw")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="default: 2")
    parser.add_argument("--trees", type=int, default=60, metavar="N",
                        help="of a random forest (default: 60)")  # fmt: skip
    parser.add_argument("--regressors", metavar="NAMES", default=",".join(REGRESSORS),
                        help=f"compared on random folds, of {', '.join(REGRESSORS)}")  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Learn, compare, and save; returns 0."""
    effort, level = _effort(args), _between(args.level, 0.5, 0.999, "--level")
    folder = None if args.save is None else args.save.expanduser().resolve()
    if folder is not None:
        require_free(folder)
    catalog = load_catalog()
    data = dataset_of(rows_asked(args), catalog)
    realities = ", ".join(f"{count} {name}" for name, count in data.realities.items())
    models = count_of(len(data.labels("model")[1]), "model")
    say(f"{count_of(len(data), 'row')} of {models}; reality: {realities}")
    for line in data.left_out:
        say(f"left out: {line}")
    if data.mixed:
        mixed = ", ".join(f"{name} ({count} values)" for name, count in data.mixed.items())
        say(f"learned together, though no feature tells them apart: rows that differ in {mixed}; "
            "campaign export and --rows FILE take a choice of them")  # fmt: skip
    if len(data) > FOREST_ROWS:
        say("capped: " + ", ".join(f"{what} {most}" for what, most in CAPS.items()))
    study = studied(data, effort, level, say)
    if folder is not None:
        write(study, folder)
        say(f"saved in {args.save}: card.md says what it is")
    if args.json:
        write_json(study.findings)
        return 0
    for table in shown(study.findings):
        print_table(table.columns, table.rows, title=table.title)
    return 0


def _effort(args: argparse.Namespace) -> Effort:
    names = tuple(name.strip() for name in args.regressors.split(",") if name.strip())
    for name in names:
        if name not in REGRESSORS:
            raise ConfigError(f"--regressors {name}: one of {', '.join(REGRESSORS)}")
    return Effort(
        folds=round(_between(args.folds, 2, MOST_FOLDS, "--folds")),
        repeats=round(_between(args.repeats, 1, MOST_REPEATS, "--repeats")),
        threads=round(_between(args.threads, 1, MOST_THREADS, "--threads")),
        trees=round(_between(args.trees, 1, MOST_TREES, "--trees")),
        seed=round(_between(args.seed, 0, 2**31 - 1, "--seed")),
        regressors=names,
    )


def _between(value: float, low: float, high: float, option: str) -> float:
    if not low <= value <= high:
        raise ConfigError(f"{option} {value:g}: give {low:g} to {high:g}")
    return value
