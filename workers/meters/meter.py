"""The contract of a meter: open a window, close it, get a Reading.

Every meter passes the same conformance suite. `close` never raises for what happens to a board
during the window: what could not be measured is None with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from db.readings import Reading
from db.records import Reality
from workers.meters.curve import Curve


class Meter(Protocol):
    """Meters one board group. Windows do not overlap; one is open at a time."""

    #: What is read, for the session's row, e.g. ``nvml`` or ``rapl``.
    name: str
    #: Whether this meter can measure (not estimate) the board's energy; else why not.
    measures: bool
    why_not: tuple[str, ...]
    #: SIMULATED when the driver behind it is a stand-in.
    reality: Reality
    #: Versions of what answers behind it, by name: the driver's, if there is one.
    software: Mapping[str, str]

    def open(self, *, follow: bool = False) -> None:
        """Start a window; returns once its start edge is fixed.

        `follow` keeps the course of the energy inside it, for `curves`.
        """

    def close(self) -> Reading:
        """End the window at the moment of the call and report it."""

    def curves(self) -> tuple[Curve, ...]:
        """Return the course of each board's energy inside the window that was closed last.

        Of all boards of the group or of none. Where it was not followed it is coarse.
        """

    def foreign_processes(self) -> tuple[int, ...] | None:
        """Pids on the group's GPUs that were not there when `freeze_processes` was called.

        None where nobody can tell.
        """

    def freeze_processes(self) -> None:
        """Remember which processes belong to the session; later ones are foreign."""

    def shutdown(self) -> None:
        """End the meter's processes; safe to call twice."""
