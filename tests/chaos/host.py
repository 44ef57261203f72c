"""One of several hosts that drain a campaign: its home, its driver, what that driver started.

A driver runs as people run it, in a process of its own, and is started again when it has died.
Its sessions are held at one kill point at a time (workers/killpoints.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.conftest import ROOT
from workers.killpoints import POINTS


class Host:
    """A home and the driver that works from it."""

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        """Make the home; `command` are the words after `campaign`."""
        self.home, self.name = folder, folder.name
        self.home.mkdir(mode=0o755)
        self._command = [sys.executable, "-m", "campaign", *command]
        self.process: psutil.Popen | None = None
        self.point = ""
        self.incarnation = 0
        self.held: list[int] = []
        #: Engines whose load was killed: the second time a driver quarantines one, by design.
        self.failed_loads: set[int] = set()
        self.wounded = False

    # ---- the driver ------------------------------------------------------------------------------

    def start(self, point: str) -> None:
        """Start the driver; its sessions are held at `point` once that is armed, "" is nowhere."""
        self.incarnation += 1
        self.wounded = False
        self.failed_loads.clear()
        self._holds.mkdir(parents=True)
        for each in POINTS:
            self.move_to(each)
        self.point = point
        with self.errors.open("w") as err, (self.home / "out.json").open("w") as out:
            self.process = psutil.Popen(
                self._command,
                cwd=self.home,
                env=os.environ | self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        return {
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.home),
            "CAMPAIGN_HOME": str(self.home),
            "CAMPAIGN_LOCKS": str(self.home / "locks"),
            "CAMPAIGN_HOLD_AT": ",".join(POINTS),
            "CAMPAIGN_HOLD_FOLDER": str(self._holds),
        }

    @property
    def errors(self) -> Path:
        """What the driver said on stderr."""
        return self.home / f"driver-{self.incarnation}.err"

    @property
    def last_words(self) -> str:
        """The last line of it."""
        lines = self.errors.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def ended(self) -> int | None:
        """Return the driver's exit code; None while it runs."""
        return None if self.process is None else self.process.poll()

    # ---- what it started -------------------------------------------------------------------------

    def offspring(self) -> list[psutil.Process]:
        """Return the living processes that descend from the driver, which is not among them."""
        try:
            found = self.process.children(recursive=True) if self.process else []
            return [p for p in found if p.status() != psutil.STATUS_ZOMBIE]
        except psutil.NoSuchProcess:
            return []

    def raylet(self) -> psutil.Process | None:
        """Return the raylet of the driver's own Ray, if it has one by now."""
        for process in self.offspring():
            with suppress(psutil.NoSuchProcess):
                if process.name() == "raylet":
                    return process
        return None

    def orphans(self) -> list[str]:
        """Return the processes of this home that live, as text; there may be none in the end."""
        marker = f"CAMPAIGN_HOME={self.home}".encode()
        found = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.NoSuchProcess):
                words = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
                if marker in words and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:100]}")
        return found

    # ---- the kill point --------------------------------------------------------------------------

    @property
    def _holds(self) -> Path:
        return self.home / "holds" / str(self.incarnation)

    @property
    def _go(self) -> Path:
        return self._holds / f"{self.point}.go"

    @property
    def _held(self) -> Path:
        return self._holds / f"{self.point}.held"

    @property
    def is_armed(self) -> bool:
        """Whether sessions are held."""
        return self.point in POINTS and not self._go.exists()

    def move_to(self, point: str) -> None:
        """Hold nobody where they were held, and be ready to hold them at another point."""
        if self.point in POINTS:
            self.let_go()
        self.point = point
        self.let_go()

    def arm(self) -> None:
        """Hold every session that comes to the point from now on."""
        self._go.unlink(missing_ok=True)
        self._held.unlink(missing_ok=True)

    def let_go(self) -> None:
        """Let those who are held go on, and nobody be held."""
        self._go.touch()
        with suppress(FileExistsError):
            self._held.touch(exist_ok=False)
        self.held.clear()

    def look(self, living: Collection[int]) -> None:
        """See who is held now; `living` are the pids of the driver's processes."""
        if self.is_armed and self._held.exists():
            pid = int(self._held.read_text() or 0)
            self._held.unlink()  # the next one is held as well
            self.held.append(pid)
        self.held = [pid for pid in self.held if pid in living]

    def end(self) -> None:
        """Kill the driver, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
