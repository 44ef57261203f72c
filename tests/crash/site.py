"""A campaign on claimed boards as real processes, with its own store, locks and home."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from db.place import Place, opened

#: Three tasks of one engine, milliseconds each once the engine runs.
SMALL = (
    "cluster=simulated",
    "engine=simulated",
    "protocol=quick",
    "campaign=crash",
    "model=meta-llama/Llama-3.1-8B",
    "board=rtx-a6000",
    "workload.input_tokens=128",
    "workload.output_tokens=16",
    "workload.batch_size=[1,2,4]",
    "store.retry_delay_s=0",
)

TIMEOUT_S = 240.0
#: Of postmaster.pid: starting, ready or stopping.
STATUS_LINE = 7


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll until a condition holds; fails the test with `what` otherwise."""
    ends_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < ends_s, f"not within {TIMEOUT_S} s: {what}"
        time.sleep(0.05)


class Site:
    """One campaign: its runs, who is held where, what its store says."""

    def __init__(self, program) -> None:
        """Take the program and the folder it lives in; nothing runs yet."""
        self._program = program
        self.folder: Path = program.folder
        self.holds = self.folder / "holds"
        self.holds.mkdir()
        self.place = Place(folder=str(self.folder / "store"))

    def start(
        self,
        overrides: Sequence[str] = SMALL,
        *,
        hold_at: str = "",
        terminal: int | None = None,
        **environment: str,
    ) -> subprocess.Popen[str]:
        """Start `campaign run`; `hold_at` names a kill point."""
        hold = {"CAMPAIGN_HOLD_AT": hold_at, "CAMPAIGN_HOLD_FOLDER": str(self.holds)}
        return self._program.start(
            "run", "--json", *overrides, environment=hold | environment, terminal=terminal
        )

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
        for process in psutil.process_iter():
            try:
                environment = Path(f"/proc/{process.pid}/environ").read_bytes()
                alive = process.status() != psutil.STATUS_ZOMBIE
                if marker in environment and alive and process.name() != "postgres":
                    found.append(process)
            except (OSError, psutil.NoSuchProcess):
                continue
        return found

    def postmaster(self) -> int:
        """Wait until this site's Postgres takes connections, or does again; returns its pid."""
        until(lambda: self._postmaster() is not None, "a Postgres that is ready")
        found = self._postmaster()
        assert found is not None
        return found

    def _postmaster(self) -> int | None:
        """Return the pid of a living server that says of itself that it is ready."""
        for path in (self.folder / "store").rglob("postmaster.pid"):
            with suppress(OSError, IndexError, ValueError, psutil.NoSuchProcess):
                lines = path.read_text().splitlines()
                alive = psutil.Process(int(lines[0])).status() != psutil.STATUS_ZOMBIE
                if alive and lines[STATUS_LINE].strip() == "ready":
                    return int(lines[0])
        return None

    def facts(self, sql: str) -> list[tuple[object, ...]]:
        """Ask the store."""
        with opened(self.place) as store, store.store.begin() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql)]
