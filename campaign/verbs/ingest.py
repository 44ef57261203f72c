"""The verb `ingest`: send the store what sessions had to spool while it was away.

Owns the words of the verb; what is sent, and what is said of it, are those of `run`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from campaign.configuration.config import load
from campaign.running.spooled import home_spool, policy_of, said
from campaign.storeroom import existing, split
from campaign.tabular import say, write_json
from db.errors import ConfigError
from db.leases import Leases
from db.place import Place
from workers.spool import Delivery, Spool

UNSENT = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words; there are no options."""
    parser.epilog = (
        "campaign ingest [FOLDER] [store overrides]. Without FOLDER: the spool of this host, which "
        "`run` sends as well. Exit code 4: something could not be sent; it stays."
    )


def main(args: argparse.Namespace) -> int:
    """Send a folder of spooled attempts; returns the exit code."""
    words, overrides = split(args.overrides)
    if len(words) > 1:
        raise ConfigError(f"ingest takes one FOLDER, not {len(words)}: {' '.join(words)}")
    settings = load(overrides)
    spool = Spool(Path(words[0]).expanduser()) if words else home_spool()
    if words and not spool.folder.is_dir():
        raise ConfigError(f"{spool.folder} is no folder")
    found = len(spool.files())
    if not found:
        say(f"nothing is spooled in {spool.folder}")
        delivery = Delivery(outcomes={})
    else:
        store = settings.store
        with existing(Place(url=store.url, folder=store.path), writing=True) as opened:
            leases = Leases(opened.store, policy_of(settings))
            delivery = spool.deliver(leases, leases.where)
    for line in said(delivery):
        say(line)
    if args.json:
        write_json(_data(spool, found, delivery))
    return UNSENT if delivery.problems or delivery.elsewhere else 0


def _data(spool: Spool, found: int, delivery: Delivery) -> Mapping[str, object]:
    return {
        "folder": str(spool.folder),
        "files": found,
        "sent": dict(delivery.outcomes),
        "elsewhere": delivery.elsewhere,
        "problems": list(delivery.problems),
    }
