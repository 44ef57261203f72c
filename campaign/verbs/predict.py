"""The verb `predict`: what a saved predictor says of points, each with an interval and a warning.

Owns the form of the answer: one JSON object a line, or a table. Never writes anything.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from campaign.analysis.predictor.crossing import PHYSICS
from campaign.analysis.predictor.dataset import Inputs, inputs_of
from campaign.analysis.predictor.saved import Predictor, read
from campaign.analysis.predictor.study import WAYS
from campaign.analysis.rows import read_rows
from campaign.catalogue.catalog import load_catalog
from campaign.tabular import count_of, plain, print_table, say
from db.errors import ConfigError

COLUMNS = ("row", "model", "board", "J / output token", "from", "to", "outside")
Answer = Mapping[str, object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the folder and the rows."""
    parser.add_argument("--model-dir", type=Path, required=True, metavar="DIR",
                        help="what `campaign analyze predictor --save` wrote")  # fmt: skip
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE",
                        help="CSV or Parquet, columns as imported; no energy")  # fmt: skip
    parser.add_argument("--map", metavar="NAME", help="names of the file's columns, as imported")
    parser.add_argument("--by", choices=list(WAYS), default=PHYSICS, help=f"default: {PHYSICS}")


def main(args: argparse.Namespace) -> int:
    """Predict; returns 0."""
    if args.overrides:
        raise ConfigError(f"predict takes options, no words: {' '.join(args.overrides)}")
    predictor, catalog = read(args.model_dir), load_catalog()
    frame = read_rows(args.rows, mapping=args.map, energy=False)
    inputs = inputs_of(frame.to_dict("records"), catalog, list(range(1, len(frame) + 1)))
    answers = list(answered(predictor, inputs, args.by))
    outside = sum(bool(answer["warnings"]) for answer in answers)
    if args.json:
        for answer in answers:
            print(json.dumps(plain(answer), ensure_ascii=False))
    else:
        print_table(COLUMNS, [_cells(answer) for answer in answers])
    if outside:
        say(f"{count_of(outside, 'prediction')} of {len(answers)} are outside the training range")
    return 0


def answered(predictor: Predictor, inputs: Inputs, way: str) -> Iterator[Answer]:
    """Yield the prediction of each point, in order."""
    joules, roofline = predictor.predict(inputs, way), inputs.roofline_j
    for at, point in enumerate(inputs.points):
        value = float(joules[at])
        kind, around, lacking = predictor.around(point, way)
        yield {
            "row": at + 1,
            "model": point.model,
            "board": point.board.slug,
            "energy_j_per_output_token": value,
            "low": value / around.factor,
            "high": value * around.factor,
            "level": around.level,
            "promised_level": around.promised,
            "interval_for": kind,
            "roofline_j_per_output_token": float(roofline[at]),
            "sizes_from": point.build.origin,
            "filled_in": list(point.gaps),
            "warnings": [
                *predictor.ranges.outside(inputs.features[at].tolist(), point),
                *(f"no interval for a {one} never seen: the rows are of one" for one in lacking),
            ],
        }


def _cells(answer: Answer) -> tuple[object, ...]:
    warnings = answer["warnings"]
    told = "; ".join(map(str, warnings)) if isinstance(warnings, list) else ""
    names = ("row", "model", "board", "energy_j_per_output_token", "low", "high")
    return (*(answer[name] for name in names), told)
