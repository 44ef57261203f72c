"""The rig of a session: engine, meter and clock that belong together, opened from a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
from workers.workloads.latency import NO_DEADLINES, Deadlines, deadlines_of
from workers.workloads.tracefiles import traces_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class RigPlan:
    """How sessions of an engine are equipped; travels to the actor.

    `limits` bound the workloads, `meters` are names of the configuration, `interval_s` is the
    time between power samples, `calibration` the relative accuracy of sensors by GPU UUID or board
    slug, `gates` thresholds by name, `weights_folder` a local cache. `goodput` are the deadlines
    of requests under load, milliseconds by name. `shares_node` says that others may measure on
    this node meanwhile: its CPU's energy is nobody's then.
    """

    limits: Limits
    meters: tuple[str, ...]
    interval_s: float
    calibration: Mapping[str, float]
    gates: Mapping[str, float]
    weights_folder: str
    board: Board
    goodput: Mapping[str, float] = field(default_factory=dict)
    shares_node: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """An engine with the meter and the clock it is measured by.

    `prefix_caching` says whether cache hits were asked for, `places` how many requests the engine
    computes together at most and `step_tokens` how many tokens it takes in a step, where it was
    told, `lookahead` how many more than one a request may get in it. `traces` is the folder of
    trace files, `deadlines` what a request under load must meet to count in goodput.
    """

    engine: Engine
    meter: Meter
    clock: Clock
    gates: Gates
    prefix_caching: bool
    places: int | None = None
    step_tokens: int | None = None
    lookahead: int = 0
    traces: Path = field(default_factory=traces_folder)
    deadlines: Deadlines = NO_DEADLINES


def open_rig(plan: RigPlan, spec: EngineSpec, gpu_uuids: Sequence[str]) -> Rig:
    """Open what a session measures with; nothing is loaded yet. Raises EngineFault, NodeUnfit."""
    if spec.backend == "simulated":
        return _rig(plan, spec, *open_simulated(spec, plan.board))
    engine = open_engine(spec, folder=Path(plan.weights_folder), limits=plan.limits)
    meter = open_meter(
        plan.meters,
        gpu_uuids,
        interval_s=plan.interval_s,
        accuracy=Accuracy(plan.calibration, board=plan.board.slug),
        shared=(lambda: True) if plan.shares_node else others_measure,
    )
    return _rig(plan, spec, engine, meter, MonotonicClock())


def _rig(plan: RigPlan, spec: EngineSpec, engine: Engine, meter: Meter, clock: Clock) -> Rig:
    """Return the rig of an engine; traces lie beside the weights."""
    places = spec.options.get("max_num_seqs", plan.limits.batch_size)
    step_tokens = spec.options.get("max_num_batched_tokens")
    return Rig(
        engine=engine,
        meter=meter,
        clock=clock,
        gates=Gates(**plan.gates),
        prefix_caching=bool(spec.options.get("enable_prefix_caching", False)),
        places=places if isinstance(places, int) and spec.backend == "vllm" else None,
        step_tokens=step_tokens if isinstance(step_tokens, int) else None,
        lookahead=spec.speculative_tokens or 0,
        traces=Path(plan.weights_folder).parent / "traces",
        deadlines=deadlines_of(plan.goodput),
    )
