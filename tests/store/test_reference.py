"""docs/reference/schema.md against a real store: the same columns; of views, in their order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from db.embedded import EmbeddedPostgres
from db.store import Store
from deploy.reference.schema import views
from tests.store.world import ground

pytestmark = pytest.mark.store

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "schema.md"
COLUMNS = """
select c.table_name, t.table_type = 'VIEW' as is_view,
       array_agg(c.column_name::text order by c.ordinal_position) as columns
  from information_schema.columns c join information_schema.tables t
       using (table_schema, table_name)
 where table_schema = current_schema() and table_name <> 'alembic_version'
 group by 1, 2
"""
SECTION = re.compile(
    r"^### (?P<name>\w+)(?: \(table\))?\n(?P<body>.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL
)

Found = Mapping[str, Sequence[str]]


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "reference") as found:
        yield found


@pytest.fixture(scope="module")
def real(store: Store) -> Mapping[bool, Found]:
    """Columns by table (False) and by view (True)."""
    with store.begin() as connection:
        rows = connection.exec_driver_sql(COLUMNS).all()
    return {
        kind: {r.table_name: r.columns for r in rows if r.is_view is kind} for kind in (False, True)
    }


def documented() -> Found:
    """Return the columns of every section of the page; those of its base come first."""
    found: dict[str, list[str]] = {}
    for section in SECTION.finditer(PAGE.read_text(encoding="utf-8")):
        base = re.search(r"^Every column of \[(\w+)\]", section["body"], re.MULTILINE)
        own = re.findall(r"^\| `(\w+)` \|", section["body"], re.MULTILINE)
        found[section["name"]] = [*(found[base[1]] if base else ()), *own]
    return found


def test_a_view_has_the_columns_that_are_read_out_of_its_query(real: Mapping[bool, Found]) -> None:
    assert {name: list(columns) for name, (_, columns) in views().items()} == real[True]


def test_every_table_and_view_is_on_the_page_with_all_its_columns(
    real: Mapping[bool, Found],
) -> None:
    there = real[False] | real[True]  # a table as it is declared: migrations add at its end
    assert {name: sorted({*told}) for name, told in documented().items()} == {
        name: sorted(columns) for name, columns in there.items()
    }
