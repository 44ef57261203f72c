"""One claimed task at a time, from the claim to its outcome in the store.

Whatever happens to a task is written as an attempt's outcome; only a store that stays away is
raised. Nothing is written for a lease that was lost.
"""

from __future__ import annotations

import logging
import traceback
import uuid
from dataclasses import dataclass

from db.errors import InvalidMeasurement, LeaseLost, StoreUnavailable, TaskFault
from db.leases import Claim, Leases
from db.records import Outcome
from workers.heart import Heart
from workers.killpoints import reach
from workers.protocol import measure
from workers.rig import Rig
from workers.transcript import tail

log = logging.getLogger("campaign.attempts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """The attempts of one session on its rig; `deadline_s` bounds each."""

    leases: Leases
    rig: Rig
    session_id: uuid.UUID
    deadline_s: float
    transcript: str | None

    def next(self, campaign_id: int, engine_id: int) -> Outcome | None:
        """Claim a task, measure it and write how it ended; None if there is none to claim."""
        claim = self.leases.claim(campaign_id, engine_id, self.session_id)
        if claim is None:
            return None
        reach("claimed")
        try:
            return self._measured(claim)
        except LeaseLost as error:
            log.warning("lease_lost task=%s %s", claim.key, error)
            return Outcome.LOST
        except StoreUnavailable:
            raise
        except InvalidMeasurement as invalid:
            return self._invalid(claim, invalid)
        except Exception as error:  # noqa: BLE001 - an unknown exception is this task's fault
            return self._faulted(claim, error)

    def _measured(self, claim: Claim) -> Outcome:
        with Heart(self.leases, claim, self.session_id, self.deadline_s) as heart:
            measurement = measure(self.rig, claim, heart.check)
            reach("measured")
            outcome = self.leases.finish(claim.lease_id, self.session_id, measurement)
        reach("written")
        return outcome

    def _invalid(self, claim: Claim, invalid: InvalidMeasurement) -> Outcome:
        """Write a voided measurement, with its windows."""
        self.leases.give_back(
            claim.lease_id,
            self.session_id,
            Outcome.INVALID,
            kind=invalid.gate,
            error=str(invalid),
            measurement=invalid.measurement,
        )
        return Outcome.INVALID

    def _faulted(self, claim: Claim, error: Exception) -> Outcome:
        """Write a fault with its traceback and what the engine printed last."""
        known = error if isinstance(error, TaskFault) else TaskFault("unexpected", str(error))
        self.leases.give_back(
            claim.lease_id,
            self.session_id,
            Outcome.FAULTED,
            kind=known.kind,
            error="".join([tail(self.transcript), *traceback.format_exception(error)]),
            permanent=known.permanent,
        )
        if known.kind == "out_of_memory":
            self.leases.exclude_larger(claim.task_id)
        return Outcome.FAULTED
