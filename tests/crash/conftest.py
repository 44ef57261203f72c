"""A campaign on claimed boards as a real process, with its own store, locks and home."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from db.place import Place, opened

ROOT = Path(__file__).parent.parent.parent

#: Three tasks of one engine, milliseconds each once the engine runs.
SMALL = ("cluster=simulated", "engine=simulated", "protocol=quick", "campaign=crash",
         "model=meta-llama/Llama-3.1-8B", "board=rtx-a6000", "workload.input_tokens=128",
         "workload.output_tokens=16", "workload.batch_size=[1,2,4]", "store.retry_delay_s=0")  # fmt: skip

TIMEOUT_S = 90.0


def until(condition: Callable[[], bool], what: str, timeout_s: float = TIMEOUT_S) -> None:
    """Poll until a condition holds; fails the test with `what` otherwise."""
    ends_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


class Site:
    """A folder with everything of one campaign, and the processes started in it."""

    def __init__(self, folder: Path) -> None:
        """Make the places; nothing runs yet."""
        self.folder = folder
        self.holds = folder / "holds"
        self.holds.mkdir(mode=0o755)
        self.place = Place(folder=str(folder / "store"))
        self._runs: list[subprocess.Popen[str]] = []

    def start(
        self, overrides: Sequence[str] = SMALL, *, hold_at: str | None = None
    ) -> subprocess.Popen[str]:
        """Start `campaign run` in a session of its own; `hold_at` names a kill point."""
        environment = os.environ | {
            "CAMPAIGN_HOME": str(self.folder),
            "CAMPAIGN_LOCKS": str(self.folder / "locks"),
            "CAMPAIGN_HOLD_FOLDER": str(self.holds),
        }
        if hold_at is not None:
            environment["CAMPAIGN_HOLD_AT"] = hold_at
        run = subprocess.Popen(
            [sys.executable, "-m", "campaign", "run", "--json", *overrides],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._runs.append(run)
        return run

    def finish(self, run: subprocess.Popen[str]) -> tuple[int, dict[str, object], str]:
        """Wait for a run; returns its exit code, its JSON and its stderr."""
        out, err = run.communicate(timeout=TIMEOUT_S)
        return run.returncode, json.loads(out) if out.strip() else {}, err

    def held_pid(self, point: str) -> int:
        """Wait until a process is held at a kill point; returns its pid."""
        held = self.holds / f"{point}.held"
        until(held.exists, f"a process at {point}")
        return int(held.read_text())

    def let_go(self, point: str) -> None:
        """Let whoever is held go on."""
        (self.holds / f"{point}.go").touch()

    def ours(self) -> list[psutil.Process]:
        """Return the living processes that were started for this site, the store's apart."""
        marker = f"CAMPAIGN_HOME={self.folder}".encode()
        found = []
        for process in psutil.process_iter(["name"]):
            try:
                environment = Path(f"/proc/{process.pid}/environ").read_bytes()
                alive = process.status() != psutil.STATUS_ZOMBIE
            except (FileNotFoundError, ProcessLookupError, PermissionError, psutil.NoSuchProcess):
                continue
            if marker in environment and alive and process.info["name"] != "postgres":
                found.append(process)
        return found

    def postmaster(self) -> int:
        """Return the pid of this site's Postgres."""
        for path in (self.folder / "store").rglob("postmaster.pid"):
            return int(path.read_text().split()[0])
        raise AssertionError("no postmaster.pid")

    def facts(self, sql: str) -> list[tuple[object, ...]]:
        """Ask the store."""
        with opened(self.place) as store, store.store.begin() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql)]

    def clean_up(self) -> None:
        """Kill what a failed test left behind."""
        for run in self._runs:
            if run.poll() is None:
                run.kill()
                run.communicate()
        for process in self.ours():
            process.send_signal(signal.SIGKILL)


@pytest.fixture
def site(public_tmp: Path) -> Iterator[Site]:
    """A fresh site, its processes gone afterwards."""
    made = Site(public_tmp)
    yield made
    made.clean_up()
