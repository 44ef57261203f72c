"""The nodes of a cluster: what each claims, what it holds, and which may measure. Pure.

Owns the judgement: a node whose label is not what NVML finds there measures nothing. It asks
nobody; the facts were gathered on the nodes themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from campaign.configuration.reader import nearest
from workers.boards import FoundBoard
from workers.node import NodeFacts
from workers.products import BOARD_LABEL, slug_of_label


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A living node as Ray lists it, and its own account; `silence` says why there is none."""

    id: str
    name: str
    label: str | None
    gpus: int
    cpus: int
    facts: NodeFacts | None = None
    silence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A node, the board it may measure on, and why it may not: neither for one without a label."""

    node: Node
    board: str | None = None
    why_not: str | None = None

    @property
    def count(self) -> int:
        """Boards that may be measured on: none where the node is refused."""
        if self.board is None:
            return 0
        return 1 if self.board.startswith("cpu:") else self.node.gpus

    @property
    def line(self) -> str:
        """What is wrong with the node, for people."""
        return f"node {self.node.name}: {self.why_not}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """The judged nodes of a cluster."""

    nodes: tuple[Judged, ...]

    @property
    def usable(self) -> tuple[Judged, ...]:
        """The nodes that may measure."""
        return tuple(judged for judged in self.nodes if judged.board is not None)

    @property
    def refused(self) -> tuple[Judged, ...]:
        """The nodes that may not, with a reason."""
        return tuple(judged for judged in self.nodes if judged.why_not is not None)

    @property
    def counts(self) -> dict[str, int]:
        """The boards of the usable nodes, by slug."""
        found: Counter[str] = Counter()
        for judged in self.usable:
            found[judged.board or ""] += judged.count
        return dict(found)

    @property
    def boards(self) -> dict[str, FoundBoard]:
        """One board of each kind, as its node describes it."""
        return {
            board.slug: board
            for judged in self.usable
            for board in (judged.node.facts.boards if judged.node.facts else ())
            if board.slug == judged.board
        }

    @property
    def is_standin(self) -> bool:
        """Whether stand-in libraries answer for the boards: what they meter is simulated."""
        return any(_standin(judged) for judged in self.usable)

    @property
    def absent(self) -> dict[str, str]:
        """The backends that no usable node can load, with the reason of one of them."""
        found = [judged.node.facts.absent for judged in self.usable if judged.node.facts]
        shared = set.intersection(*map(set, found)) if found else set()
        return {backend: found[0][backend] for backend in sorted(shared)}

    @property
    def boots(self) -> set[str]:
        """The hosts of the usable nodes, by their boot ids."""
        return {judged.node.facts.boot for judged in self.usable if judged.node.facts}


def judge(nodes: Sequence[Node], slugs: Collection[str]) -> Roster:
    """Return which nodes may measure; `slugs` are the boards of the catalogue."""
    judged = tuple(_judged(node, slugs) for node in nodes)
    usable = [j for j in judged if j.board is not None and not j.board.startswith("cpu:")]
    if all(map(_standin, usable)):
        return Roster(nodes=judged)
    why = "a stand-in answers for its boards, and drivers do on other nodes: it would be simulated"
    return Roster(
        nodes=tuple(Judged(node=j.node, why_not=why) if _standin(j) else j for j in judged)
    )


def _standin(judged: Judged) -> bool:
    facts = judged.node.facts
    return judged.board is not None and facts is not None and facts.is_standin


def _judged(node: Node, slugs: Collection[str]) -> Judged:
    """Return a node with its board, or with the reason why it has none."""
    label, facts = node.label, node.facts
    if label is None:
        why = None if node.gpus == 0 else _unlabelled(node)
        return Judged(node=node, why_not=why)
    if facts is None:
        return Judged(node=node, why_not=f"labelled {label}: {node.silence}")
    held = Counter(board.slug for board in facts.boards)
    slug = slug_of_label(label, {*slugs, *held})
    if slug is None:
        known = nearest(label, slugs)
        why = f"labelled {label}, no board of the catalogue{known}; it holds {_listed(held)}"
        return Judged(node=node, why_not=why)
    if held[slug] < max(node.gpus, 1):
        offers = f"{node.gpus} x " if node.gpus > 1 else ""
        why = f"labelled {offers}{slug}, holds {_listed(held)}: refused"
        return Judged(node=node, why_not=why)
    if any(board.mig for board in facts.boards if board.slug == slug):
        why = f"MIG is on: the sensors of a {slug} cover all its instances"
        return Judged(node=node, why_not=why)
    return Judged(node=node, board=slug)


def _unlabelled(node: Node) -> str:
    held = Counter(board.slug for board in node.facts.boards) if node.facts else Counter[str]()
    holds = f"; it holds {_listed(held)}" if held else ""
    return f'no label {BOARD_LABEL}: ray start --labels "$(python -m workers.label)"{holds}'


def _listed(held: Mapping[str, int]) -> str:
    words = [slug if count == 1 else f"{count} x {slug}" for slug, count in sorted(held.items())]
    return " and ".join(words) or "no board"
