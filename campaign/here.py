"""Which boards there are for a run: found on this machine, or declared by the configuration."""

from __future__ import annotations

from collections import Counter

from campaign.catalog import Catalog
from campaign.lengths import absent_traces
from campaign.settings import Settings
from db.errors import ConfigError
from db.records import Board, Reality
from workers.boards import FoundBoard, cpu_board, discover, driven_by_standin
from workers.engines.registry import BACKENDS, why_absent


def found_boards(catalog: Catalog) -> list[FoundBoard]:
    """Return the GPUs of this machine by the catalogue's slugs, or its CPU."""
    return discover({b.nvml_name: b.slug for b in catalog.boards() if b.nvml_name})


def boards_here(settings: Settings, catalog: Catalog) -> tuple[list[Board], dict[str, int]]:
    """Return the boards `here` stands for, and how many of each kind there are.

    A running cluster's boards are declared in `cluster.boards`; claimed ones too.
    """
    if settings.cluster.kind == "local":
        found = found_boards(catalog)
        counts = dict(Counter(board.slug for board in found))
        kinds = {board.slug: board for board in found}
        return [_board(catalog, kinds[slug]) for slug in counts], counts
    if "here" in settings.boards and not settings.cluster.boards:
        raise ConfigError(
            f"board: `here` needs cluster.boards with cluster={settings.cluster.kind}; "
            "for example cluster.boards={h100-sxm-80gb: 8}"
        )
    declared = dict(settings.cluster.boards)
    return [catalog.board(slug) for slug in declared], declared


def _board(catalog: Catalog, found: FoundBoard) -> Board:
    """Return the catalogue's board, or what the machine says of one it does not list."""
    known = {board.slug: board for board in catalog.boards()}
    if found.slug in known:
        return known[found.slug]
    return Board(slug=found.slug, memory_bytes=found.memory_bytes, dtype=found.dtype)


def reality_here(settings: Settings) -> Reality:
    """Return the reality of what will be measured: a stand-in library makes rows simulated."""
    if settings.cluster.kind == "local" and driven_by_standin():
        return Reality.SIMULATED
    return settings.reality


def absent_here(settings: Settings) -> dict[str, str]:
    """Return the backends and traces that this machine lacks, with what brings them.

    What the nodes of a cluster lack is known to their sessions only.
    """
    if settings.cluster.kind != "local":
        return {}
    reasons = {backend: why_absent(backend) for backend in BACKENDS}
    found = {backend: reason for backend, reason in reasons.items() if reason is not None}
    return found | absent_traces()


def threads_here() -> int:
    """Return the CPU threads this process may use."""
    return cpu_board().threads or 1
