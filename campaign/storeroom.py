"""What the verbs that ask and mend the store share: their words, and the store they are about.

Owns how words and overrides are told apart on the command line, which campaigns a name means, and
the promise that a question never creates a store. Never writes a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from campaign.configuration.config import load
from campaign.configuration.reader import nearest
from db.errors import ConfigError
from db.place import OpenStore, Place, opened
from db.standing import Named, campaigns, snapshot

T = TypeVar("T")

OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w.@/-]*=")


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words of a command line and its overrides (``key=value``), each in order."""
    overrides = [argument for argument in arguments if OVERRIDE.match(argument)]
    return [argument for argument in arguments if not OVERRIDE.match(argument)], overrides


def place(overrides: Sequence[str]) -> Place:
    """Return the store that the configuration names. ConfigError on a wrong override."""
    store = load(overrides).store
    return Place(url=store.url, reader_url=store.reader_url, folder=store.path)


def is_there(where: Place) -> bool:
    """Whether there is a store to open; a server of one's own answers for itself."""
    if where.url is not None:
        return True
    try:
        return (where.embedded_folder.expanduser() / "data").is_dir()
    except PermissionError:
        return True  # another user's: opening it says so in one line


@contextmanager
def existing(where: Place, *, writing: bool = False) -> Iterator[OpenStore]:
    """Open a store that is there; ConfigError instead of creating one."""
    if not is_there(where):
        raise ConfigError(
            f"there is no store in {where.embedded_folder}: `campaign run` makes it; name another "
            "with store.path=FOLDER or store.url=postgresql+psycopg://host/database"
        )
    with opened(where, writing=writing) as store:
        yield store


def ask_campaigns(where: Place, name: str | None, ask: Callable[..., T]) -> list[T]:
    """Return what `ask(connection, campaign)` says of one campaign, or of all without a name.

    Empty where there is no store; ConfigError for a name that is not known.
    """
    if not is_there(where) and name is None:
        return []
    with existing(where) as store, snapshot(store.store) as connection:
        return [ask(connection, one) for one in chosen(campaigns(connection), name)]


def chosen(known: Mapping[str, Named], name: str | None) -> list[Named]:
    """Return the campaign of that name, or all without one; ConfigError with the nearest names."""
    if name is not None and name not in known:
        raise ConfigError(f"no campaign is called {name}{nearest(name, known) if known else ''}")
    return list(known.values()) if name is None else [known[name]]
