"""The range that a predictor learned from, and what lies outside of it.

Owns the words of that warning. A point outside is predicted all the same, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from campaign.analysis.predictor.dataset import Inputs
from campaign.analysis.predictor.features import NAMES
from campaign.analysis.predictor.point import Point

#: A value this far beyond an end, of its size, is still inside: lengths are means of runs.
SLACK = 0.02
#: What a point is asked for by word.
WORDS = ("board", "quantization", "backend")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Smallest and largest value of each feature, and the words that occurred."""

    numbers: Mapping[str, tuple[float, float]]
    words: Mapping[str, tuple[str, ...]]

    def outside(self, features: Sequence[float], point: Point) -> list[str]:
        """Return what of a point was never learned, each with the range that was."""
        found = []
        for name, value in zip(NAMES, features, strict=True):
            low, high = self.numbers[name]
            slack = SLACK * max(abs(low), abs(high))
            if not low - slack <= value <= high + slack:
                span = f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
                found.append(f"{name} {value:.6g} is outside the training range {span}")
        for name, word in _words(point).items():
            if word not in self.words[name]:
                found.append(f"{name} {word} is outside the training range "
                             f"{', '.join(self.words[name])}")  # fmt: skip
        return found


def ranges_of(inputs: Inputs) -> Ranges:
    """Return the ranges of rows."""
    low, high = inputs.features.min(axis=0).tolist(), inputs.features.max(axis=0).tolist()
    each = [_words(point) for point in inputs.points]
    return Ranges(
        numbers={name: (a, b) for name, a, b in zip(NAMES, low, high, strict=True)},
        words={name: tuple(sorted({one[name] for one in each})) for name in WORDS},
    )


def _words(point: Point) -> Mapping[str, str]:
    return {
        "board": point.board.slug,
        "quantization": point.quantization or "none",
        "backend": point.backend,
    }
