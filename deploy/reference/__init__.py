"""The documents of docs/reference/, each made from what the program itself declares.

    python -m deploy.reference

writes them; a test makes them again and compares. Nobody edits them by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deploy.reference.configuration import configuration
from deploy.reference.schema import schema
from deploy.reference.verbs import verbs

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"


def pages() -> Mapping[str, str]:
    """Return the content of every generated document by its file name."""
    return {"verbs.md": verbs(), "configuration.md": configuration(), "schema.md": schema()}
