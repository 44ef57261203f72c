"""One measuring session per board, host-wide: an OS lock per GPU UUID, and one for the CPU board.

Two drivers on one host are handed the same GPU by their own Rays; whoever holds the lock
measures, the other waits or goes elsewhere. The kernel frees the lock of a killed process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from db.errors import NodeUnfit

#: The list of locks that the kernel keeps.
LOCKS = Path("/proc/locks")
#: Fields of a line there.
PID, INODE = 4, 5


def lock_folder() -> Path:
    """Return the folder of the locks, shared by all users of the host."""
    folder = Path(os.environ.get("CAMPAIGN_LOCKS", Path(tempfile.gettempdir()) / "campaign-locks"))
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)  # we made it; every user's sessions meet here
    return folder


def others_measure(folder: Path | None = None, locks: Path = LOCKS) -> bool:
    """Whether another process of this host holds a board: its CPU energy is not ours alone.

    Asks the kernel's list of locks, which takes none itself; processes of another process
    namespace are not in it, and without that list (not Linux) the answer is no.
    """
    boards = {path.stat().st_ino for path in (folder or lock_folder()).glob("*.lock")}
    try:
        lines = [line.split() for line in locks.read_text().splitlines()]
    except OSError:
        return False
    # 1: FLOCK ADVISORY WRITE <pid> <device>:<inode> …; a layered file system's device differs.
    held = [line for line in lines if len(line) > INODE and line[1] == "FLOCK"]
    return any(
        line[PID] != str(os.getpid()) and int(line[INODE].rpartition(":")[2]) in boards
        for line in held
    )


class BoardLock:
    """Locks on all boards of a group, taken in one order, held until `release` or exit."""

    def __init__(self, boards: Sequence[str], folder: Path | None = None) -> None:
        """Name the boards (GPU UUIDs, or a `cpu:` slug); nothing is locked yet."""
        self._boards = sorted(boards)
        self._folder = folder or lock_folder()
        self._held: list[int] = []

    def acquire(self) -> bool:
        """Try to lock every board now; returns whether all are ours, holding none otherwise."""
        if self._held:
            return True
        for board in self._boards:
            descriptor = self._open(board)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                self.release()
                return False
            self._held.append(descriptor)
        return True

    def release(self) -> None:
        """Give every lock back; safe to call twice."""
        while self._held:
            os.close(self._held.pop())

    def _open(self, board: str) -> int:
        path = self._folder / f"{hashlib.sha256(board.encode()).hexdigest()[:32]}.lock"
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            try:
                return os.open(path, flags)
            except FileNotFoundError:
                return os.open(path, flags | os.O_CREAT, 0o644)
        except OSError as error:
            raise NodeUnfit(
                f"the board lock {path} cannot be opened ({error.strerror}): "
                "set CAMPAIGN_LOCKS to a folder every user of this host can write"
            ) from error
