"""Which commit of a hub repository a campaign measures: resolved once, then frozen.

A campaign that was created before keeps its commits, so a branch that moved does not make every
point look new. The hub's token comes from its own environment and is never read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from campaign.catalog import Catalog
from campaign.grid import models_asked
from campaign.settings import Settings
from db.errors import ConfigError
from db.records import Weights


def hub_models(settings: Settings, catalog: Catalog) -> list[str]:
    """Return the names of the models whose real weights come from a hub."""
    asked = models_asked(settings.blocks.values())
    found = [catalog.model(name, weights) for name, weights in asked]
    return [m.name for m in found if m.weights is Weights.REAL and m.folder is None]


def resolve(names: Iterable[str], frozen: Mapping[str, str]) -> dict[str, str]:
    """Return the commit of each model: the frozen one, else what its main branch is now.

    Raises ConfigError naming the model and what the hub said.
    """
    return {name: frozen.get(name) or _commit(name) for name in names}


def _commit(name: str) -> str:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        message = f"model {name}: real weights need huggingface_hub: make install FLAVOUR=hf"
        raise ConfigError(message) from error
    try:
        commit = HfApi().model_info(name).sha
    except Exception as error:  # of the hub, of the network, and of whichever library it asks with
        words = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"model {name}: the hub did not resolve it ({words}); with a gated model export "
            "HF_TOKEN, without a network use weights=random or a local folder"
        ) from error
    if commit is None:
        raise ConfigError(f"model {name}: the hub names no commit of its main branch")
    return str(commit)
