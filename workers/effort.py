"""What a task takes, from the cost of a batch: warm-up, windows, and those of a prefill-only run.

Pure. An estimate for planning, for the order of work and for deadlines; never stored as measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from db.readings import PhaseMethod
from db.records import Board, EngineSpec, MeasurementProtocol, Workload
from workers.costs.calibration import AS_COMPUTED, Correction, corrected
from workers.costs.cost import Cost, estimate
from workers.shapes.shape import Shape
from workers.workloads.lengths import means

#: A slice of the warm-up under load is this part of a window.
SLICES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Time on a board group, and the joules of all its boards; None where they are not known.

    `at_most`: the text decides how long it takes, and these are what no text exceeds.
    """

    seconds: float
    energy_j: float | None
    at_most: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One pass of a workload's requests: its seconds, those of its first batch and its prefills.

    `power_w` is that of the whole group. `online` says that requests arrive by themselves, and
    `endless` that they go on doing so: windows are cut from the load then. `at_most` is that of
    the cost it rests on.
    """

    seconds: float
    batch_s: float
    prefill_s: float
    power_w: float | None
    online: bool
    endless: bool
    at_most: bool = False


def unit_of(
    engine: EngineSpec,
    shape: Shape,
    board: Board,
    work: Workload,
    correction: Correction = AS_COMPUTED,
) -> Unit | None:
    """Return a pass of a workload; None where its batch has no estimate."""
    asked = engine, shape, board, _typical(work)
    known = estimate(*asked)
    cost = known or estimate(*asked, at_most=True)
    if cost is None:
        return None
    return replace(_unit(work, corrected(cost, correction)), at_most=known is None)


def _typical(work: Workload) -> Workload:
    """Return a workload of the mean lengths, where its own are drawn."""
    mean = means(work)
    if mean is None:
        return work
    inputs, outputs = (max(1, round(tokens)) for tokens in mean)
    return replace(work, input_tokens=min(inputs, work.input_tokens),
                   output_tokens=min(outputs, work.output_tokens))  # fmt: skip


def _unit(work: Workload, cost: Cost) -> Unit:
    """Return the cost of all requests of a workload, in batches one after the other.

    Under a rate of arrivals they take at least as long as they need to arrive.
    """
    batches = 1.0 if work.requests is None else work.requests / work.batch_size
    if work.arrival == "static":
        batches = float(ceil(batches))
    busy_s = batches * cost.e2e_s
    arriving_s = 0.0
    if work.rate_rps is not None:
        arriving_s = (work.requests or work.batch_size) / work.rate_rps
    joules = None if cost.energy_j is None else batches * cost.energy_j
    return Unit(
        seconds=max(busy_s, arriving_s),
        batch_s=cost.e2e_s,
        prefill_s=batches * cost.prefill.seconds,
        power_w=None if joules is None or busy_s == 0 else joules / busy_s,
        online=work.is_online,
        endless=work.is_online and work.requests is None,
    )


def effort_of(protocol: MeasurementProtocol, unit: Unit | None) -> Effort:
    """Return warm-up and windows of a task, of which as few as the protocol allows are counted."""
    again = protocol.phases in (PhaseMethod.PREFILL_RUN, "both")
    if unit is None:
        windows = protocol.repeats * (2 if again else 1)
        return Effort(seconds=windows * protocol.window_s, energy_j=None)
    warm = min(protocol.warmup_max, protocol.warmup_agree)
    if unit.endless:
        warm_s = max(warm * protocol.window_s / SLICES, unit.batch_s)
        seconds = warm_s + protocol.repeats * protocol.window_s
    elif unit.online:
        seconds = warm * unit.batch_s + protocol.repeats * unit.seconds
    else:
        seconds = warm * unit.batch_s + protocol.repeats * _filled_s(protocol, unit.seconds)
        if again:
            seconds += protocol.repeats * _filled_s(protocol, unit.prefill_s)
    joules = None if unit.power_w is None else unit.power_w * seconds
    return Effort(seconds=seconds, energy_j=joules, at_most=unit.at_most)


def _filled_s(protocol: MeasurementProtocol, pass_s: float) -> float:
    """Return the length of a window, which ends with the pass that fills it."""
    return ceil(protocol.window_s / pass_s) * pass_s if pass_s > 0 else protocol.window_s


def pace(engine: EngineSpec) -> float:
    """Return the real seconds of an estimated one: simulated boards wait as they are told."""
    if engine.backend != "simulated":
        return 1.0
    told = engine.options.get("pace", 0.0)
    return float(told) if isinstance(told, int | float) else 0.0
