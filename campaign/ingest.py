"""The verb `ingest`: send the store what sessions had to spool while it was away.

Owns the words of the verb and of what `run` says of the same. What becomes of an attempt is the
store's decision; a file that cannot be sent stays where it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from campaign.config import load
from campaign.settings import Settings
from campaign.storeroom import existing, split
from campaign.tabular import count_of, say, write_json
from db.embedded import default_folder
from db.errors import ConfigError
from db.leases import LeasePolicy, Leases
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
        with existing(Place(url=store.url, folder=store.path)) as opened:
            leases = Leases(opened.store, policy_of(settings))
            delivery = spool.deliver(leases, leases.where)
    for line in said(delivery):
        say(line)
    if args.json:
        write_json(_data(spool, found, delivery))
    return UNSENT if delivery.problems or delivery.elsewhere else 0


def home_spool() -> Spool:
    """Return the spool of this host."""
    return Spool(default_folder() / "spool")


def deliver(leases: Leases, say: Callable[[str], None]) -> None:
    """Send the spool of this host, and say what became of it."""
    for line in said(home_spool().deliver(leases, leases.where)):
        say(line)


def policy_of(settings: Settings) -> LeasePolicy:
    """Return the lease policy of a configuration."""
    store = settings.store
    return LeasePolicy(
        lease_s=store.lease_s,
        beat_s=store.beat_s,
        max_faults=store.max_faults,
        max_lost=store.max_lost,
        max_invalid=store.max_invalid,
        retry_delay_s=store.retry_delay_s,
    )


def said(delivery: Delivery) -> list[str]:
    """Return what a delivery did, in lines for people; none where nothing was spooled."""
    lines = list(delivery.problems)
    sent = [f"{count} {outcome}" for outcome, count in sorted(delivery.outcomes.items())]
    if sent:
        total = count_of(sum(delivery.outcomes.values()), "spooled attempt")
        lines.insert(0, f"{total} sent to the store: {', '.join(sent)}")
    if delivery.elsewhere:
        attempts = count_of(delivery.elsewhere, "spooled attempt")
        lines.append(f"{attempts} of another store left: `campaign ingest` with that store.url")
    return lines


def _data(spool: Spool, found: int, delivery: Delivery) -> Mapping[str, object]:
    return {
        "folder": str(spool.folder),
        "files": found,
        "sent": dict(delivery.outcomes),
        "elsewhere": delivery.elsewhere,
        "problems": list(delivery.problems),
    }
