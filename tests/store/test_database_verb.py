"""The verb `db`: a store in one file and back, complete or not at all, and its URL."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from alembic import command
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import Connection

from campaign.cli import main
from db import dumping, schema
from db.dumping import dump, libpq_url, program, restore
from db.embedded import EmbeddedPostgres
from db.errors import ConfigError
from db.place import Place, opened
from db.store import Store, known_as
from db.tables import metadata
from tests.store.filled import fill

pytestmark = pytest.mark.store

Printed = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def source(public_tmp: Path) -> Iterator[Path]:
    """A store with a campaign in it, held open."""
    folder = public_tmp / "source" / "store"
    with opened(Place(folder=str(folder))) as store:
        fill(store.store)
        yield folder


@pytest.fixture(scope="module")
def copy(source: Path, public_tmp: Path) -> Path:
    """Its dump."""
    file = public_tmp / "source" / "campaign.dump"
    assert main(["db", "dump", str(file), f"store.path={source}"]) == 0
    return file


@pytest.fixture(scope="module")
def target(public_tmp: Path) -> Iterator[Store]:
    """An empty store, held open; tests leave it empty."""
    with opened(Place(folder=str(public_tmp / "target" / "store"))) as store:
        yield store.store


def contents(store: Store) -> dict[str, list[Any]]:
    """Everything in a store's tables and in the view of results."""
    names = [*metadata.tables, "measurements", "alembic_version"]
    with store.begin() as connection:
        return {
            name: sorted(map(repr, connection.exec_driver_sql(f"select * from {name}")))
            for name in names
        }


def is_empty(store: Store) -> bool:
    found = contents(store)
    return found.pop("alembic_version") != [] and not any(found.values())


def refusal(capsys: Printed, *words: str) -> str:
    assert main(["db", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


# ---- dump and restore --------------------------------------------------------------------------


def test_a_dump_comes_back_whole_and_can_be_asked(
    source: Path, copy: Path, place: Path, capsys: Printed
) -> None:
    there = f"store.path={place / 'store'}"
    assert main(["db", "restore", str(copy), there]) == 0
    with (
        opened(Place(folder=str(source))) as before,
        opened(Place(folder=str(place / "store"))) as after,
    ):
        assert contents(after.store) == contents(before.store)
        capsys.readouterr()
        assert main(["query", "select count(*) as n from measurements", "--json", there]) == 0
        assert json.loads(capsys.readouterr().out) == [{"n": 6}]
        assert "is not empty" in refusal(capsys, "restore", str(copy), there)
        assert contents(after.store) == contents(before.store)


def test_a_dump_is_private_and_leaves_nothing_beside_it(copy: Path) -> None:
    assert copy.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in copy.parent.iterdir() if path.is_file()] == [copy.name]


def test_a_torn_dump_restores_nothing(copy: Path, place: Path, target: Store) -> None:
    torn = place / "torn.dump"
    torn.write_bytes(copy.read_bytes()[:-200])
    with pytest.raises(ConfigError, match="nothing was restored"):
        restore(target, torn)
    assert is_empty(target)


def test_an_end_of_input_instead_of_a_kill_would_restore_half_of_it(
    copy: Path, place: Path, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(reader: Any, writer: Any, **_: bool) -> None:
        writer.communicate(reader.stdout.read())
        reader.wait()

    torn = place / "torn.dump"
    torn.write_bytes(copy.read_bytes()[:-200])
    monkeypatch.setattr(dumping, "_pump", careless)
    monkeypatch.setattr(dumping.schema, "upgrade", lambda _store: None)
    with pytest.raises(ConfigError, match="nothing was restored"):
        restore(target, torn)
    monkeypatch.undo()
    with target.begin() as connection:
        assert connection.exec_driver_sql("select count(*) from campaigns").scalar_one() > 0
        connection.exec_driver_sql("drop schema public cascade")
        connection.exec_driver_sql("create schema public")
    dumping.schema.upgrade(target)
    assert is_empty(target)


def test_a_dump_of_a_newer_schema_is_refused_before_anything_is_touched(
    copy: Path, place: Path, target: Store
) -> None:
    restore(target, copy)
    newer = place / "newer.dump"
    with target.begin() as connection:
        known = connection.exec_driver_sql("select version_num from alembic_version").scalar_one()
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    dump(target, newer)
    with target.begin() as connection:
        connection.exec_driver_sql(f"update alembic_version set version_num = '{known}'")
        names = ", ".join(metadata.tables)
        connection.exec_driver_sql(f"truncate {names}")
    with pytest.raises(ConfigError, match="schema 9999, newer than this program"):
        restore(target, newer)
    assert is_empty(target)


@pytest.fixture
def anew(target: Store) -> Iterator[Connection]:
    """The database of the target without anything in it; it is an empty store again afterwards."""

    def clear(connection: Connection) -> None:
        connection.exec_driver_sql("drop schema public cascade")
        connection.exec_driver_sql("create schema public")

    with target._engine.connect() as connection:
        clear(connection)
        yield connection
        connection.rollback()
        clear(connection)
        connection.commit()
    schema.upgrade(target)


def test_nothing_of_another_program_makes_room_for_a_dump(
    copy: Path, target: Store, anew: Connection
) -> None:
    """Not even what it calls as we do, and has no rows in."""
    anew.exec_driver_sql("create table sessions (n int)")
    anew.exec_driver_sql("create table alembic_version (version_num text)")
    anew.commit()
    with pytest.raises(ConfigError, match="has alembic_version, sessions of another program"):
        restore(target, copy)
    anew.exec_driver_sql("insert into alembic_version values ('theirs')")
    anew.commit()
    with pytest.raises(ConfigError, match=r"schema theirs, .* or of another program"):
        restore(target, copy)
    assert anew.exec_driver_sql("select * from alembic_version").all() == [("theirs",)]
    assert anew.exec_driver_sql("select * from sessions").all() == []


def test_a_dump_comes_back_into_an_empty_store_of_an_older_program(
    copy: Path, target: Store, anew: Connection
) -> None:
    command.upgrade(schema._alembic(anew), "0002")
    anew.commit()
    restore(target, copy)
    assert anew.exec_driver_sql("select count(*) from tasks").scalar_one() == 9
    assert schema.is_current(target)


def test_a_file_that_is_no_dump_is_neither_read_nor_overwritten(
    source: Path, place: Path, capsys: Printed
) -> None:
    thesis = place / "thesis.txt"
    thesis.write_text("years of work")
    here = f"store.path={source}"
    assert "is no dump" in refusal(capsys, "dump", str(thesis), here)
    assert "is no dump" in refusal(capsys, "restore", str(thesis), here)
    assert thesis.read_text() == "years of work"


def test_a_dump_that_fails_leaves_the_older_one(
    source: Path, copy: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = place / "older.dump"
    older.write_bytes(copy.read_bytes())
    monkeypatch.setattr(dumping, "program", lambda *_: "/bin/false")
    with (
        opened(Place(folder=str(source))) as store,
        pytest.raises(ConfigError, match="no dump was written"),
    ):
        dump(store.store, older)
    assert older.read_bytes() == copy.read_bytes()
    assert list(place.iterdir()) == [older]


def test_a_second_dump_takes_the_place_of_the_first(source: Path, copy: Path) -> None:
    first = copy.read_bytes()
    assert main(["db", "dump", str(copy), f"store.path={source}"]) == 0
    assert len(copy.read_bytes()) == pytest.approx(len(first), rel=0.01)


# ---- url, psql, upgrade ------------------------------------------------------------------------


def test_the_url_opens_psql_and_holds_no_secret(source: Path, capsys: Printed) -> None:
    assert main(["db", "url", f"store.path={source}"]) == 0
    said = capsys.readouterr()
    url = said.out.strip()
    psql = program("psql", "18")
    count = [psql, url, "--no-psqlrc", "-Atc", "select count(*) from tasks"]
    assert subprocess.check_output(count, text=True) == "9\n"
    secrets = [line.split(":")[-1] for line in (source / "passfile").read_text().splitlines()]
    assert secrets
    assert not any(secret in url for secret in secrets)
    assert "stops when its last user leaves" in said.err


def test_the_url_of_a_server_of_ones_own_asks_nobody(capsys: Printed) -> None:
    url = "postgresql+psycopg://me@nowhere.invalid:5433/lab?sslmode=verify-full"
    assert main(["db", "url", f"store.url='{url}'"]) == 0
    assert capsys.readouterr().out == (
        "postgresql://me@nowhere.invalid:5433/lab?sslmode=verify-full\n"
    )


def test_psql_runs_what_is_piped_into_it(source: Path) -> None:
    command = [sys.executable, "-m", "campaign", "db", "psql", f"store.path={source}"]
    said = subprocess.run(
        command, input="select 'tasks: ' || count(*) from tasks;", text=True, cwd=ROOT,
        capture_output=True, check=True,
    )  # fmt: skip
    assert "tasks: 9" in said.stdout


def test_upgrade_makes_a_store_of_an_empty_database(
    embedded_store: EmbeddedPostgres, place: Path, capsys: Printed
) -> None:
    there = f"store.path={place / 'store'}"
    assert main(["db", "upgrade", "--json", there]) == 0
    said = capsys.readouterr()
    assert "server_version" in json.loads(said.out)
    assert main(["query", "sessions", "--json", there]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "db what? one of url"),
        (["ur"], "did you mean url?"),
        (["dump"], "takes one FILE, not 0"),
        (["dump", "a", "b"], "takes one FILE, not 2"),
        (["url", "x"], "takes no further word"),
        (["restore", "/nonexistent"], "there is no dump /nonexistent"),
        (["dump", "/tmp/x", "store.path=/nonexistent"], "there is no store in /nonexistent"),
        (["url", "store.path=/nonexistent"], "there is no store in /nonexistent"),
        (["url", "store.url=postgresql://me:secret@h/d"], "password"),
        (["upgrade", "store.url=postgresql://h:port/d"], "store.url is no database URL"),
        (["upgrade", "store.url='postgresql://127.0.0.1/d?ssl_mode=require'"], 'option "ssl_mode"'),
    ],
)
def test_a_bad_word_is_one_line_and_exit_2(words: list[str], said: str, capsys: Printed) -> None:
    line = refusal(capsys, *words)
    assert said in line
    assert "secret" not in line


def test_a_dump_needs_a_folder(source: Path, capsys: Printed) -> None:
    here = f"store.path={source}"
    assert "is no folder" in refusal(capsys, "dump", "/nonexistent/folder/a.dump", here)


def test_a_program_older_than_the_server_is_refused() -> None:
    with pytest.raises(ConfigError, match="postgresql-client-99"):
        program("pg_dump", "99.1")


def test_a_url_for_libpq_names_the_same_place() -> None:
    assert libpq_url("postgresql+psycopg://me@h:5/d?sslmode=require") == (
        "postgresql://me@h:5/d?sslmode=require"
    )
    file = "/home/zoe/my data+1/passfile"
    url = f"postgresql+psycopg://me@/d?{urlencode({'passfile': file})}"
    assert conninfo_to_dict(libpq_url(url))["passfile"] == file


def test_an_embedded_store_is_known_by_its_folder_wherever_its_socket_is() -> None:
    """A long path, or one with a space, has its socket in a private folder below /tmp."""
    words = {"host": "/tmp/campaign-1o14dsuu", "passfile": "/home/zoe/my data/store/passfile"}
    assert known_as(f"postgresql+psycopg://me@/d?{urlencode(words)}") == (
        "in /home/zoe/my data/store"
    )
