"""The verb `estimate`: what one batch of a model would take on a board group, before it is run.

Owns its options, and the words of its answer. Starts nothing and imports no engine; asks the
store only with ``--store``. Nothing of it is ever stored as a measurement.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from campaign.catalog import Catalog, load_catalog
from campaign.fit import engine_misfit, workload_misfit
from campaign.overrides import is_override, parse, refuse
from campaign.reader import MAX_COUNT, nearest
from campaign.tabular import print_table, write_json
from db.errors import ConfigError
from db.records import Board, EngineSpec, Weights, Workload
from workers.costs.calibration import AS_COMPUTED, Correction, corrected, corrections
from workers.costs.constants import release_of
from workers.costs.cost import Cost, estimate, memory_filled
from workers.shapes.shape import BYTES, QUANTIZED, Shape, shape_of

BACKENDS = ("vllm", "transformers")
#: Keys of the configuration that are an option here; most others are for `campaign plan`.
OPTION_OF = {
    "model": "--model", "board": "--board", "engine": "--backend", "engine.backend": "--backend",
    "engine.version": "--version", "engine.dtype": "--dtype",
    "engine.quantization": "--quantization", "engine.tensor_parallel": "--tensor-parallel",
    "engine.options.vllm.enforce_eager": "--eager", "workload.input_tokens": "--input",
    "workload.output_tokens": "--output", "workload.batch_size": "--batch",
}  # fmt: skip
WATT_HOUR_J = 3600.0

Answer = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked about; `shape` is None where the model's cannot be told."""

    engine: EngineSpec
    workload: Workload
    board: Board
    shape: Shape | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is asked about: a model, a board group, a batch, an engine."""
    parser.epilog = (
        "campaign estimate --model ID --board SLUG [catalog_file=PATH] [store overrides]"
    )
    parser.add_argument("--model", required=True, help="id, alias or folder of the catalogue")
    parser.add_argument("--board", required=True, help="slug, as in `campaign catalog boards`")
    sizes = {
        "gpus": (1, "boards in the group"),
        "input": (300, "tokens of each prompt"),
        "output": (300, "tokens of each answer"),
        "batch": (1, "requests handed over at once"),
        "tensor-parallel": (None, "boards that share each layer (default: all)"),
    }
    for name, (default, text) in sizes.items():
        parser.add_argument(f"--{name}", type=_size, default=default, metavar="N", help=text)
    parser.add_argument("--backend", choices=BACKENDS, default="vllm")
    parser.add_argument("--version", help="of the backend; not given: one in between")
    parser.add_argument("--dtype", choices=["auto", *BYTES], default="auto")
    parser.add_argument("--quantization", metavar="METHOD", help="fp8, awq, gptq, ...")
    parser.add_argument("--eager", action="store_true", help="without CUDA graphs")
    parser.add_argument("--store", action="store_true", help="calibrate with what was measured")


def main(args: argparse.Namespace) -> int:
    """Print the estimate; returns 0, whether it fits or not."""
    words = [word for word in args.overrides if not is_override(word)]
    if words:
        raise ConfigError(f"estimate takes options, no words: {' '.join(words)}")
    _refuse_others(args.overrides)
    catalog = _catalog(args.overrides)
    asked = asked_for(catalog, args)
    correction = _measured(args.overrides, catalog, asked) if args.store else AS_COMPUTED
    answer = answered(asked, correction)
    if args.json:
        write_json(answer)
    else:
        print_table((asked.engine.label, asked.workload.label), answer.items())
    return 0


def asked_for(catalog: Catalog, args: argparse.Namespace) -> Asked:
    """Return what the options name. Raises ConfigError."""
    parallel = args.tensor_parallel or args.gpus
    if args.gpus % parallel:
        raise ConfigError(f"--tensor-parallel {parallel} does not divide --gpus {args.gpus}")
    if args.version is not None and release_of(args.version) is None:
        raise ConfigError(f"--version {args.version}: give a release, such as 0.11")
    for option in ("version", "eager"):
        if getattr(args, option) and args.backend != "vllm":
            raise ConfigError(f"--{option}: counts for vLLM alone; leave it out")
    if args.quantization not in (None, *QUANTIZED):
        hint = nearest(args.quantization, QUANTIZED) or "; for example fp8 or awq"
        raise ConfigError(f"--quantization {args.quantization}: not known{hint}")
    board = catalog.board(args.board)
    # Random weights take as long, and rule out what reads a quantized checkpoint.
    model = replace(catalog.model(args.model), weights=Weights.REAL)
    return Asked(
        engine=EngineSpec(
            model=model,
            backend=args.backend,
            board=board.slug,
            board_count=args.gpus,
            version=args.version,
            dtype=board.dtype if args.dtype == "auto" else args.dtype,
            quantization=args.quantization,
            tensor_parallel=parallel,
            options={"enforce_eager": True} if args.eager else {},
        ),
        workload=Workload(
            input_tokens=args.input, output_tokens=args.output, batch_size=args.batch
        ),
        board=board,
        shape=shape_of(model.name, model.architecture),
    )


def answered(asked: Asked, correction: Correction = AS_COMPUTED) -> Answer:
    """Return the estimate as data; what is not known is None, with the reason."""
    engine, board, shape, load = asked.engine, asked.board, asked.shape, asked.workload
    if shape is None:
        return _answer(load, reason="the shape of this architecture is not described")
    misfit = engine_misfit(engine, board, shape) or workload_misfit(engine, load, board, shape)
    memory_bytes = memory_filled(engine, shape, board, load)
    if misfit is not None:
        reason = f"{misfit[0]}: {misfit[1]}"
        return _answer(load, fits=False, memory_bytes=memory_bytes, reason=reason)
    cost = estimate(engine, shape, board, load)
    if cost is None:
        reason = f"{board.slug}: its memory bandwidth and FLOP/s are not in the catalogue"
        return _answer(load, fits=True, memory_bytes=memory_bytes, reason=reason)
    cost = corrected(cost, correction)
    return _answer(
        load, fits=True, memory_bytes=memory_bytes, cost=cost, rows=correction.rows,
        reason=_remark(cost, load, board),
    )  # fmt: skip


def _remark(cost: Cost, load: Workload, board: Board) -> str | None:
    """Return what a reader of the numbers should know; None if there is nothing."""
    remarks = []
    if cost.energy_j is None:
        remarks.append(f"{board.slug}: its TDP or idle power is not known")
    if cost.running < load.batch_size:
        remarks.append(f"memory holds {cost.running} of {load.batch_size} requests at a time")
    return "; ".join(remarks) or None


def _answer(
    load: Workload,
    *,
    fits: bool | None = None,
    memory_bytes: float | None = None,
    cost: Cost | None = None,
    rows: int = 0,
    reason: str | None = None,
) -> Answer:
    seconds = None if cost is None else cost.e2e_s
    energy_j = None if cost is None else cost.energy_j
    each_wh = None if energy_j is None else energy_j / WATT_HOUR_J / load.batch_size
    return {
        "fits": fits,
        "memory_bytes": None if memory_bytes is None else round(memory_bytes),
        "seconds": seconds,
        "prefill_seconds": cost and cost.prefill.seconds,
        "decode_seconds": cost and cost.decode.seconds,
        "power_w": energy_j / seconds if energy_j is not None and seconds else None,
        "energy_j": energy_j,
        "energy_wh_per_request": each_wh,
        "tokens_per_s": load.batch_size * load.output_tokens / seconds if seconds else None,
        "source": "calibrated" if rows else "physics",
        "measured_rows": rows,
        "reason": reason,
    }


def _size(text: str) -> int:
    """Return what an option counts."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if 1 <= value <= MAX_COUNT:
        return value
    raise argparse.ArgumentTypeError(f"{text}: give a whole number from 1 to {MAX_COUNT}")


def _refuse_others(overrides: Sequence[str]) -> None:
    """Raise ConfigError where the configuration is given what the estimate would not heed."""
    given = parse(overrides)
    refuse(given)
    others = [key for key in (*given.choices, *given.keys) if not _heeded(key)]
    refused = [f"{key}: write {OPTION_OF[key]}" for key in others if key in OPTION_OF]
    refused += [
        f"{key}: estimate takes options, catalog_file and store.*; `campaign plan` heeds the rest"
        for key in others
        if key not in OPTION_OF
    ]
    if refused:
        raise ConfigError("\n".join(sorted(refused)))


def _heeded(key: str) -> bool:
    return key in ("catalog_file", "store") or key.startswith("store.")


def _catalog(overrides: Sequence[str]) -> Catalog:
    """Return the catalogue; the configuration is composed only where words of it were given."""
    if not overrides:
        return load_catalog()
    from campaign.config import load

    own = load(overrides).catalog
    return load_catalog(Path(own) if own else None)


def _measured(overrides: Sequence[str], catalog: Catalog, asked: Asked) -> Correction:
    """Return what the store's measurements say of the asked board and backend.

    One that is not there yet has measured nothing, and is not made by asking.
    """
    from campaign.storeroom import is_there, place
    from db.costs import measured_costs
    from db.place import opened

    where = place(overrides)
    if not is_there(where):
        return AS_COMPUTED
    known = {board.slug: board for board in catalog.boards()}
    with opened(where) as asked_store, asked_store.store.begin() as connection:
        measured = measured_costs(connection, asked.board.slug, asked.engine.backend)
    found = corrections((one, known[one.engine.board]) for one in measured)
    return found.get((asked.board.slug, asked.engine.backend), AS_COMPUTED)
