"""The accepted measurements of one campaign, whole: what a factorial grid is analysed from.

Owns one reading statement. Never writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from db.errors import ConfigError
from db.standing import campaigns, snapshot
from db.store import Store, rows

_MEASURED = """
select m.*
  from measurements m
  join campaign_tasks c on c.task_id = m.task_id
 where c.campaign_id = %(campaign_id)s
 order by m.measured_at, m.task_key
"""


def campaign_measurements(store: Store, campaign: str) -> list[Mapping[str, Any]]:
    """Return the rows of the view `measurements` of a campaign. Raises ConfigError."""
    with snapshot(store) as connection:
        known = campaigns(connection)
        if campaign not in known:
            names = ", ".join(known) or "there is none yet"
            raise ConfigError(f"no campaign is called {campaign}; known: {names}")
        found = rows(connection, _MEASURED, {"campaign_id": known[campaign].id})
        return [row._mapping for row in found]
