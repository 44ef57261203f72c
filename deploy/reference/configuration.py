"""docs/reference/configuration.md: every key with default, type and range, and every option.

Defaults are those of the composed configuration. Type and range are found by asking the program:
each key is given values that cannot be right, and the refusals say what can be. Only what a key
means is written by hand, in meaning.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import takewhile
from pathlib import Path

import yaml

from campaign.configuration.axes import NAMES
from campaign.configuration.config import load
from campaign.configuration.overrides import CONF, GROUPS, KEYS, options
from campaign.configuration.reader import MAX_COUNT
from campaign.configuration.tree import Tree, leaves, put, value_at
from campaign.configuration.validate import validate
from db.errors import ConfigError
from deploy.reference.markdown import MADE, code, table
from workers.workloads.latency import GOODPUT

MEANING = Path(__file__).with_name("meaning.yaml")
#: Axes, and the meters, take a list.
LISTS = (*NAMES, "meter.names")
#: No word, no number, and more than any number may be.
NONSENSE, HUGE = "§", 1e15
_BOUND = re.compile(r"must be (.*?)(?: and finite)?$", re.MULTILINE)
OPENING = """# Configuration

`campaign plan --config` prints the configuration that a command line resolves to. What stands
later wins: conf/config.yaml, the chosen groups, a grid (`+grid=NAME`), and `key=value` on the
command line. A key marked "axis" also takes a list, each value of which makes points of the grid.
Files of your own, laid out as in conf/, are found with `--conf DIR`."""
CHOSEN = """
## Groups

Chosen as `group=option`; `grid`, `engine` and `meter` take several: `meter=[nvml,codecarbon]`."""


def configuration() -> str:
    """Return the whole document."""
    tree = yaml.safe_load(load([]).resolved)
    lines, meaning = [MADE, OPENING], meanings()
    for section, names in _sections():
        rows = [
            (code(name), _default(tree, name), kind(tree, name), meaning[name]) for name in names
        ]
        lines += ["", f"## {section or 'Of the campaign'}", ""]
        lines += table(("key", "default", "takes", "what it is"), rows)
    lines.append(CHOSEN)
    for group in GROUPS:
        lines += ["", f"### {group}", "", *_options(group)]
    return "\n".join(lines) + "\n"


def keys() -> tuple[str, ...]:
    """Return every key, those of mappings whose names are known in place of the mapping."""
    named = (*KEYS, *(f"meter.goodput.{name}" for name in GOODPUT))
    return tuple(key for key in named if not any(n.startswith(f"{key}.") for n in named))


def meanings() -> Mapping[str, str]:
    """Return what the keys mean, as written by hand."""
    found: dict[str, str] = yaml.safe_load(MEANING.read_text(encoding="utf-8"))
    return found


def _sections() -> Iterator[tuple[str, list[str]]]:
    sections = dict.fromkeys(key.partition(".")[0] if "." in key else "" for key in keys())
    for section in sections:
        start = f"{section}."
        yield section, [k for k in keys() if (k.startswith(start) if section else "." not in k)]


def _default(tree: Tree, key: str) -> str:
    value = value_at(tree, key)
    if key == "engine.options" and isinstance(value, Mapping):
        return ", ".join(code(f"{name}={_text(one)}") for name, one in leaves(value))
    return code(_text(value))


def _text(value: object) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.removesuffix("...\n").strip()


def kind(tree: Tree, key: str) -> str:
    """Return what a key takes, as its refusals of nonsense say."""
    refusal = said(tree, key, NONSENSE)
    words = "text"
    if "not a whole number" in refusal:
        words = f"whole number {_range(tree, key, -1)}"
    elif "not a number" in refusal:
        words = f"number {_range(tree, key, -1.0)}"
    elif "not a mapping" in refusal:
        return "mapping"
    elif "known: " in refusal:
        words = ", ".join(map(code, refusal.partition("known: ")[2].splitlines()[0].split(", ")))
    elif found := re.search(r"is no (Postgres URL|release|name)\b", refusal):
        words = {"name": "letters, digits, `-`, `_`, `.`"}.get(found[1], found[1])
    elif refusal:
        words = "a time, or seconds"
    nullable = not said(tree, key, None)
    return f"{words}{' or `null`' * nullable}{'; axis' * (key in LISTS)}"


def _range(tree: Tree, key: str, below: float) -> str:
    least = _BOUND.search(said(tree, key, below))
    most = _BOUND.search(said(tree, key, int(HUGE) if isinstance(below, int) else HUGE))
    bounds = [found[1] for found in (least, most) if found and str(MAX_COUNT) not in found[1]]
    return " and ".join(bounds)


def said(tree: Tree, key: str, value: object) -> str:
    """Return the refusals of a key that has a value, a line each; nothing if it may have it."""
    given = deepcopy(tree)
    put(given, key, value)
    try:
        validate(given, pinned=frozenset(), given=frozenset(), resolved="")
    except ConfigError as error:
        refusals = [line for line in str(error).splitlines() if line.startswith(f"{key}: ")]
        return "\n".join(refusals)
    return ""


def _options(group: str) -> list[str]:
    """Return the table of a group; a grid is too long to say what it sets."""
    rows = []
    for name in options(group, [CONF]):
        text = (CONF / group / f"{name}.yaml").read_text(encoding="utf-8")
        sets = [code(f"{key}={_text(value)}") for key, value in leaves(yaml.safe_load(text))]
        choice = code(f"{'+' * (group == 'grid')}{group}={name}")
        rows.append([choice, _headed(text), *([] if group == "grid" else [", ".join(sets)])])
    header = ("option", "what it is", "sets")
    return table(header[: len(rows[0])], rows)


def _headed(text: str) -> str:
    """Return the comment that opens a file, up to what is laid out as a table."""
    lines = [line for line in text.splitlines() if not line.startswith("# @package")]
    opening = takewhile(lambda line: line.startswith("#") and line[2:3] != " ", lines)
    return " ".join(line.removeprefix("#").strip() for line in opening)
