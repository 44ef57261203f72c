"""A report's page as a browser would take it, without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from campaign.cli import main
from campaign.report.payload import unpacked
from db.store import Store

Make = Callable[..., str]


def maker(store: Store, folder: Path) -> Make:
    """Return a function that writes a report of a store into a folder and returns its text."""

    def made(*options: str) -> str:
        path = folder / "report.html"
        assert main(["report", "-o", str(path), *options, f"store.url='{store.url}'"]) == 0
        return path.read_text(encoding="utf-8")

    return made


class Page(HTMLParser):
    """What a browser would take from a page: its texts by element, and its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.seen: list[tuple[str, str]] = []
        self.data: dict[str, str] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self._id: str | None = None
        self._title = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.open.append(tag)
        self._id = dict(attrs).get("id")
        if tag == "tr":
            self.tables.setdefault(self._title, []).append([])
        elif tag == "td":
            self.tables[self._title][-1].append("")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script" and self._id:
            self.data[self._id] = self.data.get(self._id, "") + data
        elif self.open:
            self.seen.append((self.open[-1], data.strip()))
            if self.open[-1] == "h3" and data.strip():
                self._title = data.strip()
            elif self.open[-1] == "td":
                self.tables[self._title][-1][-1] += data.strip()

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def said(self, tag: str) -> list[str]:
        return [text for name, text in self.seen if name == tag and text]

    @property
    def points(self) -> list[dict[str, object]]:
        return unpacked(self.data["points"])

    @property
    def charts(self) -> dict[str, dict[str, Any]]:
        """The charts of the page by their id."""
        found: dict[str, dict[str, Any]] = json.loads(self.data["charts"])["charts"]
        return found

    def table(self, title: str) -> list[list[str]]:
        """Return the rows of the table under a title."""
        return self.tables[title]
