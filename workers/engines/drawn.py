"""The folder that drawn weights are kept in: who uses them, and who makes room for others.

Owns two locks for each: one that every process that uses the weights shares until it ends, and
that whoever removes them has alone, and one that is the turn of whoever draws them. Only what is
in use by nobody is removed; it can be drawn again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: The locks that this process holds until its end, by the weights that it uses.
_used: Final[dict[Path, int]] = {}
#: Where less than this would be left beside what is written, others go; and what must be left.
WISHED_BYTES: Final = 2 << 30
LEAST_BYTES: Final = 64 << 20
LOCKS: Final = "random-*.lock"
REMOVED: Final = ".removed"


def use(folder: Path) -> bool:
    """Keep weights from being removed until this process ends; returns whether they are there."""
    if not folder.is_dir():
        return False
    if folder in _used or not os.access(folder.parent, os.W_OK):
        return True  # where nobody may write, nobody removes anything
    held = os.open(folder.with_suffix(".lock"), os.O_RDONLY | os.O_CREAT, 0o644)
    fcntl.flock(held, fcntl.LOCK_SH)
    if not folder.is_dir():
        os.close(held)
        return False
    _used[folder] = held
    return True


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Be the only one who draws these weights, once nobody else does."""
    with folder.with_suffix(".turn").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def make_room(partial: Path, size: int) -> bool:
    """Remove weights that nobody uses, the oldest first, until `size` bytes more leave enough.

    Returns whether they fit now. `partial` is what they are written into.
    """
    cache = partial.parent
    own = partial.with_suffix(".lock")
    for left in cache.glob(f"random-*{REMOVED}"):  # by a process that was killed while removing
        shutil.rmtree(left, ignore_errors=True)
    others = [lock.with_suffix("") for lock in cache.glob(LOCKS) if lock != own]
    drawn = [folder for folder in others if folder.is_dir()]
    for folder in sorted(drawn, key=lambda folder: folder.stat().st_mtime):
        if shutil.disk_usage(cache).free >= size + WISHED_BYTES:
            break
        _remove(folder)
    return shutil.disk_usage(cache).free >= size + LEAST_BYTES


def _remove(folder: Path) -> None:
    """Remove weights, unless somebody uses them: a folder is there whole, or not at all."""
    with folder.with_suffix(".lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if folder.is_dir():  # nobody else removed them meanwhile
            removed = folder.with_suffix(REMOVED)
            folder.rename(removed)
            shutil.rmtree(removed, ignore_errors=True)
