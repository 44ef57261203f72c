"""What a session is given, and what it reports: values that travel between driver and actor."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from enum import StrEnum

from db.leases import LeasePolicy
from db.place import Place
from db.records import EngineSpec, Outcome, Reality
from workers.deadline import Deadline
from workers.rig import RigPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Everything a session needs to know; travels to the actor.

    `idle_s` is the length of the idle windows, `task_deadline_s` bounds a load, and an attempt that
    is not estimated to take longer, `lock_wait_s` how long to wait for the board, `empty_wait_s`
    for others to leave it, `transcript` the file that gets what the process prints, `spool` the
    folder of what the store does not take, None keeps nothing. `deadline` is when the session must
    be gone.
    """

    session_id: uuid.UUID
    campaign_id: int
    engine_id: int
    engine: EngineSpec
    reality: Reality
    place: Place
    policy: LeasePolicy
    rig: RigPlan
    idle_s: float
    task_deadline_s: float
    lock_wait_s: float
    empty_wait_s: float = 30.0
    transcript: str | None = None
    spool: str | None = None
    deadline: Deadline | None = None


class Ending(StrEnum):
    """How a session ended; the comment is what the driver does next."""

    DRAINED = "drained"  # no task of the engine is left to claim
    STOPPED = "stopped"  # asked to: nothing
    BROKEN = "broken"  # a task failed, and may have broken the engine: load it anew
    OUT_OF_TIME = "out_of_time"  # no task left that would finish in time: not in this run again
    ENGINE_FAILED = "engine_failed"  # try again, or quarantine the engine
    UNFIT = "unfit"  # never dispatch to this board again in this run
    STORE_AWAY = "store_away"  # see whether it is away for others too: then nothing is left to do
    REFUSED = "refused"  # wrong input, as a store of another version: nothing works then
    FAILED = "failed"  # a defect: tell the person


@dataclass(slots=True, kw_only=True)
class Report:
    """What the driver learns of a session; the store has the details.

    `slowness` is the measured over the estimated time of its tasks, where there is a deadline.
    """

    ending: Ending = Ending.DRAINED
    kind: str | None = None
    error: str | None = None
    permanent: bool = False
    outcomes: dict[str, int] = field(default_factory=dict)
    load_s: float | None = None
    slowness: float | None = None

    def count(self, outcome: Outcome) -> None:
        """Count an attempt by its outcome."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
