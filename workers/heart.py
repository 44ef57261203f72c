"""The heartbeat of a session: a thread with its own connection that keeps the lease alive.

It also keeps the deadline: an attempt that runs longer is closed as a fault and the process
ends, because an engine that hangs cannot be interrupted from within. A beat that the store does not
answer is missed, never waited for: the next one and the deadline come in time.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from dataclasses import replace
from types import TracebackType
from typing import Self

from db.errors import LeaseLost, StoreUnavailable
from db.leases import Leases
from workers.spool import Ended, Spool, send

log = logging.getLogger("campaign.heart")

#: Seconds that a beat which is under way gets to end.
LAST_BEAT_S = 1.0


class Heart:
    """Beats for one claim while a ``with`` block runs; `lost` is set when the lease is gone."""

    def __init__(
        self, leases: Leases, ended: Ended, deadline_s: float, spool: Spool | None = None
    ) -> None:
        """Prepare the thread; `deadline_s` bounds the attempt that `ended` names."""
        self.lost = threading.Event()
        self._leases = leases.hasty()
        self._attempt = ended
        self._spool = spool
        self._ends_s = time.monotonic() + deadline_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def __enter__(self) -> Self:
        """Start beating."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop beating; does not wait long for a beat that hangs."""
        self._stopped.set()
        self._thread.join(timeout=LAST_BEAT_S)

    def check(self) -> None:
        """Raise LeaseLost if the lease is gone; called between batches."""
        if self.lost.is_set():
            raise LeaseLost(f"the lease of {self._attempt.key} was taken back")

    def rest(self) -> None:
        """Forget the deadline: the work is done, and what is left is to write it."""
        self._ends_s = math.inf

    def _run(self) -> None:
        while not self._stopped.wait(self._leases.policy.beat_s):
            if time.monotonic() > self._ends_s:
                self._end()
                return
            try:
                self._leases.beat(self._attempt.lease_id)
            except LeaseLost:
                self.lost.set()
                return
            except StoreUnavailable as error:
                log.warning("beat_missed task=%s %s", self._attempt.key, error)

    def _end(self) -> None:
        """Close the attempt as a fault, in the spool if need be, and end the process group."""
        message = "the attempt outlived its deadline; the engine was killed"
        ended = replace(self._attempt, kind="deadline", error=message)
        try:
            send(self._leases, ended)
        except StoreUnavailable as error:
            log.warning("deadline task=%s %s", ended.key, error)
            if self._spool is not None:
                self._spool.keep(ended)
        finally:
            os.killpg(os.getpgrp(), signal.SIGKILL)
