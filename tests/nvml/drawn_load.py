"""A load for `campaign instrument` that the stand-in's board follows: it writes, and computes not.

A module that is started as workers.instrument.load is; the file it writes is named by DRAWN_LOAD.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.nvml.load import Load
from workers.meters.child import Parent, integer, items

LOW_W, HIGH_W = 100.0, 600.0


def main() -> None:
    parent = Parent()
    requests = (request for request in parent.requests() if request is not None)
    next(requests)
    board = Load(Path(os.environ["DRAWN_LOAD"]), LOW_W)
    parent.answer({"ready": True})
    for request in requests:
        switches_ns = [integer(at) for at in items(request["switches_ns"])]
        stretches = list(zip(switches_ns[::2], switches_ns[1::2], strict=True))
        while stretches and stretches[0][0] <= time.monotonic_ns() + 1_000_000:
            stretches.pop(0)  # this machine was too slow to draw it
        for on_ns, off_ns in stretches:
            board.switch(on_ns, HIGH_W)
            board.switch(off_ns, LOW_W)
        time.sleep(max(0.0, (switches_ns[-1] - time.monotonic_ns()) / 1e9))
        worked_ns = sum(off - on for on, off in stretches)
        parent.answer({"done": worked_ns // 1_000_000, "stretches": stretches})


if __name__ == "__main__":
    main()
