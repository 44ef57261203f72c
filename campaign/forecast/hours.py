"""What measuring takes: seconds and joules of each task and each load, from the cost of a batch.

Pure. Estimates for planning and for the order of work; none of them is ever stored as measured.
Engines and workloads that cost the same are worked out once.
"""

from __future__ import annotations

from collections.abc import Mapping

from db.records import Board, EngineSpec, MeasurementProtocol, ModelSpec, Task, Workload
from workers.costs.calibration import AS_COMPUTED, Correction
from workers.costs.cost import numbers_of
from workers.costs.roofline import weight_bytes
from workers.costs.speculation import fewest, unknown
from workers.effort import Effort, Unit, effort_of, unit_of
from workers.shapes.shape import Shape, precision, shape_of

#: Windows of a session without work: board empty, model resident, and at the end.
IDLE_WINDOWS = 3
#: Seconds to start an engine, beside reading its weights, and what vLLM takes to compile and to
#: capture graphs unless it is told not to. Assumptions: of an 8B, 34 to 39 s are logged of a start
#: (25 s more than without compiling) and some 25 s are not (vLLM pull request 11005, issue 20264);
#: on an H100 it took 44 s in all, and 101 s where kernels were compiled too (issue 47456).
START_S, COMPILE_S = 30.0, 40.0
#: Bytes of weights that are read and moved in a second. Assumption: one NVMe disk.
LOAD_BYTES_S = 2e9


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
        self._units: dict[tuple[int, Workload], Unit | None] = {}

    def task(self, task: Task) -> Effort:
        """Return what a task takes: warm-up, windows, and those of a prefill-only run.

        Where the batch has no estimate, only the windows count, and there are no joules; where the
        text decides, the most that it can cost.
        """
        key = id(task.engine), task.workload
        if key not in self._units:
            self._units[key] = self._unit(task.engine, task.workload)
        return effort_of(task.protocol, self._units[key])

    def load(self, engine: EngineSpec, protocol: MeasurementProtocol) -> Effort:
        """Return what a session takes beside its tasks: loading, and its idle windows."""
        board = self._board(engine)
        seconds = self.loading_s(engine) + IDLE_WINDOWS * protocol.idle_s
        watts = None if board.idle_w is None else board.idle_w * engine.board_count
        return Effort(seconds=seconds, energy_j=None if watts is None else watts * seconds)

    def loading_s(self, engine: EngineSpec) -> float:
        """Return what loading takes by itself, whatever the board."""
        weights = 0.0
        kept = ((engine.model, numbers_of(engine)), (engine.draft, precision(engine.dtype)))
        for model, numbers in kept:
            shape = None if model is None else self._shape(model)
            if shape is not None:
                weights += weight_bytes(shape, numbers)
        compiles = engine.backend == "vllm" and not engine.options.get("enforce_eager")
        return START_S + (COMPILE_S if compiles else 0.0) + weights / LOAD_BYTES_S

    def ceiling_w(self, engine: EngineSpec) -> float | None:
        """Return the most watts of an engine's boards: their declared power limit, or their TDP."""
        limit = engine.power_limit_w or self._board(engine).tdp_w
        return None if limit is None else limit * engine.board_count

    def _board(self, engine: EngineSpec) -> Board:
        return self._kinds.get(engine.board) or Board(slug=engine.board)

    def doubt(self, engine: EngineSpec) -> str:
        """Return what is not known of an engine whose tasks take at most what is said of them."""
        return f"{unknown(engine)}; as if none were"

    def lacking(self, engine: EngineSpec) -> str:
        """Return what is not known of an engine whose tasks have no joules."""
        if self._shape(engine.model) is None:
            return "the shape of a model is not described"
        board = self._board(engine)
        powered = board.tdp_w is not None and board.idle_w is not None
        what = "bandwidth and FLOP/s are" if powered else "TDP or idle power is"
        board_s = f"{engine.board}: its {what} not known"
        return board_s if fewest(engine) is not None else unknown(engine) or board_s

    def _shape(self, model: ModelSpec) -> Shape | None:
        key = id(model)
        if key not in self._shapes:
            self._shapes[key] = shape_of(model.name, model.architecture)
        return self._shapes[key]

    def _unit(self, engine: EngineSpec, work: Workload) -> Unit | None:
        shape = self._shape(engine.model)
        if shape is None:
            return None
        correction = self._corrections.get((engine.board, engine.backend), AS_COMPUTED)
        return unit_of(engine, shape, self._board(engine), work, correction)
