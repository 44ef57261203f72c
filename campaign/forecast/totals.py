"""What tasks add up to on each kind of board: hours, loads, joules, and weights on a disk.

Pure. Sums estimates of `hours`; what is not known is left out and counted, never zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from campaign.forecast.hours import Efforts
from db.records import EngineSpec, ModelSpec, Task, Weights
from workers.costs.roofline import weight_bytes
from workers.engines.quantize import form_of
from workers.shapes.shape import precision, shape_of


@dataclass(slots=True, kw_only=True)
class BoardTotal:
    """What is left for one kind of board. Hours are those of every board together.

    `joules` and `ceiling_j` leave out what is not known; `blind` are the tasks without joules, by
    what is not known of them; of the `bounded` it is only known what they take at most, which is
    in the sums. `session_h` are hours of sessions, `longest_h` those of the longest,
    `largest` the most boards of one. `idled_h` are hours that the other boards of a node idle if
    each session has a node of its own.
    """

    tasks: int = 0
    blind: Counter[str] = field(default_factory=Counter)
    bounded: Counter[str] = field(default_factory=Counter)
    loads: int = 0
    board_h: float = 0.0
    session_h: float = 0.0
    longest_h: float = 0.0
    largest: int = 1
    joules: float = 0.0
    ceiling_j: float = 0.0
    idled_h: float = 0.0


def totals(
    tasks: Sequence[Task], efforts: Efforts, boards_per_node: Callable[[str], int]
) -> dict[str, BoardTotal]:
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
        if without := sum(part.energy_j is None for part in parts):
            total.blind[efforts.lacking(engine)] += without
        if at_most := sum(part.at_most for part in parts):
            total.bounded[efforts.doubt(engine)] += at_most
        parts.append(efforts.load(engine, held[0].protocol))
        seconds = sum(part.seconds for part in parts)
        total.loads += 1
        total.board_h += engine.board_count * seconds / 3600
        total.session_h += seconds / 3600
        total.longest_h = max(total.longest_h, seconds / 3600)
        total.largest = max(total.largest, engine.board_count)
        total.joules += sum(part.energy_j or 0.0 for part in parts)
        total.ceiling_j += (efforts.ceiling_w(engine) or 0.0) * seconds
        beside = max(0, boards_per_node(engine.board) - engine.board_count)
        total.idled_h += beside * seconds / 3600
    return found


def weights_on_disk_bytes(tasks: Sequence[Task]) -> float:
    """Return the bytes that the weights of all engines take on a disk, drafts included."""
    found: dict[tuple[int, str, str | None], ModelSpec] = {}
    for engine in {id(task.engine): task.engine for task in tasks}.values():
        found[id(engine.model), engine.dtype, _stored(engine)] = engine.model
        if engine.draft is not None:
            found[id(engine.draft), engine.dtype, None] = engine.draft
    sizes = (
        weight_bytes(shape, precision(dtype, stored, drawn=model.weights is Weights.RANDOM))
        for (_, dtype, stored), model in found.items()
        if model.folder is None and (shape := shape_of(model.name, model.architecture)) is not None
    )
    return sum(sizes)


def _stored(engine: EngineSpec) -> str | None:
    """Return how weights are quantized on the disk; random ones may be while they load."""
    drawn = engine.model.weights is Weights.RANDOM
    return form_of(engine.quantization) if drawn else engine.quantization
