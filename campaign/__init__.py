"""Measures what inference of language models costs, and asks what was measured.

`read` gives the rows of a store as a DataFrame. Everything else is the command line's. Importing
this package imports nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["read"]


def read(
    campaign: str | None = None,
    *,
    source: str | None = None,
    store: str | Path | None = None,
    reality: str | Collection[str] | None = None,
) -> DataFrame:
    """Return rows of a store, one per accepted measurement or imported row, as a DataFrame.

    `campaign` names one; without it, and without `source`, the measurements of all campaigns.
    `source` names what was imported, ``*`` all of it: imported rows never come unasked. `reality`
    keeps some of real, simulated and external. `store` is a URL, or the folder of an embedded
    store; without it the one that the command line uses.

    The columns, their units and what is missing are described in docs/import.md. Raises
    ConfigError for a name that is not known, StoreUnavailable where no store answers.
    """
    from campaign.analysis.rows import stored_rows
    from campaign.storeroom import existing, place
    from db.place import Place

    if store is None:
        where = place(())
    elif "://" in str(store):
        where = Place(url=str(store))
    else:
        where = Place(folder=str(Path(store).expanduser()))
    kept = (reality,) if isinstance(reality, str) else reality
    with existing(where) as found:
        return stored_rows(found.store, campaign=campaign, source=source, reality=kept)
