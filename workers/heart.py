"""The heartbeat of a session: a thread with its own connection that keeps the lease alive.

It also keeps the deadline: an attempt that runs longer is closed as a fault and the process
ends, because an engine that hangs cannot be interrupted from within.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import uuid
from types import TracebackType
from typing import Self

from db.errors import LeaseLost, StoreUnavailable
from db.leases import Claim, Leases
from db.records import Outcome

log = logging.getLogger("campaign.heart")


class Heart:
    """Beats for one claim while a ``with`` block runs; `lost` is set when the lease is gone."""

    def __init__(
        self, leases: Leases, claim: Claim, session_id: uuid.UUID, deadline_s: float
    ) -> None:
        """Prepare the thread; `deadline_s` bounds the attempt."""
        self.lost = threading.Event()
        self._leases = leases
        self._claim = claim
        self._session_id = session_id
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
        """Stop beating; does not wait for a beat that hangs."""
        self._stopped.set()

    def check(self) -> None:
        """Raise LeaseLost if the lease is gone; called between batches."""
        if self.lost.is_set():
            raise LeaseLost(f"the lease of {self._claim.key} was taken back")

    def _run(self) -> None:
        while not self._stopped.wait(self._leases.policy.beat_s):
            if time.monotonic() > self._ends_s:
                self._end()
                return
            try:
                self._leases.beat(self._claim.lease_id)
            except LeaseLost:
                self.lost.set()
                return
            except StoreUnavailable as error:
                log.warning("beat_missed task=%s %s", self._claim.key, error)

    def _end(self) -> None:
        """Close the attempt as a fault and end the process group."""
        message = "the attempt outlived its deadline; the engine was killed"
        self._leases.give_back(
            self._claim.lease_id, self._session_id, Outcome.FAULTED, kind="deadline", error=message
        )
        os.killpg(os.getpgrp(), signal.SIGKILL)
