"""Prompts of random token ids, fresh for every batch.

Random ids and not text: lengths are exact, and no two prompts share a prefix that a cache could
answer from, but for the one that was asked for. Pure; the ids follow from the seed alone,
whatever the Python version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

#: Ids below are left out: tokenizers keep padding, begin, end and unknown there.
SPECIAL_IDS = 16

Ids = tuple[int, ...]


class Prompts:
    """Batches of prompts that never come again, drawn from a seed.

    `vocabulary` is the number of token ids an engine offers; of a very small one only the lower
    half of `SPECIAL_IDS` ids can be spared. `prefix_tokens` begin every prompt, until `turn`
    draws others; a prompt that is not longer keeps one token of its own.
    """

    def __init__(self, *, vocabulary: int, seed: str, prefix_tokens: int = 0) -> None:
        if vocabulary < 2:  # noqa: PLR2004 - a choice needs two
            raise ValueError(f"a vocabulary of {vocabulary} leaves nothing to draw from")
        self._lowest = min(SPECIAL_IDS, vocabulary // 2)
        self._span = vocabulary - self._lowest
        self._seed = seed
        self._batches = 0
        self._turns = 0
        self._prefix_tokens = prefix_tokens
        self._prefix: Ids = ()
        self.turn()

    def turn(self) -> None:
        """Draw another common prefix."""
        self._turns += 1
        self._prefix = self._ids(f"prefix/{self._turns}", self._prefix_tokens)

    def batch(self, count: int, tokens: int) -> tuple[Ids, ...]:
        """Return the next `count` prompts of exactly `tokens` ids each."""
        return self.of([tokens] * count)

    def of(self, lengths: Sequence[int]) -> tuple[Ids, ...]:
        """Return the next prompts, each of exactly as many ids as its length says."""
        self._batches += 1
        return tuple(self._prompt(ordinal, tokens) for ordinal, tokens in enumerate(lengths))

    def _prompt(self, ordinal: int, tokens: int) -> Ids:
        common = self._prefix[: tokens - 1]
        return common + self._ids(f"{self._batches}/{ordinal}", tokens - len(common))

    def _ids(self, name: str, tokens: int) -> Ids:
        """SHAKE-256 as the source: four bytes a token leave a bias below 1e-4 for any vocabulary.

        Quick, since a window holds the making of its prompts: the board idles meanwhile.
        """
        source = hashlib.shake_256(f"{self._seed}/{name}".encode())
        words = np.frombuffer(source.digest(4 * tokens), "<u4")
        return tuple((words % self._span + self._lowest).tolist())
