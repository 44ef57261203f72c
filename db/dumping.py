"""A store in one file and back, by Postgres' own programs.

Owns the choice of program and the order of a restore. Never leaves half a file or half a store,
never overwrites a store that has rows, never restores what this program does not know.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, make_url

from db import schema, tables
from db.embedded_place import wheel_install
from db.errors import ConfigError
from db.place import OpenStore, Place, opened
from db.store import FOLDER, Store, statements

MAGIC = b"PGDMP"  # every dump in the custom format begins so
#: A setting that older servers refuse, written by the programs of Postgres 17 and newer.
NEW_SETTING = b"SET transaction_timeout = 0;\n"
REVISION = re.compile(r"COPY public\.alembic_version .*\n(\w+)\n")


@contextmanager
def unchecked(where: Place) -> Iterator[Store]:
    """Open a store whatever its schema is; the embedded one is brought up to date."""
    if where.url is None:
        with opened(where) as embedded:
            yield embedded.store
        return
    store = Store(where.url)
    try:
        yield store
    finally:
        store.close()


def libpq_url(url: str) -> str:
    """Return a store's URL as psql and the other programs of Postgres take it.

    To them a plus is a plus, where SQLAlchemy writes it for the space in the name of a folder.
    """
    rendered = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    place, mark, words = rendered.partition("?")
    return place + mark + words.replace("+", "%20")


def server_version(store: Store) -> str:
    """Return the version of the server, such as ``18.4``."""
    with store.begin() as connection:
        said = str(connection.exec_driver_sql("show server_version").scalar_one())
    return said.partition(" ")[0]


def programs(name: str) -> dict[str, str]:
    """Return the programs of this name by version: the one on PATH and the wheel's."""
    return {_version(path): path for path in _installed(name)}


def program(name: str, server: str) -> str:
    """Return the oldest program of this name that serves a server of this version."""
    wanted = _major(server)
    found = programs(name)
    serving = {version: path for version, path in found.items() if _major(version) >= wanted}
    if not serving:
        have = ", ".join(found) or "none"
        raise ConfigError(
            f"{name} of Postgres {wanted} or newer is needed for this server, found {have}: "
            f"install postgresql-client-{wanted}"
        )
    return serving[min(serving, key=_major)]


def _installed(name: str) -> Iterator[str]:
    on_path = shutil.which(name)
    if on_path is not None:
        yield on_path
    try:
        shipped = wheel_install() / "bin" / name
    except ConfigError:
        return  # no wheel: what is on PATH has to do
    if shipped.exists():
        yield str(shipped)


def _version(path: str) -> str:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"\d+(\.\d+)?", said)
    return match[0] if match else "0"


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def dump(store: Store, file: Path) -> int:
    """Write a store into a file, complete or not at all; returns its size in bytes."""
    if file.exists() and not _is_dump(file):
        raise ConfigError(f"{file} exists and is no dump: name another file")
    if not file.parent.is_dir():
        raise ConfigError(f"{file.parent} is no folder: create it first")
    descriptor, partial = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    os.close(descriptor)
    try:
        command = [
            program("pg_dump", server_version(store)),
            "--format=custom",
            "--no-owner",
            "--no-privileges",
            f"--file={partial}",  # synced by pg_dump; on stdout it would write its index twice
            f"--dbname={libpq_url(store.url)}",
        ]
        said = subprocess.run(command, capture_output=True, check=False)
        if said.returncode:
            words = _reason(said.stderr)
            refused = "permission denied" in words or "may lack" in words  # until 17, and since
            fix = "; the owner of the store dumps it" if refused else ""
            raise ConfigError(f"no dump was written: {words}{fix}")
        Path(partial).replace(file)
    finally:
        Path(partial).unlink(missing_ok=True)
    return file.stat().st_size


def restore(store: Store, file: Path) -> None:
    """Fill an empty store from a dump, and bring it to this program's schema."""
    if not file.is_file():
        raise ConfigError(f"there is no dump {file}")
    if not _is_dump(file):
        raise ConfigError(f"{file} is no dump of `campaign db dump`")
    server = server_version(store)
    _refuse_newer(file, server)
    with store.begin() as connection:
        schema.refuse_others(connection, store.where)
        _clear(connection)
    try:
        _load(file, store.url, server)
    finally:
        schema.upgrade(store)


def _is_dump(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(len(MAGIC)) == MAGIC


def _reader(server: str) -> str:
    """Return pg_restore in its newest version here, which reads the dumps of all older ones."""
    found = programs("pg_restore")
    return found[max(found, key=_major)] if found else program("pg_restore", server)


def _refuse_newer(file: Path, server: str) -> None:
    """Raise unless this program knows the schema of a dump."""
    from alembic.script import ScriptDirectory

    command = [_reader(server), "--data-only", "--table=alembic_version", "--file=-", str(file)]
    said = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    revision = REVISION.search(said.stdout)
    if said.returncode or revision is None:
        why = _reason(said.stderr.encode()) if said.returncode else "it holds no store of ours"
        raise ConfigError(f"{file} cannot be restored: {why}")
    scripts = ScriptDirectory(str(FOLDER / "migrations"))
    known = [script.revision for script in scripts.walk_revisions()]
    if revision[1] not in known:
        raise ConfigError(
            f"{file} has schema {revision[1]}, newer than this program's {known[0]}: install the "
            "campaign that wrote it, or a newer one"
        )


def _clear(connection: Connection) -> None:
    """Drop the tables of a store without rows; raise if it has any."""
    present = set(sa.inspect(connection).get_table_names())
    ours = [table for table in tables.metadata.sorted_tables if table.name in present]
    for table in ours:
        connection.execute(sa.text(f"lock table {table.name} in access exclusive mode"))
        if connection.execute(sa.select(sa.exists().select_from(table))).scalar():
            raise ConfigError(
                "the store is not empty: restore into a new one (store.path=FOLDER of its own, or "
                "a new database)"
            )
    connection.exec_driver_sql(statements("views.sql")["drop"])
    tables.metadata.drop_all(connection, tables=ours)
    connection.exec_driver_sql("drop table if exists alembic_version")


def _load(file: Path, url: str, server: str) -> None:
    """Replay a dump in one transaction: all of it, or nothing."""
    read = [_reader(server), "--no-owner", "--no-privileges", "--file=-", str(file)]
    write = [
        program("psql", server),
        "--no-psqlrc",
        "--quiet",
        "--single-transaction",
        "--set=ON_ERROR_STOP=1",
        "--output=/dev/null",
        f"--dbname={libpq_url(url)}",
    ]
    with tempfile.TemporaryFile() as words:
        reader = subprocess.Popen(read, stdout=subprocess.PIPE, stderr=words)
        writer = subprocess.Popen(write, stdin=subprocess.PIPE, stderr=words)
        try:
            _pump(reader, writer, old=_major(server) < 17)  # noqa: PLR2004 - see NEW_SETTING
        finally:
            # An end of input would commit what has arrived: only a killed psql rolls back.
            for process in (writer, reader):
                process.kill()
                process.wait()
            for pipe in (writer.stdin, reader.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # what psql did not want to read
                        pipe.close()
        words.seek(0)
        if reader.returncode or writer.returncode:
            raise ConfigError(f"nothing was restored from {file}: {_reason(words.read())}")


def _pump(reader: subprocess.Popen[bytes], writer: subprocess.Popen[bytes], *, old: bool) -> None:
    """Hand SQL from pg_restore to psql; psql sees the end of it only if all of it arrived."""
    assert reader.stdout is not None  # noqa: S101 - asked for above
    assert writer.stdin is not None  # noqa: S101
    try:
        for line in reader.stdout:
            if old and line == NEW_SETTING:
                old = False  # it stands once, in the head; further down it would be data
                continue
            writer.stdin.write(line)
        if reader.wait() == 0:
            writer.stdin.close()
            writer.wait()
    except BrokenPipeError:
        writer.wait()  # psql gave up and said why


def _reason(words: bytes) -> str:
    """Return the first complaint among the words of a Postgres program."""
    lines = [line.strip() for line in words.decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() or "fatal" in line.lower()]
    return (errors or lines or ["no message"])[0]


def about(store: OpenStore) -> str:
    """Return what an open store is, in words: its version and where it is."""
    where = store.embedded.folder if store.embedded else "a server of your own"
    return f"Postgres {server_version(store.store)}, {where}"
