"""Which process this is, and which processes a signal to all of them leaves alone.

Others on its host can tell whether it still lives.

A pid alone is not enough: it is reused, and containers on one host have pids of their own. The
boot id, the process namespace and the start time make it unique.
"""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from db.results import Owner


def boot_id() -> str:
    """Return an id of this boot of this host and of the process namespace we are in."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return f"{platform.node()}/{psutil.boot_time():.0f}"


def this_process() -> Owner:
    """Return the owner record of the calling process."""
    pid = os.getpid()
    return Owner(host=platform.node(), boot=boot_id(), pid=pid, pid_started_s=_started_s(pid))


def is_alive(pid: int, pid_started_s: float) -> bool:
    """Whether the process of a pid on this host is the one that started then, and no zombie."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and _started_s(pid) == pid_started_s
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return False
    except psutil.AccessDenied:
        return True


@contextmanager
def sheltered() -> Iterator[None]:
    """Whatever is started inside is not ended by SIGTERM or SIGHUP, nor is what it starts.

    `timeout`, Slurm, systemd and a terminal that closes send the signal to a whole group of
    processes at once. Who knows what to do about it is the program; what it stands on must outlive
    its last words. Sent to this process meanwhile, the signal comes afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _started_s(pid: int) -> float:
    """Return when a process started, seconds since boot (Unix seconds where there is no /proc).

    Since boot, because Unix time can be stepped under a living process.
    """
    stat = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self/stat").exists():
        return psutil.Process(pid).create_time()
    after_name = stat.read_text().rpartition(")")[2].split()
    return int(after_name[19]) / os.sysconf("SC_CLK_TCK")
