"""Every word that stands in for a value is explained in docs/measurement.md.

Each word-like text in the modules that give reasons is a reason or stands in `NO_REASON`: a new one
has to be classified before this passes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "measurement.md").read_text(encoding="utf-8")
MODULES = sorted(
    [*(ROOT / "workers" / "meters").glob("*.py"),
     *(ROOT / "workers" / name for name in ("validity.py", "phases.py", "protocol.py"))]
)  # fmt: skip
#: Snake case; what an f-string begins with ends in an underscore.
WORD = re.compile(r"[a-z]+(_[a-z0-9]+)+_?|[a-z]+_")
#: Where reasons are given on the spot, a single word counts too.
SINGLE = re.compile(r"[a-z]+")
#: Names of files, columns, attributes, options: words that never stand in `reasons` or `marks`.
NO_REASON = frozenset(
    {"cpu_energy", "cpu_load", "cpu_power", "gpu_energy", "ram_energy", "ram_power",  # CodeCarbon's
     "energy_uj", "max_energy_range_uj", "nvml_",  # of the kernel; energy_method
     "temperature_c", "sm_clock_mhz", "memory_clock_mhz", "utilization_pct",  # columns
     "in_window"}  # a point where tests hold a process
)  # fmt: skip


def texts(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Constant texts, without docstrings, keys of mappings and subscripts.

    Each with whether it is given as a reason on the spot: yielded, or called so.
    """
    skipped: set[int] = set()
    spots: set[int] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() if ast.get_docstring(node):
                skipped.add(id(node.body[0].value))
            case ast.Dict(keys=keys):
                skipped |= {id(key) for key in keys}
            case ast.Subscript(slice=part):
                skipped |= within(part)
            case (
                ast.Yield(value=ast.AST() as part)
                | ast.keyword(arg="reason" | "reasons", value=part)
                | ast.Assign(targets=[ast.Name(id="reason" | "reasons")], value=part)
            ):
                spots |= within(part)
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in skipped:
                yield text, id(node) in spots


def within(tree: ast.AST) -> set[int]:
    """The identities of a node and all below it."""
    return {id(node) for node in ast.walk(tree)}


def words(source: str) -> set[str]:
    """The reasons that a module may give."""
    found = texts(ast.parse(source))
    return {
        text for text, spot in found if WORD.fullmatch(text) or (spot and SINGLE.fullmatch(text))
    } - NO_REASON


def explained(word: str, guide: str = GUIDE) -> bool:
    """Whether a word stands in the first column of a table, or in the text, as code."""
    return f"`{word}…`" in guide if word.endswith("_") else f"`{word}`" in guide


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_every_reason_is_explained(path: Path) -> None:
    assert [w for w in sorted(words(path.read_text(encoding="utf-8"))) if not explained(w)] == []


def test_every_word_of_the_tables_is_given_somewhere() -> None:
    rows = re.findall(r"^\| `([a-z_]+)…?` \|", GUIDE, flags=re.MULTILINE)
    given = set().union(*(words(path.read_text(encoding="utf-8")) for path in MODULES))
    # What `instrument` writes is keyed by the names of its experiments.
    found = [ast.parse(p.read_text()) for p in (ROOT / "workers" / "instrument").glob("*.py")]
    given |= {getattr(node, "value", None) for tree in found for node in ast.walk(tree)}
    given |= {"no_gpu"}
    assert len(rows) > 40
    assert [word for word in rows if word not in given] == []


def test_a_reason_that_nobody_explains_is_seen() -> None:
    source = '''
def f(x, gpu):
    """some_docstring"""
    known = {"a_key": 1}["a_subscript"]
    yield "odd"
    reason = "strange" if x else "missing"
    raise InvalidMeasurement("brand_new", f"odd_{x}", reasons=("weird",))
'''
    assert words(source) == {"brand_new", "odd_", "odd", "strange", "missing", "weird"}
    assert not explained("brand_new")
    assert explained("gpu_lost")
    assert not explained("gpu_los")
