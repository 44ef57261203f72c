"""What the end of a session means for its leases, for its engine and for its node.

Owns what is written of a session that could not do so itself. The fleet knows what a node is unfit
for, the store how often a task may fail; docs/design/cluster.md has the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from campaign.cluster.berths import Berths
from campaign.running.fleet import Flight
from campaign.running.live import Live
from campaign.running.loads import Loads
from campaign.running.work import Campaign
from campaign.tabular import count_of
from db.errors import StoreUnavailable
from db.leases import Leases
from db.records import Outcome
from db.results import last_words
from db.store import Store
from workers.assignment import Assignment, Ending, Report
from workers.transcript import tail

#: Sessions in a row that gave up waiting for the store before the run does.
MAX_STORES_AWAY = 2


class Endings:
    """Settles the sessions of one campaign as they end."""

    def __init__(
        self, store: Store, leases: Leases, campaign: Campaign, berths: Berths, live: Live
    ) -> None:
        """Nothing has failed yet."""
        self._store, self._leases, self._campaign = store, leases, campaign
        self._berths, self._live = berths, live
        self._loads = Loads()
        self._stores_away = 0

    def settle(self, flight: Flight, report: Report) -> None:
        """Take back what a session held, and quarantine an engine that does not load.

        Raises StoreUnavailable once several sessions in a row gave up waiting for the store.
        """
        self._stores_away = self._stores_away + 1 if report.ending is Ending.STORE_AWAY else 0
        well = report.ending in (Ending.DRAINED, Ending.STOPPED, Ending.OUT_OF_TIME)
        if report.load_s is not None and (well or report.ending is Ending.BROKEN):
            self._loaded(flight)
        if well:
            self._loads.ended(flight.assignment.engine_id, fruitless=False)
            return
        if self._stores_away >= MAX_STORES_AWAY:
            raise StoreUnavailable(report.error)
        job = flight.assignment
        gone = report.kind == "node_left"  # on purpose: what it held is free of charge
        if gone:
            self._leases.release([job.session_id])
        known = self.bury([job.session_id], report.error)
        words = flight.news(report.kind or report.ending, report.error)
        if report.ending is Ending.BROKEN:
            words += "; the engine may be broken and is loaded anew"
        elif report.kind == "actor_died":
            place = f"`campaign logs {job.session_id}`" if known else f"{job.transcript} there"
            words += f"; see {place}"
        self._live.say(words)
        if gone or report.ending in (Ending.UNFIT, Ending.STORE_AWAY):
            return
        if report.ending is Ending.BROKEN:
            self._broke(flight, report)
        elif report.kind == "actor_died" and self._leases.attempted(job.session_id):
            self._loaded(flight)  # the task in work counts it, as a loss or as a fault
        else:
            self._failed(flight, report)

    def bury(self, sessions: Sequence[UUID], error: str | None = None) -> bool:
        """Take back what dead sessions hold; keep what they printed last, where it is here.

        Returns whether there was anything of it.
        """
        self._leases.bury(sessions)
        said = {session: self._printed(session) for session in sessions}
        for session, text in said.items():
            if text or error:
                words = partial(
                    last_words, session_id=session, error=error, stderr_tail=text or None
                )
                self._store.retrying(words)
        return any(said.values())

    def _printed(self, session: UUID) -> str:
        """Return what a session printed last; nothing of one of another host."""
        path = self._campaign.transcript(session)
        return tail(str(path)) if path.exists() else ""

    def _loaded(self, flight: Flight) -> None:
        """Note that an engine loaded, and what that says of the nodes it did not load on."""
        for node in self._loads.loaded(flight.assignment.engine_id, flight.berth.node):
            name = next((b.name for b in self._berths.by_id.values() if b.node == node), None)
            if self._berths.is_cluster and name is not None:
                self._berths.refuse(node)
                self._live.say(f"node {name} is refused: what does not load there loads elsewhere")

    def _failed(self, flight: Flight, report: Report) -> None:
        """Send an engine elsewhere; quarantine it once that it does not load is its own fault."""
        job, berth, elsewhere = flight.assignment, flight.berth, self._sent_elsewhere(flight)
        at_fault = self._loads.failed(
            job.engine_id, berth.node, permanent=report.permanent, elsewhere=elsewhere
        )
        if at_fault:
            self._quarantine(job, report.kind or report.ending)

    def _broke(self, flight: Flight, report: Report) -> None:
        """Load an engine anew that a task may have broken: elsewhere where it measured nothing."""
        job, fruitless = flight.assignment, not report.outcomes.get(Outcome.OK)
        if fruitless and report.kind != "out_of_memory":
            self._sent_elsewhere(flight)
        if self._loads.ended(job.engine_id, fruitless=fruitless):
            self._quarantine(job, report.ending)

    def _sent_elsewhere(self, flight: Flight) -> bool:
        """Keep an engine away from the node of a session, if it has another; returns that."""
        job, berth = flight.assignment, flight.berth
        if not self._berths.has_other(job.engine_id, job.engine, berth):
            return False
        self._berths.avoid(job.engine_id, berth)
        return True

    def _quarantine(self, job: Assignment, why: str) -> None:
        count = self._leases.quarantine_engine(self._campaign.id, job.engine_id, f"engine:{why}")
        self._live.say(f"{job.engine.label}: {count_of(count, 'task')} quarantined")
