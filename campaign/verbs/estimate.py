"""The verb `estimate`: what one batch of a model would take on a board group, before it is run.

Owns what it heeds of the configuration. Starts nothing and imports no engine; asks the store only
with ``--store``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from campaign.catalogue.catalog import Catalog, load_catalog
from campaign.configuration.overrides import is_override, parse, refuse
from campaign.forecast.asked import OPTION_OF, Asked, add_arguments, asked_for, question
from campaign.forecast.estimated import estimated, measured_correction
from campaign.tabular import print_table, write_json
from db.errors import ConfigError
from workers.costs.calibration import AS_COMPUTED, Correction

__all__ = ["add_arguments", "main"]


def main(args: argparse.Namespace) -> int:
    """Print the estimate; returns 0, whether it fits or not."""
    words = [word for word in args.overrides if not is_override(word)]
    if words:
        raise ConfigError(f"estimate takes options, no words: {' '.join(words)}")
    _refuse_others(args.overrides)
    catalog = _catalog(args.overrides)
    asked = asked_for(catalog, question(args))
    correction = _measured(args.overrides, catalog, asked) if args.store else AS_COMPUTED
    answer = estimated(asked, correction)
    if args.json:
        write_json(answer)
    else:
        print_table((asked.engine.label, asked.workload.label), asdict(answer).items())
    return 0


def _refuse_others(overrides: Sequence[str]) -> None:
    """Raise ConfigError where the configuration is given what the estimate would not heed."""
    given = parse(overrides)
    refuse(given)
    others = [key for key in (*given.choices, *given.keys) if not _heeded(key)]
    refused = [f"{key}: write {OPTION_OF[key]}" for key in others if key in OPTION_OF]
    refused += [
        f"{key}: estimate takes options, catalog_file and store.*; `campaign plan` heeds the rest"
        for key in others
        if key not in OPTION_OF
    ]
    if refused:
        raise ConfigError("\n".join(sorted(refused)))


def _heeded(key: str) -> bool:
    return key in ("catalog_file", "store") or key.startswith("store.")


def _catalog(overrides: Sequence[str]) -> Catalog:
    """Return the catalogue; the configuration is composed only where words of it were given."""
    if not overrides:
        return load_catalog()
    from campaign.configuration.config import load

    own = load(overrides).catalog
    return load_catalog(Path(own) if own else None)


def _measured(overrides: Sequence[str], catalog: Catalog, asked: Asked) -> Correction:
    """Return what the store's measurements say of what is asked.

    One that is not there yet has measured nothing, and is not made by asking.
    """
    from campaign.storeroom import is_there, place
    from db.place import opened

    where = place(overrides)
    if not is_there(where):
        return AS_COMPUTED
    with opened(where) as found:
        return measured_correction(found, catalog, asked)
