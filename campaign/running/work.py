"""A campaign as the driver holds it: its engines, how their sessions are equipped and how long.

Values only; where they come from is campaign/running/prepare.py's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from campaign.cluster.nodes import LocalBoards
from campaign.configuration.settings import Settings
from campaign.running.pace import Estimate
from db.records import Board, EngineSpec, Reality
from workers.engines.registry import Limits
from workers.rig import RigPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """An engine of the campaign: how its sessions are equipped, and estimates in seconds.

    `task_s` is the mean of its `tasks`.
    """

    engine: EngineSpec
    rig: RigPlan
    tasks: int
    task_s: float
    load_s: float

    @property
    def estimate(self) -> Estimate:
        """What its sessions take, before anything of it was measured."""
        return Estimate(
            board=self.engine.board, task_s=self.task_s, load_s=self.load_s, tasks=self.tasks
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A campaign in the store; `engines` by their id there.

    `logs` is the folder of its sessions' logs, `news` says where it stands.
    """

    id: int
    name: str
    reality: Reality
    engines: Mapping[int, Work]
    boards: LocalBoards
    logs: Path
    news: str

    def transcript(self, session_id: UUID) -> Path:
        """Return the file that gets what a session prints, on the host where it runs."""
        return self.logs / f"{session_id}.log"


def equipped(
    settings: Settings, kinds: Mapping[str, Board], engine: EngineSpec, limits: Limits, home: Path
) -> RigPlan:
    """Return how sessions of an engine are equipped; `kinds` are the boards that are here."""
    meter = settings.meter
    on_cpu = engine.board.startswith("cpu:")
    return RigPlan(
        limits=limits,
        meters=meter.names,
        interval_s=meter.interval_s,
        calibration=meter.calibration,
        gates=meter.gates,
        goodput=meter.goodput,
        shares_node=settings.cluster.isolation == "gpu" and not on_cpu,
        weights_folder=str(home / "weights"),
        board=kinds.get(engine.board, Board(slug=engine.board)),
    )
