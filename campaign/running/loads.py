"""Which engines loaded on which nodes and which did not: whether an engine or a node is at fault.

Pure; forgets nothing for as long as a run lasts. A node that breaks fails within seconds, idles
again, and would be given one engine after the other: so a failure is held against an engine only
where something has loaded before, or where the engine has nowhere else to go.
"""

from __future__ import annotations

from collections import Counter, defaultdict

#: Loads of one engine that may fail on nodes that load others, or on all it has.
MAX_LOADS = 2
#: Nodes of which nothing is known yet on which a load may fail.
MAX_NODES = 3
#: Engines that fail to load on a node, and load on another, before it gets none any more.
MAX_BLAMES = 2
#: Sessions of an engine in a row that end with a fault and have measured nothing.
MAX_FRUITLESS = 6


class Loads:
    """The loads of one run."""

    def __init__(self) -> None:
        """Nothing has been loaded yet."""
        self._failed: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._loaded: set[int] = set()
        self._proven: set[str] = set()
        self._blamed: defaultdict[str, set[int]] = defaultdict(set)
        self._fruitless: Counter[int] = Counter()

    def loaded(self, engine_id: int, node: str) -> list[str]:
        """Note that an engine loaded; returns the nodes that are known to be at fault by now."""
        self._loaded.add(engine_id)
        self._proven.add(node)
        self._blamed.pop(node, None)
        for other in self._failed.pop(engine_id, Counter()):
            if other != node:
                self._blamed[other].add(engine_id)
        return [at for at, engines in self._blamed.items() if len(engines) >= MAX_BLAMES]

    def failed(self, engine_id: int, node: str, *, permanent: bool, elsewhere: bool) -> bool:
        """Note that one did not load; returns whether that is the engine's fault.

        `elsewhere` says whether it has another node to go to, one that it did not fail on.
        """
        failed = self._failed[engine_id]
        failed[node] += 1
        if engine_id in self._loaded and node not in self._proven:
            self._blamed[node].add(engine_id)
        if not elsewhere:
            return permanent or failed.total() >= MAX_LOADS
        proven = sum(failed[at] for at in self._proven)
        if node in self._proven and (permanent or proven >= MAX_LOADS):
            return True
        return len(failed) >= MAX_NODES

    def ended(self, engine_id: int, *, fruitless: bool) -> bool:
        """Note how a session ended that had loaded; returns whether its engine only breaks."""
        self._fruitless[engine_id] = self._fruitless[engine_id] + 1 if fruitless else 0
        return self._fruitless[engine_id] >= MAX_FRUITLESS
