"""The meter of a simulated board group: integrates the power its engine drew on its clock."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType

from db.readings import GpuEnergy, Reading
from db.records import Board, Reality
from workers.clock import Clock
from workers.meters.curve import CounterCurve, Curve

_NO_POWER = "the catalogue has no TDP or idle power of this board"
_NO_CPU_POWER = "a simulated machine without a GPU has no power model"
_NO_UNCERTAINTY = "timing_uncertainty_j: nothing was timed on a simulated board"


class Draw:
    """What each board of a group drew since the window was opened; idle power in between.

    `course` holds when its power changed, and the joules above idle until then.
    """

    def __init__(self, *, board: Board, boards: int, clock: Clock) -> None:
        self.board = board
        self.boards = boards
        self.clock = clock
        self._above_idle_j = 0.0
        self._most_w = 0.0
        self.course: list[tuple[int, float]] = []

    def use(self, seconds: float, watts: float | None) -> None:
        """Let `seconds` pass at `watts` for each board."""
        self._passed()
        self.clock.sleep(seconds)
        if watts is not None:
            self._above_idle_j += (watts - (self.board.idle_w or 0.0)) * seconds
            self._most_w = max(self._most_w, watts)
        self._passed()

    def _passed(self) -> None:
        self.course.append((self.clock.now_ns(), self._above_idle_j))

    def begin(self) -> None:
        """Forget what was drawn until now."""
        self._above_idle_j, self._most_w = 0.0, 0.0
        self.course.clear()

    def joules(self, seconds: float) -> tuple[float, float] | None:
        """Return each board's joules and greatest watts in `seconds` since `begin`.

        None where the board's power is not known.
        """
        idle = self.board.idle_w
        if idle is None or self.board.tdp_w is None:
            return None
        return idle * seconds + self._above_idle_j, max(self._most_w, idle)


class SimulatedMeter:
    """Reads the energy of a simulated group; every reading says so."""

    name = "roofline"
    reality = Reality.SIMULATED
    software: Mapping[str, str] = MappingProxyType({})

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._opened_ns: int | None = None
        self._curves: tuple[Curve, ...] = ()
        self._epoch_s = time.time() - draw.clock.now_ns() / 1e9
        board = draw.board
        known = board.idle_w is not None and board.tdp_w is not None
        self.measures = known and not board.is_cpu
        reason = _NO_CPU_POWER if board.is_cpu else _NO_POWER
        self.why_not: tuple[str, ...] = () if self.measures else (reason,)

    def open(self, *, follow: bool = False) -> None:  # noqa: ARG002 - its course is always kept
        """Start a window."""
        self._draw.begin()
        self._opened_ns = self._draw.clock.now_ns()

    def close(self) -> Reading:
        """End the window and report what was drawn in it."""
        ended_ns = self._draw.clock.now_ns()
        started_ns = ended_ns if self._opened_ns is None else self._opened_ns
        self._opened_ns = None
        seconds = (ended_ns - started_ns) / 1e9
        found = self._draw.joules(seconds) if self.measures else None
        gpus = self._gpus(found, seconds)
        self._curves = () if found is None else (self._curve(),) * len(gpus)
        return Reading(
            started_ns=started_ns,
            ended_ns=ended_ns,
            started_at=self._epoch_s + started_ns / 1e9,
            reality=Reality.SIMULATED,
            energy_j=None if found is None else found[0] * len(gpus),
            energy_method=None if found is None else "roofline",
            gpus=gpus,
            reasons=(*self.why_not, _NO_UNCERTAINTY),
        )

    def _curve(self) -> Curve:
        """Return the joules of each board at every change of its power, known exactly."""
        idle_w, course = self._draw.board.idle_w or 0.0, sorted(dict(self._draw.course).items())
        return CounterCurve(
            times_ns=tuple(at_ns for at_ns, _ in course),
            joules=tuple(
                above_j + idle_w * (at_ns - course[0][0]) / 1e9 for at_ns, above_j in course
            ),
            resolution_s=0.0,
        )

    def curves(self) -> tuple[Curve, ...]:
        """Return the course of each board's energy in the window closed last."""
        return self._curves

    def _gpus(self, found: tuple[float, float] | None, seconds: float) -> tuple[GpuEnergy, ...]:
        """Return a row per board, all alike; none for a machine without a GPU."""
        board = self._draw.board
        if board.is_cpu:
            return ()
        energy_j, max_w = found or (None, None)
        return tuple(
            GpuEnergy(
                uuid=f"SIM-{board.slug}-{index}",
                index=index,
                name=board.nvml_name or board.slug,
                energy_j=energy_j,
                method=None if energy_j is None else "integrated",
                integrated_j=energy_j,
                mean_w=energy_j / seconds if energy_j is not None and seconds else None,
                max_w=max_w,
                power_limit_w=board.tdp_w,
                reasons=(*self.why_not, _NO_UNCERTAINTY),
            )
            for index in range(self._draw.boards)
        )

    def foreign_processes(self) -> tuple[int, ...]:
        """Nobody else can be on a simulated board."""
        return ()

    def freeze_processes(self) -> None:
        """There is no list of processes to remember."""

    def shutdown(self) -> None:
        """There is nothing to end."""
