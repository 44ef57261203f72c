"""The rig of a session: engine, meter and clock that belong together, opened from a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from db.records import Board, EngineSpec
from workers.boardlock import others_measure
from workers.clock import Clock, MonotonicClock
from workers.engines.engine import Engine
from workers.engines.registry import Limits, open_engine
from workers.engines.simulated import open_simulated
from workers.meters.accuracy import Accuracy
from workers.meters.meter import Meter
from workers.meters.select import open_meter
from workers.validity import Gates


@dataclass(frozen=True, slots=True, kw_only=True)
class RigPlan:
    """How sessions of an engine are equipped; travels to the actor.

    `limits` bound the workloads, `meters` are names of the configuration, `interval_s` is the
    time between power samples, `calibration` the relative accuracy of sensors by GPU UUID or board
    slug, `gates` thresholds by name, `weights_folder` a local cache.
    """

    limits: Limits
    meters: tuple[str, ...]
    interval_s: float
    calibration: Mapping[str, float]
    gates: Mapping[str, float]
    weights_folder: str
    board: Board


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """An engine with the meter and the clock it is measured by.

    `prefix_caching` says whether cache hits were asked for.
    """

    engine: Engine
    meter: Meter
    clock: Clock
    gates: Gates
    prefix_caching: bool


def open_rig(plan: RigPlan, spec: EngineSpec, gpu_uuids: Sequence[str]) -> Rig:
    """Open what a session measures with; nothing is loaded yet. Raises EngineFault, NodeUnfit."""
    gates = Gates(**plan.gates)
    prefix_caching = bool(spec.options.get("enable_prefix_caching", False))
    if spec.backend == "simulated":
        engine, meter, clock = open_simulated(spec, plan.board)
        return Rig(
            engine=engine, meter=meter, clock=clock, gates=gates, prefix_caching=prefix_caching
        )
    engine = open_engine(spec, folder=Path(plan.weights_folder), limits=plan.limits)
    meter = open_meter(
        plan.meters,
        gpu_uuids,
        interval_s=plan.interval_s,
        accuracy=Accuracy(plan.calibration, board=plan.board.slug),
        shared=others_measure,
    )
    return Rig(
        engine=engine,
        meter=meter,
        clock=MonotonicClock(),
        gates=gates,
        prefix_caching=prefix_caching,
    )
