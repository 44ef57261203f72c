"""When a run must be over, which engines and tasks still fit before that, and how it is said.

Owns `run.deadline`, the end of a Slurm job, and the correction of estimates by what this run has
measured. Starts and stops nothing, and never moves a lease: leases know the store's clock alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from campaign.configuration.settings import RunSettings
from campaign.forecast.hours import Efforts
from campaign.running.work import Work
from db.records import EngineSpec, Task
from workers.deadline import Deadline, moment, slurm_end
from workers.effort import pace


class Timebox:
    """The time that a run has; without a deadline it has all the time."""

    def __init__(
        self,
        run: RunSettings,
        environment: Mapping[str, str] = os.environ,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Take the earlier of the run's own deadline and the end of the Slurm job it is part of."""
        asked = None if run.deadline is None else moment(run.deadline, now())
        known = [end for end in (asked, slurm_end(environment)) if end is not None]
        self.ends_at = min(known, default=None)
        self._margin_s = run.margin_s
        self._now = now
        self._slowness: dict[tuple[str, str], float] = {}
        self._loading: dict[tuple[str, str], float] = {}

    @property
    def left_s(self) -> float | None:
        """Seconds until the end; None without one."""
        return None if self.ends_at is None else self.ends_at - self._now()

    @property
    def over(self) -> bool:
        """Whether what is still in work has to be given back now: half of the margin is left."""
        return self.left_s is not None and self.left_s <= self._margin_s / 2

    def deadline(self, work: Work, tasks: Sequence[Task]) -> Deadline | None:
        """Return what a session of an engine with these tasks must know; None without an end."""
        if self.ends_at is None:
            return None
        engine = work.engine
        efforts = Efforts({work.rig.board.slug: work.rig.board})
        return Deadline(
            ends_at=self.ends_at,
            margin_s=self._margin_s,
            tasks_s={task.key: efforts.task(task).seconds * pace(engine) for task in tasks},
            slowness=self._slowness.get((engine.board, engine.backend), 1.0),
        )

    def admits(self, work: Work, deadline: Deadline | None) -> bool:
        """Whether any of the tasks would be finished in time, the engine loaded first."""
        if deadline is None:
            return True
        least_s = min(deadline.tasks_s.values(), default=0.0) * deadline.slowness
        return self._load_s(work) + least_s <= deadline.left_s(self._now())

    def _load_s(self, work: Work) -> float:
        """Return what a session takes before its first task, loading as loads here did."""
        engine = work.engine
        learned = self._loading.get((engine.board, engine.backend), 1.0) - 1.0
        return (work.load_s + learned * Efforts({}).loading_s(engine)) * pace(engine)

    def learn(
        self, engine: EngineSpec, slowness: float | None, load_s: float | None = None
    ) -> None:
        """Take over what a session learned: measured over estimated seconds of its tasks.

        `load_s` are the seconds of its load; simulated ones take what they are told.
        """
        kind = engine.board, engine.backend
        if slowness is not None:
            self._slowness[kind] = slowness
        if load_s is not None and engine.backend != "simulated":
            self._loading[kind] = load_s / Efforts({}).loading_s(engine)
