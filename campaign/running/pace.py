"""Estimated seconds, corrected by what was measured so far, and how long the rest will take.

Pure. An engine with few tasks measured leans on its board, a board on all others, all others on
the estimate; none of it is ever stored as a measurement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import exp, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # at run time it brings the database libraries along
    from db.grids import Pace

#: Measured tasks after which they weigh as much as what is known from elsewhere.
HALF_TRUSTED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What sessions of an engine take on its boards: a task, in the mean, and a load; seconds."""

    board: str
    task_s: float
    load_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What is left of an engine: tasks, seconds each, and the sessions that work on them."""

    board: str
    board_count: int
    tasks: int
    task_s: float
    load_s: float
    holders: int

    @property
    def board_s(self) -> float:
        """Seconds of boards that it takes, with a load where nobody holds it yet."""
        load_s = 0.0 if self.holders else self.load_s
        return self.board_count * (self.tasks * self.task_s + load_s)

    @property
    def usable(self) -> int:
        """Boards it could keep busy: a holder more is worth it for twice its load, as scheduled."""
        worth = int(self.tasks * self.task_s / (2 * self.load_s)) if self.load_s > 0 else self.tasks
        return self.board_count * max(1, self.holders, min(self.tasks, worth))


def corrected(
    estimates: Mapping[int, Estimate], measured: Mapping[int, Pace]
) -> dict[int, Estimate]:
    """Return the estimates, by engine, as the measurements of the same campaign correct them."""
    known = {engine: found for engine, found in measured.items() if engine in estimates}
    tasks = _Ratios(estimates, {e: (m.tasks, m.tasks_s) for e, m in known.items()},
                    lambda estimate: estimate.task_s)  # fmt: skip
    loads = _Ratios(estimates, {e: (m.loads, m.loads_s) for e, m in known.items()},
                    lambda estimate: estimate.load_s)  # fmt: skip
    return {
        engine: replace(
            estimate,
            task_s=estimate.task_s * tasks.of(engine),
            load_s=estimate.load_s * loads.of(engine),
        )
        for engine, estimate in estimates.items()
    }


def eta_s(rests: Iterable[Rest], boards: Mapping[str, int]) -> float | None:
    """Return the seconds until everything is done that these boards can run; None if nothing is.

    The kinds of boards work side by side; of one kind no more are busy than its engines can use.
    """
    by_board: dict[str, list[Rest]] = defaultdict(list)
    for rest in rests:
        if rest.tasks > 0 and rest.board_count <= boards.get(rest.board, 0):
            by_board[rest.board].append(rest)
    ends = (
        sum(rest.board_s for rest in found) / min(boards[board], sum(r.usable for r in found))
        for board, found in by_board.items()
    )
    return max(ends, default=None)


class _Ratios:
    """Measured over estimated seconds of every engine, pooled where few are known.

    On a logarithmic scale: an estimate that is 100 times too long is left as soon as one that is
    100 times too short.
    """

    def __init__(
        self,
        estimates: Mapping[int, Estimate],
        known: Mapping[int, tuple[int, float]],
        estimated: Callable[[Estimate], float],
    ) -> None:
        self._boards = {engine: estimate.board for engine, estimate in estimates.items()}
        self._engines: dict[int, tuple[int, float]] = {}
        by_board: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
        for engine, (count, seconds) in known.items():
            expected_s = count * estimated(estimates[engine])
            if seconds > 0 and expected_s > 0:
                self._engines[engine] = count, log(seconds) - log(expected_s)
                by_board[self._boards[engine]].append((count, seconds, expected_s))
        everywhere = _drawn(*_pooled([one for found in by_board.values() for one in found]), 0.0)
        self._everywhere = everywhere
        self._of_board = {
            board: _drawn(*_pooled(found), everywhere) for board, found in by_board.items()
        }

    def of(self, engine: int) -> float:
        """Return the factor for an engine."""
        board = self._of_board.get(self._boards[engine], self._everywhere)
        return exp(_drawn(*self._engines.get(engine, (0, 0.0)), board))


def _pooled(found: Iterable[tuple[int, float, float]]) -> tuple[int, float]:
    """Return how many, and the logarithm of all their measured over all their estimated seconds."""
    counts, seconds, expected = [sum(column) for column in zip(*found, strict=True)] or (0, 0, 0)
    return round(counts), log(seconds) - log(expected) if counts else 0.0


def _drawn(count: int, ratio: float, towards: float) -> float:
    """Return a ratio drawn towards what is known from elsewhere where it rests on few."""
    trust = count / (count + HALF_TRUSTED)
    return trust * ratio + (1 - trust) * towards
