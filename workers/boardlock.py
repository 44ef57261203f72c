"""One measuring session per board, host-wide: an OS lock per GPU UUID, and one for the CPU board.

Two drivers on one host are handed the same GPU by their own Rays; whoever holds the lock
measures, the other waits or goes elsewhere. The kernel frees the lock of a killed process.

The files are every user's, and lie where a cleaner takes away what is old: a lock on a file that
is no longer there locks nobody out. Never follows a link, never changes the mode of a file that
it did not make.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from db.errors import NodeUnfit

#: The list of locks that the kernel keeps.
LOCKS = Path("/proc/locks")
#: Fields of a line there.
PID, INODE = 4, 5
#: Not TMPDIR, which is another one for each user or job of some hosts.
FOLDER = "/tmp/campaign-locks"  # noqa: S108 - every user's sessions meet here
#: A file that somebody put there is neither followed nor waited for.
FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def lock_folder() -> Path:
    """Return the folder of the locks, shared by all users of the host."""
    named = os.environ.get("CAMPAIGN_LOCKS")
    folder = Path(named).resolve() if named else Path(FOLDER)
    try:
        folder.mkdir(parents=True)
        folder.chmod(0o1777)  # we made it
    except FileExistsError:
        return folder
    except OSError as error:
        raise _unusable(folder, error) from error
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
        path = self._folder
        try:
            taken = not self._boards or self._shelter()
            for path in map(self._path, self._boards):
                taken = taken and self._take(path)
        except OSError as error:
            self.release()
            raise _unusable(path, error) from error
        if not taken:
            self.release()
        return taken

    def release(self) -> None:
        """Give every lock back; safe to call twice."""
        while self._held:
            os.close(self._held.pop())

    def _path(self, board: str) -> Path:
        return self._folder / f"{hashlib.sha256(board.encode()).hexdigest()[:32]}.lock"

    def _shelter(self) -> bool:
        """Lock the folder, with others: systemd-tmpfiles then takes nothing away in it."""
        self._held.append(os.open(self._folder, FLAGS | os.O_DIRECTORY))
        return _locked(self._held[-1], fcntl.LOCK_SH)

    def _take(self, path: Path) -> bool:
        """Lock a file that is still there once it is locked; returns whether it could be."""
        while True:
            self._held.append(_opened(path))
            if not _locked(self._held[-1], fcntl.LOCK_EX):
                return False
            with suppress(PermissionError):  # another user's, of an older version
                os.utime(self._held[-1])  # to a cleaner that goes by age alone it is new
            if _is_at(path, self._held[-1]):
                return True
            os.close(self._held.pop())


def _opened(path: Path) -> int:
    """Open a lock, or make it, at once with the mode that lets every user open it."""
    with suppress(FileNotFoundError):
        return os.open(path, FLAGS)
    made, draft = tempfile.mkstemp(dir=path.parent)
    try:
        os.fchmod(made, 0o666)  # whatever the umask: it holds nothing
        with suppress(FileExistsError):  # somebody else's was faster
            os.link(draft, path)
    finally:
        os.close(made)
        Path(draft).unlink()
    return os.open(path, FLAGS)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether this is the file that others find there."""
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _unusable(path: Path, error: OSError) -> NodeUnfit:
    return NodeUnfit(
        f"the board lock {path} cannot be used ({error.strerror}): every user of this host is to "
        "reach the same one. Its owner or root gives the folder mode 1777 and the file 0666, or "
        "removes both while nobody measures; with a CAMPAIGN_LOCKS that others do not have, two "
        "would measure on one board"
    )
