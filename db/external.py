"""Rows that others measured: written once, read beside the store's own.

Owns their digest, which makes importing the same row twice do nothing. Everything here runs
inside a transaction the caller opened. Never changes a row; deletes whole sources alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from db.errors import ConfigError
from db.external_tables import external_rows
from db.identity import digest
from db.store import rows, statements

SQL = statements("external.sql")
#: Rows that are sent together, as one document: ten times as fast as a parameter for each cell.
AT_A_TIME = 1000
_COLUMNS = ", ".join(c.name for c in external_rows.c if c.name not in ("id", "imported_at"))
_INSERT = (
    f"insert into external_rows ({_COLUMNS}) "  # noqa: S608 - the table's own names
    f"select {_COLUMNS} from jsonb_populate_recordset(null::external_rows, %(rows)s::jsonb) "
    "on conflict do nothing"
)
#: What does not make a row another one: where it stood, and how often it changed hands.
_BESIDE = frozenset({"file_sha256", "line", "catalogue_model", "origin_reality", "origin_source"})

Row = Mapping[str, object]


def named(row: Row) -> Row:
    """Return a row with its digest: that of its source and of everything it says."""
    said = {k: v for k, v in row.items() if v is not None and k not in _BESIDE}
    return {**row, "digest": digest(said)}


def write_external(connection: Connection, found: Sequence[Row]) -> int:
    """Write rows that are not there yet; returns how many those were.

    Every row is `named` and has all columns of `external_rows` but the id and the time.
    """
    written = 0
    for start in range(0, len(found), AT_A_TIME):
        sent = json.dumps(found[start : start + AT_A_TIME])
        written += connection.exec_driver_sql(_INSERT, {"rows": sent}).rowcount
    return written


def sources(connection: Connection) -> dict[str, int]:
    """Return the sources that rows were imported from, with how many."""
    return {row.source: row.rows for row in rows(connection, SQL["sources"], {})}


def remove(connection: Connection, source: str) -> int:
    """Delete every row of a source; returns how many those were.

    Raises ConfigError for a login that may not: the role of workers deletes nothing.
    """
    if not rows(connection, SQL["may_remove"], {})[0][0]:
        raise ConfigError("the login of store.url may not delete imported rows; the owner may")
    return connection.exec_driver_sql(SQL["remove"], {"source": source}).rowcount


def evidence(
    connection: Connection,
    *,
    own: bool,
    campaign: str | None = None,
    sources: Sequence[str] = (),
    reality: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return rows of the view `evidence`: own ones, of one campaign or all, and those of sources.

    `reality` keeps those of some realities.
    """
    values = {
        "own": own,
        "campaign": campaign,
        "sources": list(sources),
        "reality": None if reality is None else list(reality),
    }
    return [dict(row._mapping) for row in rows(connection, SQL["evidence"], values)]
