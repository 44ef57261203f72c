"""How fast a trace is read and what it takes in memory: printed, never asserted."""

from __future__ import annotations

import datetime as dt
import random
import subprocess
import sys
from pathlib import Path

#: What a week of real requests may take: 44 million rows in a gigabyte.
LIMIT_BYTES_PER_ROW = 1e9 / 44e6
ROWS = 2_000_000
READ = """
import resource, sys, time
from pathlib import Path
from workers.workloads.traces import read_trace
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
start = time.perf_counter()
found = read_trace(Path(sys.argv[1]))
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(len(found), seconds, peak - before, peak)
"""


def write(path: Path, rows: int) -> None:
    """Write a trace in the form of the Azure traces of 2024, a fraction missing now and then."""
    chance = random.Random(1)
    at = dt.datetime(2024, 5, 12, tzinfo=dt.UTC)
    with path.open("w") as stream:
        stream.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
        for _ in range(rows):
            at += dt.timedelta(microseconds=round(chance.expovariate(1 / 14_000)))
            stream.write(f"{at.isoformat(sep=' ')},{chance.randrange(1, 8000)},"
                         f"{chance.randrange(1, 1500)}\n")  # fmt: skip


def test_read(tmp_path: Path) -> None:
    write(tmp_path / "trace.csv", ROWS)
    command = [sys.executable, "-c", READ, str(tmp_path / "trace.csv")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows, seconds, added, peak = map(float, done.stdout.split())
    share = added / rows / LIMIT_BYTES_PER_ROW
    print(f"\n{rows:,.0f} rows in {seconds:.1f} s: {rows / seconds:,.0f} rows/s, "
          f"{rows / seconds / 44e6:.3f} of a week's 44 million per second")  # fmt: skip
    print(f"{added / rows:.1f} bytes per row with the buffers, {share:.2f} of the limit; "
          f"peak {peak / 1e6:.0f} MB")  # fmt: skip
