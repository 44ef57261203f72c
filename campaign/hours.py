"""What measuring takes: seconds and joules of each task and each load, from the cost of a batch.

Pure. Estimates for planning and for the order of work; none of them is ever stored as measured.
Engines and workloads that cost the same are worked out once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from db.readings import PhaseMethod
from db.records import Board, EngineSpec, MeasurementProtocol, ModelSpec, Task, Workload
from workers.costs.calibration import Correction, corrected
from workers.costs.cost import Cost, estimate
from workers.costs.roofline import weight_bytes
from workers.shapes.shape import Shape, precision, shape_of
from workers.workloads.lengths import FIXED, means

#: A slice of the warm-up under load is this part of a window.
SLICES = 5
#: Windows of a session without work: board empty, model resident, and at the end.
IDLE_WINDOWS = 3
#: Seconds to start an engine and capture its graphs, beside reading its weights. Assumption.
START_S = 30.0
#: Bytes of weights that are read and moved in a second. Assumption: one NVMe disk.
LOAD_BYTES_S = 2e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Time on a board group, and the joules of all its boards; None where they are not known."""

    seconds: float
    energy_j: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """One pass of a workload's requests: its seconds, those of its first batch and its prefills.

    `power_w` is that of the whole group. `online` says that requests arrive by themselves, and
    `endless` that they go on doing so: windows are cut from the load then.
    """

    seconds: float
    batch_s: float
    prefill_s: float
    power_w: float | None
    online: bool
    endless: bool


class Efforts:
    """Estimates for tasks and loads; `kinds` are the boards by slug.

    `corrections` are what measurements say of a board and a backend.
    """

    def __init__(
        self,
        kinds: Mapping[str, Board],
        corrections: Mapping[tuple[str, str], Correction] | None = None,
    ) -> None:
        """Know the boards; anything else is worked out when it is asked for."""
        self._kinds = kinds
        self._corrections = corrections or {}
        self._shapes: dict[int, Shape | None] = {}
        self._units: dict[tuple[int, Workload], _Unit | None] = {}

    def task(self, task: Task) -> Effort:
        """Return what a task takes: warm-up, windows, and those of a prefill-only run.

        Where the batch has no estimate, only the windows count, and there are no joules.
        """
        key = id(task.engine), task.workload
        if key not in self._units:
            self._units[key] = self._unit(task.engine, task.workload)
        return _effort(task.protocol, self._units[key])

    def load(self, engine: EngineSpec, protocol: MeasurementProtocol) -> Effort:
        """Return what a session takes beside its tasks: loading, and its idle windows."""
        shape, board = self._shape(engine), self._board(engine)
        numbers = precision(engine.dtype, engine.quantization)
        weights = weight_bytes(shape, numbers) if shape is not None else 0.0
        seconds = START_S + weights / LOAD_BYTES_S + IDLE_WINDOWS * protocol.idle_s
        watts = None if board.idle_w is None else board.idle_w * engine.board_count
        return Effort(seconds=seconds, energy_j=None if watts is None else watts * seconds)

    def ceiling_w(self, engine: EngineSpec) -> float | None:
        """Return the most watts of an engine's boards: their declared power limit, or their TDP."""
        limit = engine.power_limit_w or self._board(engine).tdp_w
        return None if limit is None else limit * engine.board_count

    def _board(self, engine: EngineSpec) -> Board:
        return self._kinds.get(engine.board) or Board(slug=engine.board)

    def _shape(self, engine: EngineSpec) -> Shape | None:
        key = id(engine.model)
        if key not in self._shapes:
            self._shapes[key] = shape_of(engine.model.name, engine.model.architecture)
        return self._shapes[key]

    def _unit(self, engine: EngineSpec, work: Workload) -> _Unit | None:
        shape = self._shape(engine)
        if shape is None:
            return None
        cost = estimate(engine, shape, self._board(engine), _typical(work))
        if cost is None:
            return None
        correction = self._corrections.get((engine.board, engine.backend))
        return _unit(work, cost if correction is None else corrected(cost, correction))


def _typical(work: Workload) -> Workload:
    """Return a workload of the mean lengths, where its own are drawn."""
    mean = means(work) if work.lengths != FIXED else None
    if mean is None:
        return work
    inputs, outputs = (max(1, round(tokens)) for tokens in mean)
    return replace(work, input_tokens=min(inputs, work.input_tokens),
                   output_tokens=min(outputs, work.output_tokens))  # fmt: skip


def _unit(work: Workload, cost: Cost) -> _Unit:
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
    return _Unit(
        seconds=max(busy_s, arriving_s),
        batch_s=cost.e2e_s,
        prefill_s=batches * cost.prefill.seconds,
        power_w=None if joules is None or busy_s == 0 else joules / busy_s,
        online=work.is_online,
        endless=work.is_online and work.requests is None,
    )


def _effort(protocol: MeasurementProtocol, unit: _Unit | None) -> Effort:
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
    return Effort(seconds=seconds, energy_j=joules)


def _filled_s(protocol: MeasurementProtocol, pass_s: float) -> float:
    """Return the length of a window, which ends with the pass that fills it."""
    return ceil(protocol.window_s / pass_s) * pass_s if pass_s > 0 else protocol.window_s


@dataclass(slots=True, kw_only=True)
class BoardTotal:
    """What is left for one kind of board. Hours are those of every board together.

    `joules` and `ceiling_j` leave out what is not known; `blind` are the tasks without joules.
    `longest_h` is the longest session, `largest` the most boards of one. `idled_h` are hours that
    the other boards of a node would idle if each session had a node of its own.
    """

    tasks: int = 0
    blind: int = 0
    loads: int = 0
    board_h: float = 0.0
    longest_h: float = 0.0
    largest: int = 1
    joules: float = 0.0
    ceiling_j: float = 0.0
    idled_h: float = 0.0


def totals(tasks: Sequence[Task], efforts: Efforts, boards_per_node: int) -> dict[str, BoardTotal]:
    """Return what tasks take by kind of board, every engine loaded once per replicate."""
    sessions: dict[tuple[int, int], list[Task]] = {}
    for task in tasks:
        sessions.setdefault((id(task.engine), task.replicate), []).append(task)
    found: dict[str, BoardTotal] = {}
    for held in sessions.values():
        engine = held[0].engine
        total = found.setdefault(engine.board, BoardTotal())
        parts = [efforts.task(task) for task in held]
        total.tasks += len(held)
        total.blind += sum(part.energy_j is None for part in parts)
        parts.append(efforts.load(engine, held[0].protocol))
        seconds = sum(part.seconds for part in parts)
        total.loads += 1
        total.board_h += engine.board_count * seconds / 3600
        total.longest_h = max(total.longest_h, seconds / 3600)
        total.largest = max(total.largest, engine.board_count)
        total.joules += sum(part.energy_j or 0.0 for part in parts)
        total.ceiling_j += (efforts.ceiling_w(engine) or 0.0) * seconds
        if not engine.board.startswith("cpu:"):
            idle = max(boards_per_node, engine.board_count) - engine.board_count
            total.idled_h += idle * seconds / 3600
    return found


def weights_on_disk_bytes(tasks: Sequence[Task]) -> float:
    """Return the bytes that the weights of all engines take on a disk, drafts included."""
    found: dict[tuple[int, str, str | None], ModelSpec] = {}
    for engine in {id(task.engine): task.engine for task in tasks}.values():
        found[id(engine.model), engine.dtype, engine.quantization] = engine.model
        if engine.draft is not None:
            found[id(engine.draft), engine.dtype, None] = engine.draft
    sizes = (
        weight_bytes(shape, precision(dtype, quantization))
        for (_, dtype, quantization), model in found.items()
        if model.folder is None and (shape := shape_of(model.name, model.architecture)) is not None
    )
    return sum(sizes)
