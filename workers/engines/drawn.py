"""The folder that drawn weights are kept in: who uses them, and who makes room for others.

Owns the locks: shared ones of processes that use weights, until they end, and exclusive ones of
those that draw or remove them. Only what is in use by nobody is removed; it can be drawn again.
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


def use(folder: Path) -> bool:
    """Keep weights from being removed until this process ends; returns whether they are there."""
    if not folder.is_dir():
        if folder in _used:  # somebody removed them by hand: whoever draws them must be alone
            os.close(_used.pop(folder))
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
def alone(folder: Path) -> Iterator[None]:
    """Be the only one who draws or removes these weights, once nobody else does or uses them."""
    with folder.with_suffix(".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def make_room(partial: Path, size: int) -> bool:
    """Remove weights that nobody uses, the oldest first, until `size` bytes more leave enough.

    Returns whether they fit now. `partial` is what they are written into.
    """
    cache = partial.parent
    own = partial.with_suffix(".lock")
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
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        folder.rename(partial)
        shutil.rmtree(partial)
