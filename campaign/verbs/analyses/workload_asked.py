"""What `analyze workload` is asked: the trace, the bins, and the set-ups whose joules count.

Owns the options and what is wrong with them. Prints nothing, estimates nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from campaign.analysis.per_request import Samples
from campaign.analysis.setups import Setup, names
from campaign.analysis.sweet_spots.first_principles import known, roofline_j
from campaign.analysis.workloads.answer import measured
from campaign.analysis.workloads.energies import (
    MOST_TOGETHER,
    ComputedEnergies,
    Energies,
    Fitting,
    MeasuredEnergies,
)
from campaign.analysis.workloads.traffic import OUTPUTS, READINGS, Edges
from campaign.catalogue.catalog import Catalog
from campaign.tabular import count_of, say
from campaign.verbs.analyses.asked_rows import add_length_arguments
from db.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where joules come from, the bins, and the replay."""
    parser.usage = "campaign analyze workload TRACE [OPTION ...] [store overrides]"
    add_length_arguments(parser)
    parser.add_argument("--model", metavar="ID", help="of the rows; without rows, to compute")
    parser.add_argument("--board", metavar="SLUG", help="of the rows; without rows, to compute")
    parser.add_argument("--backend", metavar="NAME,...", help="of the rows, or to compute")
    parser.add_argument("--gpus", type=int, metavar="N", help="boards in a group, to compute")
    parser.add_argument("--quantization", metavar="METHOD", help="to compute: fp8, awq, ...")
    parser.add_argument("--bins", choices=[*READINGS, "rows"], default="printed",
                        help="edges of input lengths; rows: the lengths measured")  # fmt: skip
    parser.add_argument("--input-edges", metavar="N,...", help="edges of your own")
    parser.add_argument("--output-edges", metavar="N,...", help="edges of your own")
    parser.add_argument("--batch", choices=["measured", "fit"], default="measured",
                        help="the largest batch measured, or of those what fits")  # fmt: skip
    parser.add_argument("--most-batch", type=int, default=MOST_TOGETHER, metavar="N",
                        help=f"no batch is larger (default: {MOST_TOGETHER})")  # fmt: skip
    parser.add_argument("--replay", type=int, default=0, metavar="N",
                        help="replay the first N requests on simulated boards")  # fmt: skip
    parser.add_argument("--grid", metavar="FILE.csv", help="write every bin as CSV")


def computed(args: argparse.Namespace, catalog: Catalog) -> list[Energies]:
    """Return the roofline's joules of what the options name. Raises ConfigError."""
    if args.model is None or args.board is None:
        raise ConfigError(
            "workload: where do joules come from? --rows FILE, --source NAME or --campaign NAME; "
            "or --model ID and --board SLUG to compute them"
        )
    if args.bins == "rows" or args.batch != "measured":
        raise ConfigError("--bins rows and --batch are for rows; give them, or leave these out")
    if args.by or args.only or args.reality:
        raise ConfigError("--by, --only and --reality are for rows; give them, or leave these out")
    if args.gpus is not None and args.gpus < 1:
        raise ConfigError(f"--gpus {args.gpus}: give 1 or more")
    energies: list[Energies] = []
    for backend in (args.backend or "vllm").split(","):
        setup = Setup(model=args.model, board=args.board, backend=backend.strip(), gpus=args.gpus,
                      quantization=args.quantization, reality="estimated")  # fmt: skip
        one = known(setup, catalog)
        if isinstance(one, str):
            raise ConfigError(one)
        if one.remark is not None:
            raise ConfigError(f"--backend {backend}: the roofline knows vllm and transformers")
        if roofline_j(one, 1, np.ones(1), np.ones(1)) is None:
            raise ConfigError(f"{one.board.slug}: its rates, TDP or idle power are not known")
        fits = Fitting(known=one, most=args.most_batch)
        energies.append(ComputedEnergies(setup=setup, fits=fits))
    return energies


def of_rows(
    args: argparse.Namespace, samples: Samples, catalog: Catalog
) -> Sequence[MeasuredEnergies]:
    """Return the measured joules of the set-ups that the options leave. Raises ConfigError."""
    backends = None if args.backend is None else {b.strip() for b in args.backend.split(",")}
    without = sum(one.batch_size is None for one in samples.usable)
    if without:
        say(f"{count_of(without, 'row')} of no batch_size: not used")
    energies = measured(samples, catalog, fit=args.batch == "fit", most=args.most_batch)
    if args.batch == "fit":
        say("--batch fit counts weights and KV cache; with activations a real engine holds fewer")
    kept = [
        one
        for one in energies
        if args.model in (None, one.setup.model, one.setup.catalogue_model)
        and args.board in (None, one.setup.board)
        and (backends is None or one.setup.backend in backends)
    ]
    if not energies:
        raise ConfigError(f"no row has a batch_size of {args.most_batch} or less")
    if not kept:
        there = "; ".join(names(one.setup for one in energies).values())
        raise ConfigError(f"--model, --board and --backend leave none of: {there}")
    return kept


def edges_asked(args: argparse.Namespace, energies: Sequence[Energies]) -> Edges:
    """Return the edges of the bins that the options name. Raises ConfigError."""
    inputs: tuple[int, ...] = READINGS.get(args.bins, ())
    outputs: tuple[int, ...] = OUTPUTS
    if args.bins == "rows":
        lengths = [one.lengths() for one in energies if isinstance(one, MeasuredEnergies)]
        inputs = tuple(sorted({n for one, _ in lengths for n in one}))
        outputs = tuple(sorted({n for _, one in lengths for n in one}))
    return Edges(inputs=_whole(args.input_edges, "--input-edges") or inputs,
                 outputs=_whole(args.output_edges, "--output-edges") or outputs)  # fmt: skip


def _whole(text: str | None, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in (text or "").split(",") if text)
    except ValueError:
        raise ConfigError(f"{option} {text}: give whole numbers, as 32,128,512") from None
