"""What `--public` takes out of every text: hosts, users, paths, and UUIDs.

Owns the substitutes: hosts and users are numbered, UUIDs hashed, paths replaced. Works on the
answers of the store before anything is made of them, so no page can forget it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

UUID = re.compile(
    r"\b((?:GPU|MIG)-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
    re.IGNORECASE,
)
#: A word that begins at the root, at home, or at the folder one stands in.
PATH = re.compile(r"(?<![\w.:/…-])(?:file:/)?(?:~[\w.-]*|\.{1,2})?/[^\s'\",;:|]+")
#: Characters of a hash that stand for the whole.
SHORT = 8


class Scrub:
    """Takes what names people and machines out of texts, however deep they lie."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        """Know the names by kind; `gpu` names are hashed, others numbered."""
        self._known: dict[str, str] = {}
        for kind, found in names.items():
            for number, name in enumerate(found, 1):
                self._known[name] = _hashed(name, "GPU-") if kind == "gpu" else f"{kind}-{number}"
        longest = sorted(map(re.escape, self._known), key=len, reverse=True)
        self._names = re.compile(rf"(?<!\w)(?:{'|'.join(longest)})(?!\w)") if longest else None

    def __call__(self, value: object) -> object:
        """Return a value without them."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return {self._text(str(key)): self(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self(inner) for inner in value]
        return value

    def _text(self, text: str) -> str:
        text = PATH.sub(lambda found: f"path-{_digest(found[0])}", text)
        if self._names is not None:
            text = self._names.sub(lambda found: self._known[found[0]], text)
        return UUID.sub(lambda found: _hashed(found[0], found[1] or ""), text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:SHORT]


def _hashed(text: str, prefix: str) -> str:
    return f"{prefix}{_digest(text)}"
