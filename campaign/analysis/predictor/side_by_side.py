"""Many small fits at once: each on one thread, as many side by side as were allowed.

Owns the threads. A fit on several threads waits for the slowest at every step, and where others
use the machine it waits for most of its time; fits beside each other wait for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def each_of(call: Callable[[Item], Result], items: Iterable[Item], threads: int) -> list[Result]:
    """Return what a function says of every item, in their order. Raises what it raised first."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, items))
