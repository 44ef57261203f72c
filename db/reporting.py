"""What a report is made of: the answers of the named queries `report_*`, at one moment.

Owns how one campaign is chosen for all of them. Never writes; knows nothing of how it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.asking import shipped

Row = Mapping[str, Any]

PREFIX = "report_"
#: The setting by which the queries know their campaign; empty, and they answer for all.
CAMPAIGN = "campaign.name"


def answers(connection: Connection, campaign: str | None) -> dict[str, list[Row]]:
    """Return the rows of each query of a report by its name without the prefix."""
    connection.execute(sa.select(sa.func.set_config(CAMPAIGN, campaign or "", True)))
    found: dict[str, list[Row]] = {}
    for name, question in shipped().items():
        if name.startswith(PREFIX):
            rows = connection.exec_driver_sql(question.sql).mappings()
            found[name.removeprefix(PREFIX)] = [*map(dict, rows)]
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
