"""What cannot work, and why: only what is provable before anything is loaded.

Pure. A point that merely might fail is left to the engine. Reasons are words of the store:
``dtype``, ``tp_heads``, ``multi_node``, ``memory``, ``context_too_long``; and ``not_installed``
for what the environment lacks, which the grid is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from db.errors import Infeasible
from db.records import Board, EngineSpec, Exclusion, Task, Workload
from workers.roofline import kv_bytes_per_token, weight_bytes
from workers.shape import Shape, precision

#: The most boards of one kind that one host holds.
MAX_GROUP = 16
_WINDOWED = frozenset({"gemma2", "gemma3_text", "gpt_oss", "olmo3"})
_KV_FP8 = frozenset({"fp8", "fp8_e4m3", "fp8_e5m2"})

Reason = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Tasks in the order they are meant to run in, and what cannot work, with its reason."""

    tasks: tuple[Task, ...]
    exclusions: tuple[Exclusion, ...]


def engine_misfit(engine: EngineSpec, board: Board, shape: Shape | None) -> Reason | None:
    """Return why an engine cannot work on its boards as (reason, detail); None if it may."""
    if engine.dtype == "bfloat16" and board.fp16_flops and not board.bf16_flops:
        return "dtype", f"{board.slug} does not compute in bfloat16; use engine.dtype=float16"
    if engine.board_count > MAX_GROUP:
        return "multi_node", f"{engine.board_count} boards do not fit in one host"
    if shape is None:
        return None
    if shape.heads % engine.tensor_parallel:
        parts = f"{shape.heads} attention heads"
        return "tp_heads", f"{engine.tensor_parallel} does not divide {parts}"
    needed = _weight_bytes(engine, shape)
    return _memory(needed, "weights", engine, board)


def workload_misfit(
    engine: EngineSpec, workload: Workload, board: Board, shape: Shape | None
) -> Reason | None:
    """Return why a workload cannot work on an engine as (reason, detail); None if it may."""
    if shape is None:
        return None
    context = workload.input_tokens + workload.output_tokens
    if shape.max_position is not None and context > shape.max_position:
        return "context_too_long", f"{context} tokens exceed the model's {shape.max_position}"
    needed = _weight_bytes(engine, shape) + _kv_bytes(engine, workload, shape)
    return _memory(needed, "weights and KV cache", engine, board)


def _weight_bytes(engine: EngineSpec, shape: Shape) -> float:
    """Return the least bytes that the weights take."""
    return weight_bytes(shape, precision(engine.dtype, engine.quantization))


def _kv_bytes(engine: EngineSpec, workload: Workload, shape: Shape) -> float:
    """Return the least bytes of the KV cache of one batch, all requests running at once.

    Families that keep a window of the context in some layers need less; a quarter is counted.
    """
    tokens = workload.batch_size * (workload.input_tokens + workload.output_tokens)
    part = 0.25 if shape.family in _WINDOWED else 1.0
    if engine.options.get("kv_cache_dtype") in _KV_FP8:
        return tokens * shape.kv_elements_per_token * part
    return tokens * kv_bytes_per_token(shape, precision(engine.dtype)) * part


def _memory(needed: float, what: str, engine: EngineSpec, board: Board) -> Reason | None:
    if board.memory_bytes is None:
        return None
    there = board.memory_bytes * engine.board_count
    if needed <= there:
        return None
    have = f"{engine.board_count} x {board.slug} hold {there / 1e9:.1f} GB"
    return "memory", f"{what} need {needed / 1e9:.1f} GB; {have}"


def require_runnable(grid: Grid, here: Mapping[str, int]) -> None:
    """Raise Infeasible if nothing of a grid can run; `here` maps a slug to the number of boards.

    The message names the boards that are needed and those that are here.
    """
    if not grid.tasks:
        reasons = Counter[str]()
        for exclusion in grid.exclusions:
            reasons[exclusion.reason] += exclusion.points
        counts = ", ".join(f"{reason} {points}" for reason, points in reasons.most_common())
        first = f"; for example {grid.exclusions[0].detail}" if grid.exclusions else ""
        raise Infeasible(f"every point of the grid is excluded ({counts}){first}")
    if not any(t.engine.board_count <= here.get(t.engine.board, 0) for t in grid.tasks):
        needs = _listed({_group(t.engine.board, t.engine.board_count) for t in grid.tasks})
        has = _listed({_group(slug, count) for slug, count in here.items()})
        raise Infeasible(f"nothing here can run this grid: it needs {needs}; here: {has}")


def _group(slug: str, count: int) -> str:
    return slug if count == 1 else f"{count} x {slug}"


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "no board"
