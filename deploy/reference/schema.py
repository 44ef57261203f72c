"""docs/reference/schema.md: every table, view and column, with what its comment says.

Tables are those of db/tables.py. The columns of a view are read out of its query in db/views.sql:
one that only passes a column on says what that column says, one that is computed shows how.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import takewhile

from sqlalchemy import Column
from sqlalchemy.dialects import postgresql

from db.store import statements
from db.tables import metadata
from deploy.reference.configuration import meanings
from deploy.reference.markdown import MADE, code, table
from deploy.reference.selected import selected

OPENING = """# Schema

What the store holds. The same comments are in the database: `\\d+ windows` in `campaign db psql`.
Ask the views first: `measurements` is every accepted row, and what compares is made from it.
A column ends in its unit: `_j` joules, `_w` watts, `_s` seconds, `_ms` milliseconds. Whatever can
be missing is NULL, with the reason in `reasons`."""
#: Statements of views.sql that are no view.
NO_VIEWS = ("drop",)
#: The view that spells out what a workload asks for, by the configuration's own names.
ASKED = "workloads"
#: Views whose columns others take along.
BASES = ("measurements", "configurations")


def schema() -> str:
    """Return the whole document."""
    lines = [MADE, OPENING, "", "## Views"]
    found = views()
    for name, (purpose, columns) in found.items():
        base = next((one for one in BASES if one != name and {*found[one][1]} <= {*columns}), None)
        inherited = found[base][1] if base else {}
        lines += ["", f"### {name}", "", purpose, *([""] if base else [])]
        rows = [(code(c), w) for c, w in columns.items() if inherited.get(c) != w]
        if base:
            lines += [f"Every column of [{base}](#{base}){', and:' if rows else '.'}"]
        lines += ["", *table(("column", "what it is"), rows)] if rows else []
    lines += ["", "## Tables"]
    for one in sorted(metadata.tables.values(), key=lambda one: one.name):
        lines += ["", f"### {one.name} (table)", "", f"{one.comment}.", ""]
        declared = [(code(c.name), _kind(c), str(c.comment)) for c in one.columns]
        lines += table(("column", "type", "what it is"), declared)
    return "\n".join(lines) + "\n"


def _kind(column: Column[object]) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    kind = column.type.compile(dialect=dialect)
    words = [kind.lower(), *([] if column.nullable else ["not null"])]
    refers = sorted(code(key.target_fullname) for key in column.foreign_keys)
    return ", ".join([*words, *(f"→ {one}" for one in refers)])


@cache
def views() -> Mapping[str, tuple[str, Mapping[str, str]]]:
    """Return purpose and columns of every view, in the order of the file."""
    known: dict[str, Mapping[str, str]] = {
        name: {str(c.name): _said(name, c) for c in one.columns}
        for name, one in metadata.tables.items()
    }
    found = {}
    for name, text in statements("views.sql").items():
        if name not in NO_VIEWS:
            columns = selected(text.partition(" as\n")[2], known)
            known[name] = columns
            if name == ASKED:
                known[name] = {column: _asked(words) for column, words in columns.items()}
            found[name] = (" ".join(_purpose(text)), known[name])
    return found


def _said(name: str, column: Column[object]) -> str:
    """Return what a column says; a key says whose it is."""
    return f"`{name}.id`" if column.name == "id" else str(column.comment)


def _asked(words: str) -> str:
    """Return what a computed column is, behind what the configuration says of it."""
    field = re.search(r"`.*\bworkload ->> '(\w+)'", words)
    meaning = meanings().get(f"workload.{field[1]}") if field else None
    return f"{meaning} ({words})" if meaning else words


def _purpose(text: str) -> Iterator[str]:
    """Yield the lines of the comment that opens a statement."""
    lines = takewhile(lambda line: line.startswith("--"), text.splitlines())
    return (line.removeprefix("--").strip() for line in lines)
