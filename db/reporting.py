"""What a report is made of: the answers of the named queries `report_*`, at one moment.

Owns that moment, and how one campaign and one source are chosen for all queries. Writes nothing
that outlives it; knows nothing of how it is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.asking import shipped
from db.claims import Counted
from db.store import Store

Row = Mapping[str, Any]

PREFIX = "report_"
#: The settings by which the queries know their campaign, and the source of imported rows; empty,
#: and they answer for all.
CAMPAIGN, SOURCE = "campaign.name", "campaign.source"


@contextmanager
def moment(store: Store) -> Iterator[Connection]:
    """Open a transaction in which every statement sees the store as the first one does.

    Temporary tables may be made in it until `read_only`.
    """
    with store.begin() as connection:
        connection.exec_driver_sql("set transaction isolation level repeatable read")
        yield connection


def claimed(connection: Connection, campaign_id: int | None) -> Counted:
    """Return the rows that published claims are judged on; from here on nothing can be written."""
    found = Counted(connection, campaign_id)
    connection.exec_driver_sql("set transaction read only")
    return found


def answers(
    connection: Connection,
    campaign: str | None,
    *,
    source: str | None = None,
    without: Collection[str] = (),
) -> dict[str, list[Row]]:
    """Return the rows of each query of a report by its name without the prefix.

    `source` is the imported source that is shown, None for every one; `without` names queries that
    are not asked.
    """
    for setting, value in ((CAMPAIGN, campaign), (SOURCE, source)):
        connection.execute(sa.select(sa.func.set_config(setting, value or "", True)))
    found: dict[str, list[Row]] = {}
    for name, question in shipped().items():
        short = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and short not in without:
            rows = connection.exec_driver_sql(question.sql).mappings()
            found[short] = [*map(dict, rows)]
    return found


def names_to_hide(connection: Connection) -> dict[str, Sequence[str]]:
    """Return what tells people and machines apart: hosts, users, and UUIDs of GPUs."""
    asked = {
        "host": "select distinct host from sessions order by host",
        "user": "select distinct owner from campaigns order by owner",
        "gpu": "select distinct unnest(gpu_uuids) from sessions order by 1",
    }
    return {
        kind: [str(name) for name in connection.exec_driver_sql(sql).scalars() if name]
        for kind, sql in asked.items()
    }
