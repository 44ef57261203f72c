"""What planning costs before anything is measured: printed, never asserted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Prints the plan's counts and the most memory it took, in KiB on Linux.
CODE = """
import contextlib, io, json, resource, sys
from campaign.cli import main
out = io.StringIO()
with contextlib.redirect_stdout(out):
    main(["plan", sys.argv[1], "--json"])
plan = json.loads(out.getvalue())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([plan["tasks"], sum(plan["excluded"].values()), plan["engines"], peak]))
"""


@pytest.mark.parametrize(
    ("grid", "times"),
    [("quickstart", 5), ("simulated", 5), ("prompts_to_power", 3), ("full", 3)],
)
def test_plan(grid: str, times: int) -> None:
    seconds, said = [], ""
    for _ in range(times):
        start = time.perf_counter()
        command = [sys.executable, "-c", CODE, f"+grid={grid}"]
        said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        seconds.append(time.perf_counter() - start)
    tasks, excluded, engines, peak_kib = json.loads(said)
    print(
        f"\nplan +grid={grid}: {median(seconds):.2f} s (median of {times}), "
        f"{peak_kib / 1024:.0f} MB; {tasks} tasks, {engines} engines, {excluded} points excluded"
    )
