"""What a session's process prints: sent to a file of its own, whose end is kept with failures."""

from __future__ import annotations

import os
import stat
from pathlib import Path

#: How much of the end is kept.
TAIL_BYTES = 16 * 1024
#: How much of the end is read for the cause of a failure: several tracebacks, each logged twice.
PRINTED_BYTES = 1 << 20
#: This process's stderr, to be read.
_STDERR = Path("/proc/self/fd/2")


class Printed:
    """What this process and its children print on stderr from here on, where that is a file."""

    def __init__(self) -> None:
        """Begin where it ends now."""
        self._start = _size()

    @property
    def text(self) -> str:
        """What was printed so far; empty where stderr is no file, as of a terminal."""
        if not _size():
            return ""
        with _STDERR.open("rb") as stream:
            stream.seek(max(self._start, _size() - PRINTED_BYTES))
            return stream.read().decode(errors="replace")


def _size() -> int:
    """Return the bytes of the file that stderr is; 0 where it is none that can be read again."""
    found = os.fstat(2)
    return found.st_size if stat.S_ISREG(found.st_mode) and _STDERR.exists() else 0


def capture(path: str) -> None:
    """Send stdout and stderr of this process and of its children to a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def tail(path: str | None) -> str:
    """Return the last 16 KB of a transcript, ending a line; empty if nothing was captured."""
    if path is None:
        return ""
    with Path(path).open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - TAIL_BYTES))
        text = stream.read().decode(errors="replace")
    return text if not text or text.endswith("\n") else f"{text}\n"
