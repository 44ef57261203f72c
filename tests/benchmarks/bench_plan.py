"""What planning costs before anything is measured: printed, never asserted."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("grid", ["quickstart", "simulated"])
def test_plan(grid: str) -> None:
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        command = [sys.executable, "-m", "campaign", "plan", f"+grid={grid}", "--json"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    print(f"\nplan +grid={grid}: {median(seconds):.2f} s (median of {len(seconds)})")
