"""Looking at processes from outside."""

from __future__ import annotations

import time
from pathlib import Path


def gone(pid: int, deadline_s: float = 20.0) -> bool:
    """Whether a process ends before the deadline; a zombie nobody reaped has ended."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False
