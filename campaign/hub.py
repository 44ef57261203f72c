"""The ``config.json`` of a hub model that the catalogue does not list.

Read from the local cache of the hub, where its own tools keep what they fetched; a network is
asked in `fetch` alone. The hub's token comes from its own environment and is never read here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from db.errors import ConfigError

#: As long may a hub take to say that it is there.
ANSWER_S = 10.0
_ID = re.compile(r"[\w.-]+/[\w.-]+")


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a hub repository: ``owner/model``."""
    return _ID.fullmatch(name) is not None


def cache_folder() -> Path:
    """Return where the hub's tools keep what they fetched, by their own variables."""
    if folder := os.environ.get("HF_HUB_CACHE"):
        return Path(folder).expanduser()
    home = os.environ.get("HF_HOME")
    if home is None:
        home = os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/huggingface"
    return Path(home).expanduser() / "hub"


def cached_config(name: str) -> Path | None:
    """Return the ``config.json`` of a repository's main branch; None where it was not fetched."""
    repository = cache_folder() / f"models--{name.replace('/', '--')}"
    try:
        commit = (repository / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    file = repository / "snapshots" / commit / "config.json"
    return file if file.is_file() else None


def fetch(name: str) -> Path:
    """Fetch the ``config.json`` of a repository into the cache and return it.

    A hub that does not answer is asked once: what the cache has is returned then. Raises
    ConfigError naming the model and what the hub said.
    """
    if not is_hub_id(name):
        raise ConfigError(f"model {name}: not a hub id; write owner/model")
    try:
        from huggingface_hub import HfApi, hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        message = f"model {name}: the hub needs huggingface_hub: make install FLAVOUR=hf"
        raise ConfigError(message) from error
    try:
        HfApi().model_info(name, timeout=ANSWER_S)  # asks once, where a download tries six times
        return Path(hf_hub_download(name, "config.json"))
    except Exception as error:  # of the hub, of the network, and of whichever library it asks with
        if not isinstance(error, HfHubHTTPError) and (cached := cached_config(name)) is not None:
            return cached
        words = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"model {name}: the hub did not give its config.json ({words}); with a gated model "
            "export HF_TOKEN, without a network give a folder or an entry of catalog_file"
        ) from error
