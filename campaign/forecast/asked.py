"""What `campaign estimate` is asked: its options, and the engine and batch that they name.

Owns the options and what is wrong with them. Computes nothing, starts nothing, asks no store.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

from campaign.catalogue.catalog import Catalog
from campaign.configuration.axes import MOST_LOOKED_AHEAD
from campaign.configuration.points import NGRAM
from campaign.configuration.reader import MAX_COUNT, nearest
from db.errors import ConfigError
from db.records import Board, EngineSpec, ModelSpec, Scalar, Weights, Workload
from workers.costs.constants import release_of
from workers.costs.speculation import LENGTH, METHOD, SYNTHETIC
from workers.shapes.shape import BYTES, QUANTIZED, Shape, shape_of

#: Tokens looked ahead where nobody says, as in 2504.17674.
LOOK_AHEAD = 4
BACKENDS = ("vllm", "transformers")
#: Keys of the configuration that are an option here; most others are for `campaign plan`.
OPTION_OF = {
    "model": "--model", "board": "--board", "engine": "--backend", "engine.backend": "--backend",
    "engine.version": "--version", "engine.dtype": "--dtype",
    "engine.quantization": "--quantization", "engine.tensor_parallel": "--tensor-parallel",
    "engine.options.vllm.enforce_eager": "--eager", "workload.input_tokens": "--input",
    "engine.speculation": "--speculation", "engine.speculative_tokens": "--speculative-tokens",
    f"engine.options.vllm.{LENGTH}": "--acceptance-length",
    "workload.output_tokens": "--output", "workload.batch_size": "--batch",
}  # fmt: skip


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
    parser.add_argument("--speculation", metavar="WHO", help="ngram, or a draft model's id")
    parser.add_argument("--speculative-tokens", type=_size, metavar="N",
                        help=f"tokens looked ahead (default: {LOOK_AHEAD})")  # fmt: skip
    parser.add_argument("--acceptance-length", type=float, metavar="TOKENS",
                        help="tokens a step keeps; not given: an assumption")  # fmt: skip
    parser.add_argument("--eager", action="store_true", help="without CUDA graphs")
    parser.add_argument("--store", action="store_true", help="calibrate with what was measured")


def asked_for(catalog: Catalog, args: argparse.Namespace) -> Asked:
    """Return what the options name. Raises ConfigError."""
    _contradictions(args)
    parallel = args.tensor_parallel or args.gpus
    board = catalog.board(args.board)
    model = _model(catalog, args.model)
    proposer = args.speculation
    named = proposer not in (None, NGRAM)
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
            options=_options(args),
            speculation="draft_model" if named else proposer,
            speculative_tokens=_ahead(args) if proposer is not None else None,
            draft=_model(catalog, proposer) if named else None,
        ),
        workload=Workload(
            input_tokens=args.input, output_tokens=args.output, batch_size=args.batch
        ),
        board=board,
        shape=shape_of(model.name, model.architecture),
    )


def _model(catalog: Catalog, name: str) -> ModelSpec:
    """Return a model as if trained: random weights rule out what reads a quantized checkpoint."""
    return replace(catalog.model(name), weights=Weights.REAL)


def _options(args: argparse.Namespace) -> dict[str, Scalar]:
    options: dict[str, Scalar] = {"enforce_eager": True} if args.eager else {}
    if args.acceptance_length is not None:
        options |= {METHOD: SYNTHETIC, LENGTH: args.acceptance_length}
    return options


def _ahead(args: argparse.Namespace) -> int:
    """Return how many tokens are looked ahead."""
    tokens: int | None = args.speculative_tokens
    return LOOK_AHEAD if tokens is None else tokens


def _contradictions(args: argparse.Namespace) -> None:
    """Raise ConfigError where options do not go together."""
    parallel = args.tensor_parallel or args.gpus
    if args.gpus % parallel:
        raise ConfigError(f"--tensor-parallel {parallel} does not divide --gpus {args.gpus}")
    if args.version is not None and release_of(args.version) is None:
        raise ConfigError(f"--version {args.version}: give a release, such as 0.11")
    for option in ("version", "eager", "acceptance_length"):
        if getattr(args, option) and args.backend != "vllm":
            raise ConfigError(f"{_flag(option)}: counts for vLLM alone; leave it out")
    if args.quantization not in (None, *QUANTIZED):
        hint = nearest(args.quantization, QUANTIZED) or "; for example fp8 or awq"
        raise ConfigError(f"--quantization {args.quantization}: not known{hint}")
    for option in ("speculative_tokens", "acceptance_length"):
        if getattr(args, option) is not None and args.speculation is None:
            raise ConfigError(f"{_flag(option)}: has no use without --speculation")
    if _ahead(args) > MOST_LOOKED_AHEAD:
        raise ConfigError(f"--speculative-tokens {_ahead(args)}: at most {MOST_LOOKED_AHEAD}")
    if args.acceptance_length is not None and not 1 <= args.acceptance_length <= _ahead(args) + 1:
        raise ConfigError(f"--acceptance-length {args.acceptance_length:g}: a step keeps from 1 to "
                          f"{_ahead(args) + 1} tokens")  # fmt: skip


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _size(text: str) -> int:
    """Return what an option counts."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if 1 <= value <= MAX_COUNT:
        return value
    raise argparse.ArgumentTypeError(f"{text}: give a whole number from 1 to {MAX_COUNT}")
