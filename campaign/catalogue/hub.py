"""What a hub says of a repository: the commit of its main branch, and its ``config.json``.

A local cache, where the hub's own tools keep what they fetched, is read without a network; a
network is asked in `commit_of` and `fetch` alone. The hub's token comes from its own environment
and is never read here.
"""

from __future__ import annotations

import os
import re
from http import HTTPStatus
from pathlib import Path

from campaign.configuration.redaction import redact
from db.errors import ConfigError

#: As long may a hub take to say that it is there.
ANSWER_S = 10.0
_LINK = re.compile(r"For more information check: \S+")
_ID = re.compile(r"[\w.-]+/[\w.-]+")
#: Refusals that say nothing of a repository: asked again, the hub may give it.
_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class HubAway(ConfigError):
    """The hub cannot be asked: what it would say of any repository is not known."""


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


def cached_config(name: str, commit: str | None = None) -> Path | None:
    """Return the ``config.json`` of a repository at a commit; None where it was not fetched.

    Without a commit that of the main branch, as it was when it was last looked at.
    """
    repository = cache_folder() / f"models--{name.replace('/', '--')}"
    try:
        commit = commit or (repository / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    file = repository / "snapshots" / commit / "config.json"
    return file if file.is_file() else None


def commit_of(name: str) -> str:
    """Return the commit of a repository's main branch; the hub is asked once.

    Raises ConfigError with the hub's words where it refuses, HubAway, without the name, where it
    does not answer.
    """
    try:
        from huggingface_hub import HfApi, constants
    except ImportError as error:
        message = "real weights of a hub need huggingface_hub: make install FLAVOUR=hf"
        raise HubAway(message) from error
    try:
        commit = HfApi().model_info(name, timeout=ANSWER_S).sha
    except Exception as error:  # of the hub, of the network, and of whichever library it asks with
        if _refused(error):
            raise ConfigError(
                f"model {name}: the hub did not resolve it ({_words(error, 300)}); with a gated "
                "model export HF_TOKEN"
            ) from error
        raise HubAway(
            f"{constants.ENDPOINT} did not answer ({_words(error, 200)}), so its commit is not "
            "known: run this where there is a network, name a mirror in HF_ENDPOINT, or use "
            "weights=random or a local folder (model=./FOLDER)"
        ) from error
    if commit is None:
        raise ConfigError(f"model {name}: the hub names no commit of its main branch")
    return str(commit)


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
        raise ConfigError(
            f"model {name}: the hub did not give its config.json ({_words(error, 200)}); with a "
            "gated model export HF_TOKEN, without a network give a folder or an entry of "
            "catalog_file"
        ) from error


def _refused(error: Exception) -> bool:
    """Whether a hub answered, and will answer so again."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if isinstance(error, HfHubHTTPError):
        status = int(error.response.status_code)
        return status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _BUSY
    return isinstance(error, HFValidationError)


def _words(error: Exception, most: int) -> str:
    """Return what an exception says on one line, without passwords and links to what HTTP is."""
    said = " ".join(_LINK.sub("", str(error)).split())
    return redact(said[:most] or type(error).__name__)
