"""Where the store is, and opening it: any Postgres by URL, or the embedded one in a folder.

Driver, session and verbs all open it here. A `Place` travels to other processes; an opened
store does not.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from db import schema
from db.embedded import EmbeddedPostgres, default_folder
from db.errors import StoreRefused
from db.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """`url` names a server (no password inside); without it the embedded store in `folder`.

    `reader_url` is the login without rights that `query` uses on a server of one's own,
    `patience_s` how long a store that is away is waited for.
    """

    url: str | None = None
    reader_url: str | None = None
    folder: str | None = None
    patience_s: float = 60.0

    @property
    def embedded_folder(self) -> Path:
        """Folder of the embedded store."""
        return Path(self.folder) if self.folder else default_folder() / "store"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStore:
    """An open store with its URLs; `reader_url` is None where no such login was configured."""

    store: Store
    url: str
    reader_url: str | None
    embedded: EmbeddedPostgres | None


@contextmanager
def opened(
    place: Place,
    *,
    upgrade: bool = False,
    patient: bool = False,
    hurry: threading.Event | None = None,
    writing: bool = False,
) -> Iterator[OpenStore]:
    """Open the store, check its schema (or bring it up to date), and close it at the end.

    A person learns at once that no server answers; a session is `patient` and waits for it, but not
    for long while `hurry` is set. It asks for nothing but single rows. Who is `writing` is refused
    at once where nothing can be written.

    The embedded store is created on first use and is always brought up to date; it stops when
    its last user leaves.
    """
    if place.url is not None:
        store = Store(place.url, patience_s=place.patience_s, by_key=patient, hurry=hurry)
        try:
            schema.upgrade(store) if upgrade else schema.check(store, patient=patient)
            if writing and not takes_rows(store):
                raise StoreRefused(
                    f"the store {store.where} takes nothing: it is a standby, or the login only "
                    "reads; name its primary, or another login, in store.url"
                )
            yield OpenStore(store=store, url=store.url, reader_url=place.reader_url, embedded=None)
        finally:
            store.close()
        return
    embedded = EmbeddedPostgres(place.embedded_folder)
    with embedded:
        store = Store(embedded.owner_url(), revive=embedded.ensure, patience_s=place.patience_s,
                      by_key=patient, hurry=hurry)  # fmt: skip
        try:
            if upgrade or not schema.is_current(store):
                schema.upgrade(store)
            yield OpenStore(
                store=store, url=store.url, reader_url=embedded.reader_url(), embedded=embedded
            )
        finally:
            store.close()


def takes_rows(store: Store) -> bool:
    """Whether anything can be written there: not to a standby, nor by a login that only reads."""
    with store.begin() as connection:
        said = str(connection.exec_driver_sql("show transaction_read_only").scalar_one())
    return said == "off"
