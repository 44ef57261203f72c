"""The axes of the grid, block by block, out of a composed configuration.

A block is a partial set of axes laid over the grid's own; what the command line decides, no
block changes.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields

from campaign.overrides import ENGINE
from campaign.reader import Reader, nearest
from campaign.settings import Axes
from campaign.tree import Tree, covers, leaves, put
from db.records import Workload

DTYPES = ("auto", "bfloat16", "float16", "float32")
WEIGHTS = ("auto", "random", "real")
NAMES = (
    "model",
    "weights",
    "board",
    *(f"engine.{name}" for name in ENGINE if name != "options"),
    *(f"workload.{f.name}" for f in fields(Workload)),
)


def read_blocks(read: Reader, tree: Tree, pinned: frozenset[str]) -> dict[str, Axes]:
    """Return the axes of every block; without blocks, those of the grid itself.

    `pinned` are the paths that the command line decides.
    """
    base = {key: value for key, value in tree.items() if key != "blocks"}
    blocks = {name: block for name, block in read.mapping("blocks").items() if block is not None}
    if not blocks:
        return {"grid": _axes(read)}
    return {name: _block(read, base, name, block, pinned) for name, block in blocks.items()}


def _block(read: Reader, base: Tree, name: str, block: object, pinned: frozenset[str]) -> Axes:
    merged = deepcopy(base)
    laid = set()
    if not isinstance(block, dict):
        read.note(f"blocks.{name}", "is no mapping of axes, such as {workload.batch_size: [1, 8]}")
        block = {}
    for path, value in leaves(block):
        if path not in NAMES and not path.startswith("engine.options."):
            read.note(f"blocks.{name}.{path}", f"no such axis{nearest(path, NAMES)}")
        elif not covers(pinned, path):
            put(merged, path, value)
            laid.add(path)
    inner = Reader(merged)
    axes = _axes(inner)
    for problem in inner.problems:
        path, _, text = problem.partition(": ")
        read.note(f"blocks.{name}.{path}" if path in laid else path, text)
    return axes


def _axes(read: Reader) -> Axes:
    known = tuple(read.mapping("engine.options"))
    return Axes(
        model=read.axis("model", read.text),
        weights=read.axis("weights", lambda path, value: read.choice(path, value, WEIGHTS)),
        board=read.axis("board", read.text),
        backend=read.axis("engine.backend", lambda path, value: read.choice(path, value, known)),
        version=read.axis("engine.version", read.optional_text),
        dtype=read.axis("engine.dtype", lambda path, value: read.choice(path, value, DTYPES)),
        quantization=read.axis("engine.quantization", read.optional_text),
        tensor_parallel=read.axis("engine.tensor_parallel", read.whole),
        threads=read.axis("engine.threads", read.optional_whole),
        options={
            backend: {
                flag: read.flag(f"engine.options.{backend}.{flag}")
                for flag in read.mapping(f"engine.options.{backend}")
            }
            for backend in known
        },
        input_tokens=read.axis("workload.input_tokens", read.whole),
        output_tokens=read.axis("workload.output_tokens", read.whole),
        batch_size=read.axis("workload.batch_size", read.whole),
    )
