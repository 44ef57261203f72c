"""What sessions had to spool while the store was away: sent by `run`, and by `ingest`.

What becomes of an attempt is the store's decision; a file that cannot be sent stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable

from campaign.configuration.settings import Settings
from campaign.tabular import count_of
from db.embedded import default_folder
from db.leases import LeasePolicy, Leases
from workers.spool import Delivery, Spool


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
