"""A Postgres with a superuser's login, as a server of one's own has it, and stores on it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
import pytest

from db import schema
from db.embedded_place import make_socket_folder, make_store, programs
from db.embedded_user import account_for
from db.store import Store

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
ROLES = (DEPLOY / "roles.sql").read_text()


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running Postgres whose local logins need no password."""

    programs: Path
    socket: Path

    def url(self, role: str, database: str) -> str:
        return f"postgresql+psycopg://{role}@/{database}?host={self.socket}"

    @contextmanager
    def login(self, role: str, database: str) -> Iterator[psycopg.Connection]:
        """A connection on which every statement is a transaction of its own."""
        with psycopg.connect(
            host=str(self.socket), user=role, dbname=database, autocommit=True
        ) as connection:
            yield connection

    def run(self, sql: str, database: str) -> None:
        """Run a script as the superuser."""
        with self.login("postgres", database) as connection:
            connection.execute(sql)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="campaign-deploy-")).resolve()
    folder.chmod(0o755)
    account = account_for(folder / "store")
    make_store(folder / "store", account)
    binaries = programs(folder / "store", account)
    socket = make_socket_folder(folder / "store", account)
    data, log = folder / "store" / "data", folder / "store" / "log"
    options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
    account.run([binaries / "initdb", "-D", data, *options])
    flags = f"-c listen_addresses='' -c unix_socket_directories={socket} -c fsync=off"
    control = [binaries / "pg_ctl", "-D", data, "-w"]
    account.run([*control, "-l", log, "-o", flags, "start"])
    try:
        yield Server(programs=binaries, socket=socket)
    finally:
        account.run([*control, "-m", "immediate", "stop"])
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def prepared(server: Server) -> str:
    """A store made as docs/cluster.md says: the roles, the owner's upgrade, the roles again."""
    server.run("create database prepared", "postgres")
    server.run(ROLES, "prepared")
    store = Store(server.url("campaign", "prepared"))
    schema.upgrade(store)
    store.close()
    server.run(ROLES, "prepared")
    return "prepared"


@pytest.fixture(scope="session")
def stores(server: Server, prepared: str) -> Callable[..., AbstractContextManager[str]]:
    """A function that makes a store of its caller's own, with the rights of a roles script."""
    numbers = count()

    @contextmanager
    def make(roles: str = ROLES) -> Iterator[str]:
        name = f"store_{next(numbers)}"
        server.run(f"create database {name} template {prepared}", "postgres")
        server.run(roles, name)
        yield name
        server.run(f"drop database {name} with (force)", "postgres")

    return make


@pytest.fixture
def database(stores: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    """A store of the test's own."""
    with stores() as name:
        yield name
