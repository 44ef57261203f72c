"""What a model has to compute and to move for a batch: FLOPs and bytes, exact for its shape.

Pure; says nothing of seconds or watts (`cost` does) and nothing of how well any engine does it.
2 FLOPs per multiply-accumulate; the output matrix only where a token is chosen; weights once per
step, for the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import comb

from db.records import Workload
from workers.shapes.shape import Precision, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Arithmetic and memory traffic of one phase over the whole group; `steps` engine steps.

    `matrix_flops` are those of the FLOPs that the layers' matrices take: not attention, state and
    the output matrix. `tokens` are those that pass through the layers, prompts' or generated ones.
    """

    flops: float
    matrix_flops: float
    bytes: float
    tokens: float
    steps: float

    def times(self, factor: float) -> Work:
        """Return the same work over and over."""
        return Work(
            flops=self.flops * factor,
            matrix_flops=self.matrix_flops * factor,
            bytes=self.bytes * factor,
            tokens=self.tokens * factor,
            steps=self.steps * factor,
        )


def weight_bytes(shape: Shape, numbers: Precision) -> float:
    """Bytes of all weights, summed over the group."""
    return shape.parameters * numbers.weight_bytes


def kv_bytes_per_token(shape: Shape, numbers: Precision) -> float:
    """Bytes that one token adds to the KV cache, summed over the group."""
    return shape.kv_elements_per_token * numbers.kv_bytes


def cache_bytes(shape: Shape, numbers: Precision, context: int, copies: float = 1.0) -> float:
    """Bytes that a sequence of `context` tokens keeps, summed over the group.

    `copies` of the KV cache within each window, and state.
    """
    return (copies * shape.kv_elements(context) + shape.state_elements) * numbers.kv_bytes


def prefill(
    shape: Shape, numbers: Precision, workload: Workload, spread: int = 1, copies: float = 1.0
) -> Work:
    """Work of turning the prompts of a batch into their first tokens, in one step.

    The weights are read once, state written once, and keys and values in all `copies`.
    """
    n, batch = workload.input_tokens, workload.batch_size
    written = copies * n * shape.kv_elements_per_token + shape.state_elements
    weights = _weights_read(shape, numbers, batch * n, spread)
    return Work(
        flops=batch * (shape.layer_flops(1, n) + shape.head_flops),
        matrix_flops=2.0 * batch * n * shape.matrix_parameters,
        bytes=weights + batch * written * numbers.kv_bytes,
        tokens=batch * n,
        steps=1,
    )


def decode(
    shape: Shape,
    numbers: Precision,
    workload: Workload,
    spread: int = 1,
    copies: float = 1.0,
    proposed: int = 0,
    kept: float = 1.0,
) -> Work:
    """Work of every token after the first, in steps that keep `kept` of them.

    A step computes one token more than were `proposed`. It reads the weights once for the batch,
    and of every request the keys and values of its context; it writes those of the tokens that it
    computes, and reads and writes the state. The boards of a group keep keys and values in so many
    `copies`, all of which are read.
    """
    more, batch = workload.output_tokens - 1, workload.batch_size
    if not more:
        return Work(flops=0.0, matrix_flops=0.0, bytes=0.0, tokens=0.0, steps=0.0)
    first, last = workload.input_tokens + 1, workload.input_tokens + more
    steps = max(1.0, more / kept)
    computed = steps * (1 + proposed)  # tokens of a request
    flops = shape.layer_flops(first, last, decode=True) + more * shape.head_flops
    moved = shape.kv_elements_read(first, last) * (steps / more)
    moved = copies * (moved + computed * shape.kv_elements_per_token)
    moved += steps * 2 * shape.state_elements
    weights = steps * _weights_read(shape, numbers, batch * (1 + proposed), spread)
    return Work(
        flops=batch * flops * (computed / more),
        matrix_flops=2.0 * batch * computed * shape.matrix_parameters,
        bytes=weights + batch * moved * numbers.kv_bytes,
        tokens=batch * computed,
        steps=steps,
    )


def _weights_read(shape: Shape, numbers: Precision, tokens: int, spread: int) -> float:
    """Bytes of weights that a step over so many tokens reads: of a mixture, what they reach.

    Of experts that lie whole on one of `spread` boards, every board waits for the one that reads
    most: it counts for all.
    """
    read = shape.parameters_read(tokens)
    for group in shape.groups if spread > 1 else ():
        if group.experts:
            reached = 1 - (1 - group.experts_per_token / group.experts) ** tokens
            most = spread * _most(-(-group.experts // spread), reached, spread)
            each = group.expert_parameters + group.expert_vectors
            read += group.count * (most - group.experts * reached) * each
    return read * numbers.weight_bytes


@cache
def _most(experts: int, reached: float, boards: int) -> float:
    """Return how many of its experts the busiest board reads, each with a chance, in the mean."""
    below, fewer = 0.0, 0.0
    for count in range(experts):
        below += comb(experts, count) * reached**count * (1 - reached) ** (experts - count)
        fewer += below**boards
    return experts - fewer
