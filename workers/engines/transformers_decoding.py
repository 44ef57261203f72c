"""A static batch, step by step: when each token came, and what the steps computed beside it.

Owns what is asked of `generate` for a decoding, the stamps of its steps and the counters of a
batch. What is counted is seen from outside, by a stopping criterion and by hooks on the forward
passes; nothing of the library is replaced. Never loads a model and never imports transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from db.readings import RequestTiming
from db.records import EngineSpec
from workers.engines.engine import Decoding, Request

if TYPE_CHECKING:
    import torch


def asked(decoding: Decoding) -> dict[str, bool | int | float]:
    """Return the arguments of `generate` for a decoding.

    Without `top_k`, which the library sets to 50 where a sample says nothing of it.
    """
    if decoding.method == "beam":
        return {"do_sample": False, "num_beams": decoding.beams}
    if decoding.method == "greedy":
        return {"do_sample": False}
    sampled: dict[str, bool | int | float] = {"do_sample": True, "top_k": 0}
    return sampled | {"temperature": decoding.temperature, "top_p": decoding.top_p}


class Passes:
    """The forward passes of a model and the positions they computed, padding and all."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.count = 0
        self.positions = 0
        model.register_forward_pre_hook(self._passed, with_kwargs=True)

    def _passed(self, _: object, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids = named["input_ids"] if "input_ids" in named else arguments[0]
        self.count += 1
        self.positions += ids.numel()

    def begin(self) -> None:
        """Count from zero."""
        self.count = self.positions = 0


class Steps:
    """A stopping criterion that stamps each step and ends a request once it has its tokens.

    Requests that have theirs keep their place, idle, until the longest is done. `now` waits for
    the board; the library does too at each step, to see whether any request is left.
    """

    def __init__(self, requests: Sequence[Request], device: str, now: Callable[[], int]) -> None:
        import torch

        self.longest = max(len(request.prompt) for request in requests)
        self._requests = requests
        self._lengths = torch.tensor([r.output_tokens for r in requests], device=device)
        self._now = now
        #: Tokens that each request of the batch has after a step, and when.
        self._stamps: list[tuple[int, int]] = []

    def __call__(self, input_ids: torch.Tensor, _scores: object, **_: object) -> torch.Tensor:
        """Stamp a step; say of each row, which may be one of several beams, whether it is done."""
        tokens = input_ids.shape[1] - self.longest
        self._stamps.append((tokens, self._now()))
        done = self._lengths <= tokens
        return done.repeat_interleave(input_ids.shape[0] // len(self._requests))

    def timings(self, rows: Sequence[Sequence[int]], started_ns: int) -> Iterable[RequestTiming]:
        """Yield each request's tokens, of the ids that were generated, and latencies."""
        for request, row in zip(self._requests, rows, strict=True):
            # A beam that ended in the middle of the batch is filled up with -1.
            generated = [token for token in row[: request.output_tokens] if token >= 0]
            last = (ns for tokens, ns in self._stamps if tokens >= request.output_tokens)
            yield RequestTiming(
                input_tokens=len(request.prompt),
                output_tokens=len(generated),
                ttft_s=(self._stamps[0][1] - started_ns) / 1e9,
                e2e_s=(next(last, self._stamps[-1][1]) - started_ns) / 1e9,
            )

    @property
    def running_mean(self) -> float:
        """Requests still without all of their tokens, averaged over the steps."""
        return sum(self._running()) / len(self._stamps)

    def counters(
        self, passes: Passes, drafts: Sequence[Passes], spec: EngineSpec
    ) -> dict[str, float]:
        """Return what the batch's steps computed, by names of our own."""
        prompts = [len(request.prompt) for request in self._requests]
        idle = sum(len(self._requests) - running for running in self._running())
        found = {
            "forward_passes": passes.count,
            "forward_positions": passes.positions,
            "padded_prompt_tokens": self.longest * len(prompts) - sum(prompts),
            "idle_slot_steps": idle,
        }
        if spec.speculation:
            # Each pass is given what was proposed and one token more, the first one the prompt.
            once = prompts[0] + passes.count - 1
            found["draft_tokens_proposed"] = passes.positions - once
            found["draft_tokens_accepted"] = self._stamps[-1][0] - len(self._stamps)
        for draft in drafts:
            found["draft_forward_passes"] = draft.count
        return {name: float(value) for name, value in found.items()}

    def _running(self) -> Iterable[int]:
        """Yield how many requests were not done before each step."""
        before = [0, *(tokens for tokens, _ in self._stamps)]
        for tokens, _ in pairwise(before):
            yield sum(request.output_tokens > tokens for request in self._requests)
