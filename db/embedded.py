"""A real Postgres of our own, for one host: started by whoever comes first, stopped by the last.

Owns the server's life; its neighbours own the locks, the signs of life, the data folder, the
places and the OS user. Never believes a pid file, never signals a process that is not proven
ours, never deletes data.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import copy
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from db.embedded_data import OWNER, READER, Data, failure, was_killed
from db.embedded_life import Answer, answer, greet, postmasters, url
from db.embedded_locks import Locks, pauses
from db.embedded_place import (
    SOCKET_FILE,
    default_folder,
    make_socket_folder,
    make_store,
    programs,
    remove_socket_folder,
)
from db.embedded_user import Account, account_for
from db.errors import ConfigError, StoreUnavailable

__all__ = ["EmbeddedPostgres", "default_folder"]

log = logging.getLogger(__name__)

#: The longest that `ensure` waits for a start or a recovery, seconds.
ENSURE_S = 15.0
LOG_BYTES = 1 << 20  # a longer log is put aside at the next start


class EmbeddedPostgres:
    """The Postgres in one store folder, held from `acquire` to `release`.

    `patience_s` is how long a start, a recovery or a stop may take, ours or another process's.
    """

    def __init__(self, folder: Path, *, patience_s: float = 120.0) -> None:
        """Name the store; nothing is touched before `acquire`."""
        self.folder = folder.expanduser().resolve()
        self.patience_s = patience_s

    def __enter__(self) -> Self:
        """Acquire."""
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release."""
        self.release()

    def acquire(self) -> None:
        """Hold the store and see it answer: created if absent, started if no server lives.

        Repeating it changes nothing. ConfigError, or StoreUnavailable where a retry helps.
        """
        with self._explained():
            if not self._locks.held:
                make_store(self.folder, self._account)
            with self._locks.control(self.patience_s):
                if self._locks.held:
                    self._serve(may_create=False)
                else:
                    self._hold()

    def ensure(self) -> None:
        """Start the server again if it crashed; safe in several processes and threads at once.

        Whoever asks comes back, and may have to stop or to beat meanwhile: nobody is held long.
        """
        if not self._locks.held or answer(self.folder) is not Answer.READY:
            brief = copy(self)  # of the same locks, which were looked at above
            brief.patience_s = min(self.patience_s, ENSURE_S)
            brief.acquire()

    def release(self) -> None:
        """Let go of the store; the last holder stops the server. Nothing happens if not held."""
        if not self._locks.held:
            return
        if not self.folder.exists():  # somebody deleted it: its server notices within a minute
            self._locks.let_go()
            return
        with self._explained(), self._locks.control(self.patience_s):
            self._leave()

    def owner_url(self) -> str:
        """Return the SQLAlchemy URL of the tables' owner; the secret is in the file it names."""
        return url(self.folder, OWNER)

    def reader_url(self) -> str:
        """Return the SQLAlchemy URL of a login that may only read what it was granted."""
        return url(self.folder, READER)

    # ---- under `control` --------------------------------------------------------------------

    def _hold(self) -> None:
        self._locks.hold()
        try:
            self._serve(may_create=True)
        except StoreUnavailable:  # a server that is still recovering may go on
            self._locks.let_go()
            raise
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        try:
            if self._locks.last():
                self._stop()
        finally:
            self._locks.let_go()

    def _serve(self, *, may_create: bool) -> None:
        if not self._settle():
            start = self._start(may_create=may_create)
            if not self._settle():
                said = (self.folder / "server.log").read_bytes()[start:].decode(errors="replace")
                if was_killed(said):
                    raise StoreUnavailable(f"the server in {self.folder} was killed: run again")
                raise failure(self.folder, said, "does not start")
            log.info("store_started", extra={"folder": str(self.folder)})
        greet(self.folder)

    def _settle(self) -> bool:
        """Wait until a server answers (True) or no process of one is left (False)."""
        for _ in pauses(self.patience_s):
            said = answer(self.folder)
            if said is Answer.READY:
                return True
            if said is Answer.NONE and not self._locks.server_lives():
                return False
        pids = [process.pid for process in postmasters(self.folder / "data")]
        raise StoreUnavailable(
            f"the server in {self.folder} (process {pids}) has not answered for "
            f"{self.patience_s:.0f} s, see {self.folder / 'server.log'}: run again if it is "
            "recovering, stop it with SIGINT if it is stuck"
        )

    def _start(self, *, may_create: bool) -> int:
        """Launch the server, on new data if there is none; return where its words begin."""
        token = self._locks.claim()
        if token is None:
            raise StoreUnavailable(f"a server has just started in {self.folder}: run again")
        try:
            tools = programs(self.folder, self._account)
            data = Data(store=self.folder, account=self._account, programs=tools)
            if not data.path.exists():
                if not may_create:
                    raise ConfigError(f"{data.path} has vanished while it was in use")
                data.create(token)
            self._clear_remains(data.path)
            data.check(token)
            return self._launch(data, token)
        finally:
            os.close(token)  # not unlocked: from here on the server's processes hold it

    def _launch(self, data: Data, token: int) -> int:
        written = self.folder / "server.log"
        if written.exists() and written.stat().st_size > LOG_BYTES:
            written.replace(self.folder / "server.log.1")
        socket_folder = make_socket_folder(self.folder, self._account)
        for name in (SOCKET_FILE, f"{SOCKET_FILE}.lock"):
            (socket_folder / name).unlink(missing_ok=True)
        output = self._account.open(written, os.O_APPEND)
        try:
            start = os.fstat(output).st_size
            self._account.launch(data.command(socket_folder), log=output, keep=token)
        finally:
            os.close(output)
        return start

    def _clear_remains(self, data: Path) -> None:
        """Remove the pid file of a dead server: Postgres would believe a zombie or a reused pid.

        None of ours lives, as we have `server`; one that somebody else started is looked for.
        """
        remains = data / "postmaster.pid"
        if not remains.exists():
            return
        for stranger in postmasters(data):
            raise StoreUnavailable(
                f"process {stranger.pid}, a Postgres that campaign did not start, uses {data}: "
                "stop it, then run again"
            )
        remains.unlink()

    def _stop(self) -> None:
        """Ask for a fast shutdown and wait for the last process to go."""
        for process in postmasters(self.folder / "data"):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGINT)  # psutil refuses a pid that was reused
        for _ in pauses(self.patience_s):
            if not self._locks.server_lives():
                remove_socket_folder(self.folder)
                log.info("store_stopped", extra={"folder": str(self.folder)})
                return
        log.warning("store_still_stopping", extra={"folder": str(self.folder)})

    # ---- who and where ----------------------------------------------------------------------

    @cached_property
    def _account(self) -> Account:
        return account_for(self.folder)

    @cached_property
    def _locks(self) -> Locks:
        return Locks(self.folder, self._account)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Translate what the file system and the programs refuse."""
        try:
            yield
        except subprocess.CalledProcessError as error:
            raise failure(self.folder, error.output or "", f"cannot run {error.cmd[0]}") from error
        except OSError as error:
            where = error.filename or self.folder
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreUnavailable(f"no space left for {where}: free some") from error
            raise ConfigError(
                f"the embedded store cannot use {where} ({error.strerror}): set CAMPAIGN_HOME "
                "to a folder you may write, on a local disk"
            ) from error
