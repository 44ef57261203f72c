"""Which boards there are for a run: found on this machine or on nodes, or declared."""

from __future__ import annotations

from collections import Counter

from campaign.catalogue.catalog import Catalog
from campaign.cluster.roster import Roster
from campaign.configuration.settings import Settings
from campaign.grids.lengths import absent_traces
from db.errors import ConfigError
from db.records import Board, Reality
from workers.boards import FoundBoard, cpu_board, discover, driven_by_standin
from workers.engines.registry import BACKENDS, why_absent


def found_boards(catalog: Catalog) -> list[FoundBoard]:
    """Return the GPUs of this machine by the catalogue's slugs, or its CPU."""
    return discover(products(catalog))


def products(catalog: Catalog) -> dict[str, str]:
    """Return the slugs of the catalogue by the exact names NVML gives its boards."""
    return {board.nvml_name: board.slug for board in catalog.boards() if board.nvml_name}


def boards_here(
    settings: Settings, catalog: Catalog, roster: Roster | None = None
) -> tuple[list[Board], dict[str, int]]:
    """Return the boards `here` stands for, and how many of each kind there are.

    A cluster's are those of its nodes, where they were asked, and what `cluster.boards` declares
    beyond; claimed ones are declared.
    """
    if settings.cluster.kind == "local":
        found = found_boards(catalog)
        counts = dict(Counter(board.slug for board in found))
        kinds = {board.slug: board for board in found}
        return [_board(catalog, kinds[slug]) for slug in counts], counts
    if "here" in settings.boards and not settings.cluster.boards and roster is None:
        raise ConfigError(
            f"board: `here` needs cluster.boards with cluster={settings.cluster.kind}; "
            "for example cluster.boards={h100-sxm-80gb: 8}"
        )
    kinds = {} if roster is None else roster.boards
    counts = {} if roster is None else roster.counts
    for slug, count in settings.cluster.boards.items():
        counts[slug] = max(count, counts.get(slug, 0))
    known = [_board(catalog, kinds[s]) if s in kinds else catalog.board(s) for s in counts]
    return known, counts


def _board(catalog: Catalog, found: FoundBoard) -> Board:
    """Return the catalogue's board, or what the machine says of one it does not list."""
    known = {board.slug: board for board in catalog.boards()}
    if found.slug in known:
        return known[found.slug]
    return Board(slug=found.slug, memory_bytes=found.memory_bytes, dtype=found.dtype)


def reality_here(settings: Settings, roster: Roster | None = None) -> Reality:
    """Return the reality of what will be measured: a stand-in library makes rows simulated."""
    standin = driven_by_standin() if settings.cluster.kind == "local" else False
    if standin or (roster is not None and roster.is_standin):
        return Reality.SIMULATED
    return settings.reality


def absent_here(settings: Settings, roster: Roster | None = None) -> dict[str, str]:
    """Return the backends and traces that this machine lacks, with what brings them.

    Of a cluster, the backends that none of its nodes can load.
    """
    if settings.cluster.kind != "local":
        return {} if roster is None else roster.absent
    reasons = {backend: why_absent(backend) for backend in BACKENDS}
    found = {backend: reason for backend, reason in reasons.items() if reason is not None}
    return found | absent_traces()


def threads_here() -> int:
    """Return the CPU threads this process may use."""
    return cpu_board().threads or 1
