"""Which commit of a hub repository a campaign measures: resolved once, then frozen.

A campaign that was created before keeps its commits, so a branch that moved does not make every
point look new. A repository that the hub does not give is lost to the engines that load it, and to
no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from campaign.catalogue.catalog import Catalog
from campaign.catalogue.hub import HubAway, commit_of
from campaign.configuration.settings import Settings
from campaign.grids.grid import models_asked
from db.errors import ConfigError
from db.records import EngineSpec, Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Commits:
    """The commits of hub models by name; of the `lost` ones, a line that says why.

    Where the hub was `away`, every commit that was not known before is lost.
    """

    known: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
    away: bool = False

    def missing(self, engine: EngineSpec) -> str | None:
        """Return why an engine's weights, or its draft's, cannot be had; None if they may."""
        models = (model for model in (engine.model, engine.draft) if model is not None)
        names = [m.name for m in models if m.weights is Weights.REAL and m.folder is None]
        return next((self.lost[name] for name in names if name in self.lost), None)


def hub_models(settings: Settings, catalog: Catalog) -> list[str]:
    """Return the names of the models whose real weights come from a hub."""
    asked = models_asked(settings.blocks.values())
    found = [catalog.model(name, weights) for name, weights in asked]
    return [m.name for m in found if m.weights is Weights.REAL and m.folder is None]


def resolve(names: Iterable[str], frozen: Mapping[str, str]) -> Commits:
    """Return the commit of each model: the frozen one, else what its main branch is now.

    A hub that did not answer is not asked again.
    """
    known: dict[str, str] = {}
    lost: dict[str, str] = {}
    away: str | None = None
    for name in names:
        if name in frozen:
            known[name] = frozen[name]
        elif away is not None:
            lost[name] = f"model {name}: {away}"
        else:
            try:
                known[name] = commit_of(name)
            except HubAway as error:
                away = str(error)
                lost[name] = f"model {name}: {away}"
            except ConfigError as error:
                lost[name] = str(error)
    return Commits(known=known, lost=lost, away=away is not None)
