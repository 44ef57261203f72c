"""From a composed configuration to `Settings`: types, ranges and contradictions.

Notes every problem and raises once. Knows nothing of files, Hydra or the catalogue.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping

from campaign.configuration import sections
from campaign.configuration.axes import read_blocks
from campaign.configuration.overrides import GROUPS, ROOT, SECTIONS
from campaign.configuration.reader import UNKNOWN, Reader
from campaign.configuration.sections import SIMULATED
from campaign.configuration.settings import Axes, ClusterSettings, Settings
from campaign.configuration.tree import Tree
from db.errors import ConfigError
from db.records import ONLINE, Reality

MAX_POINTS = 250_000


def validate(
    tree: Tree, *, pinned: frozenset[str], given: frozenset[str], resolved: str
) -> Settings:
    """Return the settings of a composed configuration.

    `pinned` are the paths the command line decides, by value or by group; `given` are those it
    gives a value itself. Raises ConfigError with a line per problem.
    """
    read = Reader(tree)
    _check_options(read)
    read.keys("", (*ROOT, *SECTIONS))
    for section, names in SECTIONS.items():
        read.keys(section, names)
    cluster = sections.cluster(read)
    blocks = read_blocks(read, tree, pinned)
    _check_simulation(read, blocks, cluster)
    _check_goodput(read, blocks)
    settings = Settings(
        campaign=_campaign(read),
        owner=read.optional_text("owner", read.at("owner")) or _login(),
        blocks=blocks,
        protocol=sections.protocol(read, given),
        store=sections.store(read),
        cluster=cluster,
        meter=sections.meter(read),
        run=sections.run(read),
        budget=sections.budget(read),
        replicates=read.whole("replicates", read.at("replicates")),
        reality=Reality.SIMULATED if _is_simulated(blocks, cluster) else Reality.REAL,
        catalog=read.optional_text("catalog_file", read.at("catalog_file")),
        resolved=resolved,
    )
    if read.problems:
        raise ConfigError("\n".join(read.problems))
    points = sum(axes.points for axes in blocks.values()) * settings.replicates
    if points > MAX_POINTS:
        raise ConfigError(f"the grid has {points} points, more than {MAX_POINTS}; narrow an axis")
    return settings


def _check_options(read: Reader) -> None:
    """Refuse the name of an option where its keys belong: each of them would be missing."""
    for group in SECTIONS:
        value = read.at(group)
        if group in GROUPS and isinstance(value, str):
            fix = f"choose an option in the file's `defaults: [override /{group}: {value}]`"
            read.note(group, f"{value!r} is no KEY: VALUE; {fix}")
    if read.problems:
        raise ConfigError("\n".join(read.problems))


def _login() -> str:
    """Return who this is: the login, or the number of a user who has no account here."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container that runs as any user
        return f"uid-{os.getuid()}"


def _campaign(read: Reader) -> str:
    name = read.text("campaign", read.at("campaign"))
    if name != UNKNOWN and not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,62}", name):
        read.note("campaign", f"{name!r} is no name; use letters, digits, '-', '_' and '.'")
    return name


def _check_simulation(read: Reader, blocks: Mapping[str, Axes], cluster: ClusterSettings) -> None:
    """Note engines that the kind of cluster cannot run: claimed boards compute nothing."""
    backends = {b for axes in blocks.values() for b in axes.backend} - {UNKNOWN}
    real = ", ".join(sorted(backends - {SIMULATED}))
    if cluster.kind == SIMULATED and real:
        read.note("cluster=simulated", f"its boards cannot run {real}; add engine=simulated")
    elif cluster.kind == "local" and SIMULATED in backends:
        read.note("engine.backend", "simulated runs on claimed boards only; add cluster=simulated")
    elif real and SIMULATED in backends:
        read.note("engine.backend", f"simulated is a rehearsal of a whole cluster, without {real}")


def _is_simulated(blocks: Mapping[str, Axes], cluster: ClusterSettings) -> bool:
    """Whether nothing is measured: boards are claimed, or only rehearsed on."""
    backends = {backend for axes in blocks.values() for backend in axes.backend}
    return cluster.kind == SIMULATED or backends == {SIMULATED}


def _check_goodput(read: Reader, blocks: Mapping[str, Axes]) -> None:
    """Note deadlines that no request has to meet: they are counted under load alone."""
    set_ = [name for name, limit in read.mapping("meter.goodput").items() if limit is not None]
    arrivals = {arrival for axes in blocks.values() for arrival in axes.arrival} - {UNKNOWN}
    if set_ and arrivals and not arrivals & {*ONLINE}:
        read.note(f"meter.goodput.{set_[0]}", "has no use without requests under load; leave it "
                  "out, or write workload.arrival=closed")  # fmt: skip
