"""What a Postgres of our own keeps: its data folder, its settings, its roles and passwords.

A data folder is made aside and renamed when complete, so one that exists was made whole. Never
deletes, repairs or upgrades a data folder; passwords appear in the passfile alone.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from db.embedded_user import Account
from db.errors import CampaignError, ConfigError, StoreUnavailable

DATABASE, OWNER, READER = "campaign", "campaign", "campaign_reader"
ROLES_SQL = Path(__file__).with_name("embedded.sql")
HBA = f"local {DATABASE} {OWNER},{READER} scram-sha-256\n"  # everybody else is rejected
SEGMENT_BYTES = 4 << 20  # one file of write-ahead log; a server needs room for the next

SETTINGS = {
    "listen_addresses": "",  # one host, one socket
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Durable, and small: rows are few, power traces are arrays of some kilobytes.
    "fsync": "on",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "huge_pages": "off",
    # Quiet beside a measurement: one core per query, no helper processes, and those that must
    # exist wake up when there is work. Nothing needs the background writer at this size, and
    # every commit is flushed by its own session, so the two writers have no deadline to keep.
    "jit": "off",
    "io_method": "sync",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "max_logical_replication_workers": "0",
    "bgwriter_lru_maxpages": "0",
    "bgwriter_delay": "10s",
    "wal_writer_delay": "10s",
    "checkpoint_timeout": "30min",
    "autovacuum_naptime": "5min",
    # The log tells what the server did. What a statement did wrong is told to its client, and a
    # log that repeated it would have no bound.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The data folder of a store, the user it belongs to and the programs that serve it."""

    store: Path
    account: Account
    programs: Path

    @property
    def path(self) -> Path:
        """The folder Postgres calls PGDATA."""
        return self.store / "data"

    def command(self, socket_folder: Path) -> list[str | Path]:
        """Return the command line of the server; it holds no secret."""
        settings = SETTINGS | {"unix_socket_directories": str(socket_folder)}
        flags = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [self.programs / "postgres", "-D", self.path, *flags]

    def create(self, token: int) -> None:
        """Make the data folder, its roles and its passwords; the programs inherit `token`."""
        partial = self.store / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed in here
        partial.mkdir(mode=0o700)
        self.account.own(partial)
        try:
            self.account.run([self.programs / "initdb", *_initdb(partial)], keep=(token,))
            self._single(partial, ROLES_SQL.read_text(encoding="utf-8"), token)
            self._write(partial / "pg_hba.conf", HBA)
            self._set_passwords(partial, token)
            partial.rename(self.path)
        except subprocess.CalledProcessError as error:
            raise failure(self.store, error.stdout, "cannot be created") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def check(self, token: int) -> None:
        """Raise ConfigError unless these programs can serve the folder; renew a lost passfile."""
        for name in ("PG_VERSION", "global/pg_control"):
            if not (self.path / name).is_file():
                raise failure(self.store, f"{self.path / name} is missing", "is damaged")
        found = (self.path / "PG_VERSION").read_text(encoding="utf-8", errors="replace").strip()
        said = self.account.run([self.programs / "postgres", "--version"])
        ours = re.sub(r".*\) (\d+).*", r"\1", said.strip())
        if found != ours:
            raise ConfigError(
                f"the data in {self.path} is of Postgres {found[:8]!r}, installed is Postgres "
                f"{ours}: dump it with the old version (`campaign db dump`), move {self.path} "
                "away, then `campaign db restore`"
            )
        if not passfile(self.store).exists():
            try:
                self._set_passwords(self.path, token)
            except subprocess.CalledProcessError as error:
                raise failure(self.store, error.stdout, "does not start") from None

    def _single(self, path: Path, sql: str, token: int) -> None:
        flags = ["--single", "-j", "-c", "exit_on_error=on", "-c", "log_checkpoints=off"]
        argv: list[str | Path] = [self.programs / "postgres", *flags, "-D", path, "template1"]
        self.account.run(argv, text=sql, keep=(token,))

    def _set_passwords(self, path: Path, token: int) -> None:
        passwords = {role: secrets.token_urlsafe(24) for role in (OWNER, READER)}
        roles = passwords.items()
        self._single(path, "".join(f"ALTER ROLE {r} PASSWORD '{p}';\n\n" for r, p in roles), token)
        entries = (f"*:*:{DATABASE}:{role}:{password}\n" for role, password in roles)
        self._write(passfile(self.store), "".join(entries))

    def _write(self, path: Path, text: str) -> None:
        """Write a file whole or not at all, 0600, and see it on disk."""
        partial = path.with_name(path.name + ".partial")
        partial.unlink(missing_ok=True)
        with os.fdopen(self.account.open(partial, os.O_EXCL), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


def passfile(store: Path) -> Path:
    """Return the file of the two passwords, in libpq's format, 0600."""
    return store / "passfile"


def failure(store: Path, output: str, what: str) -> CampaignError:
    """Return the error that Postgres's own words mean: its last complaint, in one line.

    A full disk is StoreUnavailable. It may have kept the words out of the log as well: then the
    free space speaks.
    """
    complaint = _complaint(output.splitlines())
    space = os.statvfs(store)
    full = space.f_bavail * space.f_frsize < SEGMENT_BYTES
    lack = [line.strip() for line in output.splitlines() if "No space left" in line]
    complaint = lack[-1] if lack else complaint  # what failed after it is not the cause
    if lack or (not complaint and full):
        return StoreUnavailable(
            f"no space left for the embedded store in {store}: free some, then run again "
            f"({complaint or 'the log could not be written'})"
        )
    return ConfigError(
        f"the embedded store in {store} {what}: {complaint or 'no reason in its log'}; nothing "
        f"was deleted, its log is {store / 'server.log'}: move {store} away to begin with an "
        "empty one, then `campaign db restore` a dump"
    )


def was_killed(output: str) -> bool:
    """Whether a server that began went without a word of its own: somebody killed it.

    What it tells clients while it starts is none.
    """
    words = [line for line in output.splitlines() if "FATAL:  the database system is" not in line]
    spoke = any(last in line for line in words for last in ("PANIC:", "FATAL:", "is shut down"))
    return any("starting PostgreSQL" in line for line in words) and not spoke


def _complaint(lines: Iterable[str]) -> str:
    said = [line.strip() for line in lines if line.strip()]
    for marker in ("PANIC:", "FATAL:", "error:"):
        # "the database system is starting up" was told to a client that came too early.
        found = [s for s in said if marker in s and "the database system is" not in s]
        if found:
            return found[-1].split(marker, 1)[1].strip()
    return said[-1] if said else ""


def _initdb(path: Path) -> list[str | Path]:
    return [
        *("-D", path, "-U", "postgres", "--auth=reject", "--no-instructions"),
        *("--encoding=UTF8", "--locale=C"),
        *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        f"--wal-segsize={SEGMENT_BYTES >> 20}",
    ]
