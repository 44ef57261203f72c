"""Whether an engine's memory lets it compute as many requests together as the gate of a load wants.

Pure. Counts a request with the cache of its prompt alone, which is the least it ever holds: what is
left out here is voided (``batch_not_reached``) however well the engine does.
"""

from __future__ import annotations

from functools import cache

from db.records import Board, EngineSpec, Workload
from workers.costs.cost import held_bytes, usable_bytes
from workers.shapes.shape import Shape
from workers.workloads.batching import SETTLED, STEP_TOKENS, reachable_mean
from workers.workloads.lengths import FIXED

#: Arrivals of which the batch is to be computed together, and the gate says whether it was.
GATED = ("at_once", "closed")
#: A step that holds the prompts of any batch.
ENDLESS = 2**40


def short_of_memory(
    engine: EngineSpec,
    workload: Workload,
    board: Board,
    shape: Shape,
    batch_reached: float,
) -> str | None:
    """Return why a load cannot reach `batch_reached` of its batch in vLLM; None if it may.

    On a CPU memory is taken as it is needed, prompts that share a prefix may share its cache, and
    what is drawn may be short: of these nothing is concluded.
    """
    there = usable_bytes(engine, board)
    judged = workload.arrival in GATED and workload.decoding != "beam"
    if not judged or board.is_cpu or there is None or workload.lengths != FIXED:
        return None
    if workload.prefix_tokens:
        return None
    weights, each = held_bytes(engine, shape, workload.input_tokens)
    held = 1 + int((there - weights) // (each or 1.0))  # the last may hold a part of its prompt
    if held >= workload.batch_size:
        return None
    best = _mean(workload, engine, workload.batch_size, _step_tokens(engine))
    most = _mean(workload, engine, held, ENDLESS)
    if most >= batch_reached * best:
        return None
    return (f"{held} of {workload.batch_size} prompts have room at a time, so {most:.1f} requests "
            f"are computed together in the mean, of {best:.1f} that lengths allow: void below "
            f"{batch_reached:g} (meter.gates.batch_reached)")  # fmt: skip


def _step_tokens(engine: EngineSpec) -> int:
    told = engine.options.get("max_num_batched_tokens")
    return told if isinstance(told, int) else STEP_TOKENS


def _mean(workload: Workload, engine: EngineSpec, places: int, step_tokens: int) -> float:
    """Return how many requests are computed together in the mean, at best, in so many places."""
    endless = SETTLED if workload.arrival == "closed" else 1
    requests = workload.requests or endless * workload.batch_size
    steps = -(-workload.output_tokens // (1 + (engine.speculative_tokens or 0)))
    return _reachable(workload.input_tokens, steps, requests, places, step_tokens)


@cache
def _reachable(prompt: int, steps: int, requests: int, places: int, step_tokens: int) -> float:
    return reachable_mean([[(prompt, steps)] * requests], places, step_tokens)
