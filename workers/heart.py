"""The heartbeat of a session: a thread with its own connection that keeps the lease alive.

It also keeps the deadline: an attempt that runs longer, or one of whose batches does, is closed as
a fault and the process ends, because an engine that hangs cannot be interrupted from within. A beat
that the store does not answer is missed, never waited for: the next one and the deadline come in
time. No error ends the thread, and none keeps a process from its end.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self

from db.errors import LeaseLost, StoreUnavailable
from db.leases import Leases
from workers.allowance import Limit
from workers.spool import Ended, Spool, send

log = logging.getLogger("campaign.heart")

#: Seconds that a beat which is under way gets to end.
LAST_BEAT_S = 1.0


class Watch:
    """What the heart knows of one attempt; `lost` is set when its lease is gone."""

    def __init__(self, attempt: Ended, limit: Limit) -> None:
        """Begin the attempt that `attempt` names; `limit` bounds it and each of its batches."""
        self.lost = threading.Event()
        self.attempt = attempt
        self._limit = limit
        self._moved_s = time.monotonic()
        self._ends_s = self._moved_s + limit.whole_s

    def check(self) -> None:
        """Know that a batch has ended; raise LeaseLost if the lease is gone."""
        self._moved_s = time.monotonic()
        if self.lost.is_set():
            raise LeaseLost(f"the lease of {self.attempt.key} was taken back")

    def rest(self) -> None:
        """Forget the deadline: the work is done, and what is left is to write it."""
        self._ends_s = self._moved_s = math.inf

    @property
    def left_s(self) -> float:
        """Seconds that the attempt still has, or its batch where that has fewer."""
        return min(self._ends_s, self._moved_s + self._limit.still_s) - time.monotonic()

    @property
    def over(self) -> str | None:
        """What of the attempt has outlived its deadline; None if nothing has."""
        if self.left_s >= 0:
            return None
        if time.monotonic() > self._ends_s:
            return f"the attempt outlived its {self._limit.whole_s:g} s"
        return f"no batch of the attempt ended for {self._limit.still_s:g} s"


class Heart:
    """Beats for whatever attempt is under way, from the first to the last of a session.

    One thread for all of them: to start one for each would hold up each.
    """

    def __init__(self, leases: Leases, spool: Spool | None = None) -> None:
        """Prepare the thread; nobody has an attempt yet."""
        self._leases = leases.hasty()
        self._spool = spool
        self._watch: Watch | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def __enter__(self) -> Self:
        """Start the thread; it beats for nobody yet."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it; does not wait long for a beat that hangs."""
        self._stopped.set()
        self._thread.join(timeout=LAST_BEAT_S)

    @contextmanager
    def beating(self, attempt: Ended, limit: Limit) -> Iterator[Watch]:
        """Beat for an attempt, which `limit` bounds, while the block runs."""
        watch = self._watch = Watch(attempt, limit)
        try:
            yield watch
        finally:
            watch.rest()
            self._watch = None

    def _run(self) -> None:
        while not self._stopped.wait(self._leases.policy.beat_s):
            watch = self._watch
            if watch is None or watch.lost.is_set():
                continue
            if late := watch.over:
                self._end(watch.attempt, late)
                return
            try:
                self._leases.beat(watch.attempt.lease_id)
            except LeaseLost:
                watch.lost.set()
            except StoreUnavailable as error:
                log.warning("beat_missed task=%s %s", watch.attempt.key, error)
            except Exception as error:  # noqa: BLE001 - a defect: the deadline is still to be kept
                log.warning("beat_failed task=%s %r", watch.attempt.key, error)

    def _end(self, attempt: Ended, late: str) -> None:
        """Close the attempt as a fault, in the spool if need be, and end the process group."""
        message = f"{late}; the engine was killed"
        try:
            self._close(replace(attempt, kind="deadline", error=message))
        except Exception as error:  # noqa: BLE001 - whoever reaps the lease counts a loss
            log.error("deadline task=%s not_spooled %r", attempt.key, error)  # noqa: TRY400
        finally:
            os.killpg(os.getpgrp(), signal.SIGKILL)

    def _close(self, ended: Ended) -> None:
        try:
            send(self._leases, ended)
        except Exception as error:  # noqa: BLE001 - of the store or of ours: it is kept
            log.warning("deadline task=%s %r", ended.key, error)
            if self._spool is not None:
                self._spool.keep(ended)
