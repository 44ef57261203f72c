"""Markdown that the generated documents share: code, and tables of cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MADE = "<!-- Made by `make docs`: change what it is made from, not this file. -->"


def code(text: object) -> str:
    """Return text as inline code, whatever backticks it holds."""
    words = " ".join(str(text).split())
    return f"`` {words} ``" if "`" in words else f"`{words}`"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; a bar in a cell stays a bar."""
    cells = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(_cell(one) for one in row)} |" for row in cells]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
