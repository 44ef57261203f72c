"""The contract of an engine: load once, generate batches, close. One conformance suite for all.

An adapter imports its library lazily, translates its exceptions once (EngineFault while loading,
TaskFault while generating; kinds: ``out_of_memory``, ``unsupported``, ``missing_weights``,
``engine_error``) and reports token counts from the engine's own token ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from db.readings import Batch, Loaded
from db.records import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt of token ids and the number of tokens to generate; end-of-sequence is ignored."""

    prompt: Sequence[int]
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How tokens are chosen; the words of `Workload`."""

    method: str = "greedy"
    beams: int = 1
    temperature: float = 1.0
    top_p: float = 1.0


GREEDY = Decoding()


def decoding_of(workload: Workload) -> Decoding:
    """Return how a workload chooses its tokens."""
    return Decoding(method=workload.decoding, beams=workload.beams,
                    temperature=workload.temperature, top_p=workload.top_p)  # fmt: skip


def alike(prompts: Sequence[Sequence[int]], output_tokens: int) -> tuple[Request, ...]:
    """Return requests that all generate as much."""
    return tuple(Request(prompt=prompt, output_tokens=output_tokens) for prompt in prompts)


class Engine(Protocol):
    """One loaded model in one backend, used from a single thread."""

    #: Number of token ids prompts may draw from; known after `load`.
    vocabulary: int

    def prepare(self) -> None:
        """Bring the weights to this host, before anything is metered. Raises EngineFault."""

    def load(self) -> Loaded:
        """Load the model; returns what the engine resolved. Raises EngineFault."""

    def generate(self, requests: Sequence[Request], decoding: Decoding = GREEDY) -> Batch:
        """Generate exactly the tokens each request asks for; all arrive now. Raises TaskFault."""

    def close(self) -> None:
        """Free what can be freed; the process ends soon after."""


class Listener(Protocol):
    """Hears of one request under load, from a thread of the engine; CLOCK_MONOTONIC nanoseconds."""

    def tokens(self, now_ns: int, count: int) -> None:
        """So many more tokens were received."""

    def ended(self, now_ns: int, error: BaseException | None) -> None:
        """The request is complete, or failed."""


class OnlineEngine(Engine, Protocol):
    """An engine that takes requests while it computes others, as a server does."""

    def submit(self, request: Request, decoding: Decoding, listener: Listener) -> None:
        """Hand a request over and return at once; safe from any thread. Raises TaskFault."""

    def counters(self) -> dict[str, float]:
        """Return the engine's own counters since it was loaded, by its own names."""
