"""Being there in time beside busy processes: what a sampler asks of the operating system.

It owns the process's priority and how long it sleeps. It never fails for what is not allowed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time

#: Ticks are seen in time by those that go first; this takes a privilege.
PRIORITY = -10
#: From linux/prctl.h. The slack of sleeps is 50 microseconds by default; this is its least, in
#: nanoseconds.
PR_SET_TIMERSLACK, SLACK_NS = 29, 1
#: Between looks, seconds. Who sleeps is woken in time; who spins has to wait for its turn.
NAP_S = 50e-6


def be_prompt() -> None:
    """Ask to run before others, and to be woken without slack."""
    with contextlib.suppress(PermissionError):  # it helps, but need not be allowed
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, SLACK_NS, 0, 0, 0)


def nap() -> None:
    """Leave the processor to others for a moment: who takes less than its share is woken first."""
    time.sleep(NAP_S)
