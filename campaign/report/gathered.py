"""What a report is made of, asked of the store at one moment.

Owns the order of the questions, and what `--public` takes out of their answers before anything is
made of them. Never writes to the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from campaign.analysis.predictor.saved import Predictor
from campaign.configuration.reader import nearest
from campaign.report.build import Answers, Report, built
from campaign.report.reproduction import reproduction
from campaign.report.scrub import Scrub
from campaign.storeroom import chosen, existing
from db.errors import ConfigError
from db.external import sources
from db.place import Place
from db.reporting import answers, claimed, moment, names_to_hide
from db.standing import campaigns

#: Names every imported source.
EVERY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is reported: one campaign or all, whose imported rows, with which predictor."""

    campaign: str | None
    source: str | None
    public: bool
    predictor: Predictor | None


def gathered(where: Place, wanted: Wanted) -> Report:
    """Return the report of a store at one moment. ConfigError for names that are not known."""
    campaign = wanted.campaign
    with existing(where) as store, moment(store.store) as connection:
        named = chosen(campaigns(connection), campaign)
        _require_source(wanted.source, sources(connection))
        rows = claimed(connection, named[0].id if campaign else None)
        claims = list(reproduction(rows, wanted.predictor))
        found: Answers = answers(
            connection, campaign, source=None if wanted.source == EVERY else wanted.source,
            without=_unasked(wanted),
        )  # fmt: skip
        hidden = names_to_hide(connection)
    predictor: Predictor | None = wanted.predictor
    name: object = campaign
    if wanted.public:
        scrub = Scrub(hidden)
        found = {query: _scrubbed(scrub, rows) for query, rows in found.items()}
        name, predictor = scrub(campaign), _public(scrub, predictor)
    return built(
        found, campaign=None if name is None else str(name), made_at=datetime.now(UTC),
        public=wanted.public, predictor=predictor, claims=claims,
    )  # fmt: skip


def _unasked(wanted: Wanted) -> set[str]:
    """Return the queries that need not be asked; imported rows belong to no campaign."""
    left = set() if wanted.predictor else {"evidence"}
    return left | ({"external"} if wanted.campaign and not wanted.source else set())


def _require_source(source: str | None, known: Mapping[str, int]) -> None:
    if source not in (None, EVERY, *known):
        fix = nearest(str(source), known) if known else "; nothing was imported yet"
        raise ConfigError(f"no imported source is called {source}{fix}")


def _scrubbed(scrub: Scrub, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: scrub(value) for name, value in row.items()} for row in rows]


def _public(scrub: Scrub, predictor: Predictor | None) -> Predictor | None:
    if predictor is None:
        return None
    findings = scrub(predictor.findings)
    return replace(predictor, findings=findings if isinstance(findings, dict) else {})
