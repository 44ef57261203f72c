"""One claimed task at a time, from the claim to its outcome in the store.

Whatever happens to a task is written as an attempt's outcome, and kept in the spool while the
store is away; only a store that stays away is raised. Nothing is written for a lease that was lost.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from db.errors import InvalidMeasurement, LeaseLost, RowRefused, StoreUnavailable, TaskFault
from db.leases import Claim, Leases, Wanted
from db.records import Outcome
from db.store import refusals
from workers.allowance import Allowance
from workers.deadline import Timekeeper
from workers.heart import Heart, Watch
from workers.killpoints import reach
from workers.protocol import measure
from workers.rig import Rig
from workers.spool import Ended, Spool, send
from workers.transcript import tail

log = logging.getLogger("campaign.attempts")

#: Seconds that an attempt which hangs has for ending itself, and writing so, before it is ended.
SLACK_S = 60.0


@dataclass(slots=True, kw_only=True)
class Attempts:
    """The attempts of one session on its rig, of one replicate; `allowance` bounds each.

    None is claimed once `stopped` is set, or a fault may have left the engine `broken`. `heart`
    beats for them. `store` is how people know the store, `spool` keeps what cannot be written, None
    nothing; `keeper` says what still fits before the end of the session's time. `allow` tells
    whoever ends a session that hangs how many seconds more this one may take.
    """

    leases: Leases
    heart: Heart
    rig: Rig
    campaign_id: int
    engine_id: int
    session_id: uuid.UUID
    stopped: threading.Event
    allowance: Allowance
    transcript: str | None
    store: str
    spool: Spool | None
    keeper: Timekeeper
    allow: Callable[[float], None]
    broken: TaskFault | None = field(default=None, init=False)
    _claimed: Claim | None = field(default=None, init=False)
    _replicate: int | None = field(default=None, init=False)

    def next(self) -> Outcome | None:
        """Measure a task and write how it ended; None if there is none to claim.

        The next one is claimed as this one is written.
        """
        claim, self._claimed = self._claimed or self._claim(), None
        if claim is None:
            return None
        if self.stopped.is_set():  # meanwhile; nothing was begun
            self.leases.release([self.session_id])
            return None
        self._replicate = claim.replicate
        limit = self.allowance.of(claim)
        self.allow(limit.still_s + SLACK_S)
        reach("claimed")
        begun = self._begun(claim)
        with self.heart.beating(begun, limit) as watch:
            try:
                ended = self._measured(claim, begun, watch)
            except LeaseLost as error:
                log.warning("lease_lost task=%s %s", claim.key, error)
                return Outcome.LOST
            watch.rest()  # the deadline is for measuring, not for a store that is away
            outcome = self._written(ended)
        reach("written")
        return outcome

    def _claim(self) -> Claim | None:
        wanted = self._wanted()
        if wanted is None:
            return None
        self.allow(self.leases.patience_s + SLACK_S)
        return self.leases.claim(**wanted)

    def _wanted(self) -> Wanted | None:
        """Return what is to be claimed next; None where nothing is."""
        keys = self.keeper.fitting()
        if self.broken or self.stopped.is_set() or (keys is not None and not keys):
            return None
        return Wanted(campaign_id=self.campaign_id, engine_id=self.engine_id,
                      session_id=self.session_id, keys=keys, replicate=self._replicate)  # fmt: skip

    def _measured(self, claim: Claim, ended: Ended, watch: Watch) -> Ended:
        """Measure; returns how it ended, whatever it was."""
        began_s = time.monotonic()
        try:
            measurement = measure(self.rig, claim, partial(self._moved, watch))
        except LeaseLost:
            raise
        except InvalidMeasurement as invalid:
            return replace(
                ended,
                outcome=Outcome.INVALID,
                kind=invalid.gate,
                error=str(invalid),
                measurement=invalid.measurement,
            )
        except Exception as error:  # noqa: BLE001 - an unknown exception is this task's fault
            if not _known(error).sound:
                self.broken = _known(error)
            return self._fault(ended, error)
        self.keeper.took(claim.key, time.monotonic() - began_s)
        reach("measured")
        return replace(ended, outcome=Outcome.OK, measurement=measurement)

    def _moved(self, watch: Watch) -> None:
        """Say that a batch has ended. Raises LeaseLost if the lease is gone."""
        watch.check()
        self.allow(watch.left_s + SLACK_S)

    def _begun(self, claim: Claim) -> Ended:
        """Return whose attempt it is; how it ends is not known yet."""
        return Ended(
            task_id=claim.task_id,
            key=claim.key,
            lease_id=claim.lease_id,
            session_id=self.session_id,
            outcome=Outcome.FAULTED,
            store=self.store,
        )

    def _fault(self, ended: Ended, error: Exception) -> Ended:
        """Return a fault with its traceback and what the engine printed last."""
        known = _known(error)
        return replace(
            ended,
            outcome=Outcome.FAULTED,
            kind=known.kind,
            error="".join([tail(self.transcript), *traceback.format_exception(error)]),
            permanent=known.permanent,
            measurement=None,
        )

    def _written(self, ended: Ended) -> Outcome:
        """Write an end; one that the store's rules refuse is a fault of the attempt."""
        try:
            return self._kept(ended)
        except RowRefused as error:
            return self._kept(self._fault(ended, error))

    def _kept(self, ended: Ended) -> Outcome:
        """Send an end; in the spool, if there is one, as long as the store is away.

        Whatever else goes wrong leaves it there, but for a row that the store refuses.
        """
        wanted = self._wanted() if ended.outcome is Outcome.OK else None
        try:
            return self._sent(self.leases.hasty(), ended, wanted)
        except StoreUnavailable as error:
            path = self._spooled(ended)
            log.warning("store_away task=%s spooled=%s %s", ended.key, path, error)
        except RowRefused:
            raise
        except Exception as error:
            log.warning("not_written task=%s spooled=%s %s", ended.key, self._spooled(ended), error)
            raise
        self.allow(self.leases.patience_s + SLACK_S)
        try:
            outcome = self._sent(self.leases, ended, wanted)
        except StoreUnavailable as error:
            if path is None:
                raise
            kept = f"{error}; how the attempt ended is kept in {path}, and the next run sends it"
            raise StoreUnavailable(kept) from error
        if path is not None:
            path.unlink(missing_ok=True)
        return outcome

    def _sent(self, leases: Leases, ended: Ended, wanted: Wanted | None) -> Outcome:
        """Send an end; with a measurement goes the claim of what is `wanted` next."""
        with refusals():
            if wanted is None or ended.measurement is None:
                return send(leases, ended)
            outcome, self._claimed = leases.finish_and_claim(
                ended.lease_id, ended.measurement, wanted
            )
        return outcome

    def _spooled(self, ended: Ended) -> Path | None:
        """Keep an end in the spool; returns its file, None where it cannot be kept."""
        try:
            return None if self.spool is None else self.spool.keep(ended)
        except OSError as error:  # it is still in memory, and the store may come back
            log.error("not_spooled task=%s %s", ended.key, error)  # noqa: TRY400 - no traceback
            return None


def _known(error: Exception) -> TaskFault:
    """Return what an exception means for its task."""
    return error if isinstance(error, TaskFault) else TaskFault("unexpected", str(error))
