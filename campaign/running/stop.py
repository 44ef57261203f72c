"""What ended a run before its tasks did, and the exit codes that say so."""

from __future__ import annotations

from enum import StrEnum

INTERRUPTED = 130
#: The same command goes on where this one stopped: EX_TEMPFAIL of sysexits.h.
UNFINISHED = 75


class Stop(StrEnum):
    """What ended a run before its tasks did."""

    INTERRUPTED = "interrupted"  # by a person, SIGTERM or SIGHUP
    OUT_OF_TIME = "out_of_time"  # nothing that is left would be finished before the deadline
    RAY_DIED = "ray_died"  # of a Ray of the run's own, its node was killed
    STORE_AWAY = "store_away"  # for longer than store.patience_s; what was measured is kept

    @property
    def exit_code(self) -> int:
        """What the run ends with."""
        return INTERRUPTED if self is Stop.INTERRUPTED else UNFINISHED
