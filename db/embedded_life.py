"""Whether the Postgres of a store is there: what its socket answers, which processes it has.

Alive means that a connection answers. Never reads a pid from a file: a process is ours when it
runs `postgres` in our data folder.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from urllib.parse import urlencode

import psutil
import psycopg
from psycopg import conninfo, pq

from db.embedded_data import DATABASE, OWNER, failure, passfile
from db.errors import CampaignError, ConfigError, StoreUnavailable

PORT = 5432  # names the socket; nothing listens on it


class Answer(StrEnum):
    """What the socket says."""

    READY = "ready"  # it takes connections
    NOT_YET = "not_yet"  # it is starting, recovering or shutting down
    NONE = "none"  # nobody listens, or nobody answers within two seconds


def answer(store: Path) -> Answer:
    """Ask the server whether it takes connections, without logging in."""
    asked = conninfo.make_conninfo(
        host=str(_socket_folder(store)), port=PORT, user=OWNER, dbname=DATABASE, connect_timeout=2
    )
    said = pq.Ping(pq.PGconn.ping(asked.encode()))
    return {pq.Ping.OK: Answer.READY, pq.Ping.REJECT: Answer.NOT_YET}.get(said, Answer.NONE)


def greet(store: Path) -> None:
    """Log in as the owner once. A server without a free connection is alive as well."""
    try:
        psycopg.connect(
            host=str(_socket_folder(store)),
            port=PORT,
            user=OWNER,
            dbname=DATABASE,
            passfile=str(passfile(store)),
            connect_timeout=10,
        ).close()
    except psycopg.OperationalError as error:
        said = str(error).strip().splitlines()[-1]
        if "too many clients" not in said and "connection slots" not in said:
            raise unwelcome(store, said) from None


def unwelcome(store: Path, said: str) -> CampaignError:
    """Return what keeps the owner from logging in, by what the server says."""
    if "No space left" in said:
        return failure(store, said, "cannot be opened")
    if "password" in said:
        return ConfigError(
            f"the server in {store} does not accept the password in {passfile(store)}: put "
            "the right file back (mode 0600), or remove it while no campaign runs to have "
            "a new one made"
        )
    return StoreUnavailable(f"the server in {store} did not answer: {said}")


def url(store: Path, role: str) -> str:
    """Return the SQLAlchemy URL of a role; the secret stays in the file it names."""
    where = {"host": _socket_folder(store), "port": PORT, "passfile": passfile(store)}
    return f"postgresql+psycopg://{role}@/{DATABASE}?{urlencode(where)}"


def processes(data: Path) -> list[psutil.Process]:
    """Return the processes that run `postgres` in this data folder; zombies do nothing there."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.exe()).name == "postgres" and process.cwd() == str(data):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # gone, a zombie, or another user's
    return found


def postmasters(data: Path) -> list[psutil.Process]:
    """Return those of them that none of them started: one, or the orphans of a dead one."""
    found = processes(data)
    pids = {process.pid for process in found}
    heads = []
    for process in found:
        try:
            if process.ppid() not in pids:
                heads.append(process)
        except psutil.NoSuchProcess:
            continue
    return heads


def _socket_folder(store: Path) -> Path:
    return (store / "socket").resolve()
