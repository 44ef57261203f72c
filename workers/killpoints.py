"""Named places where a crash test may hold a process to kill something; nothing otherwise.

``CAMPAIGN_HOLD_AT=point,point`` and ``CAMPAIGN_HOLD_FOLDER=folder``: the first process to reach a
point writes its pid to ``folder/point.held`` and waits there until ``folder/point.go`` exists.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

#: Every place, in the order a task meets them.
POINTS = ("loaded", "claimed", "in_window", "measured", "written")


def reach(point: str) -> None:
    """Pass a named place; waits there only if the environment asks for it, and only once."""
    if point not in os.environ.get("CAMPAIGN_HOLD_AT", "").split(","):
        return
    folder = Path(os.environ["CAMPAIGN_HOLD_FOLDER"])
    mine = folder / f"{point}.{os.getpid()}"
    mine.write_text(str(os.getpid()))
    try:
        os.link(mine, folder / f"{point}.held")
    except FileExistsError:
        return
    while not (folder / f"{point}.go").exists():
        time.sleep(0.02)
