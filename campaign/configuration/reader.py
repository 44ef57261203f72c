"""Typed values out of a mapping of mappings, with every problem noted instead of the first.

A reader returns a harmless value where it notes a problem, so that reading can go on; whoever
uses it must look at `problems` before the values.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from campaign.configuration.tree import value_at
from db.records import Scalar

T = TypeVar("T")

MAX_COUNT = 2**31 - 1
#: The longest list of known words that a message holds.
LISTED = 64
#: Stands for a word that was refused.
UNKNOWN = "?"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean a or b?`` for the closest known words, or all of a short list."""
    names = list(dict.fromkeys(known))
    folded = {name.lower(): name for name in reversed(names)}
    if word.lower() in folded:
        return f"; did you mean {folded[word.lower()]}?"
    begun = [name for name in folded if word and name.startswith(word.lower())]
    close = [*begun, *difflib.get_close_matches(word.lower(), folded, n=3, cutoff=0.6)]
    if close:
        return f"; did you mean {' or '.join(folded[c] for c in dict.fromkeys(close[:4]))}?"
    return f"; known: {', '.join(sorted(names))}" if len(names) <= LISTED else ""


class Reader:
    """Reads a composed configuration by dotted paths."""

    def __init__(self, tree: Mapping[str, object]) -> None:
        """Read from `tree`; `problems` collects one line each."""
        self._tree = tree
        self.problems: list[str] = []

    def note(self, path: str, problem: str) -> None:
        """Add a problem, once."""
        line = f"{path}: {problem}"
        if line not in self.problems:
            self.problems.append(line)

    def at(self, path: str) -> object:
        """Return the value at a dotted path; None where there is none."""
        return value_at(self._tree, path)

    def mapping(self, path: str) -> Mapping[str, object]:
        """Return the mapping at a path."""
        value = self.at(path)
        if isinstance(value, Mapping):
            return value
        if value is not None:
            self.note(path, f"{value!r} is not a mapping; write {path}.KEY=VALUE")
        return {}

    def keys(self, path: str, known: Collection[str]) -> None:
        """Note the keys of a mapping that nobody reads."""
        for key in self.mapping(path) if path else self._tree:
            if key not in known:
                name = f"{path}.{key}" if path else str(key)
                self.note(name, f"no such key{nearest(str(key), known)}")

    def text(self, path: str, value: object) -> str:
        """Return a value as text that is not empty."""
        if isinstance(value, bool | float | Mapping | list) or value is None or value == "":
            if isinstance(value, bool | float):
                self.note(path, f"{value} is no text; quote it: \"{path}='{value}'\"")
            else:
                self.note(path, f"{_shown(value)} is not a name; write {path}=NAME")
            return UNKNOWN
        return str(value)

    def optional_text(self, path: str, value: object) -> str | None:
        """Return a value as text, or None."""
        return None if value is None else self.text(path, value)

    def choice(self, path: str, value: object, known: Collection[str]) -> str:
        """Return one of the known words."""
        if isinstance(value, str) and value in known:
            return value
        self.note(path, f"{_shown(value)} is not known{nearest(str(value), known)}")
        return UNKNOWN

    def whole(self, path: str, value: object, minimum: int = 1, maximum: int = MAX_COUNT) -> int:
        """Return a whole number from `minimum` to `maximum`."""
        if isinstance(value, int) and not isinstance(value, bool):
            if minimum <= value <= maximum:
                return value
            bound = f"at least {minimum}" if value < minimum else f"at most {maximum}"
            self.note(path, f"{value} is out of range; it must be {bound}")
        else:
            fix = f"write a number such as {path}={max(minimum, 8)}"
            self.note(path, f"{_shown(value)} is not a whole number; {fix}")
        return minimum

    def optional_whole(self, path: str, value: object, maximum: int = MAX_COUNT) -> int | None:
        """Return a whole number from 1 to `maximum`, or None."""
        return None if value is None else self.whole(path, value, maximum=maximum)

    def number(self, path: str, value: object, *, zero: bool = False) -> float:
        """Return a finite number above zero, or with `zero` not below it."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            if 0 < value < float("inf") or (zero and value == 0):
                return float(value)
            bound = "zero or more" if zero else "above zero"
            self.note(path, f"{value} is out of range; it must be {bound} and finite")
        else:
            self.note(path, f"{_shown(value)} is not a number; write for example {path}=5")
        return 1.0

    def optional_number(
        self, path: str, value: object, maximum: float = float("inf")
    ) -> float | None:
        """Return a number above zero and not above `maximum`, or None."""
        number = None if value is None else self.number(path, value)
        if number is not None and number > maximum:
            self.note(path, f"{value} is out of range; it must be at most {maximum:g}")
        return number

    def axis(self, path: str, read: Callable[[str, object], T]) -> tuple[T, ...]:
        """Return the values of an axis: a scalar is one value, a list several, each once."""
        return tuple(dict.fromkeys(read(path, value) for value in self._values(path)))

    def flag(self, path: str) -> tuple[Scalar, ...]:
        """Return the values of a backend's flag; any scalar may be one."""
        values: list[Scalar] = []
        for value in self._values(path):
            if value is None or isinstance(value, str | int | float):
                values += [] if any(value is v or _same(value, v) for v in values) else [value]
            else:
                self.note(path, f"{_shown(value)} is neither text nor number nor true or false")
        return tuple(values) or (None,)

    def _values(self, path: str) -> list[object]:
        value = self.at(path)
        if not isinstance(value, list):
            return [value]
        if not value:
            self.note(path, "is an empty list, so the grid is empty; name at least one value")
        return value


def _same(one: Scalar, other: Scalar) -> bool:
    """Whether two flags are the same value and type: 1 is not true."""
    return type(one) is type(other) and one == other


def _shown(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004
