"""The guard of a session: what its engine started ends with it, also where Python cannot act."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.nvml.processes import gone
from workers.guard import LATE, start_of

ROOT = Path(__file__).resolve().parents[2]
#: A leader with a child, both in a group of their own; then what the session does.
LEADER = """
import ctypes, os, subprocess, sys
os.setpgid(0, 0)
from workers.guard import Guard
guard = Guard()
child = subprocess.Popen(["sleep", "3600"])
print(child.pid, flush=True)
"""


def lead(*lines: str) -> tuple[subprocess.Popen[str], int]:
    """Start a leader that then does `lines`; returns it and its child's pid."""
    leader = subprocess.Popen(
        [sys.executable, "-c", "\n".join((LEADER, *lines))], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    return leader, int(leader.stdout.readline())


def end(leader: subprocess.Popen[str]) -> None:
    leader.communicate(timeout=30)


def test_a_leader_that_is_killed_takes_its_group_with_it():
    leader, child = lead("sys.stdin.read()")
    leader.kill()
    assert gone(child)
    end(leader)


def test_a_leader_that_ends_by_itself_takes_its_group_with_it():
    leader, child = lead("sys.stdin.readline()")
    end(leader)
    assert leader.returncode == 0
    assert gone(child)


def test_a_keeper_that_is_killed_takes_the_leader_and_its_group_with_it():
    keeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    leader, child = lead(f"Guard(keeper={keeper.pid})", "sys.stdin.read()")
    keeper.kill()
    keeper.communicate()
    assert leader.wait(timeout=30) == -9
    assert gone(child)
    end(leader)


@pytest.mark.parametrize("lock", ["PyDLL", "CDLL"])  # the first keeps Python's lock
def test_a_leader_that_hangs_is_ended_at_its_deadline(lock):
    leader, child = lead("guard.allow(0.2)", f"ctypes.{lock}(None).sleep(3600)")
    _, said = leader.communicate(timeout=30)
    assert leader.returncode == -9
    assert said == f"{LATE}\n"
    assert gone(child)


def test_a_process_that_ends_as_it_is_looked_at_has_ended():
    for _ in range(200):
        process = subprocess.Popen(["true"])
        reaper = threading.Thread(target=process.wait)
        reaper.start()
        while reaper.is_alive():
            start_of(process.pid)
        assert start_of(process.pid) is None


def test_a_deadline_moves_on_as_long_as_it_is_moved():
    leader, child = lead(
        "import time",
        "for _ in range(20): guard.allow(2); time.sleep(0.15)",  # 3 s in all
        "guard.allow(3600)",
        "print('still here', flush=True)",
        "sys.stdin.read()",
    )
    assert leader.stdout.readline() == "still here\n"
    end(leader)
    assert gone(child)
