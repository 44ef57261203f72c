"""The options that engines take: a table per backend and version, read without importing any.

Owns the form of the tables in conf/flags and what is said of an option that is not in one:
BACKEND-VERSION.csv (name, type, default, range; written by deploy/flags.py from the engine itself)
and bounds.csv, the ranges that an engine does not declare, each with the reason for it. Never
imports an engine.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache

from campaign.configuration.overrides import CONF
from campaign.configuration.reader import nearest
from db.records import Scalar
from workers.engines.vllm_arguments import FIXED

FOLDER = CONF / "flags"
#: What is no option although the engine knows it, and what decides it instead.
DECIDED: Mapping[str, Mapping[str, str]] = {"vllm": FIXED}
#: The types of a table by their words there; `object` is what no word of a command line can be.
_TYPES: Mapping[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The numbers an option takes; None is no bound. `step` is what they are multiples of."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    step: float | None = None

    def takes(self, value: Scalar) -> bool:
        """Whether a number is in the range; what is no number is for the type to judge."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return True
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
            and (self.step is None or value % self.step == 0)
        )

    @property
    def expected(self) -> str:
        """The range, for people."""
        named = (("at least", self.least), ("above", self.above), ("at most", self.most),
                 ("below", self.below), ("a multiple of", self.step))  # fmt: skip
        return " and ".join(f"{word} {bound:g}" for word, bound in named if bound is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One option: `types` are words of `_TYPES`, ``none`` and ``object``, `choices` its values.

    `range` is what its engine declares of a number.
    """

    name: str
    types: tuple[str, ...]
    choices: tuple[Scalar, ...]
    range: Range

    def takes(self, value: Scalar) -> bool:
        """Whether a value is of the option's type; None leaves any option to the engine."""
        if value is None or any(type(c) is type(value) and c == value for c in self.choices):
            return True
        return any(type(value) in _TYPES.get(word, ()) for word in self.types)

    @property
    def expected(self) -> str:
        """What the option takes, for people."""
        words = [word for word in self.types if word in _TYPES]
        if self.choices:
            words.append(f"one of {', '.join(map(str, self.choices))}")
        return " or ".join(words) or "a structure, which an option cannot be"


def problems(backend: str, version: str | None, options: Mapping[str, Scalar]) -> list[str]:
    """Return what is wrong with the options of a backend, one line each.

    `version` is the pinned one; None stands for the newest there is a table of. Without a table
    only what no version lets be set is found: `unchecked` says so.
    """
    which = _table(backend, version)
    known = None if which is None else read(backend, which)
    found = []
    for name, value in options.items():
        path = f"engine.options.{backend}.{name}"
        decided = DECIDED.get(backend, {}).get(name)
        if decided is not None:
            found.append(f"{path}: cannot be set; it follows from {decided}")
        elif known is not None and name not in known:
            of = f"{backend} {which}".strip()
            found.append(f"{path}: not an option of {of}{nearest(name, known)}")
        elif known is not None and not known[name].takes(value):
            found.append(f"{path}={value!r}: expected {known[name].expected}")
        else:
            declared = None if known is None else known[name].range
            found += _out_of_range(path, value, (declared, undeclared().get((backend, name))))
    return found


def _out_of_range(path: str, value: Scalar, ranges: Iterable[Range | None]) -> list[str]:
    """Return a line with every range that a value is out of; none where it is in all."""
    passed = [each.expected for each in ranges if each is not None and not each.takes(value)]
    return [f"{path}={value!r}: expected {' and '.join(passed)}"] if passed else []


def unchecked(backend: str, version: str | None) -> str | None:
    """Return the line that says that a pinned version's options are not checked; else None."""
    if version is None or _table(backend, version) is not None:
        return None
    there = ", ".join(sorted(shipped(backend), key=_order))
    why = f"no table of {backend}'s options ships for it (there is one for {there})"
    return f"engine.version={version}: {why}; they are not checked"


def _table(backend: str, version: str | None) -> str | None:
    """Return the version of the table that says what a backend takes; None without one."""
    versions = shipped(backend)
    if version is None:
        return max(versions, key=_order, default=None)
    return next((each for each in versions if each in (version, "")), None)


@cache
def shipped(backend: str) -> tuple[str, ...]:
    """Return the versions of a backend with a table; an empty one where it holds for all."""
    names = [path.stem for path in FOLDER.glob(f"{backend}*.csv")]
    return tuple(
        name.removeprefix(backend).removeprefix("-")
        for name in names
        if name == backend or name.startswith(f"{backend}-")
    )


@cache
def read(backend: str, version: str) -> Mapping[str, Flag]:
    """Return a table's options by name."""
    stem = f"{backend}-{version}" if version else backend
    with (FOLDER / f"{stem}.csv").open(encoding="utf-8", newline="") as file:
        return {row["name"]: _flag(row) for row in csv.DictReader(file)}


@cache
def undeclared() -> Mapping[tuple[str, str], Range]:
    """Return the ranges that engines do not declare, by backend and name."""
    with (FOLDER / "bounds.csv").open(encoding="utf-8", newline="") as file:
        return {(row["backend"], row["name"]): _range(row) for row in csv.DictReader(file)}


def _range(row: Mapping[str, str]) -> Range:
    said = {f.name: row.get(f.name) for f in fields(Range)}
    return Range(**{column: float(bound) for column, bound in said.items() if bound})


def _flag(row: Mapping[str, str]) -> Flag:
    words = row["type"].split("|")
    plain = tuple(w for w in words if w in (*_TYPES, "none", "object"))
    choices = tuple(json.loads(w) for w in words if w not in plain)
    return Flag(name=row["name"], types=plain, choices=choices, range=_range(row))


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
