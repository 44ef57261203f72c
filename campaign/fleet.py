"""The boards Ray gives us, and the actors on them. Nothing here decides what to run.

Ray's retries are off: a dead actor is reported as a lost session and Postgres is the only
authority on retries.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from db.errors import ConfigError, NodeUnfit
from workers.actor import SessionActor
from workers.process import boot_id
from workers.session import Assignment, Ending, Report

log = logging.getLogger("campaign.fleet")

#: Sessions exchange a few kilobytes; Ray's default would take a third of the memory.
OBJECT_STORE_BYTES = 96 * 2**20

#: Seconds an actor gets to die of Ray's kill before its process group is killed.
KILL_GRACE_S = 2.0

#: The node label that names the boards of a node.
BOARD_LABEL = "campaign/board"


def label_value(slug: str) -> str:
    """Return a board's slug as a Ray label value, which admits letters, digits and ``-_.``."""
    return slug.replace(":", ".")[:63].strip("-_.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalBoards:
    """What this host offers: boards by slug, whether they are GPUs to Ray, and CPU threads."""

    counts: Mapping[str, int]
    gpus: int
    threads: int


@dataclass(slots=True, kw_only=True)
class Flight:
    """A session that was dispatched, and where its process is once known."""

    assignment: Assignment
    actor: Any
    running: Any
    where: Any
    launched_s: float = field(default_factory=time.monotonic)
    process_group: tuple[str, int] | None = None


class Fleet:
    """Ray on this host or a cluster; launches sessions and reports their ends."""

    def __init__(self, address: str | None, local: LocalBoards, creation_deadline_s: float) -> None:
        """Describe it; Ray starts with `start`."""
        self._address = address
        self._local = local
        self._creation_deadline_s = creation_deadline_s
        self.flights: list[Flight] = []

    def start(self) -> None:
        """Join the cluster at `address`, or start a local Ray that offers this host's boards."""
        import ray

        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._address is not None:
            try:
                ray.init(address=self._address, **quiet)
            except (ConnectionError, ValueError, RuntimeError) as error:
                words = " ".join(str(error).split())[:200]
                message = f"no Ray cluster at cluster.address={self._address}: {words}"
                raise ConfigError(message) from error
            return
        slots = {_resource(slug): count for slug, count in self._local.counts.items()}
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_DISABLE_DOCKER_CPU_WARNING", "1")
        os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")  # a busy machine is slow
        try:
            ray.init(
                address="local",
                num_cpus=max(self._local.threads, sum(self._local.counts.values())),
                num_gpus=self._local.gpus,
                resources=slots,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                **quiet,
            )
        except Exception as error:
            words = " ".join(str(error).split())[:200]
            message = f"Ray did not start on this machine: {words} (logs: /tmp/ray/session_latest)"
            raise NodeUnfit(message) from error

    def slots(self) -> dict[str, int]:
        """Return the boards of the cluster by slug."""
        import ray

        if self._address is None:
            return dict(self._local.counts)
        counts: dict[str, int] = {}
        for node in ray.nodes():
            slug = node.get("Labels", {}).get(BOARD_LABEL)
            if node["Alive"] and slug:
                counts[slug] = counts.get(slug, 0) + int(node["Resources"].get("GPU", 1))
        return counts

    def launch(self, assignment: Assignment) -> Flight:
        """Start an actor for an assignment on a board of its kind; returns at once."""
        import ray

        engine = assignment.engine
        options: dict[str, Any] = {
            "max_restarts": 0, "max_task_retries": 0, "max_concurrency": 2,
            "num_cpus": engine.threads or 1,
        }  # fmt: skip
        if self._address is None:
            options["resources"] = {_resource(engine.board): engine.board_count}
            options["num_gpus"] = engine.board_count if self._local.gpus else 0
        else:
            options["num_gpus"] = 0 if engine.board.startswith("cpu:") else engine.board_count
            options["label_selector"] = {BOARD_LABEL: label_value(engine.board)}
        actor = ray.remote(SessionActor).options(**options).remote(assignment)
        flight = Flight(
            assignment=assignment, actor=actor, running=actor.run.remote(),
            where=actor.whereabouts.remote(),
        )  # fmt: skip
        self.flights.append(flight)
        return flight

    def landed(self, timeout_s: float) -> list[tuple[Flight, Report]]:
        """Wait up to `timeout_s` for sessions to end; returns those that did, with their reports.

        A session whose actor died reports FAILED with kind ``actor_died``; one that could not be
        created in time reports UNFIT.
        """
        import ray

        if not self.flights:
            return []
        refs = {flight.running: flight for flight in self.flights}
        done, _ = ray.wait(list(refs), num_returns=1, timeout=timeout_s)
        ended = [(refs[ref], _report(ref)) for ref in done]
        for flight in self.flights:
            if flight.running not in done:
                self._look_after(flight, ended)
        for flight, _ in ended:
            self.kill(flight)
        return ended

    def _look_after(self, flight: Flight, ended: list[tuple[Flight, Report]]) -> None:
        """Learn where a session's process is; give up on one that was never created."""
        import ray

        if flight.process_group is not None:
            return
        ready, _ = ray.wait([flight.where], timeout=0)
        if ready:
            flight.process_group = ray.get(ready[0])
        elif time.monotonic() - flight.launched_s > self._creation_deadline_s:
            board = flight.assignment.engine.board
            words = f"no actor on {board} within {self._creation_deadline_s:.0f} s"
            ended.append((flight, Report(ending=Ending.UNFIT, kind="not_created", error=words)))

    def stop_sessions(self) -> None:
        """Ask every session to end after its current task."""
        for flight in self.flights:
            flight.actor.stop.remote()

    def kill(self, flight: Flight) -> None:
        """End a session's actor and everything it started."""
        import ray

        if flight in self.flights:
            self.flights.remove(flight)
        if flight.process_group is None:
            ready, _ = ray.wait([flight.where], timeout=0)
            flight.process_group = _where(ready[0]) if ready else None
        ray.kill(flight.actor)
        if flight.process_group is not None and flight.process_group[0] == boot_id():
            _end_group(flight.process_group[1])

    def shutdown(self) -> None:
        """Kill what still runs and leave Ray; a local Ray ends with it."""
        import ray

        for flight in list(self.flights):
            self.kill(flight)
        ray.shutdown()


def _resource(slug: str) -> str:
    return f"board:{slug}"


def _end_group(group: int) -> None:
    """Kill what an actor left running; Ray, which ends the actor itself, gets a moment first."""
    try:
        psutil.Process(group).wait(timeout=KILL_GRACE_S)
    except (psutil.NoSuchProcess, psutil.TimeoutExpired):
        log.debug("actor_ended group=%d", group)
    with suppress(ProcessLookupError):  # nothing was left
        os.killpg(group, signal.SIGKILL)


def _where(ref: object) -> tuple[str, int] | None:
    import ray
    from ray.exceptions import RayError

    try:
        found: tuple[str, int] = ray.get(ref)
    except RayError:
        return None
    return found


def _report(ref: object) -> Report:
    """Return a session's report; a dead actor becomes one."""
    import ray
    from ray.exceptions import ActorDiedError, RayError

    try:
        report: Report = ray.get(ref)
    except ActorDiedError:
        words = "its process died; `campaign logs` knows its last words"
        return Report(ending=Ending.FAILED, kind="actor_died", error=words)
    except RayError as error:
        words = " ".join(str(error).split())[:500]
        return Report(ending=Ending.FAILED, kind="actor_died", error=words)
    return report
