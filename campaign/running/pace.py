"""Estimated seconds of an engine's tasks and loads, corrected by what was measured so far.

Pure. What is measured of an engine is weighed against what is known of its board, that against all
boards, and that against the estimate; none of it is ever stored as a measurement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import exp, inf, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # at run time it brings the database libraries along
    from db.grids import Pace

#: How far true seconds are from estimated ones, as the standard deviation of a logarithm: of all
#: boards together, of a board from all, of an engine from its board, of a task from its engine.
#: Assumptions. The first says that an estimate is given up as soon as anything is measured.
ALL_SPREAD, BOARD_SPREAD, ENGINE_SPREAD, TASK_SPREAD = 3.0, 1.0, 0.3, 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What sessions of an engine take on its boards: a task, in the mean, and a load; seconds.

    `tasks` are those that the mean is of, 0 where nobody knows.
    """

    board: str
    task_s: float
    load_s: float
    tasks: int = 0

    def left_s(self, measured: Pace | None) -> float:
        """Return the mean of the tasks that are left, as estimated before any was measured."""
        if measured is None or self.tasks <= measured.tasks:
            return self.task_s
        left = self.tasks - measured.tasks
        return max((self.tasks * self.task_s - measured.expected_s) / left, self.task_s / 10)


def corrected(
    estimates: Mapping[int, Estimate], measured: Mapping[int, Pace]
) -> dict[int, Estimate]:
    """Return the estimates, by engine, as the measurements of the same campaign correct them.

    Measured seconds are compared with those estimated of the same tasks: the first ones that end
    are the short ones. `task_s` becomes the mean of the tasks that are left.
    """
    known = {engine: found for engine, found in measured.items() if engine in estimates}
    boards = {engine: estimate.board for engine, estimate in estimates.items()}
    tasks = _Ratios(boards, {e: (m.tasks, m.tasks_s, m.expected_s) for e, m in known.items()})
    loads = _Ratios(boards, {e: (m.loads, m.loads_s, m.loads * estimates[e].load_s)
                             for e, m in known.items()})  # fmt: skip
    return {
        engine: replace(
            estimate,
            task_s=estimate.left_s(known.get(engine)) * tasks.of(engine),
            load_s=estimate.load_s * loads.of(engine),
        )
        for engine, estimate in estimates.items()
    }


class _Ratios:
    """Measured over estimated seconds of every engine: what is known of few, drawn towards more.

    On a logarithmic scale, each level by the inverse of its variances: an estimate that is 100
    times too long is left as soon as one that is 100 times too short.
    """

    def __init__(
        self,
        boards: Mapping[int, str],
        known: Mapping[int, tuple[int, float, float]],
    ) -> None:
        """Take the boards of engines, and counts with measured and estimated seconds of all."""
        self._boards = boards
        self._engines: dict[int, _Known] = {}
        by_board: dict[str, list[_Known]] = defaultdict(list)
        for engine, (count, seconds, expected_s) in known.items():
            if seconds > 0 and expected_s > 0:
                found = _Known(log(seconds) - log(expected_s), TASK_SPREAD**2 / count)
                self._engines[engine] = found
                by_board[self._boards[engine]].append(found)
        means = {name: _mean(found, ENGINE_SPREAD) for name, found in by_board.items()}
        self._all = _mean(means.values(), BOARD_SPREAD).drawn(0.0, ALL_SPREAD)
        self._of_board = {n: found.drawn(self._all, BOARD_SPREAD) for n, found in means.items()}

    def of(self, engine: int) -> float:
        """Return the factor for an engine."""
        board = self._of_board.get(self._boards[engine], self._all)
        own = self._engines.get(engine)
        return exp(board if own is None else own.drawn(board, ENGINE_SPREAD))


@dataclass(frozen=True, slots=True)
class _Known:
    """The logarithm of a ratio, and its variance; infinite where nothing is known."""

    ratio: float
    variance: float

    def drawn(self, towards: float, spread: float) -> float:
        """Return the ratio drawn towards another, from which it is no further than a spread."""
        trust = spread**2 / (spread**2 + self.variance)
        return trust * self.ratio + (1 - trust) * towards


def _mean(found: Iterable[_Known], spread: float) -> _Known:
    """Return what members say of their mean, from which each lies a spread away."""
    weighed = [(1 / (one.variance + spread**2), one.ratio) for one in found]
    weight = sum(share for share, _ in weighed)
    if not weight:
        return _Known(0.0, inf)
    return _Known(sum(share * ratio for share, ratio in weighed) / weight, 1 / weight)
