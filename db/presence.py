"""Whether the store has been there without a gap, as long as a lease: for whoever takes some back.

A length only, by a clock of this process: what has expired, Postgres' own clock says.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from db.leases import LeasePolicy

#: Shorter than this, a gap may be a busy machine.
SHORTEST_GAP_S = 5.0


class Presence:
    """For how long the store has answered without a gap, by a clock of this process.

    After a gap as long as a lease every lease has expired, and the living need time to beat before
    anybody takes theirs back.
    """

    def __init__(self, policy: LeasePolicy, now_s: Callable[[], float] = time.monotonic) -> None:
        """Derive from the policy what a gap is; nothing has answered yet."""
        self._gap_s = max((policy.lease_s - policy.beat_s) / 2, SHORTEST_GAP_S)
        self._lease_s = policy.lease_s
        self._now_s = now_s
        self._since_s = self._last_s = now_s()

    def lasts(self) -> bool:
        """Note that the store has just answered; returns whether it has for one lease."""
        now_s = self._now_s()
        if now_s - self._last_s > self._gap_s:
            self._since_s = now_s
        self._last_s = now_s
        return now_s - self._since_s >= self._lease_s
