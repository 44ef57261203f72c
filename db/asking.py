"""Questions to the store: the named ones that ship with it, and people's own SQL.

Owns the only door through which a person's SQL reaches Postgres: a login without rights, a
read-only transaction, time limits, and the extended protocol, where one statement is all that
the server parses. Never runs it on a login that may write.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import chain, islice
from typing import Any, cast

import psycopg

from db.errors import ConfigError
from db.store import FOLDER, Store

ROWS_AT_A_TIME = 500
#: What a sort or a hash of a question may take before it goes to disk.
WORK_MEM = "64MB"
NAME = re.compile(r"[a-z][a-z0-9_]*")
#: The end of a named question that says itself how many rows it has at most.
LIMITED = re.compile(r"\blimit \d+$")

#: Connection lost, server shutting down: not the question's fault.
SERVER_GONE = ("08", "57P")
UNDEFINED_TABLE = "42P01"
QUERY_CANCELED = "57014"

READER_NEEDED = (
    "your own SQL needs a login that may only read: deploy/roles.sql makes campaign_reader; name "
    "it with store.reader_url=postgresql+psycopg://campaign_reader@host/database; named queries "
    "work without"
)

# A login that may write, or reach the server's files and programs, is no reader.
MAY_DO_MORE = """
select current_user, current_setting('is_superuser') = 'on'
    or pg_has_role('pg_execute_server_program', 'member')
    or pg_has_role('pg_write_server_files', 'member')
    or pg_has_role('pg_read_server_files', 'member')
    or pg_has_role('pg_write_all_data', 'member')
    or exists (select from pg_class c
                where c.relnamespace::regnamespace::text = any(current_schemas(false))
                  and c.relkind in ('r', 'p', 'v')
                  and (pg_has_role(c.relowner, 'member')
                       or has_table_privilege(c.oid, 'insert, update, delete, truncate')))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One statement; `name` and `purpose` where it ships with the store."""

    sql: str
    name: str | None = None
    purpose: str | None = None

    def first(self, rows: int) -> Question:
        """Return the same for its first rows alone: those that ship, in their order.

        A person's SQL stays as it is: whoever reads no further has no more rows computed.
        """
        if self.name is None or LIMITED.search(self.sql):
            return self
        return replace(self, sql=f"{self.sql}\n limit {rows}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a question may run, and wait for a lock, in seconds."""

    statement_s: float = 60.0
    lock_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The columns of a result and its rows, which are fetched as they are read."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]


def shipped() -> dict[str, Question]:
    """Return the named questions, by name; the first line of each file is its purpose."""
    found = {}
    for path in sorted((FOLDER / "queries").glob("*.sql")):
        purpose, _, sql = path.read_text(encoding="utf-8").partition("\n")
        purpose = purpose.removeprefix("--").strip()
        found[path.stem] = Question(name=path.stem, purpose=purpose, sql=sql.strip().rstrip(";"))
    return found


def question(text: str) -> Question:
    """Return the named question, or the text as SQL; ConfigError on an unknown name."""
    known = shipped()
    if text in known:
        return known[text]
    if NAME.fullmatch(text):
        near = get_close_matches(text, known, n=3, cutoff=0.5)
        fix = f"did you mean {' or '.join(near)}?" if near else "`campaign query --list` has them"
        raise ConfigError(f"no query is called {text}; {fix}")
    if not text.strip() or "\0" in text:
        raise ConfigError("this is no query: give a name (see `campaign query --list`) or SQL")
    return Question(sql=text)


@contextmanager
def asked(
    asking: Question,
    url: str,
    reader_url: str | None,
    *,
    limits: Limits,
    settings: Mapping[str, str],
) -> Iterator[Answer]:
    """Run a question and yield its answer, on `reader_url` where there is one.

    A person's SQL runs on no login that may do more than read.
    `settings` are Postgres settings of the session, such as ``campaign.weights``. ConfigError
    carries Postgres' own message and the position of the mistake.
    """
    store = Store(reader_url or url)
    try:
        with store.begin() as connection:
            raw = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
            try:
                if asking.name is None:
                    _refuse_writer(raw, configured=reader_url is not None)
                with _running(raw, asking, limits, settings) as answer:
                    yield answer  # reading rows may raise here, too
            except psycopg.Error as error:
                connection.invalidate(error)  # it may be in the middle of an answer
                raise _explained(error, asking, limits) from error
    finally:
        store.close()


@contextmanager
def _running(
    raw: psycopg.Connection[Any], asking: Question, limits: Limits, settings: Mapping[str, str]
) -> Iterator[Answer]:
    raw.execute("set transaction read only")
    wanted = {
        "statement_timeout": f"{limits.statement_s * 1000:.0f}",
        "lock_timeout": f"{limits.lock_s * 1000:.0f}",
        "work_mem": WORK_MEM,
        **settings,
    }
    for name, value in wanted.items():
        raw.execute("select set_config(%s, %s, true)", (name, value))
    columns = _prepared(raw, asking)
    # stream() always speaks the extended protocol: a second statement is a syntax error there.
    size = ROWS_AT_A_TIME if psycopg.capabilities.has_stream_chunked() else 1
    # Quicker at both ends; but a type that only a person would ask for may have no such form here.
    binary = asking.name is not None
    # Closing it cancels what still runs; until then it holds the connection's lock.
    stream = raw.cursor(binary=binary).stream(asking.sql.encode(), size=size, binary=binary)
    with closing(cast("Generator[tuple[Any, ...]]", stream)) as fetched:
        first = list(islice(fetched, 1))  # a mistake shows before anything is written
        yield Answer(columns=columns, rows=chain(first, fetched))


def _prepared(raw: psycopg.Connection[Any], asking: Question) -> tuple[str, ...]:
    """Have the server parse the statement and name the columns it would give; runs nothing."""
    server = raw.pgconn
    for result in (server.prepare(b"", asking.sql.encode()),
                   server.describe_prepared(b"")):  # fmt: skip
        if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result)
    if result.nparams:
        raise ConfigError("query: $1 stands for a value that nothing gives; write the value itself")
    names = [(result.fname(n) or b"").decode() for n in range(result.nfields)]
    if not names:
        raise ConfigError(f"{asking.name or 'query'}: this gives no rows; ask with select")
    # Two columns of one name would be one key of a JSON object.
    return tuple(
        name if name not in names[:n] else f"{name}_{names[:n].count(name) + 1}"
        for n, name in enumerate(names)
    )


def _refuse_writer(raw: psycopg.Connection[Any], *, configured: bool) -> None:
    for user, more in raw.execute(MAY_DO_MORE):
        if not more:
            continue
        if not configured:
            raise ConfigError(READER_NEEDED)
        raise ConfigError(
            f"store.reader_url logs in as {user}, who may do more than read: name a login that "
            "has select on the tables and nothing else"
        )


def _explained(error: psycopg.Error, asking: Question, limits: Limits) -> Exception:
    """Return the error as one line for the person who asked; a lost server stays what it is."""
    state = error.sqlstate or ""
    if isinstance(error, psycopg.OperationalError) and (not state or state.startswith(SERVER_GONE)):
        return error
    words = " ".join((error.diag.message_primary or str(error)).split())
    if error.diag.message_hint:
        words += f" ({' '.join(error.diag.message_hint.split())})"
    if error.diag.statement_position:
        words += f", at {_place(asking.sql, int(error.diag.statement_position))}"
    if state == QUERY_CANCELED:
        words = f"stopped after {limits.statement_s:g} s; narrow it, or allow more with --timeout"
    if state == UNDEFINED_TABLE:
        words += "; try the views measurements, repeats, energy_per_output_token"
    return ConfigError(f"{asking.name or 'query'}: {words}")


def _place(sql: str, position: int) -> str:
    """Return where a character of the SQL is (from 1), with the word that stands there."""
    before, after = sql[: position - 1], sql[position - 1 :]
    word = after.split(maxsplit=1)[0] if after.strip() else "the end"
    line = before.count("\n") + 1
    where = f"character {position}" if line == 1 else f"line {line}"
    return f"{where} ({word[:40]})"
