"""Which engine goes to which board next: pure, on plain values, with no clock of its own.

Longest remaining work first, one holder per engine; a second holder only where the remaining
work is worth another load and a board would idle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An engine with work left. Times are estimates in seconds; `holders` are its sessions."""

    engine_id: int
    board: str
    board_count: int
    claimable: int
    remaining_s: float
    load_s: float
    holders: int


def schedule(waiting: Sequence[Waiting], free: Mapping[str, int]) -> list[int]:
    """Return the engine ids to dispatch now, in order; `free` counts idle boards by slug.

    An engine appears twice when it deserves two more holders. Never more holders than tasks.
    """
    left = dict(free)
    chosen: list[int] = []
    by_length = sorted(waiting, key=lambda w: (-w.remaining_s, w.engine_id))
    for engine in by_length:
        if engine.holders == 0 and engine.claimable > 0 and _fits(engine, left):
            left[engine.board] -= engine.board_count
            chosen.append(engine.engine_id)
    for engine in by_length:
        holders = engine.holders + chosen.count(engine.engine_id)
        while 0 < holders < engine.claimable and _worth_another(engine, holders, left):
            left[engine.board] -= engine.board_count
            chosen.append(engine.engine_id)
            holders += 1
    return chosen


def _fits(engine: Waiting, left: Mapping[str, int]) -> bool:
    return left.get(engine.board, 0) >= engine.board_count


def _worth_another(engine: Waiting, holders: int, left: Mapping[str, int]) -> bool:
    """Whether each holder would still have more than twice its load time to work."""
    return _fits(engine, left) and engine.remaining_s / (holders + 1) > 2 * engine.load_s
