"""Ctrl-C, SIGTERM and SIGHUP while a campaign runs: what they ask for, and how long there is.

Owns these signals of the process while it listens. Decides nothing about a task.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from campaign.running.unread import let_go

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Counts signals: one asks to finish what is in work, a second to give it back at once.

    SIGTERM means that the machine is being taken away, and SIGHUP that the terminal was: after
    `grace_s` it counts as the second. `hurry` is set at the first.
    """

    def __init__(self, grace_s: float, hurry: threading.Event) -> None:
        """Nothing has come yet."""
        self._count = 0
        self._grace_s = grace_s
        self._ends_s = math.inf
        self._hurry = hurry

    @property
    def asked(self) -> bool:
        """Whether the run is to end after the tasks in work."""
        return self._count > 0

    @property
    def pressed(self) -> bool:
        """Whether the tasks in work are to be given back."""
        return self._count > 1 or time.monotonic() > self._ends_s

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Count the signals inside; whoever handled them before does so again afterwards.

        Under nohup SIGHUP is ignored, and stays so.
        """
        ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        heard = [one for one in SIGNALS if not (ignored and one == signal.SIGHUP)]
        before = {number: signal.signal(number, self._heard) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._count = max(self._count, 1)  # of one terminal both kernel and shell send it
            let_go()
        else:
            self._count += 1
        if number != signal.SIGINT:
            self._ends_s = min(self._ends_s, time.monotonic() + self._grace_s)
        self._hurry.set()
