"""Where sessions may go: the boards of each node, what is refused there, what Ray is asked for.

Owns which nodes are refused, for everything or for one engine. Chooses nothing: the schedule does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from campaign.cluster import nodes as cluster
from campaign.cluster.nodes import LocalBoards
from campaign.cluster.roster import Roster
from campaign.configuration.settings import ClusterSettings
from campaign.tabular import count_of
from db.records import EngineSpec
from workers.products import BOARD_LABEL, label_value, slug_of_label

#: The node of boards that are not there yet, and that an autoscaler would bring.
NOWHERE = ""
#: The node of a Ray of our own.
HERE = "here"


def berth_id(node: str, board: str) -> str:
    """Return what the schedule calls the boards of one kind on one node."""
    return f"{node}/{board}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Berth:
    """The boards of one kind on one node; `cpus` are the threads Ray counts there."""

    node: str
    name: str
    board: str
    boards: int
    cpus: int = 1

    @property
    def id(self) -> str:
        """What the schedule calls it."""
        return berth_id(self.node, self.board)


class Berths:
    """The berths of this host, or of the cluster that was joined."""

    def __init__(
        self,
        settings: ClusterSettings,
        local: LocalBoards,
        boards: Collection[str],
        roster: Roster | None,
    ) -> None:
        """Take what is known of the nodes; `boards` are the slugs anything is to run on."""
        self.is_cluster = roster is not None
        self._settings, self._local, self._boards = settings, local, frozenset(boards)
        self._refused = {judged.node.id for judged in roster.refused} if roster else set()
        self._avoided: defaultdict[int, set[str]] = defaultdict(set)
        self._by_board: dict[str, list[Berth]] = {}
        self.leaving: frozenset[str] = frozenset()
        self.by_id: dict[str, Berth] = {}

    def look(self) -> None:
        """See which nodes there are now; what else is asked is about the nodes seen last."""
        self.leaving = cluster.draining() if self.is_cluster else frozenset()
        self.by_id = {berth.id: berth for berth in self._seen()}
        self._by_board = {}
        for berth in self.by_id.values():
            self._by_board.setdefault(berth.board, []).append(berth)

    def _seen(self) -> list[Berth]:
        """Return where sessions may go, now or once others have left."""
        if not self.is_cluster:
            return [Berth(node=HERE, name=HERE, board=slug, boards=count)
                    for slug, count in self._local.counts.items()]  # fmt: skip
        shut, found = self._refused | self.leaving, []
        for node in cluster.nodes():
            slug = slug_of_label(node.label, self._boards) if node.label else None
            if slug is not None and node.id not in shut:
                count = 1 if slug.startswith("cpu:") else node.gpus
                found.append(Berth(node=node.id, name=node.name, board=slug, boards=count,
                                   cpus=node.cpus))  # fmt: skip
        return found + self._awaited(found)

    def _awaited(self, found: Collection[Berth]) -> list[Berth]:
        """Return boards that are declared and not there: to ask for them may bring their nodes."""
        there: Counter[str] = Counter()
        for berth in found:
            there[berth.board] += berth.boards
        return [
            Berth(node=NOWHERE, name="a node to come", board=slug, boards=count - there[slug])
            for slug, count in self._settings.boards.items()
            if count > there[slug]
        ]

    def could_hold(self, engine_id: int, engine: EngineSpec) -> bool:
        """Whether an engine has a node to go to, now or once others have left it."""
        return any(
            berth.boards >= engine.board_count and not self.avoids(engine_id, berth)
            for berth in self._by_board.get(engine.board, ())
        )

    def has_other(self, engine_id: int, engine: EngineSpec, berth: Berth) -> bool:
        """Whether an engine has a node to go to beside that one."""
        return any(
            other.node != berth.node
            and other.boards >= engine.board_count
            and not self.avoids(engine_id, other)
            for other in self._by_board.get(engine.board, ())
        )

    def avoids(self, engine_id: int, berth: Berth) -> bool:
        """Whether a node has shown to be unfit for an engine."""
        return berth.node in self.avoided(engine_id)

    def avoided(self, engine_id: int) -> Collection[str]:
        """Return the nodes that have shown to be unfit for an engine."""
        return self._avoided.get(engine_id, ())

    def avoid(self, engine_id: int, berth: Berth) -> None:
        """Send an engine to this node no more."""
        self._avoided[engine_id].add(berth.node)

    def refuse(self, node: str) -> None:
        """Send nothing to this node any more: it is not what it claims, or does not work."""
        self._refused.add(node)
        self.look()

    def is_alone(self, berth: Berth) -> bool:
        """Whether a session has this node to itself."""
        return self._settings.isolation == "node" and berth.node != NOWHERE

    def claims(self, engine: EngineSpec, berth: Berth) -> dict[str, Any]:
        """Return what a session asks Ray for: all of a node that it is to have to itself.

        So neither another driver nor another program of the cluster gets the boards beside it.
        """
        threads, on_cpu = engine.threads or 1, engine.board.startswith("cpu:")
        if not self.is_cluster:
            return {
                "num_cpus": threads,
                "num_gpus": engine.board_count if self._local.gpus else 0,
                "resources": {cluster.resource(engine.board): engine.board_count},
            }
        if berth.node == NOWHERE:
            return {
                "num_cpus": threads,
                "num_gpus": 0 if on_cpu else engine.board_count,
                "label_selector": {BOARD_LABEL: label_value(engine.board)},
            }
        whole = on_cpu or self.is_alone(berth)
        gpus = berth.boards if whole else engine.board_count
        return {
            "num_cpus": berth.cpus if whole else threads,
            "num_gpus": 0 if on_cpu else gpus,
            "scheduling_strategy": cluster.on(berth.node),
        }


def homeless_lines(groups: Iterable[tuple[str, int, int]]) -> list[str]:
    """Return a line for each kind of group that no node holds: slug, boards, tasks left for it."""
    missing: Counter[tuple[str, int]] = Counter()
    for board, count, tasks in groups:
        missing[board, count] += tasks
    return [
        f"no node for {f'{count} x ' if count > 1 else ''}{board}: {count_of(tasks, 'task')} left"
        for (board, count), tasks in sorted(missing.items())
    ]
