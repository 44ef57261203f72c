"""A driver and its sessions on a virtual clock: the real `schedule()`, the real corrections.

Owns the true seconds of engines, which their estimates miss, and the events in which they pass.
Who watches is told of every look the driver takes.
"""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from campaign.running.eta import Rest
from campaign.running.pace import Estimate, corrected
from campaign.running.schedule import Node, Waiting, schedule
from db.grids import Pace
from db.records import EngineSpec

#: Virtual seconds between two looks of the driver, and between two corrections.
STEP_S, CORRECTED_S = 1.0, 300.0


@dataclass(slots=True, kw_only=True)
class Engine:
    """An engine of the grid with its true seconds, which only the clock knows.

    `tasks_s` and `expected_s` are those of each task, true and estimated.
    """

    spec: EngineSpec
    estimate: Estimate
    load_s: float
    tasks_s: list[float]
    expected_s: list[float]
    holders: int = 0
    claimed: int = 0
    measured: Pace = field(default_factory=Pace)

    @property
    def board_s(self) -> float:
        return self.spec.board_count * (self.load_s + sum(self.tasks_s))

    @property
    def left(self) -> int:
        return len(self.tasks_s) - self.claimed

    def note(self, task: int | None) -> None:
        """A task was measured, or an engine loaded: the store would tell of it."""
        seen = self.measured
        if task is None:
            self.measured = replace(seen, loads=seen.loads + 1, loads_s=seen.loads_s + self.load_s)
            return
        self.measured = replace(
            seen, tasks=seen.tasks + 1, tasks_s=seen.tasks_s + self.tasks_s[task],
            expected_s=seen.expected_s + self.expected_s[task],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Seconds of virtual time, of the driver, and what it did in them."""

    ends_s: Mapping[str, float]
    driver_s: float
    calls: int
    loads: int


def truth(engines: Sequence[tuple[EngineSpec, Estimate, list[float]]], spread) -> list[Engine]:
    """Return the engines with true seconds that the estimates miss by `spread`."""
    chance = random.Random(7)
    by_board, by_engine, by_task = spread
    boards: dict[str, float] = {}
    found = []
    for spec, estimate, tasks_s in engines:
        if spec.board not in boards:
            boards[spec.board] = chance.lognormvariate(0, by_board)
        off = boards[spec.board] * chance.lognormvariate(0, by_engine)
        true_s = [s * off * chance.lognormvariate(0, by_task) for s in tasks_s]
        load_s = estimate.load_s * chance.lognormvariate(0, by_engine)
        found.append(Engine(
            spec=spec, estimate=estimate, load_s=load_s, tasks_s=true_s, expected_s=tasks_s
        ))  # fmt: skip
    return found


def fleet(engines: Sequence[Engine], boards: int) -> list[tuple[str, str, int]]:
    """Return (id, board, boards) of nodes: so many boards of each kind, 8 to a node.

    16 where a group of the grid needs them and there are as many.
    """
    widest: Counter[str] = Counter()
    for engine in engines:
        widest[engine.spec.board] = max(widest[engine.spec.board], engine.spec.board_count)
    nodes = []
    for board, group in widest.items():
        size = 16 if group > 8 and boards >= 16 else 8
        nodes += [
            (f"{board}/{n}", board, min(size, boards - n * size))
            for n in range(ceil(boards / size))
        ]
    return nodes


class Simulation:
    """A driver and its sessions on a virtual clock; `watch` is told of every look."""

    def __init__(
        self,
        engines: Sequence[Engine],
        nodes: Sequence[tuple[str, str, int]],
        corrected_s: float = CORRECTED_S,
        watch: Callable[[Simulation, float], None] | None = None,
    ) -> None:
        self.engines, self.corrected_s, self.watch = engines, corrected_s, watch
        self.kind = {name: board for name, board, _ in nodes}
        self.idle = {name: boards for name, _, boards in nodes}
        self.weights: dict[str, set[str]] = defaultdict(set)
        self.estimates = {n: engine.estimate for n, engine in enumerate(engines)}
        self.events: list[tuple[float, int, int, str, int | None]] = []
        self.ends_s: dict[str, float] = defaultdict(float)
        self.driver_s, self.calls, self.loads = 0.0, 0, 0

    def run(self) -> Result:
        now_s, next_correction_s, landed = 0.0, self.corrected_s, True
        while True:
            if now_s >= next_correction_s:
                self._correct()
                next_correction_s = now_s + self.corrected_s
            if landed:
                self._dispatch(now_s)
            if self.watch is not None:
                self.watch(self, now_s)
            if not self.events:
                break
            now_s, landed = max(now_s + STEP_S, self.events[0][0]), False
            while self.events and self.events[0][0] <= now_s:
                landed |= self._step(*heapq.heappop(self.events))
        assert not any(engine.left for engine in self.engines)
        return Result(
            ends_s=self.ends_s, driver_s=self.driver_s, calls=self.calls, loads=self.loads
        )

    def _dispatch(self, now_s: float) -> None:
        began = time.process_time()
        idle = {self.kind[name] for name, boards in self.idle.items() if boards}
        waiting = [
            self._waiting(n, engine)
            for n, engine in enumerate(self.engines)
            if engine.left and engine.spec.board in idle
        ]
        nodes = [
            Node(id=name, board=self.kind[name], idle=idle, weights=frozenset(self.weights[name]))
            for name, idle in self.idle.items()
            if idle
        ]
        chosen = schedule(waiting, nodes)
        self.driver_s += time.process_time() - began
        self.calls += 1
        for one in chosen:
            engine = self.engines[one.engine_id]
            assert self.kind[one.node] == engine.spec.board
            self.idle[one.node] -= engine.spec.board_count
            assert self.idle[one.node] >= 0
            self.weights[one.node].add(engine.spec.model.name)
            engine.holders += 1
            self.loads += 1
            self._push(now_s + engine.load_s, one.engine_id, one.node, None)

    def _waiting(self, number: int, engine: Engine) -> Waiting:
        known = self.estimates[number]
        return Waiting(
            engine_id=number, board=engine.spec.board, board_count=engine.spec.board_count,
            claimable=engine.left, remaining_s=engine.left * known.task_s, load_s=known.load_s,
            holders=engine.holders, weights=engine.spec.model.name,
        )  # fmt: skip

    def rests(self) -> Iterator[Rest]:
        """Yield what the store would say is left, by the estimates as they would be corrected."""
        self._correct()
        for number, engine in enumerate(self.engines):
            done = engine.measured.tasks
            yield Rest(
                estimate=self.estimates[number], board_count=engine.spec.board_count,
                tasks=len(engine.tasks_s) - done, in_work=engine.claimed - done,
                holders=engine.holders,
            )  # fmt: skip

    def _push(self, at_s: float, number: int, node: str, task: int | None) -> None:
        heapq.heappush(self.events, (at_s, len(self.events), number, node, task))

    def _step(self, at_s: float, _: int, number: int, node: str, task: int | None) -> bool:
        """A session loaded or finished a task: it claims the next; returns whether it landed."""
        engine = self.engines[number]
        engine.note(task)
        if engine.left:
            self._push(at_s + engine.tasks_s[engine.claimed], number, node, engine.claimed)
            engine.claimed += 1
            return False
        engine.holders -= 1
        self.idle[node] += engine.spec.board_count
        self.ends_s[engine.spec.board] = max(self.ends_s[engine.spec.board], at_s)
        return True

    def _correct(self) -> None:
        began = time.process_time()
        measured = {n: engine.measured for n, engine in enumerate(self.engines)}
        self.estimates = corrected({n: e.estimate for n, e in enumerate(self.engines)}, measured)
        self.driver_s += time.process_time() - began
