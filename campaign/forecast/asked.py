"""What an estimate is asked: the verb's options, and the engine and batch that they name.

Owns the question and what is wrong with it, whether the command line asks or `campaign.estimate`.
Computes nothing, starts nothing, asks no store.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace
from operator import index
from typing import TypeVar

from campaign.catalogue.catalog import Catalog
from campaign.configuration.axes import MOST_LOOKED_AHEAD
from campaign.configuration.points import NGRAM
from campaign.configuration.reader import MAX_COUNT, nearest
from db.errors import ConfigError
from db.records import Board, EngineSpec, ModelSpec, Scalar, Weights, Workload
from workers.costs.constants import release_of
from workers.costs.speculation import LENGTH, METHOD, SYNTHETIC
from workers.shapes.shape import BYTES, QUANTIZED, Shape, shape_of

Count = TypeVar("Count", int, int | None)

#: Tokens looked ahead where nobody says, as in 2504.17674.
LOOK_AHEAD = 4
BACKENDS = ("vllm", "transformers")
GIVE = f"give a whole number from 1 to {MAX_COUNT}"
#: Options whose name leaves the unit to the help.
FLAGS = {"input_tokens": "--input", "output_tokens": "--output", "batch_size": "--batch"}
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
class Question:
    """The options as they were given; None leaves the choice to the estimate."""

    model: str
    board: str
    input_tokens: int
    output_tokens: int
    batch_size: int
    gpus: int
    tensor_parallel: int | None
    backend: str
    version: str | None
    dtype: str
    quantization: str | None
    speculation: str | None
    speculative_tokens: int | None
    acceptance_length: float | None
    eager: bool


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
        "input_tokens": (300, "tokens of each prompt"),
        "output_tokens": (300, "tokens of each answer"),
        "batch_size": (1, "requests handed over at once"),
        "tensor_parallel": (None, "boards that share each layer (default: all)"),
    }
    for name, (default, text) in sizes.items():
        parser.add_argument(_flag(name), type=_size, default=default, metavar="N", help=text,
                            dest=name)  # fmt: skip
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


def question(args: argparse.Namespace) -> Question:
    """Return what the command line asks."""
    return Question(**{field.name: getattr(args, field.name) for field in fields(Question)})


def asked_for(catalog: Catalog, given: Question) -> Asked:
    """Return what the options name. Raises ConfigError."""
    _unknown(given)
    given = _counted(given)
    _contradictions(given)
    board = catalog.board(given.board)
    model = _model(catalog, given.model)
    proposer = given.speculation
    draft = None if proposer is None or proposer == NGRAM else _model(catalog, proposer)
    return Asked(
        engine=EngineSpec(
            model=model,
            backend=given.backend,
            board=board.slug,
            board_count=given.gpus,
            version=given.version,
            dtype=board.dtype if given.dtype == "auto" else given.dtype,
            quantization=given.quantization,
            tensor_parallel=given.tensor_parallel or given.gpus,
            options=_options(given),
            speculation=proposer if draft is None else "draft_model",
            speculative_tokens=_ahead(given) if proposer is not None else None,
            draft=draft,
        ),
        workload=Workload(
            input_tokens=given.input_tokens,
            output_tokens=given.output_tokens,
            batch_size=given.batch_size,
        ),
        board=board,
        shape=shape_of(model.name, model.architecture),
    )


def _model(catalog: Catalog, name: str) -> ModelSpec:
    """Return a model as if trained: random weights rule out what reads a quantized checkpoint."""
    return replace(catalog.model(name), weights=Weights.REAL)


def _options(given: Question) -> dict[str, Scalar]:
    options: dict[str, Scalar] = {"enforce_eager": True} if given.eager else {}
    if given.acceptance_length is not None:
        options |= {METHOD: SYNTHETIC, LENGTH: given.acceptance_length}
    return options


def _ahead(given: Question) -> int:
    """Return how many tokens are looked ahead."""
    return LOOK_AHEAD if given.speculative_tokens is None else given.speculative_tokens


def _unknown(given: Question) -> None:
    """Raise ConfigError for a word that the command line would not let through."""
    for option, known in {"backend": BACKENDS, "dtype": ("auto", *BYTES)}.items():
        if (word := getattr(given, option)) not in known:
            raise ConfigError(f"{_flag(option)} {word}: one of {', '.join(known)}")


def _counted(given: Question) -> Question:
    """Return the question with integers of Python, which never overflow. Raises ConfigError."""
    return replace(
        given,
        gpus=_count("gpus", given.gpus),
        input_tokens=_count("input_tokens", given.input_tokens),
        output_tokens=_count("output_tokens", given.output_tokens),
        batch_size=_count("batch_size", given.batch_size),
        tensor_parallel=_count("tensor_parallel", given.tensor_parallel),
        speculative_tokens=_count("speculative_tokens", given.speculative_tokens),
    )


def _count(option: str, value: Count) -> Count:
    if value is None:
        return value
    try:
        whole = index(value)
    except TypeError:
        whole = 0
    if 1 <= whole <= MAX_COUNT:
        return whole
    raise ConfigError(f"{_flag(option)} {value!r}: {GIVE}")


def _contradictions(given: Question) -> None:
    """Raise ConfigError where options do not go together."""
    parallel = given.tensor_parallel or given.gpus
    if given.gpus % parallel:
        raise ConfigError(f"--tensor-parallel {parallel} does not divide --gpus {given.gpus}")
    if given.version is not None and release_of(given.version) is None:
        raise ConfigError(f"--version {given.version}: give a release, such as 0.11")
    for option in ("version", "eager", "acceptance_length"):
        if getattr(given, option) and given.backend != "vllm":
            raise ConfigError(f"{_flag(option)}: counts for vLLM alone; leave it out")
    if given.quantization is not None and given.quantization not in QUANTIZED:
        hint = nearest(given.quantization, QUANTIZED) or "; for example fp8 or awq"
        raise ConfigError(f"--quantization {given.quantization}: not known{hint}")
    for option in ("speculative_tokens", "acceptance_length"):
        if getattr(given, option) is not None and given.speculation is None:
            raise ConfigError(f"{_flag(option)}: has no use without --speculation")
    if _ahead(given) > MOST_LOOKED_AHEAD:
        raise ConfigError(f"--speculative-tokens {_ahead(given)}: at most {MOST_LOOKED_AHEAD}")
    kept, most = given.acceptance_length, _ahead(given) + 1
    if kept is not None and not 1 <= kept <= most:
        raise ConfigError(f"--acceptance-length {kept:g}: a step keeps from 1 to {most} tokens")


def _flag(name: str) -> str:
    return FLAGS.get(name, f"--{name.replace('_', '-')}")


def _size(text: str) -> int:
    """Return what an option counts."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if 1 <= value <= MAX_COUNT:
        return value
    raise argparse.ArgumentTypeError(f"{text}: {GIVE}")
