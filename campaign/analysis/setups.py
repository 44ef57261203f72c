"""A set-up: everything of a measurement that is not the request, and what it is called.

Owns what rows must share before their joules are put together or compared by lengths alone, and
the names of set-ups in an answer. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

#: Fields that no label shows; in an answer they are said where set-ups differ in them.
BESIDE = ("dtype", "threads", "speculation", "speculative_tokens", "draft",
          "declared_power_limit_w", "protocol", "reality", "origin_reality", "source")  # fmt: skip

#: What stands for a value that is not there, where one asks for it.
NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What rows must share to be compared by their lengths alone; None where a row says nothing.

    `catalogue_model` is the name that the catalogue knows its architecture by; `options` are the
    engine's flags as JSON; `declared_power_limit_w` was asked for, whatever was read.
    `origin_reality` is what an imported row was where it was measured, if that is not external.
    `conditions` is what a workload says beyond lengths and batch: arrivals, requests, a data set.
    `also` are further columns that tell rows apart, with their values.
    """

    model: str
    board: str
    catalogue_model: str | None = None
    model_commit: str | None = None
    backend: str | None = None
    gpus: int | None = None
    tensor_parallel: int | None = None
    expert_parallel: int | None = None
    data_parallel: int | None = None
    dtype: str | None = None
    quantization: str | None = None
    options: str | None = None
    mode: str | None = None
    threads: int | None = None
    speculation: str | None = None
    speculative_tokens: int | None = None
    draft: str | None = None
    declared_power_limit_w: float | None = None
    backend_version: str | None = None
    weights: str | None = None
    protocol: str | None = None
    reality: str | None = None
    origin_reality: str | None = None
    source: str | None = None
    conditions: str | None = None
    also: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """Short text for people: what differs from the plain case, too. `names` tells all apart."""
        words = [self.backend or "", self.backend_version or "", self.model]
        words += [self.quantization or "", "random weights" if self.weights == "random" else ""]
        parallel = {
            "tp": self.tensor_parallel,
            "ep": self.expert_parallel,
            "dp": self.data_parallel,
        }
        words += [f"{name}{count}" for name, count in parallel.items() if count and count > 1]
        boards = f"{self.gpus} x {self.board}" if self.gpus and self.gpus > 1 else self.board
        words += ["on", boards, self.conditions or ""]
        words += [f"{name}={value}" for name, value in self.also]
        return " ".join(word for word in words if word)


def said(setup: Setup) -> dict[str, object]:
    """Return what a set-up says by name: its fields, its engine's options, further columns."""
    return {**_options(setup), **_everything(setup), **dict(setup.also)}


def names(setups: Iterable[Setup]) -> dict[Setup, str]:
    """Return what each set-up of an answer is called; no two are called the same.

    That is its label and, as ``field=value``, what it has otherwise than others of the answer:
    options otherwise than others of its backend.
    """
    found = list(dict.fromkeys(setups))
    named = {one: one.label for one in found}
    _add(named, found, _beside)
    for same in _groups(found, lambda one: one.backend):
        _add(named, same, _options)
    for same in _groups(found, dict(named).__getitem__):
        _add(named, same, _everything)
    return named


def _groups(found: Sequence[Setup], key: Callable[[Setup], object]) -> list[list[Setup]]:
    groups: dict[object, list[Setup]] = {}
    for one in found:
        groups.setdefault(key(one), []).append(one)
    return list(groups.values())


def _add(
    named: dict[Setup, str],
    group: Sequence[Setup],
    said_of: Callable[[Setup], Mapping[str, object]],
) -> None:
    """Add to the names of a group what its members have otherwise than each other."""
    said = {one: said_of(one) for one in group}
    for name in sorted({name for words in said.values() for name in words}):
        if len({words.get(name) for words in said.values()}) > 1:
            for one, words in said.items():
                if name in words:
                    named[one] += f" {name}={words[name]}"


def _beside(setup: Setup) -> dict[str, object]:
    return {name: word for name, word in _everything(setup).items() if name in BESIDE}


def _everything(setup: Setup) -> dict[str, object]:
    """Return every field that says something, as it is written in a name."""
    values = {field.name: getattr(setup, field.name) for field in fields(setup)}
    return {
        name: f"{value:g}" if isinstance(value, float) else value
        for name, value in values.items()
        if value is not None
    }


def _options(setup: Setup) -> dict[str, object]:
    """Return an engine's options by name; those of others may be no JSON, and stand as they are."""
    if setup.options is None:
        return {}
    try:
        read = json.loads(setup.options)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        return {"options": setup.options}
    return {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in read.items()
    }
