"""What the end of a session means for its leases and for its engine.

Owns the count of loads that failed. The fleet knows what a node is unfit for, the store how often
a task may fail; docs/design/cluster.md has the table.
"""

from __future__ import annotations

from collections import Counter

from campaign.running.fleet import Flight
from campaign.running.live import Live
from campaign.tabular import count_of
from db.errors import StoreUnavailable
from db.leases import Leases
from workers.assignment import Ending, Report

#: Loads of one engine that may fail before its remaining tasks are quarantined.
MAX_LOADS = 2
#: Sessions in a row that gave up waiting for the store before the run does.
MAX_STORES_AWAY = 2


class Endings:
    """Settles the sessions of one campaign as they end."""

    def __init__(self, leases: Leases, campaign_id: int, live: Live) -> None:
        """Nothing has failed yet."""
        self._leases, self._campaign_id, self._live = leases, campaign_id, live
        self._failed_loads: Counter[int] = Counter()
        self._stores_away = 0

    def settle(self, flight: Flight, report: Report) -> None:
        """Take back what a session held, and quarantine an engine that does not load.

        Raises StoreUnavailable once several sessions in a row gave up waiting for the store.
        """
        job = flight.assignment
        self._stores_away = self._stores_away + 1 if report.ending is Ending.STORE_AWAY else 0
        if report.ending in (Ending.DRAINED, Ending.STOPPED, Ending.OUT_OF_TIME):
            self._failed_loads.pop(job.engine_id, None)
            return
        if self._stores_away >= MAX_STORES_AWAY:
            raise StoreUnavailable(report.error)
        gone = report.kind == "node_left"  # on purpose: what it held is free of charge
        if gone:
            self._leases.release([job.session_id])
        self._leases.bury([job.session_id])
        self._live.say(f"{flight.label}: {report.kind or report.ending}: {report.error}")
        if gone or report.ending in (Ending.UNFIT, Ending.STORE_AWAY):
            return
        if report.kind == "actor_died" and self._leases.attempted(job.session_id):
            self._failed_loads.pop(job.engine_id, None)  # it had loaded
            return  # the task in work counts it, as a loss or as a fault
        self._count_load(flight, report)

    def _count_load(self, flight: Flight, report: Report) -> None:
        job = flight.assignment
        self._failed_loads[job.engine_id] += 1
        if report.permanent or self._failed_loads[job.engine_id] >= MAX_LOADS:
            reason = f"engine:{report.kind or report.ending}"
            count = self._leases.quarantine_engine(self._campaign_id, job.engine_id, reason)
            self._live.say(f"{job.engine.label}: {count_of(count, 'task')} quarantined")
