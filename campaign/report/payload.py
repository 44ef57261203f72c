"""Points as the page carries them: columns, words once, compressed; and back, for the tests.

Owns the form that page.js reads. Loses nothing but digits that points.py left out already.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence

from campaign.report.points import Point

#: What a line of HTML may not hold, though JSON may.
UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def packed(points: Sequence[Point]) -> str:
    """Return points as text without a character that HTML minds: gzip in base 64."""
    text = json.dumps(columns(points), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def columns(points: Sequence[Point]) -> dict[str, object]:
    """Return a list for each number, and for each text its distinct values and their places."""
    if not points:
        return {}
    return {name: _column([point[name] for point in points]) for name in points[0]}


def _column(values: Sequence[object]) -> object:
    if not any(isinstance(value, str) for value in values):
        return values
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return {"words": list(places), "at": [places[value] for value in values]}


def unpacked(text: str) -> list[Point]:
    """Return the points of a page."""
    table: Mapping[str, object] = json.loads(gzip.decompress(base64.b64decode(text)))
    whole = {name: _values(column) for name, column in table.items()}
    return [dict(zip(whole, row, strict=True)) for row in zip(*whole.values(), strict=True)]


def _values(column: object) -> Sequence[object]:
    if isinstance(column, dict):
        return [column["words"][place] for place in column["at"]]
    return column if isinstance(column, list) else []


def embedded(value: object) -> str:
    """Return JSON that may stand inside a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, escape in UNSAFE.items():
        text = text.replace(character, escape)
    return text
