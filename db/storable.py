"""What Postgres can keep of a text or a configuration that others wrote.

An engine's stderr holds anything, its configuration infinities and objects; neither may cost a
measurement. Never touches a number that was measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping


def storable_text(text: str | None) -> str | None:
    """Return a text without NUL and without halves of surrogate pairs."""
    if text is None:
        return None
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def storable_json(value: object) -> str:
    """Return the JSON of a value; floats that are no numbers, and objects, become text."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps(_plain(value))
    return json.dumps(_plain(value)) if "\\u0000" in text or "\\ud" in text else text


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {storable_text(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return storable_text(str(value))
