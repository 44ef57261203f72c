"""The version of the store: bring it to the program's, or say why it cannot be used.

Tables come from Alembic's migrations (generated from db/tables.py, compared by a test); views
come from views.sql and are made anew at each upgrade, so they are never migrated.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import tables
from db.errors import ConfigError
from db.store import FOLDER, Store, statements

if TYPE_CHECKING:
    from alembic.config import Config

#: Two upgrades at once wait for each other on this advisory lock.
UPGRADE_LOCK = 0x63616D70
#: SQLSTATE of a drop that would take something else along.
OTHERS_DEPEND = "2BP01"
#: What triggers keep from then on, for attempts that were measured before there were any.
SUMMED_BEFORE = tuple(
    f"insert into {kept} select s.* from {view} s where s.attempt_id in "  # noqa: S608 - our names
    f"(select id from attempts except select attempt_id from {kept})"
    for kept, view in (("summaries", "sums"), ("phase_summaries", "phase_sums"))
)


def _alembic(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER / "migrations"))
    config.attributes["connection"] = connection
    return config


def upgrade(store: Store) -> None:
    """Bring a store to this program's schema and make its views anew."""
    from alembic import command

    with store.begin() as connection:
        connection.execute(sa.text("select pg_advisory_xact_lock(:n)"), {"n": UPGRADE_LOCK})
        refuse_others(connection, store.where)
        views = dict(statements("views.sql"))
        _drop_views(connection, views.pop("drop"))
        command.upgrade(_alembic(connection), "head")
        for name, view in views.items():
            connection.exec_driver_sql(view)
            quoted = _purpose(view).replace("'", "''")
            connection.exec_driver_sql(f"comment on view {name} is '{quoted}'")
        for statement in SUMMED_BEFORE:
            connection.exec_driver_sql(statement)
        reader = sa.text("select 1 from pg_roles where rolname = 'campaign_reader'")
        if connection.execute(reader).scalar():
            connection.exec_driver_sql("grant usage on schema public to campaign_reader")
            connection.exec_driver_sql("grant select on all tables in schema public"
                                       " to campaign_reader")  # fmt: skip


def refuse_others(connection: Connection, where: str) -> None:
    """Raise ConfigError for a newer schema, and for a database of another program.

    What it has is not ours to replace, whatever it is called.
    """
    _refuse_newer(connection, where)
    if _current(connection) is not None:
        return
    inspector = sa.inspect(connection)
    ours = {*tables.metadata.tables, *statements("views.sql"), "alembic_version"}
    theirs = ours & {*inspector.get_table_names(), *inspector.get_view_names()}
    if theirs:
        raise ConfigError(
            f"the database {where} has {', '.join(sorted(theirs))} of another program: name a "
            "database of its own in store.url"
        )


def _drop_views(connection: Connection, statement: str) -> None:
    try:
        connection.exec_driver_sql(statement)
    except sa.exc.InternalError as error:
        if getattr(error.orig, "sqlstate", None) != OTHERS_DEPEND:
            raise
        words = " ".join(str(error.orig).split())
        raise ConfigError(
            f"views of your own stand on the store's: drop them, upgrade, make them anew: {words}"
        ) from error


def _purpose(view: str) -> str:
    """Return the comment that opens a view in views.sql, as one line."""
    lines = takewhile(lambda line: line.startswith("--"), view.splitlines())
    return " ".join(line.removeprefix("--").strip() for line in lines)


def is_current(store: Store) -> bool:
    """Whether the store has this program's schema; raises ConfigError if it is a newer one."""
    with store.begin() as connection:
        known = _refuse_newer(connection, store.where)
        return _current(connection) == known[0]


def check(store: Store, *, patient: bool = False) -> None:
    """Raise ConfigError unless the store has exactly this program's schema.

    Who is `patient` waits for a store that is away.
    """

    def look(connection: Connection) -> tuple[list[str], str | None]:
        return _refuse_newer(connection, store.where), _current(connection)

    if patient:
        known, current = store.retrying(look)
    else:
        with store.begin() as connection:
            known, current = look(connection)
    if current != known[0]:
        state = f"schema {current}" if current else "no schema"
        message = (
            f"the store {store.where} has {state}, this program needs {known[0]}: "
            "run `campaign db upgrade` on it"
        )
        raise ConfigError(message)


def _current(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(sa.text("select version_num from alembic_version")).scalar()
    return None if found is None else str(found)


def _refuse_newer(connection: Connection, where: str) -> list[str]:
    """Return the known revisions, newest first; raise if the store has one that is not known."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(_alembic(connection))
    known = [revision.revision for revision in script.walk_revisions()]
    current = _current(connection)
    if current is not None and current not in known:
        raise ConfigError(
            f"the store {where} has schema {current}, newer than this program's {known[0]}, or of "
            "another program: install the campaign that wrote it, or name a database of its own"
        )
    return known
