"""Which engine goes to which node next: pure, on plain values, with no clock of its own.

Longest remaining work first, one holder per engine; a second holder only where each would still
have twice the load to work and boards would idle. Where sessions follow each other on one board the
order changes nothing but when people see the first result: the shortest goes first. A group lies on
one node, on one that has the weights on its disk where there is one.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An engine with work left. Seconds are estimates; `holders` are its sessions.

    `claimable` tasks are nobody's yet and take `remaining_s` in all; `weights` names what is read
    from a disk. It never goes to the nodes it `avoids`.
    """

    engine_id: int
    board: str
    board_count: int
    claimable: int
    remaining_s: float
    load_s: float
    holders: int
    weights: str = ""
    avoids: frozenset[str] = frozenset()

    def share_s(self, holders: int) -> float:
        """Return the work of each of so many holders."""
        return self.remaining_s / holders

    def deserves(self, holders: int) -> bool:
        """Whether each of so many would have a task, and more than twice its load to work."""
        return holders <= self.claimable and self.share_s(holders) > 2 * self.load_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The boards of one kind in one host: how many idle, and the weights on the host's disk.

    Where a session has to be `alone`, it takes the whole node; `only` says that no two sessions fit
    on all the nodes of its kind.
    """

    id: str
    board: str
    idle: int
    weights: frozenset[str] = frozenset()
    alone: bool = False
    only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """One more session of an engine, on a node."""

    engine_id: int
    node: str


def schedule(waiting: Iterable[Waiting], nodes: Sequence[Node]) -> list[Dispatch]:
    """Return the sessions to start now, in order.

    An engine appears twice when it deserves two more holders. Takes a time that grows with the
    engines that wait and the boards that idle, not with their product.
    """
    boards = _Idle(nodes)
    widest = boards.widest()
    fitting = [w for w in waiting if w.claimable and w.board_count <= widest.get(w.board, 0)]
    in_line = {node.board for node in nodes if node.only}
    fitting.sort(key=lambda w: (
        w.load_s + w.remaining_s if w.board in in_line else -w.remaining_s, w.engine_id
    ))  # fmt: skip
    chosen: list[Dispatch] = []
    held = {engine.engine_id: engine.holders for engine in fitting}
    for engine in fitting:
        if engine.holders == 0 and (node := boards.take(engine)) is not None:
            held[engine.engine_id] = 1
            chosen.append(Dispatch(engine_id=engine.engine_id, node=node))
    return chosen + _more_holders(fitting, held, boards)


def _more_holders(
    engines: Sequence[Waiting], held: dict[int, int], boards: _Idle
) -> list[Dispatch]:
    """Give boards that would idle to the engines that would end last."""
    chosen: list[Dispatch] = []
    widest = boards.widest()
    last = [
        (-engine.share_s(held[engine.engine_id]), place)
        for place, engine in enumerate(engines)
        if held[engine.engine_id] and engine.board_count <= widest.get(engine.board, 0)
    ]
    heapq.heapify(last)
    while last:
        _, place = heapq.heappop(last)
        engine = engines[place]
        holders = held[engine.engine_id] + 1
        if not engine.deserves(holders) or (node := boards.take(engine)) is None:
            continue
        held[engine.engine_id] = holders
        chosen.append(Dispatch(engine_id=engine.engine_id, node=node))
        heapq.heappush(last, (-engine.share_s(holders), place))
    return chosen


class _Idle:
    """Nodes by how many of their boards idle, so that the best one is found without a search."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes: dict[str, Node] = {}
        self._idle: dict[str, int] = {}
        self._by_idle: dict[str, dict[int, dict[str, None]]] = defaultdict(dict)
        self._with: dict[tuple[str, str], list[str]] = defaultdict(list)
        for node in sorted(nodes, key=lambda node: node.idle):
            if node.idle > 0:
                self._nodes[node.id] = node
                self._put(node, node.idle)
                for weights in node.weights:
                    self._with[node.board, weights].append(node.id)

    def widest(self) -> dict[str, int]:
        """Return the most boards of each kind that idle on one node."""
        return {board: max(sizes) for board, sizes in self._by_idle.items() if sizes}

    def take(self, engine: Waiting) -> str | None:
        """Take boards of one node for an engine; returns the node, None where none has enough.

        A node with its weights comes first, then the one that is left with the fewest boards, so
        that whole nodes stay whole for groups.
        """
        found = self._holding(engine) or self._fullest(engine)
        if found is None:
            return None
        node, idle = self._nodes[found], self._idle[found]
        sizes = self._by_idle[node.board]
        del sizes[idle][found]
        if not sizes[idle]:
            del sizes[idle]
        self._put(node, 0 if node.alone else idle - engine.board_count)
        return found

    def _put(self, node: Node, idle: int) -> None:
        self._idle[node.id] = idle
        if idle > 0:
            self._by_idle[node.board].setdefault(idle, {})[node.id] = None

    def _holding(self, engine: Waiting) -> str | None:
        """Return a node that has the weights and enough idle boards, a full one rather."""
        holding = self._with.get((engine.board, engine.weights), [])
        for node in holding:
            if self._idle[node] >= engine.board_count and node not in engine.avoids:
                return node
        holding[:] = [node for node in holding if self._idle[node]]
        return None

    def _fullest(self, engine: Waiting) -> str | None:
        sizes = self._by_idle[engine.board]
        for idle in sorted(idle for idle in sizes if idle >= engine.board_count):
            for node in sizes[idle]:
                if node not in engine.avoids:
                    return node
        return None
