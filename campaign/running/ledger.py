"""What is left of a campaign, and how long it will take: what the driver knows of the store.

Owns how often the store is asked: to count a million tasks that are left takes a second, so it is
done again once that second is a small part of the time. Dispatches nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Generic, TypeVar

from campaign.running.eta import Rest, eta_s
from campaign.running.fleet import weights_of
from campaign.running.live import Snapshot
from campaign.running.pace import Estimate, corrected
from campaign.running.schedule import Waiting
from campaign.running.work import Campaign
from db.grids import paces
from db.progress import Left, Progress, joules, progress
from db.records import TaskState
from db.store import Store

T = TypeVar("T")

#: Parts of the driver's time for counting tasks, for correcting estimates, for adding joules, and
#: for the time to the end.
COUNTING, CORRECTING, ADDING, FORESEEING = 0.1, 0.02, 0.02, 0.02


class Sparing(Generic[T]):
    """An answer that is asked for again only once asking takes no more than a part of the time."""

    def __init__(
        self, ask: Callable[[], T], *, share: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing is asked yet."""
        self._ask, self._share, self._clock = ask, share, clock
        self._known: tuple[T, float] | None = None

    def __call__(self, *, fresh: bool = False) -> T:
        """Return the answer, as it is now or was lately."""
        began_s = self._clock()
        if self._known is None or fresh or began_s >= self._known[1]:
            answer, now_s = self._ask(), self._clock()
            self._known = answer, now_s + (now_s - began_s) * (1 / self._share - 1)
        return self._known[0]


class Ledger:
    """One campaign in the store: its tasks by state, and the seconds that are left of them."""

    def __init__(self, store: Store, campaign: Campaign) -> None:
        """Nothing is asked yet."""
        self._campaign = campaign
        self._landed: set[int] = set()
        estimates = {engine: work.estimate for engine, work in campaign.engines.items()}

        def counted() -> Progress:
            self._landed.clear()
            return store.retrying(lambda c: progress(c, campaign.id))

        def improved() -> Mapping[int, Estimate]:
            return corrected(estimates, store.retrying(lambda c: paces(c, campaign.id)))

        self.look: Sparing[Progress] = Sparing(counted, share=COUNTING)
        self._estimates = Sparing(improved, share=CORRECTING)
        self._joules = Sparing(
            lambda: store.retrying(lambda c: joules(c, campaign.id)), share=ADDING
        )
        self._held: tuple[Mapping[int, int], Mapping[str, int]] = {}, {}
        self._eta_s = Sparing(self._foreseen_s, share=FORESEEING)

    def landed(self, engine_id: int) -> None:
        """Note that a session ended: what was counted before says nothing of its engine's tasks."""
        self._landed.add(engine_id)

    def waiting(
        self, holders: Mapping[int, int], avoids: Callable[[int], Collection[str] | None]
    ) -> Iterator[Waiting]:
        """Yield the engines with tasks to claim, by estimates as they were corrected so far.

        `holders` counts their sessions; `avoids` names the nodes that an engine does not go to,
        None where it can go nowhere.
        """
        found, estimates = self.look(), self._estimates()
        for engine_id, left in found.left.items():
            if left.claimable == 0 or engine_id in self._landed:
                continue
            nowhere = avoids(engine_id)
            if nowhere is None:
                continue
            work, estimate = self._campaign.engines[engine_id], estimates[engine_id]
            yield Waiting(
                engine_id=engine_id,
                board=work.engine.board,
                board_count=work.engine.board_count,
                claimable=left.claimable,
                remaining_s=left.claimable * estimate.task_s,
                load_s=estimate.load_s,
                holders=holders.get(engine_id, 0),
                weights=weights_of(work.engine),
                avoids=frozenset(nowhere),
            )

    def snapshot(
        self, measuring: tuple[str, ...], holders: Mapping[int, int], boards: Mapping[str, int]
    ) -> Snapshot:
        """Return the campaign at this moment; `boards` are those it has, by kind."""
        found, self._held = self.look(), (holders, boards)
        measured, estimated = self._joules()
        return Snapshot(
            campaign=self._campaign.name,
            done=found.count(TaskState.DONE),
            failed=found.count(TaskState.QUARANTINED, TaskState.EXCLUDED),
            left=found.unfinished,
            measuring=measuring,
            energy_j=measured,
            energy_estimated_j=estimated,
            reality=self._campaign.reality,
            eta_s=self._eta_s(),
        )

    def _foreseen_s(self) -> float | None:
        holders, boards = self._held
        return eta_s(self._rests(self.look().left, holders), boards)

    def _rests(self, found: Mapping[int, Left], holders: Mapping[int, int]) -> Iterator[Rest]:
        estimates = self._estimates()
        for engine_id, left in found.items():
            work = self._campaign.engines.get(engine_id)
            if work is None:  # of another driver, whose grid is larger
                continue
            yield Rest(
                estimate=estimates[engine_id],
                board_count=work.engine.board_count,
                tasks=left.unfinished,
                in_work=left.unfinished - left.claimable,
                holders=holders.get(engine_id, 0),
            )
