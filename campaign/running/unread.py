"""Standard streams that nobody reads any more: what is said there goes nowhere, and ends no run."""

from __future__ import annotations

import os
import select
from pathlib import Path


def let_go() -> None:
    """Put /dev/null where stdout or stderr is a terminal that was closed, or a pipe unread."""
    for number in (1, 2):
        asked = select.poll()
        asked.register(number, 0)
        gone = select.POLLERR | select.POLLHUP | select.POLLNVAL
        if any(events & gone for _, events in asked.poll(0)):
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), number)
