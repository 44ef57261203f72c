"""What a batch costs on a board group, from first principles: seconds and watts.

Pure. Serves plan, schedule, `campaign estimate` and the simulated engine; what it says is never
stored as a measurement. Work comes from `roofline`, rates from a board's data sheet; all that is
neither is in `constants`. A model is its shape: its name plays no part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from db.records import Board, EngineSpec, Weights, Workload
from workers.costs.constants import (
    Constants,
    board_rates,
    constants_of,
    default_share,
)
from workers.costs.group import Group, Phase
from workers.costs.roofline import cache_bytes, decode, prefill, weight_bytes
from workers.costs.speculation import draft_shape, fewest, kept, proposed
from workers.shapes.shape import Precision, Shape, precision

#: Bumped when a formula or constant changes what a simulated row says.
VERSION = "6"

#: Options that keep a part of the weights in the host's memory.
_OFFLOADING = ("cpu_offload_gb", "offload_group_size")
_KV_FP8 = ("fp8", "fp8_e4m3", "fp8_e5m2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One batch on a group of boards: prefill gives the first token, decode every other.

    `running` is how many of its requests are computed together; the others wait for memory. Where
    it is 0 not one has room, and the cost is that of one after the other, if they had.
    """

    prefill: Phase
    decode: Phase
    output_tokens: int
    boards: int
    running: int

    @property
    def e2e_s(self) -> float:
        """Seconds from handing the batch over to its last token."""
        return self.prefill.seconds + self.decode.seconds

    @property
    def energy_j(self) -> float | None:
        """Joules of the batch over the group; None where the power is not known."""
        if self.prefill.power_w is None or self.decode.power_w is None:
            return None
        one = self.prefill.seconds * self.prefill.power_w
        return self.boards * (one + self.decode.seconds * self.decode.power_w)


def estimate(
    engine: EngineSpec,
    shape: Shape,
    board: Board,
    workload: Workload,
    constants: Constants | None = None,
    *,
    at_most: bool = False,
) -> Cost | None:
    """Return what a batch costs on an engine's boards.

    None where the boards' rates are not known, or how many proposed tokens are kept; with `at_most`
    the fewest that any text lets it keep stand for these. Of the engine
    count backend, version, dtype, quantization, parallelism, speculation, power limit, threads
    (on ``cpu:`` boards) and the options that change arithmetic or memory; of the workload lengths,
    batch and beams. Boards beyond `tensor_parallel` hold further stages of the model.
    """
    keeps = fewest(engine) if at_most else kept(engine)
    together = running_together(engine, shape, board, workload)
    running = max(1, together)
    group = _group(engine, shape, board, running, constants or constants_of(board, engine))
    if group is None or keeps is None:
        return None
    first = _prefill(group, workload, running)
    more = _decode(group, workload, running, proposed(engine), keeps)
    draft = _draft(group, running)
    if draft is not None:  # a pass for each token that it proposes
        passes = proposed(engine) / keeps
        first = first.joined(_prefill(draft, workload, running))
        more = more.joined(_decode(draft, workload, running, often=passes))
    return Cost(prefill=first, decode=more, output_tokens=workload.output_tokens,
                boards=engine.board_count, running=together)  # fmt: skip


def _group(
    engine: EngineSpec, shape: Shape, board: Board, running: int, constants: Constants
) -> Group | None:
    """Return an engine's boards with a model on them; None where their rates are not known."""
    numbers = numbers_of(engine)
    rates = board_rates(board, numbers, engine.threads, engine.quantization)
    if rates is None:
        return None
    stages = max(1, engine.board_count // engine.tensor_parallel)
    parts = min(stages, running)  # a batch is split so that no stage waits for another
    return Group(engine=engine, board=board, rates=rates, parts=parts, constants=constants,
                 shape=shape, numbers=numbers)  # fmt: skip


def _draft(group: Group, running: int) -> Group | None:
    """Return the same boards with the draft model on them; None where none proposes tokens.

    vLLM runs it within its own steps, `generate` has a loop of its own for it.
    """
    engine, shape = group.engine, draft_shape(group.engine)
    if engine.draft is None or shape is None:
        return None
    inner = {"step_s": 0.0, "request_s": 0.0} if engine.backend == "vllm" else {}
    alone = replace(engine, model=engine.draft, quantization=None, speculation=None, draft=None)
    return _group(alone, shape, group.board, running, replace(group.constants, **inner))


def _prefill(group: Group, workload: Workload, running: int) -> Phase:
    """Return the phase that turns a batch's prompts into first tokens."""
    prompts = replace(workload, batch_size=-(-workload.batch_size // group.parts))
    spread, copies = _spread(group.engine), kv_copies(group.engine, group.shape)
    work = prefill(group.shape, group.numbers, prompts, spread, copies)
    return group.phase(work, running)


def _decode(
    group: Group,
    workload: Workload,
    running: int,
    ahead: int = 0,
    keeps: float = 1.0,
    often: float = 1.0,
) -> Phase:
    """Return the phase of a batch's other tokens, of which so many requests run together.

    Each step looks `ahead` and `keeps` some of it; all of it is done so `often`.
    """
    requests = running * workload.beams
    answers = replace(workload, batch_size=-(-requests // group.parts))
    spread, copies = _spread(group.engine), kv_copies(group.engine, group.shape)
    work = decode(group.shape, group.numbers, answers, spread, copies, ahead, keeps)
    return group.phase(work.times(often * workload.batch_size / running), requests)


def _spread(engine: EngineSpec) -> int:
    """Return over how many boards an engine spreads whole experts, where it does not split them."""
    return engine.tensor_parallel if engine.options.get("enable_expert_parallel") else 1


def kv_copies(engine: EngineSpec, shape: Shape) -> float:
    """Return how often an engine's boards keep each key and value, all together."""
    split = engine.options.get("decode_context_parallel_size")  # by tokens, beside the heads
    copies = shape.kv_copies(engine.tensor_parallel)
    return max(1.0, copies / split) if isinstance(split, int) and split > 0 else copies


def numbers_of(engine: EngineSpec) -> Precision:
    """Return how an engine keeps numbers, its KV cache included."""
    drawn = engine.model.weights is Weights.RANDOM
    numbers = precision(engine.dtype, engine.quantization, drawn=drawn)
    if engine.options.get("kv_cache_dtype") in _KV_FP8:
        return replace(numbers, kv_bytes=1.0)
    return numbers


def running_together(engine: EngineSpec, shape: Shape, board: Board, workload: Workload) -> int:
    """Return how many requests of a batch an engine computes together; 0 where not one fits.

    vLLM lets those wait that its memory has no room for; requests take what they hold halfway
    through their answers. Other engines compute a batch as it is.
    """
    batch = workload.batch_size
    there = usable_bytes(engine, board)
    if engine.backend == "transformers" or there is None:
        return batch
    context = workload.input_tokens + workload.output_tokens // 2
    weights, each = held_bytes(engine, shape, context)
    sequences = (there - weights) // (each or 1.0)
    if sequences < 1:
        return 0
    limit = engine.options.get("max_num_seqs")
    most = min(batch, int(sequences // workload.beams))
    return max(1, min(most, limit if isinstance(limit, int) else batch))


def memory_filled(engine: EngineSpec, shape: Shape, board: Board, workload: Workload) -> float:
    """Return the bytes that weights and KV cache fill at most over the group.

    With the requests that run together at the end of their answers, as far as there is room.
    """
    weights, kept_bytes = held_bytes(engine, shape, workload.input_tokens + workload.output_tokens)
    each, there = kept_bytes * workload.beams, usable_bytes(engine, board)
    cached = each * running_together(engine, shape, board, workload)
    if there is not None and engine.backend != "transformers":
        cached = max(each, min(cached, there - weights))
    return weights + cached


def held_bytes(engine: EngineSpec, shape: Shape, context: int) -> tuple[float, float]:
    """Return the bytes of all weights, and those of the cache of a sequence; a draft's included.

    Summed over the group: what several boards keep counts as often.
    """
    numbers, draft = numbers_of(engine), draft_shape(engine)
    weights = weight_bytes(shape, numbers)
    each = cache_bytes(shape, numbers, context, kv_copies(engine, shape))
    if draft is None:
        return weights, each
    plain = replace(numbers, weight_bytes=precision(engine.dtype).weight_bytes)
    of_draft = cache_bytes(draft, plain, context, kv_copies(engine, draft))
    return weights + weight_bytes(draft, plain), each + of_draft


def usable_bytes(engine: EngineSpec, board: Board) -> float | None:
    """Return the bytes of a group that weights and KV cache may fill.

    None where the boards' memory is not known, or the weights lie in the host's as well.
    """
    if board.memory_bytes is None or any(engine.options.get(name) for name in _OFFLOADING):
        return None
    return memory_share(engine) * engine.board_count * board.memory_bytes


def memory_share(engine: EngineSpec) -> float:
    """Return the part of its boards' memory that an engine fills: vLLM leaves some to others."""
    options = engine.options
    if engine.backend == "transformers" or options.get("kv_cache_memory_bytes"):
        return 1.0
    share = options.get("gpu_memory_utilization")
    return float(share) if isinstance(share, int | float) else default_share(engine.version)
