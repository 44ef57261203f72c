"""What a model has to compute and to move for a batch: FLOPs and bytes, exact for its shape.

Pure; says nothing of seconds or watts (`cost` does) and nothing of how well any engine does it.
2 FLOPs per multiply-accumulate; the output matrix only where a token is chosen; weights once per
step, for the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass

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


def cache_bytes(shape: Shape, numbers: Precision, context: int) -> float:
    """Bytes that a sequence of `context` tokens keeps: KV cache within each window, and state."""
    return (shape.kv_elements(context) + shape.state_elements) * numbers.kv_bytes


def prefill(shape: Shape, numbers: Precision, workload: Workload) -> Work:
    """Work of turning the prompts of a batch into their first tokens, in one step.

    The weights are read once, keys, values and state written once.
    """
    n, batch = workload.input_tokens, workload.batch_size
    written = n * shape.kv_elements_per_token + shape.state_elements
    return Work(
        flops=batch * (shape.layer_flops(1, n) + shape.head_flops),
        matrix_flops=2.0 * batch * n * shape.matrix_parameters,
        bytes=_weights_read(shape, numbers, batch * n) + batch * written * numbers.kv_bytes,
        tokens=batch * n,
        steps=1,
    )


def decode(shape: Shape, numbers: Precision, workload: Workload) -> Work:
    """Work of every token after the first, a step for each.

    A step reads the weights once for the batch, and of every request the keys and values of its
    context; it writes those of its own token, and reads and writes the state.
    """
    steps, batch = workload.output_tokens - 1, workload.batch_size
    first, last = workload.input_tokens + 1, workload.input_tokens + steps
    moved = shape.kv_elements_read(first, last)
    moved += steps * (shape.kv_elements_per_token + 2 * shape.state_elements)
    flops = shape.layer_flops(first, last, decode=True) + steps * shape.head_flops
    weights = steps * _weights_read(shape, numbers, batch)
    return Work(
        flops=batch * flops if steps else 0.0,
        matrix_flops=2.0 * batch * steps * shape.matrix_parameters,
        bytes=weights + batch * moved * numbers.kv_bytes if steps else 0.0,
        tokens=batch * steps,
        steps=steps,
    )


def _weights_read(shape: Shape, numbers: Precision, tokens: int) -> float:
    """Bytes of weights that a step over so many tokens reads: of a mixture, what they reach."""
    return shape.parameters_read(tokens) * numbers.weight_bytes
