"""The verb `db`: the store as a database: its URL, its schema, a copy of it, psql.

Owns the words of the verb. Everything that touches Postgres is in db/.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from campaign.configuration.reader import nearest
from campaign.storeroom import existing, is_there, place, split
from campaign.tabular import say, write_json
from db.dumping import dump, libpq_url, program, restore, server_version, unchecked
from db.errors import ConfigError
from db.place import Place, opened


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words; there are no options."""
    parser.epilog = (
        'campaign db url (for psql "$(campaign db url)") | upgrade | dump FILE | restore FILE '
        "(into an empty store) | psql [store overrides]"
    )


def main(args: argparse.Namespace) -> int:
    """Do one thing with the store; returns the exit code."""
    words, overrides = split(args.overrides)
    actions: dict[str, Callable[[Place, list[str]], dict[str, object]]] = {
        "url": _url, "upgrade": _upgrade, "dump": _dump, "restore": _restore, "psql": _psql,
    }  # fmt: skip
    if not words:
        raise ConfigError(f"db what? one of {', '.join(actions)}")
    action, *rest = words
    if action not in actions:
        raise ConfigError(f"db has no {action}{nearest(action, actions)}")
    wanted = 1 if action in ("dump", "restore") else 0
    if len(rest) != wanted:
        takes = "one FILE" if wanted else "no further word"
        raise ConfigError(f"db {action} takes {takes}, not {len(rest)}: {' '.join(rest)}")
    answer = actions[action](place(overrides), rest)
    if args.json:
        write_json(answer)
    elif action == "url":
        print(answer["url"])
    return 0


def _url(where: Place, _: list[str]) -> dict[str, object]:
    if where.url is not None:
        return {"url": libpq_url(where.url), "embedded": False}
    with existing(where) as store:
        say(
            "the embedded server stops when its last user leaves: this URL works while a campaign "
            "runs; otherwise use `campaign db psql`"
        )
        return {"url": libpq_url(store.url), "embedded": True}


def _upgrade(where: Place, _: list[str]) -> dict[str, object]:
    with opened(where, upgrade=True) as store:
        version = server_version(store.store)
    say(f"the store is up to date (Postgres {version})")
    return {"server_version": version}


def _dump(where: Place, words: list[str]) -> dict[str, object]:
    if not is_there(where):
        raise ConfigError(f"there is no store in {where.embedded_folder} to dump")
    file = Path(words[0]).expanduser()
    with unchecked(where) as store:
        written = dump(store, file)
    say(f"{file}: {written / 1e6:.1f} MB")
    return {"file": str(file), "size_bytes": written}


def _restore(where: Place, words: list[str]) -> dict[str, object]:
    file = Path(words[0]).expanduser()
    if not file.is_file():
        raise ConfigError(f"there is no dump {file}")
    with unchecked(where) as store:
        restore(store, file)
        say(f"restored {file}: the store {store.where} holds it now")
    return {"file": str(file)}


def _psql(where: Place, _: list[str]) -> dict[str, object]:
    """Run psql, or what is piped into it, while the store is held open."""
    with existing(where) as store:
        command = [program("psql", server_version(store.store)), libpq_url(store.url)]
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is psql's
        try:
            code = subprocess.run(command, check=False).returncode
        finally:
            signal.signal(signal.SIGINT, before)
    if code:
        raise ConfigError(f"psql ended with {code}")
    return {}
