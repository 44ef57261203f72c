"""Where a campaign runs: its boards, its catalogue, what is lacking there; and the grid's digest.

The digest names everything that a grid is expanded from. Two runs with the same one have the same
tasks, so that the second need not expand them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from campaign.catalogue.catalog import Catalog, load_catalog
from campaign.cluster.here import absent_here, boards_here, reality_here, threads_here
from campaign.cluster.nodes import LocalBoards
from campaign.cluster.roster import Roster
from campaign.configuration.overrides import CONF
from campaign.configuration.settings import Settings
from campaign.grids.commits import Commits
from campaign.grids.grid import models_asked
from db.identity import KEY_VERSION, digest
from db.records import Board, ModelSpec
from workers.workloads.tracefiles import is_file

#: What decides which points a grid has, beside its configuration.
PROGRAM = ("campaign", "workers", "db", "conf/catalog", "conf/flags")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The settings in the reality of the place, and what was found there.

    `here` are the kinds of boards, `counts` how many of each; `absent` is what it lacks.
    """

    settings: Settings
    catalog: Catalog
    here: Sequence[Board]
    counts: Mapping[str, int]
    absent: Mapping[str, str]

    @property
    def boards(self) -> LocalBoards:
        """The boards as a Ray of our own offers them."""
        claimed = self.settings.cluster.kind == "simulated"
        gpus = (n for slug, n in self.counts.items() if not slug.startswith("cpu:"))
        return LocalBoards(
            counts=self.counts, gpus=0 if claimed else sum(gpus), threads=threads_here()
        )

    @property
    def kinds(self) -> dict[str, Board]:
        """The kinds of boards by slug."""
        return {board.slug: board for board in self.here}

    @property
    def folders(self) -> dict[str | None, ModelSpec]:
        """The models that are read from folders of this host, by their weights."""
        asked = models_asked(self.settings.blocks.values())
        models = (self.catalog.model(name, weights) for name, weights in asked)
        return {model.commit: model for model in models if model.folder is not None}

    def grid_digest(self, commits: Commits) -> str | None:
        """Return the digest of what the grid is expanded from; None where a trace file is in it.

        Resolved configuration, catalogue, boards, what is lacking, commits, folders, the version of
        the keys, and the program itself.
        """
        settings = self.settings
        if any(is_file(name) for axes in settings.blocks.values() for name in axes.lengths):
            return None
        return digest(
            {
                "keys": KEY_VERSION,
                "program": _contents(CONF.parent / part for part in PROGRAM),
                "catalog": _contents([Path(settings.catalog)] if settings.catalog else []),
                "settings": settings.resolved,
                "reality": str(settings.reality),
                "boards": [repr(board) for board in sorted(self.here, key=lambda b: b.slug)],
                "absent": self.absent,
                "commits": commits.known,
                "folders": sorted(map(repr, self.folders.values())),
            }
        )


def look_around(settings: Settings, roster: Roster | None = None) -> Site:
    """Return what there is where this runs; `roster` are the nodes of a cluster that was joined."""
    catalog = load_catalog(Path(settings.catalog) if settings.catalog else None)
    here, counts = boards_here(settings, catalog, roster)
    return Site(
        settings=replace(settings, reality=reality_here(settings, roster)),
        catalog=catalog,
        here=here,
        counts=counts,
        absent=absent_here(settings, roster),
    )


def _contents(places: Iterable[Path]) -> str:
    """Return the SHA-256 of files, and of what decides a grid in folders, with their names."""
    found = hashlib.sha256()
    for place in places:
        listed = sorted(place.rglob("*")) if place.is_dir() else [place]
        for file in listed:
            if file.suffix in (".py", ".csv", ".yaml", ".yml") and file.is_file():
                content = file.read_bytes()
                found.update(f"{file.relative_to(place)}\0{len(content)}\0".encode() + content)
    return found.hexdigest()
