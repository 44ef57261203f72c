"""Joining a cluster: its nodes are asked what they hold, and those that lie are named.

Owns what a run and the doctor learn of a cluster before anything is dispatched to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from campaign.catalogue.catalog import load_catalog
from campaign.cluster import nodes as cluster
from campaign.cluster.here import products
from campaign.cluster.roster import Roster, judge
from campaign.configuration.settings import Settings
from campaign.tabular import say
from db.errors import ConfigError
from workers.process import boot_id


@contextmanager
def joined(settings: Settings) -> Iterator[Roster | None]:
    """Join the cluster of a configuration while the block runs; None where there is none to join.

    Says in a line each which nodes are refused. Raises ConfigError where there is no cluster, and
    for an embedded store, which other hosts cannot reach.
    """
    if settings.cluster.kind != "ray":
        yield None
        return
    with cluster.joined(settings.cluster.address or "auto"):
        roster = call(settings)
        for refused in roster.refused:
            say(refused.line)
        if settings.store.url is None and roster.boots - {boot_id()}:
            raise ConfigError(
                "store: an embedded one serves this host only, and the cluster has others; "
                "write store=postgres store.url=postgresql+psycopg://user@host/database"
            )
        yield roster


def call(settings: Settings) -> Roster:
    """Return the nodes of the cluster that was joined, judged."""
    catalog = load_catalog(Path(settings.catalog) if settings.catalog else None)
    slugs = [board.slug for board in catalog.boards()]
    deadline_s = settings.cluster.creation_deadline_s
    return judge(cluster.described(cluster.nodes(), products(catalog), deadline_s), slugs)
