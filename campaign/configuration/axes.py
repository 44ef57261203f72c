"""The axes of the grid, block by block, out of a composed configuration.

A block is a partial set of axes laid over the grid's own; what the command line decides, no
block changes. Axes that vary together are pairs in its list ``each``: one block for every entry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from copy import deepcopy
from dataclasses import fields
from difflib import get_close_matches

from campaign.configuration.contradictions import note_contradictions
from campaign.configuration.overrides import ENGINE
from campaign.configuration.points import NGRAM
from campaign.configuration.reader import UNKNOWN, Reader, nearest
from campaign.configuration.settings import Axes
from campaign.configuration.tree import Tree, covers, leaves, put
from db.records import ARRIVALS, DECODINGS, Scalar, Workload
from workers.costs.constants import release_of
from workers.engines.registry import BACKENDS
from workers.shapes.shape import QUANTIZED

#: The name of the only block of a grid without any.
WHOLE = "grid"
#: The list of a block that holds partial axes which vary together.
EACH = "each"
MODES = ("auto", "offline", "online")
DTYPES = ("auto", "bfloat16", "float16", "float32")
WEIGHTS = ("auto", "random", "real")
#: More than these is a slip of the keyboard.
MOST_RPS = 1e6
MOST_LOOKED_AHEAD = 256
MOST_THREADS = 4096
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
    read.keys("engine.options", BACKENDS)

    def word(words: Collection[str]) -> Callable[[str, object], str]:
        return lambda path, value: read.choice(path, value, words)

    def up_to(most: int) -> Callable[[str, object], int | None]:
        return lambda path, value: read.optional_whole(path, value, most)

    axes = Axes(
        model=read.axis("model", read.text),
        weights=read.axis("weights", word(WEIGHTS)),
        board=read.axis("board", read.text),
        backend=read.axis("engine.backend", word(BACKENDS)),
        version=read.axis("engine.version", lambda p, v: _release(read, p, v)),
        dtype=read.axis("engine.dtype", word(DTYPES)),
        quantization=read.axis("engine.quantization", lambda p, v: _quantization(read, p, v)),
        tensor_parallel=read.axis("engine.tensor_parallel", read.whole),
        threads=read.axis("engine.threads", up_to(MOST_THREADS)),
        mode=read.axis("engine.mode", word(MODES)),
        speculation=read.axis("engine.speculation", lambda p, v: _proposer(read, p, v)),
        speculative_tokens=read.axis("engine.speculative_tokens", up_to(MOST_LOOKED_AHEAD)),
        power_limit_w=read.axis("engine.power_limit_w", read.optional_number),
        options={backend: _flags(read, f"engine.options.{backend}") for backend in BACKENDS},
        input_tokens=read.axis("workload.input_tokens", read.whole),
        output_tokens=read.axis("workload.output_tokens", read.whole),
        batch_size=read.axis("workload.batch_size", read.whole),
        requests=read.axis("workload.requests", read.optional_whole),
        lengths=read.axis("workload.lengths", read.text),
        prefix_tokens=read.axis("workload.prefix_tokens", lambda p, v: read.whole(p, v, 0)),
        arrival=read.axis("workload.arrival", word(ARRIVALS)),
        rate_rps=read.axis("workload.rate_rps", lambda p, v: read.optional_number(p, v, MOST_RPS)),
        decoding=read.axis("workload.decoding", word(DECODINGS)),
        beams=read.axis("workload.beams", read.whole),
        temperature=read.axis("workload.temperature", read.number),
        top_p=read.axis("workload.top_p", read.number),
    )
    note_contradictions(read, axes)
    return axes


def _quantization(read: Reader, path: str, value: object) -> str | None:
    """Return the name of a method, as vLLM spells it, or None."""
    return None if value is None else read.choice(path, value, QUANTIZED)


def _proposer(read: Reader, path: str, value: object) -> str | None:
    """Return ``ngram``, the name of a draft model, or None; a misspelt ngram is no model."""
    name = read.optional_text(path, value)
    known = name in (None, UNKNOWN, NGRAM)
    if not known and get_close_matches(str(name).lower(), [NGRAM], cutoff=0.7):
        read.note(path, f"{name!r} is no model and not known; did you mean {NGRAM}?")
    return name


def _release(read: Reader, path: str, value: object) -> str | None:
    """Return a version as text, or None."""
    version = read.optional_text(path, value)
    if version not in (None, UNKNOWN) and release_of(version) is None:
        read.note(path, f"{version} is no release; write for example {path}=0.32.0")
    return version


def _flags(read: Reader, path: str) -> dict[str, tuple[Scalar, ...]]:
    return {flag: read.flag(f"{path}.{flag}") for flag in read.mapping(path)}
