"""The Ray shell around a session: one actor process is one engine.

The actor runs with two threads: `run` holds the session, `stop` reaches it meanwhile. To change
the engine the driver kills the actor's process group, so the actor leads one of its own.
"""

from __future__ import annotations

import os

from workers.process import this_process
from workers.session import Assignment, Report, Session
from workers.transcript import capture


class SessionActor:
    """One session in a process of its own."""

    def __init__(self, assignment: Assignment) -> None:
        """Lead a process group, and send what this process prints to the session's own file."""
        if os.getpgrp() != os.getpid():
            os.setpgid(0, 0)
        if assignment.transcript is not None:
            capture(assignment.transcript)
        self._session = Session(assignment, self._gpu_uuids(assignment))

    def whereabouts(self) -> tuple[str, int]:
        """Return (boot id, process group) of this actor, for whoever must kill it."""
        owner = this_process()
        return owner.boot, os.getpgrp()

    def run(self) -> Report:
        """Run the session to its end."""
        return self._session.run()

    def stop(self) -> None:
        """Ask the session to end after the task it is measuring."""
        self._session.stop()

    @staticmethod
    def _gpu_uuids(assignment: Assignment) -> tuple[str, ...]:
        """Return the UUIDs of the GPUs Ray gave this actor; none on a `cpu:` or claimed board."""
        engine = assignment.engine
        if engine.backend == "simulated" or engine.board.startswith("cpu:"):
            return ()
        return granted_gpus()


def granted_gpus() -> tuple[str, ...]:
    """Return the UUIDs of this actor's GPUs, by the indices in CUDA_VISIBLE_DEVICES."""
    from workers.boards import uuids_of

    return uuids_of(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
