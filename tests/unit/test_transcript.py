"""What a process and its children print, read back from where it began."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRINTS = """
import subprocess, sys
from workers.transcript import Printed, capture

if len(sys.argv) > 1:
    capture(sys.argv[1])
print("before", file=sys.stderr, flush=True)
printed = Printed()
subprocess.run([sys.executable, "-c", "import sys; print('of a child', file=sys.stderr)"])
print(repr(printed.text), file=sys.__stdout__ if len(sys.argv) < 2 else open(sys.argv[2], "w"))
"""


def said(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", PRINTS, *arguments], cwd=ROOT, check=True,
                          capture_output=True, text=True)  # fmt: skip
    return done.stdout


def test_what_children_print_is_read_from_where_it_began(tmp_path: Path) -> None:
    said(str(tmp_path / "log"), str(tmp_path / "found"))
    assert (tmp_path / "found").read_text() == "'of a child\\n'\n"


def test_nothing_is_known_of_what_goes_to_no_file() -> None:
    assert said() == "''\n"
