"""The sessions in flight: on which node each is, how it ends, and what that says of the node.

Nothing here decides what to run. Ray's retries are off: a dead actor is reported as a lost session
and Postgres is the only authority on retries. An actor is ended as soon as its session has; what
it started ends with it, on its own host (workers/guard.py).
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from campaign.cluster import nodes as cluster
from campaign.cluster.berths import HERE, NOWHERE, Berth, Berths
from campaign.cluster.nodes import LocalBoards
from campaign.cluster.roster import Roster
from campaign.configuration.settings import ClusterSettings
from campaign.running.schedule import Node
from db.records import EngineSpec
from workers.actor import SessionActor
from workers.assignment import Assignment, Ending, Report

log = logging.getLogger("campaign.running.fleet")

#: Times that an engine's session is not there in time before its node is avoided for it.
MAX_CREATIONS = 2
#: Seconds Ray gets to learn that a node has gone whose session has.
DEATH_NOTICE_S = 5.0


@dataclass(slots=True, kw_only=True)
class Flight:
    """A session that was dispatched, and where."""

    assignment: Assignment
    berth: Berth
    actor: Any
    running: Any
    where: Any
    launched_s: float = field(default_factory=time.monotonic)
    created: bool = False
    stopping: bool = False

    @property
    def label(self) -> str:
        """Short text for people: the engine, and on which node of several."""
        node = "" if self.berth.node == HERE else f", {self.berth.name}"
        return f"{self.assignment.engine.label}{node}"

    def news(self, what: str, error: str | None = None) -> str:
        """Return a line for people on what became of it; an error need not name the engine too."""
        name = self.assignment.engine.label
        said = (error or "").removeprefix(f"{name}: ").replace(f" {name}: ", ": ")
        return ": ".join(word for word in (self.label, what, said) if word)


class Fleet:
    """Launches sessions on Ray, of this host or of a cluster, and reports their ends."""

    def __init__(
        self,
        settings: ClusterSettings,
        local: LocalBoards,
        boards: Collection[str],
        roster: Roster | None = None,
    ) -> None:
        """Describe it; Ray starts with `start`, unless the cluster of `roster` was joined.

        `boards` are the slugs that anything will be asked to run on.
        """
        self.berths = Berths(settings, local, boards, roster)
        self.flights: list[Flight] = []
        self._settings, self._local = settings, local
        self._uncreated: Counter[tuple[int, str]] = Counter()
        self._weights: defaultdict[str, set[str]] = defaultdict(set)

    def start(self) -> None:
        """Start a Ray of our own that offers this host's boards; nothing where one was joined."""
        if not self.berths.is_cluster:
            cluster.start(self._local)
        self.berths.look()

    def room(self) -> list[Node]:
        """Return the berths with the boards that idle on each, for the schedule."""
        taken = self._taken()
        kinds = Counter(berth.board for berth in self.berths.by_id.values())
        return [
            Node(id=berth.id, board=berth.board, idle=self._idle(berth, taken),
                 alone=self.berths.is_alone(berth),
                 only=kinds[berth.board] == 1
                 and (berth.boards == 1 or self.berths.is_alone(berth)),
                 weights=frozenset(self._weights.get(berth.node, ())))
            for berth in self.berths.by_id.values()
        ]  # fmt: skip

    def _taken(self) -> dict[str, Counter[str]]:
        """Return the boards that sessions hold, by node and slug."""
        taken: dict[str, Counter[str]] = {}
        for flight in self.flights:
            engine = flight.assignment.engine
            taken.setdefault(flight.berth.node, Counter())[engine.board] += engine.board_count
        return taken

    def _idle(self, berth: Berth, taken: Mapping[str, Counter[str]]) -> int:
        here = taken.get(berth.node)
        if here and self.berths.is_alone(berth):
            return 0
        return berth.boards - (here[berth.board] if here else 0)

    def launch(self, assignment: Assignment, berth_id: str) -> Flight | None:
        """Start an actor on a berth; returns at once, None where it has no room for it now."""
        import ray

        engine = assignment.engine
        berth = self.berths.by_id.get(berth_id)
        if berth is None or self.berths.avoids(assignment.engine_id, berth):
            return None
        if self._idle(berth, self._taken()) < engine.board_count:
            return None
        options = self.berths.claims(engine, berth) | {
            "max_restarts": 0, "max_task_retries": 0, "max_concurrency": 2,
        }  # fmt: skip
        alone = self._settings.isolation == "node"
        actor = ray.remote(SessionActor).options(**options).remote(assignment, alone=alone)
        flight = Flight(
            assignment=assignment, berth=berth, actor=actor, running=actor.run.remote(),
            where=actor.whereabouts.remote(),
        )  # fmt: skip
        self.flights.append(flight)
        return flight

    def landed(self, timeout_s: float) -> list[tuple[Flight, Report]]:
        """Wait up to `timeout_s` for sessions to end; returns those that did, with their reports.

        A session whose actor died reports FAILED with kind ``actor_died``, or ``node_left`` where
        its node went on purpose; one that could not be created in time reports UNFIT. Raises
        RayDied where neither is of its own doing.
        """
        import ray

        if not self.flights:
            return []
        refs = {flight.running: flight for flight in self.flights}
        done, _ = ray.wait(list(refs), num_returns=1, timeout=timeout_s)
        ended = [(refs[ref], self._report(refs[ref])) for ref in done]
        flying = [flight for flight in self.flights if flight.running not in done]
        late = [(flight, self._look_after(flight)) for flight in flying]
        ended += [(flight, report) for flight, report in late if report is not None]
        for flight, report in ended:
            self._learn(flight, report)
            self.kill(flight)
        return ended

    def _look_after(self, flight: Flight) -> Report | None:
        """Learn where a session is, stop it if its node is leaving, give up one never created."""
        import ray

        if not flight.created and ray.wait([flight.where], timeout=0)[0]:
            flight.created = True
            self._moved(flight)
        if flight.berth.node in self.berths.leaving and not flight.stopping:
            flight.stopping = True
            flight.actor.stop.remote()
            log.warning("%s is leaving: its session ends after its task", flight.berth.name)
        deadline_s = self._settings.creation_deadline_s
        if flight.created or time.monotonic() - flight.launched_s <= deadline_s:
            return None
        if not self.berths.is_cluster:
            cluster.require_alive()
        words = f"no session on {flight.berth.name} within {deadline_s:g} s"
        return Report(ending=Ending.UNFIT, kind="not_created", error=words)

    def _moved(self, flight: Flight) -> None:
        """Note on which node a session is that was to bring one."""
        import ray
        from ray.exceptions import RayError

        if flight.berth.node != NOWHERE:
            return
        try:
            node = ray.get(flight.where)
        except RayError:
            return  # it died, which its run will say
        self.berths.look()
        found = (berth for berth in self.berths.by_id.values() if berth.node == node)
        flight.berth = next(found, flight.berth)

    def _learn(self, flight: Flight, report: Report) -> None:
        """Draw from the end of a session what its node is good for."""
        engine_id, berth = flight.assignment.engine_id, flight.berth
        if report.load_s is not None:
            self._weights[berth.node].add(weights_of(flight.assignment.engine))
        if report.ending is not Ending.UNFIT:
            return
        if report.kind == "wrong_board" and self.berths.is_cluster:
            self.berths.refuse(berth.node)
            report.error = f"node {berth.name}, labelled {berth.board}, is refused: {report.error}"
            return
        self._uncreated[engine_id, berth.node] += 1
        if report.kind != "not_created" or self._uncreated[engine_id, berth.node] >= MAX_CREATIONS:
            self.berths.avoid(engine_id, berth)

    def stop_sessions(self) -> None:
        """Ask every session to end after its current task."""
        for flight in self.flights:
            flight.actor.stop.remote()

    def kill(self, flight: Flight) -> None:
        """End a session's actor, and so, by its guard, everything it started."""
        import ray

        if flight in self.flights:
            self.flights.remove(flight)
        ray.kill(flight.actor)

    def shutdown(self) -> None:
        """Kill what still runs and leave Ray; a local Ray ends with it."""
        for flight in list(self.flights):
            self.kill(flight)
        cluster.leave()

    def _report(self, flight: Flight) -> Report:
        """Return a session's report; a dead actor becomes one."""
        import ray
        from ray.exceptions import ActorDiedError, RayError

        try:
            report: Report = ray.get(flight.running)
            return report
        except RayError as error:
            words = " ".join(str(error).split())[:500]
            preempted = getattr(error, "preempted", False)
            died = isinstance(error, ActorDiedError)
        node = flight.berth.node
        if not self.berths.is_cluster:
            cluster.require_alive()
        if preempted or (self.berths.is_cluster and cluster.departed(node, DEATH_NOTICE_S)):
            words = f"{flight.berth.name} went on purpose; what it held is given back"
            return Report(ending=Ending.FAILED, kind="node_left", error=words)
        words = "its process died" if died else words
        return Report(ending=Ending.FAILED, kind="actor_died", error=words)


def weights_of(engine: EngineSpec) -> str:
    """Return the name of what an engine reads from a disk."""
    model = engine.model
    return f"{model.name}@{model.commit or model.weights}"
