"""The Ray shell around a session: one actor process is one engine.

The actor runs with two threads: `run` holds the session, `stop` reaches it meanwhile. It leads a
process group of its own, which ends with it: a guard on the same host sees to that, whoever or
whatever ended the actor.
"""

from __future__ import annotations

import os
from pathlib import Path

from db.errors import NodeUnfit
from workers.assignment import Assignment, Ending, Report
from workers.boards import discover
from workers.group import uuids_of
from workers.guard import Guard
from workers.session import Session
from workers.transcript import capture

#: Which GPUs CUDA shows to this process and to those it starts.
VISIBLE = "CUDA_VISIBLE_DEVICES"


class SessionActor:
    """One session in a process of its own."""

    def __init__(self, assignment: Assignment, *, alone: bool) -> None:
        """Lead a process group, and send what this process prints to the session's own file.

        `alone` keeps every other board of the node from being measured on meanwhile.
        """
        if os.getpgrp() != os.getpid():
            os.setpgid(0, 0)
        if assignment.transcript is not None:
            Path(assignment.transcript).parent.mkdir(parents=True, exist_ok=True)
            capture(assignment.transcript)
        self._guard = Guard(keeper=os.getppid())  # Ray's own process of this node
        self._job, self._alone = assignment, alone
        self._session: Session | None = None
        self._stopped = False

    def whereabouts(self) -> str:
        """Return the id of the node this actor lives on; an answer says that it was created."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def run(self) -> Report:
        """Run the session to its end."""
        try:
            group, others = self._boards()
        except NodeUnfit as unfit:
            return Report(ending=Ending.UNFIT, error=str(unfit))
        self._session = Session(self._job, group, others, self._guard.allow)
        if self._stopped:
            self._session.stop()
        return self._session.run()

    def stop(self) -> None:
        """Ask the session to end after the task it is measuring."""
        self._stopped = True
        if self._session is not None:
            self._session.stop()

    def _boards(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the UUIDs of the group, and those that are to stay idle beside it.

        Ray may have given the whole node: the group is the first of its GPUs, and CUDA shows no
        others to the engine. A `cpu:` board and one that is only claimed have none.
        """
        granted = granted_gpus()
        if not granted:
            return (), ()
        os.environ[VISIBLE] = ",".join(granted[: self._job.engine.board_count])
        group = uuids_of(os.environ[VISIBLE])
        here = [board.uuid for board in discover() if board.uuid is not None]
        return group, tuple(uuid for uuid in here if self._alone and uuid not in group)


def granted_gpus() -> tuple[str, ...]:
    """Return the GPUs that Ray gave this actor, as CUDA_VISIBLE_DEVICES names them."""
    import ray

    return tuple(map(str, ray.get_runtime_context().get_accelerator_ids().get("GPU", ())))
