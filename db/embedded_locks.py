"""The three locks of a store folder. The kernel gives each back when its process dies.

- `control`, exclusive, around every start and stop: two processes never do either at once;
- `holders`, shared, while a process uses the store: who can take it alone is the last;
- `server`, inherited by every process of the server: it is free when none of them lives. That
  is the proof no pid can give: a zombie holds no lock, and a reused pid does not hold this one.

Never waits without a deadline, never removes a lock file.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from db.embedded_user import Account
from db.errors import StoreUnavailable


class Locks:
    """The locks of one store, as one process sees them."""

    def __init__(self, folder: Path, account: Account) -> None:
        """Name the folder and the user its files belong to."""
        self.folder = folder
        self.account = account
        self._holders: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process holds the store."""
        return self._holders is not None

    @contextmanager
    def control(self, patience_s: float) -> Iterator[None]:
        """Be the only one who starts or stops. StoreUnavailable after `patience_s`."""
        descriptor = self.account.open(self.folder / "control")
        try:
            for _ in pauses(patience_s):
                if _take(descriptor, fcntl.LOCK_EX):
                    break
            else:
                raise StoreUnavailable(
                    f"another process has been starting or stopping the server in "
                    f"{self.folder} for {patience_s:.0f} s: run again"
                )
            yield
        finally:
            os.close(descriptor)

    def hold(self) -> None:
        """Be a holder. Called under `control`, where nobody can be taking it alone."""
        self._holders = self.account.open(self.folder / "holders")
        fcntl.flock(self._holders, fcntl.LOCK_SH)

    def last(self) -> bool:
        """Whether nobody else holds the store. Called under `control`, and before `let_go`."""
        return self._holders is not None and _take(self._holders, fcntl.LOCK_EX)

    def let_go(self) -> None:
        """Be a holder no longer."""
        if self._holders is not None:
            fcntl.flock(self._holders, fcntl.LOCK_UN)  # in a child forked meanwhile, too
            os.close(self._holders)
            self._holders = None

    def claim(self) -> int | None:
        """Take `server`, for the server to inherit; None while one of its processes lives.

        Closing the descriptor gives it back, unless a program that inherited it is running.
        """
        token = self.account.open(self.folder / "server")
        if _take(token, fcntl.LOCK_EX):
            return token
        os.close(token)
        return None

    def server_lives(self) -> bool:
        """Whether any process of a server that we started is left."""
        token = self.claim()
        if token is not None:
            os.close(token)
        return token is None


def pauses(patience_s: float) -> Iterator[None]:
    """Yield at once and after each of ever longer pauses (10 ms to 0.25 s), until patience ends.

    Longer, because a server that is recovering starts a process and writes a line for each ask.
    """
    deadline, pause_s = time.monotonic() + patience_s, 0.01
    yield
    while (left_s := deadline - time.monotonic()) > 0:
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.3, 0.25)
        yield


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
