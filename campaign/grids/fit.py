"""What cannot work, and why: only what is provable before anything is loaded.

Pure but for the catalogue's generations of boards and what the checkpoints that are here say of
themselves. A point that merely might fail is left to the engine. docs/grids.md lists every reason
with its source; what the environment lacks (``not_installed``) the grid is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from campaign.grids.proposals import Reason, speculation_misfit
from campaign.grids.quantization import quantization_misfit
from campaign.grids.together import GATED, short_of_memory
from db.errors import Infeasible
from db.records import Board, EngineSpec, Exclusion, Task, Workload
from workers.costs.cost import held_bytes, memory_share, usable_bytes
from workers.engines.transformers_limits import CROPPED
from workers.shapes.shape import Shape
from workers.workloads.tracefiles import is_trace

#: The most boards of one kind that one host holds.
MAX_GROUP = 16
#: Families that vLLM 0.32 has no implementation of, whose weights can be drawn or fetched.
NOT_IN_VLLM = frozenset({"baichuan", "bamba", "dots1", "gpt_neo", "internlm", "mpt"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Tasks in the order they are meant to run in, and what cannot work, with its reason.

    `boards` are the kinds that its points name, by slug.
    """

    tasks: tuple[Task, ...]
    exclusions: tuple[Exclusion, ...]
    boards: Mapping[str, Board] = field(default_factory=dict)


def engine_misfit(
    engine: EngineSpec, board: Board, shape: Shape | None, draft: Shape | None = None
) -> Reason | None:
    """Return why an engine cannot work on its boards as (reason, detail); None if it may.

    `draft` is the shape of the model that proposes tokens, if one does.
    """
    for rule in ENGINE_RULES:
        found = rule(engine, board)
        if found is not None:
            return found
    quantized = quantization_misfit(engine, board, shape)
    if quantized is not None:
        return "quantization", quantized
    if shape is None:
        return None
    if shape.heads % engine.tensor_parallel:
        parts = f"{shape.heads} attention heads"
        return "tp_heads", f"{engine.tensor_parallel} does not divide {parts}"
    if draft is not None and draft.vocabulary != shape.vocabulary:
        sizes = f"{draft.vocabulary} tokens, its target's {shape.vocabulary}"
        return "draft_vocabulary", f"the vocabulary of {draft.name} has {sizes}"
    weights, _ = held_bytes(engine, shape, context=0)
    return _memory(weights, "weights", engine, board)


def workload_misfit(
    engine: EngineSpec,
    workload: Workload,
    board: Board,
    shape: Shape | None,
    batch_reached: float = 0.0,
) -> Reason | None:
    """Return why a workload cannot work on an engine as (reason, detail); None if it may.

    `batch_reached` is the part of a load's batch below which a row of it is void.
    """
    found = _arrival(engine, workload) or _decoding(engine, workload)
    if found is not None or shape is None:
        return found
    context = workload.input_tokens + workload.output_tokens
    if shape.max_position is not None and context > shape.max_position:
        return "context_too_long", f"{context} tokens exceed the model's {shape.max_position}"
    longest = engine.options.get("max_model_len")
    if isinstance(longest, int) and context > longest:
        return "context_too_long", f"{context} tokens exceed max_model_len={longest}"
    sequences = 1 if engine.backend == "vllm" else workload.batch_size * workload.beams
    weights, each = held_bytes(engine, shape, context)
    what = "weights and the KV cache of " + (f"{sequences} requests" if sequences > 1 else "one")
    found = _memory(weights + sequences * each, what, engine, board)
    if found is None and engine.backend == "vllm":
        short = short_of_memory(engine, workload, board, shape, batch_reached)
        return None if short is None else ("memory", short)
    return found


# ---- engines ---------------------------------------------------------------------------------


def _number_format(engine: EngineSpec, board: Board) -> Reason | None:
    if engine.dtype == "bfloat16" and board.fp16_flops and not board.bf16_flops:
        return "dtype", f"{board.slug} does not compute in bfloat16; use float16"
    return None


def _group_size(engine: EngineSpec, _: Board) -> Reason | None:
    if engine.board_count > MAX_GROUP:
        return "multi_node", f"{engine.board_count} boards do not fit in one host"
    return None


def _backend(engine: EngineSpec, _: Board) -> Reason | None:
    """Return what transformers and the simulated engine are not made for."""
    if engine.backend == "vllm":
        return None
    if engine.tensor_parallel > 1 and engine.backend == "transformers":
        return "no_tensor_parallel", "transformers runs on one board here; use vllm"
    if engine.mode == "online":
        return "offline_engine", f"{engine.backend} takes no requests as they arrive; use vllm"
    cache = engine.options.get("cache_implementation")
    if engine.backend == "transformers" and engine.speculation and cache not in CROPPED:
        return "speculation_cache", f"assisted generation takes no tokens back from a {cache} cache"
    if engine.backend == "simulated" and engine.speculation:
        return "simulated_limit", "the simulated engine proposes no tokens"
    return None


def _implementation(engine: EngineSpec, _: Board) -> Reason | None:
    """Return which model vLLM could only refuse, once its weights are there.

    A pinned version may have one, and `model_impl` may ask for that of transformers.
    """
    if engine.backend != "vllm" or engine.version or "model_impl" in engine.options:
        return None
    for model in filter(None, (engine.model, engine.draft)):
        family = model.architecture.get("model_type")
        if family in NOT_IN_VLLM:
            text = f"vLLM has no implementation of {family}; use transformers"
            return "no_implementation", text
    return None


def _power_limit(engine: EngineSpec, board: Board) -> Reason | None:
    limit = engine.power_limit_w
    if limit is None:
        return None
    if board.is_cpu:
        return "power_limit", "a CPU's power limit is not verified; leave it out"
    if board.tdp_w is not None and limit > board.tdp_w:
        return "power_limit", f"{limit:g} W is above the {board.tdp_w:g} W of a {board.slug}"
    return None


ENGINE_RULES: tuple[Callable[[EngineSpec, Board], Reason | None], ...] = (
    _number_format, _group_size, _backend, _implementation, _power_limit, speculation_misfit,
)  # fmt: skip


# ---- workloads -------------------------------------------------------------------------------


def _arrival(engine: EngineSpec, workload: Workload) -> Reason | None:
    if engine.backend == "vllm":
        return _places(engine, workload)
    if workload.is_online:
        return "offline_engine", f"{engine.backend} takes no requests as they arrive; use vllm"
    if workload.arrival == "at_once":
        text = f"{engine.backend} computes static batches; use workload.arrival=static"
        return "no_continuous_batching", text
    return None


def _places(engine: EngineSpec, workload: Workload) -> Reason | None:
    """Return why vLLM, loaded as it is, would compute another batch than the workload's."""
    if workload.is_online and engine.mode != "online":
        return "offline_engine", "requests arrive while others are computed; use engine.mode=online"
    most = engine.options.get("max_num_seqs")
    gated = workload.arrival in GATED
    fewer = gated and isinstance(most, int) and most < workload.batch_size
    if fewer or (workload.needs_places and most not in (None, workload.batch_size)):
        text = f"max_num_seqs={most} computes other batches than batch_size={workload.batch_size}"
        return "batch_limit", text
    return _step(engine, workload)


def _step(engine: EngineSpec, workload: Workload) -> Reason | None:
    """Return why vLLM's steps, as long as they are told to be, are too short for its requests."""
    tokens = engine.options.get("max_num_batched_tokens")
    places = engine.options.get("max_num_seqs") or workload.batch_size
    if not isinstance(tokens, int) or not isinstance(places, int):
        return None
    if tokens < places:
        return "step_tokens", f"max_num_batched_tokens={tokens} is below its {places} requests"
    context = workload.input_tokens + workload.output_tokens
    if engine.options.get("enable_chunked_prefill") is False and tokens < context:
        whole = f"{context} tokens without enable_chunked_prefill"
        return "step_tokens", f"max_num_batched_tokens={tokens} is below {whole}"
    return None


def _decoding(engine: EngineSpec, workload: Workload) -> Reason | None:
    decoding = workload.decoding
    if decoding != "greedy" and engine.backend == "simulated":
        return "simulated_limit", "the simulated engine decodes greedily"
    if decoding == "beam" and engine.speculation:
        return "no_beam_search", "a beam search takes no proposed tokens"
    if decoding == "beam" and engine.backend == "vllm" and is_trace(workload.lengths):
        return "no_beam_search", "a beam search of vLLM takes one output length, a trace has many"
    if decoding == "beam" and engine.options.get("enable_prefix_caching") is False:
        return "no_beam_search", (
            "vLLM hands every beam over anew for each token, and computes it "
            "from its beginning without enable_prefix_caching"
        )
    if decoding == "beam" and engine.mode == "online":
        return "no_beam_search", "an online engine searches no beams; use workload.arrival=static"
    if engine.backend == "transformers" and engine.speculation and workload.batch_size > 1:
        return "speculation_batch", "assisted generation takes one request at a time"
    return None


# ---- memory ----------------------------------------------------------------------------------


def _memory(needed: float, what: str, engine: EngineSpec, board: Board) -> Reason | None:
    """Return what exceeds the part of the boards' memory that the engine fills."""
    there, share = usable_bytes(engine, board), memory_share(engine)
    if there is None or needed <= there:
        return None
    have = f"{engine.board_count} x {board.slug} hold {there / share / 1e9:.1f} GB"
    if share < 1.0:
        have += f", of which {engine.backend} fills {share:g} ({there / 1e9:.1f} GB)"
    return "memory", f"{what} need {needed / 1e9:.1f} GB; {have}"


def require_runnable(grid: Grid, here: Mapping[str, int], *, claimed: bool = False) -> None:
    """Raise Infeasible if nothing of a grid can run; `here` maps a slug to the number of boards.

    The message names the boards that are needed and those that are here, and where boards are only
    `claimed`, how to claim one that is needed.
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
        one = grid.tasks[0].engine
        fix = f"; claim it with cluster.boards.{one.board}={one.board_count}" if claimed else ""
        raise Infeasible(f"nothing here can run this grid: it needs {needs}; here: {has}{fix}")


def _group(slug: str, count: int) -> str:
    return slug if count == 1 else f"{count} x {slug}"


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "no board"
