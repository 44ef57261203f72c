"""Tables for people: a row a line in a pipe, wrapped or record by record in a terminal."""

from __future__ import annotations

import re
from io import BytesIO, StringIO, TextIOWrapper

import pytest

from campaign.tabular import MISSING, print_table

COLUMNS = ("model", "n", "what was said of it")
ROWS = [("日本", 2.5, "one two three four five six"), ("a", None, None), ("b\nc", 10, "")]


class Screen(StringIO):
    """What is printed to it goes to a person."""

    def isatty(self) -> bool:
        return True


def printed(stream: StringIO, title: str | None = None) -> list[str]:
    assert print_table(COLUMNS, ROWS, title=title, stream=stream) == len(ROWS)
    return stream.getvalue().splitlines()


def on_screen(width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    return [re.sub(r"\x1b\[\d*m", "", line).rstrip() for line in printed(Screen())]


def test_a_pipe_gets_a_row_a_line_in_columns_as_wide_as_they_are_seen() -> None:
    assert printed(StringIO(), "the title [of 2]") == [
        "the title [of 2]",
        "model    n  what was said of it",
        "────────────────────────────────────────",
        "日本   2.5  one two three four five six",
        f"a        {MISSING}  {MISSING}",
        "b c     10",
    ]


def test_a_stream_that_knows_no_strokes_gets_hyphens() -> None:
    raw = BytesIO()
    with TextIOWrapper(raw, encoding="ascii") as stream:
        print_table(("n",), [(12,)], stream=stream)
        stream.flush()
        assert raw.getvalue() == b" n\n---\n12\n"


def test_a_terminal_gets_the_same_table_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_screen(60, monkeypatch) == printed(StringIO())


def test_text_wraps_at_its_spaces_in_a_narrower_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_screen(30, monkeypatch) == [
        "            what was said of",
        "model    n  it",
        "──────────────────────────────",
        "日本   2.5  one two three",
        "            four five six",
        f"a        {MISSING}  {MISSING}",
        "b c     10",
    ]


def test_a_record_is_a_block_where_columns_would_be_single_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = on_screen(18, monkeypatch)
    assert lines[:4] == [
        "── 1 ──",
        "model                日本",
        "n                    2.5",
        "what was said of it  one two three four five six",
    ]
    assert len(lines) == len(ROWS) * (1 + len(COLUMNS))


def test_columns_without_a_word_are_shown_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen()
    assert print_table(("", "n"), [("", 1)], stream=screen) == 1
