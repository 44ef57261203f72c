"""Passwords: refused where they are typed, masked where text is shown.

A command line is visible to every user of a machine, and a configuration is stored and printed;
neither may hold a secret. Never echoes what it refuses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from db.errors import ConfigError

_IN_URL = re.compile(r"(://[^\s/?#:]*):[^\s]*@")
_AS_FIELD = re.compile(r"(?i)([?&\s;]|^)((?:ssl)?password|passwd|pwd)=[^&\s;]+")
_AS_KEY = re.compile(r"(?i)^[-+~]*[\w./-]*(password|passwd|passphrase|secret)[\w-]*(=|$)")

ADVICE = (
    "a password does not belong on the command line or in the configuration: put it in a file "
    "named by PGPASSFILE, or in ~/.pg_service.conf, and leave it out of the URL"
)


def holds_secret(text: str) -> bool:
    """Whether a text carries a password: in a URL, as a connection parameter, or as a key."""
    return any(pattern.search(text) for pattern in (_IN_URL, _AS_FIELD, _AS_KEY))


def refuse_secrets(arguments: Sequence[str]) -> None:
    """Raise ConfigError, without repeating it, if an argument carries a password."""
    for position, argument in enumerate(arguments):
        if holds_secret(argument):
            key, equals, _ = argument.partition("=")
            shown = equals and re.fullmatch(r"[+~]{0,2}[a-z_.]+", key)
            where = key.lstrip("+~") if shown else f"argument {position + 1}"
            raise ConfigError(f"{where}: {ADVICE}")


def redact(text: str) -> str:
    """Return a text with every password in it replaced by ``***``."""
    return _AS_FIELD.sub(r"\1\2=***", _IN_URL.sub(r"\1:***@", text))
