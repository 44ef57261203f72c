"""The axes of the grid, block by block, out of a composed configuration.

A block is a partial set of axes laid over the grid's own; what the command line decides, no
block changes. Axes that vary together are pairs in its list ``each``: one block for every entry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from copy import deepcopy
from dataclasses import fields

from campaign.contradictions import note_contradictions
from campaign.overrides import ENGINE
from campaign.reader import Reader, nearest
from campaign.settings import Axes
from campaign.tree import Tree, covers, leaves, put
from db.records import ARRIVALS, DECODINGS, Scalar, Workload

#: The name of the only block of a grid without any.
WHOLE = "grid"
#: The list of a block that holds partial axes which vary together.
EACH = "each"
MODES = ("auto", "offline", "online")
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
        return {WHOLE: _axes(read)}
    return {
        part: _block(read, base, part, content, pinned)
        for name, block in blocks.items()
        for part, content in _parts(read, name, block)
    }


def _parts(read: Reader, name: str, block: object) -> list[tuple[str, object]]:
    """Return the blocks that a block stands for: itself, or one for every entry of ``each``."""
    if not isinstance(block, dict) or EACH not in block:
        return [(name, block)]
    entries = block[EACH]
    rest = dict(leaves({key: value for key, value in block.items() if key != EACH}))
    if not (isinstance(entries, list) and entries and all(isinstance(e, dict) for e in entries)):
        fix = "[{model: A, engine.speculation: B}, {model: C, engine.speculation: D}]"
        read.note(f"blocks.{name}.{EACH}", f"is no list of axes, such as {fix}")
        return [(name, rest)]
    return [(f"{name}.{n}", rest | dict(leaves(entry))) for n, entry in enumerate(entries, 1)]


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

    def word(words: Collection[str]) -> Callable[[str, object], str]:
        return lambda path, value: read.choice(path, value, words)

    axes = Axes(
        model=read.axis("model", read.text),
        weights=read.axis("weights", word(WEIGHTS)),
        board=read.axis("board", read.text),
        backend=read.axis("engine.backend", word(known)),
        version=read.axis("engine.version", read.optional_text),
        dtype=read.axis("engine.dtype", word(DTYPES)),
        quantization=read.axis("engine.quantization", read.optional_text),
        tensor_parallel=read.axis("engine.tensor_parallel", read.whole),
        threads=read.axis("engine.threads", read.optional_whole),
        mode=read.axis("engine.mode", word(MODES)),
        speculation=read.axis("engine.speculation", read.optional_text),
        speculative_tokens=read.axis("engine.speculative_tokens", read.optional_whole),
        power_limit_w=read.axis("engine.power_limit_w", read.optional_number),
        options={backend: _flags(read, f"engine.options.{backend}") for backend in known},
        input_tokens=read.axis("workload.input_tokens", read.whole),
        output_tokens=read.axis("workload.output_tokens", read.whole),
        batch_size=read.axis("workload.batch_size", read.whole),
        requests=read.axis("workload.requests", read.optional_whole),
        lengths=read.axis("workload.lengths", read.text),
        prefix_tokens=read.axis("workload.prefix_tokens", lambda p, v: read.whole(p, v, 0)),
        arrival=read.axis("workload.arrival", word(ARRIVALS)),
        rate_rps=read.axis("workload.rate_rps", read.optional_number),
        decoding=read.axis("workload.decoding", word(DECODINGS)),
        beams=read.axis("workload.beams", read.whole),
        temperature=read.axis("workload.temperature", read.number),
        top_p=read.axis("workload.top_p", read.number),
    )
    note_contradictions(read, axes)
    return axes


def _flags(read: Reader, path: str) -> dict[str, tuple[Scalar, ...]]:
    return {flag: read.flag(f"{path}.{flag}") for flag in read.mapping(path)}
