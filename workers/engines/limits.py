"""What the workloads of an engine ask of it at most; adapters size context and KV cache by it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest context (input plus output, in tokens) and batch of an engine's workloads."""

    context_tokens: int
    batch_size: int
