"""Ends a session's processes when the session's own has died, or has outlived its deadline.

An engine starts processes that nobody ends when their parent is killed, and an engine that holds
Python's lock cannot be ended from within. So each session has a guard: a process that is nobody's
child, asleep until the kernel says that the session's process, or the keeper that started it, is
gone, or the deadline has passed, and which then kills the session's process group; of a deadline it
says so on the session's stderr. It is on the session's own host, and so it works whether the actor,
its node's Ray or the driver died.

Run by its path, with the standard library only: it starts in milliseconds and weighs little. It
never kills a group whose number was given to somebody else.
"""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

#: How often a host without process descriptors is asked whether the session's process lives.
POLL_S = 0.5
#: What it says of a session that is late.
LATE = (
    "ended by its guard: it took longer than it may (store.task_deadline_s) for a task, for "
    "fetching weights or for a load, and did not end itself"
)
#: Deadlines that are no further apart are one.
NEAR_S = 1.0


class Guard:
    """The session's end: starts the guard of the calling process, and sets its deadline."""

    def __init__(self, keeper: int = 0) -> None:
        """Start it; the caller leads its process group, and is to end with the process `keeper`."""
        read, self._write = os.pipe()
        self._ends_s = -math.inf
        try:
            # What starts is left at once by the guard itself, so the call returns.
            subprocess.run(
                [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(read),
                 str(keeper)],
                check=True, pass_fds=(read,), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
        finally:
            os.close(read)

    def allow(self, seconds: float) -> None:
        """Let the session go on for that long from now, to a second; replaces what was allowed."""
        ends_s = time.monotonic() + seconds
        if abs(ends_s - self._ends_s) > NEAR_S:  # the guard is not woken for less
            self._ends_s = ends_s
            os.write(self._write, f"{ends_s!r}\n".encode())


def watch(leader: int, orders: int, keeper: int) -> None:
    """Sleep until the leader of a process group or its keeper is gone, or late; kill the group.

    `orders` is a pipe that brings deadlines, seconds of CLOCK_MONOTONIC, a line each. Without a
    keeper that is 0.
    """
    started = {pid: start_of(pid) for pid in (leader, keeper) if pid}
    poll = select.poll()
    poll.register(orders, select.POLLIN)
    ends = [_descriptor(pid) for pid in started]
    for end in ends:
        if end is not None:
            poll.register(end, select.POLLIN)
    deadline_s, text = float("inf"), b""
    while _live(started) and time.monotonic() < deadline_s:
        left_s = deadline_s - time.monotonic()
        for descriptor, _ in poll.poll(_pause_ms(left_s, known=None not in ends)):
            if descriptor != orders:
                continue
            read = os.read(orders, 1 << 12)
            if not read:  # only the end of the leader, and of all who share its pipe, closes it
                poll.unregister(orders)
            text += read
            *lines, text = text.split(b"\n")
            deadline_s = float(lines[-1]) if lines else deadline_s
    # With another start the number belongs to somebody else by now.
    if start_of(leader) in (started[leader], None):
        if _live(started):
            print(LATE, file=sys.stderr, flush=True)
        try:
            os.killpg(leader, signal.SIGKILL)
        except ProcessLookupError:
            return


def _live(started: Mapping[int, str | None]) -> bool:
    """Whether all of these are the processes they were."""
    return all(start is not None and start_of(pid) == start for pid, start in started.items())


def start_of(pid: int) -> str | None:
    """Return what tells a process from a later one of the same number; None if it has ended."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):  # the second: it ended as it was looked at
        return None if Path("/proc/self/stat").exists() else _alive(pid)
    return None if after_name[0] == "Z" else after_name[19]


def _alive(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    return "alive"


def _descriptor(pid: int) -> int | None:
    """Return a descriptor that is readable once the process has ended, where there are such."""
    opener = getattr(os, "pidfd_open", None)
    try:
        return None if opener is None else int(opener(pid))
    except OSError:  # gone already, or forbidden in this container
        return None


def _pause_ms(left_s: float, *, known: bool) -> float | None:
    """Return how long to sleep: until something happens, if the kernel will say so."""
    longest_s = left_s if known else min(left_s, POLL_S)
    return None if longest_s == float("inf") else max(longest_s, 0.0) * 1e3 + 1


if __name__ == "__main__":
    if os.fork() == 0:  # nobody's child: who ends the leader's children leaves it
        os.setsid()
        watch(*map(int, sys.argv[1:]))
    os._exit(0)
