"""Versions of what computes, and a plain form of what it says about itself."""

from __future__ import annotations

import enum
import os
import platform
import re
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version

_DEEPEST = 8
#: An object's address in its text differs in every process.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def versions(*names: str) -> dict[str, str]:
    """Return Python's and the named distributions' versions, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def configuration(
    value: object, *, replace: Mapping[str, str], leave_out: Collection[str] = ()
) -> dict[str, object]:
    """Return any configuration object as JSON-able values by field name.

    `replace` maps texts that must not be told (folders) to what stands for them; the fields
    named in `leave_out`, those of a process rather than a configuration, are dropped.
    """
    home = os.path.expanduser("~")  # noqa: PTH111 - stays what it is for a user without one
    hidden = dict(replace) | ({} if home in ("~", "/") else {home: "~"})
    told = _plain(value, hidden, frozenset(leave_out), 0)
    return told if isinstance(told, dict) else {"configuration": told}


def _plain(value: object, replace: dict[str, str], drop: frozenset[str], depth: int) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if depth < _DEEPEST:
        members = _members(value)
        if members is not None:
            return {
                name: _plain(member, replace, drop, depth + 1)
                for name, member in members.items()
                if name not in drop
            }
        if isinstance(value, list | tuple):
            return [_plain(item, replace, drop, depth + 1) for item in value]
        if isinstance(value, set | frozenset):
            return sorted(str(_plain(item, replace, drop, depth + 1)) for item in value)
    return _text(value, replace)


def _members(value: object) -> dict[str, object] | None:
    """Return the fields of a mapping, dataclass or Hugging Face configuration, by name."""
    if isinstance(value, Mapping):
        return {str(k): v for k, v in value.items()}
    if isinstance(value, type):
        return None
    if is_dataclass(value):
        return {f.name: getattr(value, f.name, None) for f in fields(value)}
    to_dict = getattr(value, "to_dict", None)
    members = to_dict() if callable(to_dict) else None
    return members if isinstance(members, dict) else None


def _text(value: object, replace: dict[str, str]) -> str:
    text = getattr(value, "__qualname__", None) if callable(value) else None
    text = _ADDRESS.sub("", str(text or value))
    for secret, stand_in in replace.items():
        text = text.replace(secret, stand_in)
    return text
