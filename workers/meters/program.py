"""Another program: found, started with our terminal and streams, and waited for.

It owns signals and exit codes while that program runs. It never touches what the program reads
or writes, and never ends it on its own account.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from db.errors import ConfigError

#: Signals that are the program's business while it runs.
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
#: A signal that another process sent to us may have gone to our whole group. The program gets it
#: from us if it is still there after this time: twice would mean something else to many.
GRACE_S = 0.5
#: Python ignores these for itself; a program expects them as they are by default.
DEFAULTED = (signal.SIGPIPE, signal.SIGXFSZ)
LONG_S = 3600.0
BY_SIGNAL = 128

Mask = set[signal.Signals | int]


class NoSuchCommand(ConfigError):
    """The command is not there; the exit code is the one that shells use."""

    exit_code = 127


class NotExecutable(ConfigError):
    """The command is there and cannot be executed; the exit code is the one that shells use."""

    exit_code = 126


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """When a program ran, CLOCK_MONOTONIC nanoseconds, and its exit code as shells write it."""

    started_ns: int
    ended_ns: int
    exit_code: int


def find(command: str) -> str:
    """Return the path of a command. Raises NoSuchCommand or NotExecutable."""
    path = shutil.which(command)
    if path is not None:
        return path
    there = shutil.which(command, mode=os.F_OK)
    if there is not None or (command and Path(command).is_dir()):  # Path("") is this folder
        raise NotExecutable(f"{command}: not executable: chmod +x it, or name its interpreter")
    raise NoSuchCommand(f"{command}: no such command: it is neither a path nor on PATH")


@contextmanager
def signals_held() -> Iterator[Mask]:
    """Hold the signals that would end us, so that `run` and `pause` can take them in order.

    Yields the mask from before. What comes in the meantime and nobody takes has been answered.
    """
    ignored = {s for s in PASSED_ON if signal.getsignal(s) is signal.SIG_IGN}
    held = {*PASSED_ON, signal.SIGCHLD} - ignored
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield before
    finally:
        while signal.sigtimedwait(held, 0.0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def shielded() -> Iterator[None]:
    """Keep whoever is started meanwhile from ending by a signal to the whole group."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(PASSED_ON[1:]))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run(path: str, arguments: Sequence[str], mask: Mask) -> Ran:
    """Run a program to its end, inside `signals_held`; `mask` is what that yielded.

    Raises NoSuchCommand or NotExecutable if the system refuses to start it, KeyboardInterrupt if
    a signal came before it could get it.
    """
    if signal.sigtimedwait(PASSED_ON, 0.0):
        raise KeyboardInterrupt
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an inherited "ignore" would hide its end
    started_ns = time.monotonic_ns()
    try:
        pid = os.posix_spawn(path, list(arguments), os.environ, setsigmask=mask,
                             setsigdef=DEFAULTED)  # fmt: skip
    except OSError as error:
        kind = NoSuchCommand if error.errno == errno.ENOENT else NotExecutable
        raise kind(f"{path}: {error.strerror}: is its first line a #! with an interpreter "
                   "that exists?") from error  # fmt: skip
    status = _wait(pid)
    ended_ns = time.monotonic_ns()
    code = os.waitstatus_to_exitcode(status)
    return Ran(started_ns=started_ns, ended_ns=ended_ns,
               exit_code=BY_SIGNAL - code if code < 0 else code)  # fmt: skip


def _wait(pid: int) -> int:
    """Return the status a program ends with; signals to us alone are passed on to it."""
    held = {*PASSED_ON, signal.SIGCHLD}
    owed: int | None = None
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        came = signal.sigtimedwait(held, LONG_S if owed is None else GRACE_S)
        if came is None and owed is not None:
            os.kill(pid, owed)
            owed = None
        # A positive code is the kernel's: the terminal's own signals reach the program as well.
        elif came is not None and came.si_signo in PASSED_ON and came.si_code <= 0:
            owed = came.si_signo


def pause(until_ns: int) -> int | None:
    """Wait for an instant, inside `signals_held`; returns the signal that came before it."""
    while (left_s := (until_ns - time.monotonic_ns()) / 1e9) > 0:
        came = signal.sigtimedwait(PASSED_ON, min(left_s, LONG_S))
        if came is not None:
            return came.si_signo
    return None
