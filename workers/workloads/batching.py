"""How many requests an engine could compute together, if nothing held it back. Pure.

Continuous batching with chunked prefill, step by step: in each step every request in decode takes
one token of the step's budget, prompts share the rest in order, and a request that has begun stays
until its last token. A list's end, prompts that fill the steps and short answers keep the mean
below the number of places; too little memory for the KV cache is what this does not know of.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable

from workers.workloads.lengths import Pair

#: Tokens a step takes where an engine does not say: the least of vLLM's defaults.
STEP_TOKENS = 2048
#: So many times the batch stand for a load that goes on.
SETTLED = 8


def reachable_mean(
    batches: Iterable[Iterable[Pair]], places: int, step_tokens: int = STEP_TOKENS
) -> float:
    """Return the requests computed together, averaged over the steps of all batches, at best."""
    done = [_computed(lengths, places, step_tokens) for lengths in batches]
    steps = math.fsum(taken for _, taken in done)
    return math.fsum(computed for computed, _ in done) / steps if steps else 0.0


def _computed(lengths: Iterable[Pair], places: int, step_tokens: int) -> tuple[int, int]:
    """Return the requests of a batch, summed over its steps, and how many steps it takes."""
    waiting = deque(lengths)
    prefilling: deque[list[int]] = deque()  # prompt tokens left, tokens to generate
    ends: list[int] = []  # the last step of each request in decode
    step = computed = 0
    while waiting or prefilling or ends:
        if not prefilling and not (waiting and len(ends) < places):
            idle = ends[0] - step  # until a place is free, every step is like the next
            step, computed = step + idle, computed + idle * len(ends)
        else:
            step += 1
            computed += _step(waiting, prefilling, ends, step, places, step_tokens)
        while ends and ends[0] <= step:
            heapq.heappop(ends)
    return computed, step


def _step(
    waiting: deque[Pair], prefilling: deque[list[int]], ends: list[int], step: int, places: int,
    step_tokens: int,
) -> int:  # fmt: skip
    """Let the prompts take what decode leaves of a step; returns the requests in it."""
    together = len(ends) + len(prefilling)
    left = max(1, step_tokens - len(ends))
    done: list[int] = []
    while left and (prefilling or (waiting and together < places)):
        if not prefilling:
            prefilling.append([*waiting.popleft()])
            together += 1
        taken = min(left, prefilling[0][0])
        left -= taken
        prefilling[0][0] -= taken
        if prefilling[0][0] == 0:
            done.append(step + prefilling.popleft()[1] - 1)
    for end in done:
        heapq.heappush(ends, end)
    return together
