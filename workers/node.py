"""What a node of a cluster says of itself: who it is, which boards it holds, what it lacks.

Runs on the node it describes. Starts nothing there and judges nothing: whether what is found is
what the node's label claims is for whoever asked.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field

from workers.boards import FoundBoard, discover, driven_by_standin
from workers.engines.registry import BACKENDS, why_absent


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """A node as it sees itself.

    `boards` are its GPUs, or its CPU where it has none; `is_standin` whether a stand-in library
    answers for them; `absent` maps a backend it cannot load to the reason.
    """

    host: str
    boot: str
    boards: tuple[FoundBoard, ...]
    is_standin: bool
    absent: Mapping[str, str] = field(default_factory=dict)


def look(slugs: Mapping[str, str]) -> NodeFacts:
    """Return what this node is; `slugs` maps exact NVML names to the catalogue's slugs."""
    from workers.process import boot_id  # reaches the store, which who plans does not load

    reasons = {backend: why_absent(backend) for backend in BACKENDS}
    return NodeFacts(
        host=platform.node(),
        boot=boot_id(),
        boards=tuple(discover(slugs)),
        is_standin=driven_by_standin(),
        absent={backend: reason for backend, reason in reasons.items() if reason is not None},
    )
