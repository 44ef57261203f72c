"""What a session is sent out with: its engine, its leases, its folders, and its deadline.

Never decides where a session goes, nor whether: that is the driver's.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from campaign.configuration.settings import Settings
from campaign.running.spooled import home_spool, policy_of
from campaign.running.timebox import Timebox
from campaign.running.work import Campaign, Work
from db.editing import waiting_tasks
from db.place import Place
from db.store import Store
from workers.assignment import Assignment
from workers.deadline import Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignments:
    """The assignments of one run."""

    settings: Settings
    campaign: Campaign
    place: Place
    store: Store
    timebox: Timebox

    def of(self, engine_id: int) -> Assignment:
        """Return a new session's assignment to an engine of the campaign."""
        settings, work, session_id = self.settings, self.campaign.engines[engine_id], uuid.uuid4()
        return Assignment(
            session_id=session_id,
            campaign_id=self.campaign.id,
            engine_id=engine_id,
            engine=work.engine,
            reality=self.campaign.reality,
            place=self.place,
            policy=policy_of(settings),
            rig=work.rig,
            idle_s=settings.protocol.idle_s,
            task_deadline_s=settings.store.task_deadline_s,
            lock_wait_s=settings.cluster.board_wait_s,
            empty_wait_s=settings.cluster.empty_wait_s,
            transcript=str(self.campaign.transcript(session_id)),
            spool=str(home_spool().folder),
            deadline=self._deadline(work, engine_id),
        )

    def _deadline(self, work: Work, engine_id: int) -> Deadline | None:
        """Return what a session must know to be gone in time; None if the run may take its time."""
        if self.timebox.ends_at is None:
            return None
        asked = self.campaign.id, engine_id, work.engine
        tasks = self.store.retrying(lambda c: waiting_tasks(c, *asked))
        return self.timebox.deadline(work, tasks)
