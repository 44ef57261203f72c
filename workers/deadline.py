"""When a session must be gone, and which of its tasks still fit before that.

Pure but for the clock. Owns the correction of the estimates by what this session has measured.
Leases know nothing of it: those run by the store's clock alone.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from db.errors import ConfigError

#: The variable that Slurm sets in every job: its end, in Unix seconds.
SLURM_END = "SLURM_JOB_END_TIME"
#: How a deadline is written.
FORM = "run.deadline=2026-11-30T18:00 (local time, or with +01:00), or seconds from now"
#: As many tasks say by how much the estimates are wrong.
REMEMBERED = 16


def moment(deadline: str | float, now: float) -> float:
    """Return a deadline in Unix seconds. Raises ConfigError, with the form, for anything else."""
    if not isinstance(deadline, str):
        return now + deadline
    try:
        return datetime.fromisoformat(deadline).astimezone().timestamp()
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"run.deadline: {deadline!r} is no time; write {FORM}") from error


def refuse_past(deadline: str | float, now: float) -> None:
    """Raise ConfigError for a deadline that nothing could keep, as `moment` does for none."""
    if moment(deadline, now) <= now:
        raise ConfigError(f"run.deadline: {deadline} is past; write {FORM}, or leave it out")


def slurm_end(environment: Mapping[str, str]) -> float | None:
    """Return when the Slurm job that this process is part of will be ended; None outside of one."""
    said = environment.get(SLURM_END, "")
    return float(said) if said.isdecimal() and int(said) > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """What a session must know to be gone in time.

    `ends_at` is in Unix seconds. `tasks_s` are the estimates of tasks by key, `margin_s` is kept
    free before the end, `slowness` is what the estimates are multiplied by at first.
    """

    ends_at: float
    margin_s: float
    tasks_s: Mapping[str, float] = field(default_factory=dict)
    slowness: float = 1.0

    def left_s(self, now: float) -> float:
        """Return the seconds that are left to measure in; negative when it is too late."""
        return self.ends_at - self.margin_s - now


class Timekeeper:
    """Tells which tasks still fit, and learns from each one how long they really take."""

    def __init__(self, deadline: Deadline | None, now: Callable[[], float] = time.time) -> None:
        """Take the deadline; without one everything fits."""
        self._deadline = deadline
        self._now = now
        self._ratios: deque[float] = deque(maxlen=REMEMBERED)

    @property
    def slowness(self) -> float | None:
        """Measured over estimated time, the median of the last tasks; None before the first."""
        return statistics.median(self._ratios) if self._ratios else None

    def fitting(self) -> list[str] | None:
        """Return the keys of the tasks that still fit; None where all of them do."""
        if self._deadline is None:
            return None
        left_s = self._deadline.left_s(self._now())
        slowness = self._deadline.slowness if self.slowness is None else self.slowness
        tasks_s = self._deadline.tasks_s
        found = [key for key, task_s in tasks_s.items() if task_s * slowness <= left_s]
        return None if found and len(found) == len(tasks_s) else found

    def took(self, key: str, seconds: float) -> None:
        """Learn how long a task really took."""
        estimated_s = self._deadline.tasks_s.get(key, 0.0) if self._deadline else 0.0
        if estimated_s > 0.0:
            self._ratios.append(seconds / estimated_s)
