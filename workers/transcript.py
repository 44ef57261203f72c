"""What a session's process prints: sent to a file of its own, whose end is kept with failures."""

from __future__ import annotations

import os
from pathlib import Path

#: How much of the end is kept.
TAIL_BYTES = 16 * 1024


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
