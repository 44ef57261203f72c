"""Writes conf/flags: the options of each backend by name, type and default, as installed here.

    python deploy/flags.py

Of vLLM the fields of its EngineArgs, and those of its speculative configuration that are options
of ours. A test writes the same again and compares: whoever moves to another version runs this.
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
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "conf" / "flags"
_TRANSFORMERS = {
    "attn_implementation": "str|none",
    "cache_implementation": "str|none",
    "torch_compile": "bool",
}
_UNSET = {"str|none": "null", "bool": "false"}
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
    return {f"vllm-{version}.csv": _csv((*of_engine, *of_drafts))}


def transformers_table() -> str:
    """Return the table of what the adapter of transformers takes; a new name needs its type here.

    Its options are arguments of functions that take any, so that their types are said here.
    """
    from workers.engines import transformers as adapter

    names = adapter._LOADING | adapter._GENERATING | adapter._OWN  # noqa: SLF001 - ours
    lines = [
        f"{name},{_TRANSFORMERS[name]},{_UNSET[_TRANSFORMERS[name]]}" for name in sorted(names)
    ]
    return "\n".join(("name,type,default", *lines, ""))


def simulated_table() -> str:
    """Return the table of the simulated engine."""
    from workers.engines.simulated import Behaviour

    hints = typing.get_type_hints(Behaviour)
    return _csv(tuple(dataclasses.fields(Behaviour)), hints)


def _csv(
    fields: tuple[dataclasses.Field[object], ...], hints: dict[str, object] | None = None
) -> str:
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(["name", "type", "default"])
    for field in sorted(fields, key=lambda f: f.name):
        hint = (hints or {}).get(field.name, field.type)
        lines.writerow([field.name, "|".join(dict.fromkeys(_words(hint))), _default(field)])
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
