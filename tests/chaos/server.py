"""A Postgres that is stopped and started under a campaign: the test holds it, nobody revives it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from db import schema
from db.embedded import EmbeddedPostgres
from db.embedded_place import programs
from db.embedded_user import account_for
from db.leases import LeasePolicy, Leases
from db.store import Store


class Server:
    """A server by URL, as a cluster would have one; drivers and sessions can only wait for it."""

    def __init__(self, folder: Path) -> None:
        """Make the server and its schema."""
        self._embedded = EmbeddedPostgres(folder)
        self._embedded.acquire()
        self._account = account_for(folder)
        self._tools = programs(folder, self._account)
        self._data = folder / "data"
        self.url = self._embedded.owner_url()
        self._store = Store(self.url, patience_s=120.0)
        schema.upgrade(self._store)
        self._answers_since_s = time.monotonic()

    def stop(self) -> None:
        """End every process of the server at once: no shutdown checkpoint, nobody is told."""
        how = ["-m", "immediate", "-w", "-t", "60"]
        self._account.run([self._tools / "pg_ctl", "stop", "-D", self._data, *how])

    def start(self) -> None:
        """Start it again; returns once it has recovered and answers."""
        self._embedded.acquire()
        self._answers_since_s = time.monotonic()

    def ask(self, sql: str, **values: Any) -> Sequence[Any]:
        """Run a statement; returns its rows."""
        return self._store.retrying(
            lambda connection: connection.exec_driver_sql(sql, values).fetchall()
        )

    def reap(self, lease_s: float) -> None:
        """Take back expired leases as soon as a driver may: it has answered for one lease.

        To have been up for one is less: it may have recovered for most of that.
        """
        if time.monotonic() < self._answers_since_s + lease_s:
            return
        Leases(self._store, LeasePolicy(lease_s=lease_s, max_lost=100_000)).reap()

    def close(self) -> None:
        """Stop the server for good."""
        self._store.close()
        self._embedded.release()
