"""The door to Postgres: connections, retries, named statements, and errors in our own words.

Nothing here knows what a task is. A `Store` is cheap to make and safe to share between threads:
every `begin` takes a connection of its own from a small pool, and no transaction stays open
while something is measured.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import psycopg
import sqlalchemy as sa
from psycopg.rows import namedtuple_row
from sqlalchemy.engine import Connection, make_url
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    stop_all,
    stop_any,
    stop_when_event_set,
    wait_random_exponential,
)

from db.connecting import CONNECTING, Listening, as_long_as_it_takes, connected
from db.errors import ConfigError, RowRefused, StoreRefused, StoreUnavailable

log = logging.getLogger("campaign.store")
T = TypeVar("T")

FOLDER = Path(__file__).parent

#: The longest wait of somebody who was told to hurry, seconds.
HURRY_S = 10.0
#: How libpq and Postgres say that a login is not accepted (any more).
REFUSED = (
    "authentication failed",
    "no password supplied",
    "is not permitted to log in",
    "no pg_hba.conf entry",
    "certificate expired",
    "certificate has expired",
)
#: How Postgres says that there is no such thing to log in to, or as.
ABSENT = re.compile(r'(database|role) ".*" does not exist')
#: How libpq says that a word behind the question mark of a URL is none of its own.
NO_OPTION = "invalid connection option"
#: SQLSTATE of what the login has no right to.
FORBIDDEN = "42501"
#: SQLSTATE of a write to a server that became a standby, or by a login that only reads.
READ_ONLY = "25006"


@cache
def statements(file: str) -> Mapping[str, str]:
    """Return the named statements of a .sql file of this package: ``-- name: x`` starts one."""
    found: dict[str, str] = {}
    for part in (FOLDER / file).read_text(encoding="utf-8").split("-- name: ")[1:]:
        name, _, body = part.partition("\n")
        found[name.strip()] = body.strip().rstrip(";")
    return found


def known_as(url: str) -> str:
    """Return how people know a store: the folder of an embedded one, else its URL, no password.

    Its passfile lies there; its socket lies elsewhere where the folder's path is none for a socket.
    """
    parsed = make_url(url)
    file = parsed.query.get("passfile")
    if isinstance(file, str) and "host" in parsed.query:
        return f"in {Path(file).parent}"
    return parsed.render_as_string(hide_password=True)


class Store:
    """A Postgres database, reached by `url` (``postgresql+psycopg://…``, no password inside).

    `where` is how people know it.

    Who asks for single rows again and again asks `by_key`.

    `revive` is called between retries when the server does not answer; the embedded store
    starts itself again there. What keeps it from starting may pass, and is waited for as well.
    While `hurry` is set nobody waits long for a store that is away.
    """

    def __init__(
        self,
        url: str,
        *,
        revive: Callable[[], None] | None = None,
        patience_s: float = 60.0,
        by_key: bool = False,
        hurry: threading.Event | None = None,
    ) -> None:
        """Prepare a pool; nothing is opened yet. `patience_s` bounds `retrying`."""
        try:
            parsed = make_url(url)
        except (sa.exc.ArgumentError, ValueError) as error:  # ValueError: of the port
            message = "store.url is no database URL; expected postgresql+psycopg://host/database"
            raise ConfigError(message) from error
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.drivername != "postgresql+psycopg":
            message = f"store.url names {parsed.drivername}; only postgresql+psycopg:// is a store"
            raise ConfigError(message)
        self.url = parsed.render_as_string(hide_password=False)
        self.where = known_as(self.url)
        self._revive = revive
        self.patience_s = patience_s
        self.hurry = hurry or threading.Event()
        self._waits_for = ""
        self._engine = sa.create_engine(
            parsed,
            pool_size=4,
            max_overflow=8,
            connect_args=CONNECTING,
        )
        self._by_key = by_key
        sa.event.listen(
            self._engine, "do_connect", lambda _, __, words, named: self._connect(words, named)
        )
        self._single = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    def within(self, patience_s: float) -> Self:
        """Return the same store, pool and all, for which nobody waits longer than that."""
        other = copy(self)
        other.patience_s = min(patience_s, self.patience_s)
        return other

    def _connect(self, words: Sequence[Any], named: Mapping[str, Any]) -> Listening:
        return connected(words, named, where=self.where, by_key=self._by_key)

    @contextmanager
    def begin(
        self, *, single: bool = False, most_s: Callable[[], float] = as_long_as_it_takes
    ) -> Iterator[Connection]:
        """Open a transaction; commits at the end, rolls back on any error.

        For a `single` statement none is opened: it is one, and goes to the server once, not thrice.
        A server that keeps silent is waited for `most_s`.
        """
        engine = self._single if single else self._engine
        with _translated(self.url), engine.begin() as connection:
            cast("Listening", connection.connection.driver_connection).most_s = most_s
            yield connection

    def retrying(self, work: Callable[[Connection], T], *, single: bool = False) -> T:
        """Run idempotent `work` in a transaction, again while the store does not answer.

        Every statement of it is a transaction of its own where it sends `single` ones, but for
        those that it sends `together`.
        """
        attempts = Retrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_random_exponential(multiplier=0.1, max=5.0),
            stop=stop_any(
                stop_after_delay(self.patience_s),
                stop_all(stop_when_event_set(self.hurry), stop_after_delay(HURRY_S)),
            ),
            before_sleep=self._wait,
            reraise=True,
        )
        for attempt in attempts:
            with attempt:
                if attempt.retry_state.attempt_number > 1:
                    self._bring_back()
                with self.begin(single=single, most_s=self._most_s) as connection:
                    result = work(connection)
                if self._waits_for:
                    log.warning("the store %s answers again", self.where)
                    self._waits_for = ""
                return result
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _most_s(self) -> float:
        """Return how many seconds a server that is there may keep silent before it is away."""
        return HURRY_S if self.hurry.is_set() else max(self.patience_s, HURRY_S)

    def _bring_back(self) -> None:
        """Start the server again, if it is ours; a refusal in mid-work is a store that is away."""
        if self._revive is None:
            return
        try:
            self._revive()
        except ConfigError as error:
            raise StoreUnavailable(str(error)) from error

    def _wait(self, state: RetryCallState) -> None:
        """Say once what is waited for."""
        trouble = str(state.outcome.exception()) if state.outcome else ""
        if trouble != self._waits_for:
            self._waits_for = trouble
            log.warning("%s (trying again for %.0f s)", trouble, self.patience_s)

    def close(self) -> None:
        """Close the pool's connections."""
        self._engine.dispose()


def rows(connection: Connection, statement: str, values: Mapping[str, Any]) -> list[Any]:
    """Run a named statement's text with pyformat parameters; returns its rows, by attribute."""
    return list(connection.exec_driver_sql(statement, dict(values)).fetchall())


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what the store refuses of a foreign row into a ConfigError of one line.

    RowRefused where a constraint or a type does: not the tables, and not the login's rights.
    """
    try:
        yield
    except sa.exc.StatementError as error:
        refused = isinstance(error, sa.exc.IntegrityError | sa.exc.DataError)
        words = str(error.orig or error).partition("\n")[0]
        kind = RowRefused if refused else ConfigError
        raise kind(f"the store refuses it: {words[:300]}") from error


def together(connection: Connection, *sent: tuple[str, Mapping[str, Any]]) -> list[list[Any]]:
    """Run named statements in one message to the server; returns the rows of each.

    They are one transaction, also where `single` ones are sent. What the server refuses of one of
    them undoes all, and is raised as the driver says it.
    """
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    with driver.pipeline():
        cursors = [
            driver.cursor(row_factory=namedtuple_row).execute(text, values) for text, values in sent
        ]
    return [cursor.fetchall() for cursor in cursors]


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn SQLAlchemy's and psycopg's errors into ours; constraint violations pass as they are."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError) as error:
        raise _explained(url, error.orig or error) from error
    except sa.exc.InternalError as error:
        if getattr(error.orig, "sqlstate", None) != READ_ONLY:
            raise
        raise _explained(url, error.orig or error) from error
    except sa.exc.ProgrammingError as error:
        words = str(error.orig).splitlines()[0]
        if NO_OPTION in words:
            raise ConfigError(f"store.url: {words}") from error
        if getattr(error.orig, "sqlstate", None) != FORBIDDEN:
            raise
        raise ConfigError(
            f"the login of the store {known_as(url)} may not do that ({words}): `db upgrade` is "
            "for the owner; after it, run deploy/roles.sql again"
        ) from error
    except psycopg.OperationalError as error:
        raise _explained(url, error) from error


def _explained(url: str, error: BaseException) -> StoreUnavailable:
    words = " ".join(str(error).split())
    where = known_as(url)
    if any(refusal in words for refusal in REFUSED):
        file = os.environ.get("PGPASSFILE", "~/.pgpass, or one named by PGPASSFILE")
        return StoreRefused(
            f"the store {where} refused the login ({_refusal(words)}): put a valid password into "
            f"{file} (0600, host:port:database:user:password) or a ~/.pg_service.conf"
        )
    if ABSENT.search(words):
        fix = "create it, or correct store.url"
        return StoreRefused(f"the store {where} has no such database or role ({words}): {fix}")
    if getattr(error, "sqlstate", None) == READ_ONLY:
        fix = "it is a standby, or the login only reads; name its primary, or another login"
        return StoreUnavailable(f"the store {where} takes nothing ({words}): {fix}")
    if "No space left on device" in words or getattr(error, "sqlstate", None) == "53100":
        return StoreUnavailable(f"the disk of the store {where} is full: free space and run again")
    fix = "start its server, or correct store.url"
    return StoreUnavailable(f"the store {where} does not answer ({words}): {fix}")


def _refusal(words: str) -> str:
    """Return what the server itself said, without the addresses that were tried."""
    return words.rpartition("FATAL: ")[2].strip()
