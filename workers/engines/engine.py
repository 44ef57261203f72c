"""The contract of an engine: load once, generate batches, close. One conformance suite for all.

An adapter imports its library lazily, translates its exceptions once (EngineFault while loading,
TaskFault while generating; kinds: ``out_of_memory``, ``unsupported``, ``missing_weights``,
``engine_error``) and reports token counts from the engine's own token ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from db.readings import Batch, Loaded


class Engine(Protocol):
    """One loaded model in one backend, used from a single thread."""

    #: Number of token ids prompts may draw from; known after `load`.
    vocabulary: int

    def prepare(self) -> None:
        """Bring the weights to this host, before anything is metered. Raises EngineFault."""

    def load(self) -> Loaded:
        """Load the model; returns what the engine resolved. Raises EngineFault."""

    def generate(self, prompts: Sequence[Sequence[int]], output_tokens: int) -> Batch:
        """Generate exactly `output_tokens` for each prompt of token ids, greedily.

        Fixed lengths: end-of-sequence is ignored. Raises TaskFault.
        """

    def close(self) -> None:
        """Free what can be freed; the process ends soon after."""
