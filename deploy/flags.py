"""Writes conf/flags: the options of each backend, as installed here: name, type, default, range.

    python deploy/flags.py

Of vLLM the fields of its EngineArgs, and those of its speculative configuration that are options
of ours; the range of a number is what the configuration that it goes into is declared with. What
an engine checks elsewhere stands in conf/flags/bounds.csv, by hand. A test writes the same again
and compares: whoever moves to another version runs this.
"""

from __future__ import annotations

import csv
import dataclasses
import enum
import io
import json
import os
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "conf" / "flags"
_TRANSFORMERS = {
    "attn_implementation": "str|none",
    "torch_compile": "bool",
}
_UNSET = {"bool": "false"}
#: The columns of a range, as annotated types call what they hold.
_BOUNDS = {"least": "ge", "above": "gt", "most": "le", "below": "lt", "step": "multiple_of"}
_HEAD = ("name", "type", "default", *_BOUNDS)
_WORDS = {bool: "bool", int: "int", float: "float", str: "str", type(None): "none"}


def tables() -> dict[str, str]:
    """Return the content of every table by its file's name."""
    return {
        **vllm_table(),
        "transformers.csv": transformers_table(),
        "simulated.csv": simulated_table(),
    }


def vllm_table() -> dict[str, str]:
    """Return the table of the vLLM that is installed."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    import vllm
    from vllm.config.speculative import SpeculativeConfig
    from vllm.engine.arg_utils import EngineArgs

    from workers.engines.vllm_arguments import SPECULATIVE

    of_engine = [f for f in dataclasses.fields(EngineArgs) if not f.name.startswith("_")]
    of_drafts = [f for f in dataclasses.fields(SpeculativeConfig) if f.name in SPECULATIVE]
    version = vllm.__version__.partition("+")[0]
    bounds = _bounds_of_engine() | {f.name: _bounds(SpeculativeConfig, f.name) for f in of_drafts}
    return {f"vllm-{version}.csv": _csv((*of_engine, *of_drafts), bounds=bounds)}


def _bounds_of_engine() -> dict[str, dict[str, str]]:
    """Return the ranges of EngineArgs' fields: each is declared in one of vLLM's configurations."""
    from vllm.config import SpeculativeConfig, VllmConfig

    found: dict[str, dict[str, str]] = {}
    for part in sorted(_parts(VllmConfig) - {SpeculativeConfig}, key=lambda each: each.__name__):
        for field in dataclasses.fields(part):
            bounds = _bounds(part, field.name)
            if bounds and found.setdefault(field.name, bounds) != bounds:
                raise SystemExit(f"{field.name}: two configurations of vLLM bound it differently")
    return found


def _parts(whole: type) -> set[type]:
    """Return the configurations that a configuration is made of, at any depth."""
    found: set[type] = set()
    left: list[object] = [whole]
    while left:
        hint = left.pop()
        left += typing.get_args(hint)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint) and hint not in found:
            found.add(hint)
            left += typing.get_type_hints(hint, include_extras=True).values()
    return found


def _bounds(config: type, name: str) -> dict[str, str]:
    """Return what a configuration bounds a number by, by column."""
    field = getattr(config, "__pydantic_fields__", {}).get(name)
    said = {column: getattr(part, word) for part in getattr(field, "metadata", ())
            for column, word in _BOUNDS.items() if hasattr(part, word)}  # fmt: skip
    return {column: f"{bound:g}" for column, bound in said.items()}


def transformers_table() -> str:
    """Return the table of what the adapter of transformers takes; a new name needs its type here.

    Its options are arguments of functions that take any, so that their types are said here.
    """
    from transformers.generation.configuration_utils import ALL_CACHE_IMPLEMENTATIONS

    from workers.engines import transformers as adapter

    caches = "|".join(map(json.dumps, sorted(ALL_CACHE_IMPLEMENTATIONS)))
    types_ = _TRANSFORMERS | {"cache_implementation": f"{caches}|none"}
    names = adapter._LOADING | adapter._GENERATING | adapter._OWN  # noqa: SLF001 - ours
    return _written([n, types_[n], _UNSET.get(types_[n], "null")] for n in sorted(names))


def simulated_table() -> str:
    """Return the table of the simulated engine."""
    from workers.engines.simulated import Behaviour

    hints = typing.get_type_hints(Behaviour)
    return _csv(tuple(dataclasses.fields(Behaviour)), hints)


def _csv(
    fields: tuple[dataclasses.Field[object], ...],
    hints: Mapping[str, object] | None = None,
    bounds: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    rows = []
    for field in sorted(fields, key=lambda f: f.name):
        words = "|".join(dict.fromkeys(_words((hints or {}).get(field.name, field.type))))
        numeric = {"int", "float"} & {*words.split("|")}
        said = (bounds or {}).get(field.name, {}) if numeric else {}
        rows.append([field.name, words, _default(field), *(said.get(c, "") for c in _BOUNDS)])
    return _written(rows)


def _written(rows: Iterable[Sequence[str]]) -> str:
    """Return a table as CSV; rows that say less end in empty columns."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(_HEAD)
    lines.writerows([*row, *[""] * (len(_HEAD) - len(row))] for row in rows)
    return out.getvalue()


def _words(hint: object) -> Iterator[str]:
    """Say a type in the words of a table: scalars, values of a Literal as JSON, else object."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        for part in typing.get_args(hint):
            yield from _words(part)
    elif origin is typing.Literal:
        yield from (json.dumps(value) for value in typing.get_args(hint))
    elif origin is typing.Annotated:
        yield from _words(typing.get_args(hint)[0])
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        yield "int" if issubclass(hint, int) else "str"
    else:
        yield _WORDS.get(hint, "object") if isinstance(hint, type) else "object"


def _default(field: dataclasses.Field[object]) -> str:
    """Say a default as JSON; nothing where it is a structure."""
    value = getattr(field.default, "default", field.default)
    if isinstance(value, bool | int | float | str) or value is None:
        return json.dumps(value.value if isinstance(value, enum.Enum) else value)
    return ""


def main() -> None:
    """Write the tables."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in tables().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
        print(FOLDER / name)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
