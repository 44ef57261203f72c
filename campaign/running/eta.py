"""How long the rest of a campaign will take: its engines on its boards, played forward.

Pure. Plays what `schedule()` does with estimated seconds: longest engine first, a second holder
where boards would idle and it is worth a load. Decides nothing.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from campaign.running.pace import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What is left of an engine: tasks, those of them in work, and the sessions that hold it.

    A session without a task in work is loading. What has begun is half done, in the mean.
    """

    estimate: Estimate
    board_count: int
    tasks: int
    in_work: int
    holders: int

    @property
    def seconds(self) -> float:
        """Seconds that it takes one session, with a load where nobody holds it yet."""
        loads = max(0, self.holders - self.in_work) / 2 if self.holders else 1
        tasks = self.tasks - min(self.in_work, self.holders) / 2
        return tasks * self.estimate.task_s + loads * self.estimate.load_s


def eta_s(rests: Iterable[Rest], boards: Mapping[str, int]) -> float | None:
    """Return the seconds until everything is done that these boards can run; None if nothing is.

    The kinds of boards work side by side; the one that ends last ends the campaign.
    """
    by_board: dict[str, list[Rest]] = defaultdict(list)
    for rest in rests:
        board = rest.estimate.board
        if rest.tasks > 0 and rest.board_count <= boards.get(board, 0):
            by_board[board].append(rest)
    ends = (_Played(rests, boards[board]).end_s() for board, rests in by_board.items())
    return max(ends, default=None)


class _Played:
    """Engines on boards of one kind. Nodes are not looked at: a group fits wherever enough idle."""

    def __init__(self, rests: Sequence[Rest], boards: int) -> None:
        """Take those that are held now as they are, and the others in the order of dispatch."""
        self._rests = sorted(rests, key=lambda rest: rest.seconds)
        self._idle, self._now_s = boards, 0.0
        self._waiting = [n for n, rest in enumerate(self._rests) if not rest.holders]
        self._held: dict[int, tuple[float, int]] = {}  # when it ends, and its holders
        self._loaded_s: dict[int, list[float]] = defaultdict(list)
        self._next: list[tuple[float, int]] = []
        self._last: list[tuple[float, int]] = []
        for number, rest in enumerate(self._rests):
            if rest.holders:
                self._hold(number, rest.seconds / rest.holders, rest.holders)

    def end_s(self) -> float:
        """Return the seconds until all of it is done."""
        self._start()
        while self._next:
            end_s, number = heapq.heappop(self._next)
            if self._held.get(number, (None, 0))[0] != end_s:
                continue  # another holder has joined since
            self._now_s = end_s
            self._idle += self._held.pop(number)[1] * self._rests[number].board_count
            self._start()
        return self._now_s

    def _start(self) -> None:
        """Give idle boards to engines that nobody holds, then to those that would end last."""
        if self._idle <= 0:
            return
        later = []
        while self._waiting and self._idle > 0:
            number = self._waiting.pop()
            if self._rests[number].board_count <= self._idle:
                self._join(number, self._now_s + self._rests[number].seconds)
            else:
                later.append(number)
        self._waiting += reversed(later)
        while self._last and self._idle > 0:
            _, number = self._last[0]
            joined_s = self._joined_s(number, -self._last[0][0])
            if joined_s is not None and self._rests[number].board_count > self._idle:
                break
            heapq.heappop(self._last)
            if joined_s is not None:
                self._join(number, joined_s)

    def _join(self, number: int, end_s: float) -> None:
        self._loaded_s[number].append(self._now_s + self._rests[number].estimate.load_s)
        self._hold(number, end_s, 1)

    def _hold(self, number: int, end_s: float, more: int) -> None:
        self._held[number] = end_s, self._held.get(number, (0.0, 0))[1] + more
        self._idle -= more * self._rests[number].board_count
        heapq.heappush(self._next, (end_s, number))
        heapq.heappush(self._last, (-end_s, number))

    def _joined_s(self, number: int, end_s: float) -> float | None:
        """Return when an engine ends with one holder more; None if that is not worth a load."""
        known_s, holders = self._held.get(number, (None, 0))
        if known_s != end_s:
            return None
        estimate, work_s = self._rests[number].estimate, (end_s - self._now_s) * holders
        loading_s = sum(max(0.0, at_s - self._now_s) for at_s in self._loaded_s[number])
        claimable_s = work_s - loading_s - holders * estimate.task_s / 2
        share_s = claimable_s / (holders + 1)
        if share_s < estimate.task_s or share_s <= 2 * estimate.load_s:
            return None
        return self._now_s + (work_s + estimate.load_s) / (holders + 1)
