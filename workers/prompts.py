"""Prompts of random token ids, fresh for every batch.

Random ids and not text: lengths are exact, and no two prompts share a prefix that a cache could
answer from. Pure; the ids follow from the seed alone, whatever the Python version.
"""

from __future__ import annotations

import hashlib
from array import array

#: Ids below are left out: tokenizers keep padding, begin, end and unknown there.
SPECIAL_IDS = 16


class Prompts:
    """Batches of prompts that never come again, drawn from a seed.

    `vocabulary` is the number of token ids an engine offers; of a very small one only the lower
    half of `SPECIAL_IDS` ids can be spared.
    """

    def __init__(self, *, vocabulary: int, seed: str) -> None:
        if vocabulary < 2:  # noqa: PLR2004 - a choice needs two
            raise ValueError(f"a vocabulary of {vocabulary} leaves nothing to draw from")
        self._lowest = min(SPECIAL_IDS, vocabulary // 2)
        self._span = vocabulary - self._lowest
        self._seed = seed
        self._batches = 0

    def batch(self, count: int, tokens: int) -> tuple[tuple[int, ...], ...]:
        """Return the next `count` prompts of exactly `tokens` ids each."""
        self._batches += 1
        return tuple(self._prompt(ordinal, tokens) for ordinal in range(count))

    def _prompt(self, ordinal: int, tokens: int) -> tuple[int, ...]:
        """SHAKE-256 as the source: four bytes a token leave a bias below 1e-4 for any vocabulary.

        The array reads them in the machine's own byte order; little-endian everywhere we run.
        """
        name = f"{self._seed}/{self._batches}/{ordinal}"
        words = array("I", hashlib.shake_256(name.encode()).digest(4 * tokens))
        lowest, span = self._lowest, self._span
        return tuple([lowest + word % span for word in words])
