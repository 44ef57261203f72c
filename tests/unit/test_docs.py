"""The generated documents are those of this program, and hold all of it; the citation is right."""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from campaign.cli import VERBS
from campaign.configuration.config import load
from campaign.configuration.tree import Tree, leaves
from db.store import statements
from db.tables import metadata
from deploy.reference import FOLDER, pages
from deploy.reference.configuration import keys, kind, meanings
from deploy.reference.schema import views
from deploy.reference.selected import selected
from deploy.reference.verbs import CODES, MORE, parser_of, titles

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made() -> Mapping[str, str]:
    return pages()


@pytest.fixture(scope="module")
def composed() -> Tree:
    tree: Tree = yaml.safe_load(load([]).resolved)
    return tree


def test_what_is_generated_is_up_to_date(made: Mapping[str, str]) -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert written.keys() == made.keys()
    stale = [name for name in made if written[name] != made[name]]
    assert stale == [], "run `make docs`"


@pytest.mark.parametrize("title", list(titles()))
def test_every_option_of_a_verb_is_described(title: str, made: Mapping[str, str]) -> None:
    section = re.split(rf"^###? {title}$", made["verbs.md"], flags=re.MULTILINE)[1]
    section = re.split(r"^###? ", section, flags=re.MULTILINE)[0]
    opening = made["verbs.md"].partition("\n## ")[0]
    for action in parser_of(title)._actions:
        for option in action.option_strings:
            assert f"`{option}" in section + opening
            assert action.help not in (None, "", argparse.SUPPRESS) or action.choices


def test_exit_codes_are_those_of_verbs_and_have_a_meaning() -> None:
    assert set(MORE) <= set(VERBS)
    assert {code for codes in MORE.values() for code in codes} <= set(CODES)


def test_every_key_has_a_meaning_and_a_row(made: Mapping[str, str]) -> None:
    assert set(meanings()) == set(keys())
    rows = re.findall(r"^\| `([a-z_.0-9]+)` \|", made["configuration.md"], flags=re.MULTILINE)
    assert sorted(rows) == sorted(keys())


def test_every_default_is_among_the_keys(composed: Tree) -> None:
    paths = {path for path, _ in leaves(composed) if not path.startswith("engine.options.")}
    assert paths <= set(keys())


@pytest.mark.parametrize(
    ("key", "takes"),
    [
        ("workload.batch_size", "whole number at least 1; axis"),
        ("engine.threads", "whole number at least 1 and at most 4096 or `null`; axis"),
        ("protocol.energy", "`any`, `measured`"),
        ("store.retry_delay_s", "number zero or more"),
        ("budget.price", "number above zero or `null`"),
        ("cluster.boards", "mapping"),
        ("run.deadline", "a time, or seconds or `null`"),
    ],
)
def test_what_a_key_takes_is_what_the_program_accepts(key: str, takes: str, composed: Tree) -> None:
    assert kind(composed, key) == takes


def test_every_table_view_and_column_is_described(made: Mapping[str, str]) -> None:
    text = made["schema.md"]
    for table in metadata.tables.values():
        section = text.partition(f"\n### {table.name} (table)\n")[2].partition("\n### ")[0]
        for column in table.columns:
            assert f"| `{column.name}` |" in section
            assert column.comment
    assert set(views()) == set(statements("views.sql")) - {"drop"}


def test_the_columns_of_views_are_found() -> None:
    found = {name: columns for name, (_, columns) in views().items()}
    summed = {str(column.name) for column in metadata.tables["summaries"].columns}
    assert set(found["sums"]) == summed  # what is read out of SQL, against a copy that is declared
    assert {*found["configurations"], "energy_j", "marks", "backend_version"} <= {
        *found["measurements"]
    }
    assert list(found["comparable"]) == list(found["measurements"])
    assert "wh_per_million_output_tokens" in found["energy_wh"]


def test_a_column_says_what_it_is_made_of() -> None:
    found = {name: columns for name, (_, columns) in views().items()}
    assert found["repeats"]["output_tokens_per_s"] == "`w.output_tokens / w.duration_s`"
    assert found["configurations"]["beams"].startswith(meanings()["workload.beams"])
    assert found["workloads"]["task_id"] == "`tasks.id`"
    assert found["measurements"]["task_id"] == "the task it tried"
    assert found["measurements"]["ttft_s"] == metadata.tables["summaries"].c.ttft_s.comment


def test_columns_are_passed_on_renamed_and_computed() -> None:
    known = {"a": {"id": "the id", "x": "an x"}, "b": {"id": "of b", "y": "a y"}}
    query = """with c as (select id, count(*) as n from b group by id) -- a comment, with a comma
        select a.*, c.n, b.y as why, a.x + 1 as more, (select max(id) from b) as most
        from a join b on b.id = a.id left join c on c.id = a.id where a.x > 0"""
    assert selected(query, known) == {
        "id": "the id", "x": "an x", "n": "`count(*)`", "why": "a y",
        "more": "`a.x + 1`", "most": "`(select max(id) from b)`",
    }  # fmt: skip


def test_the_citation_is_of_this_version_under_this_licence() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited["title"] == project["name"]
    assert str(cited["version"]) == project["version"]
    assert cited["license"] == project["license"]
    assert cited["cff-version"] == "1.2.0"
    assert cited["message"]
    assert cited["authors"]


def test_every_document_is_in_the_index() -> None:
    docs = ROOT / "docs"
    index = (docs / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([^)#]+\.md)\)", index))
    there = {str(path.relative_to(docs)) for path in docs.rglob("*.md")} - {"README.md"}
    assert there - linked == set()
