"""Why a point looks new although one like it is measured: the fields in which they differ.

Compares a task with the nearest measured one, field by field of its identity. Measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from db.identity import ENGINE_FIELDS, PROTOCOL_FIELDS
from db.records import EngineSpec, ModelSpec, Task, Weights, Workload

if TYPE_CHECKING:  # at run time it brings the database libraries along
    from db.likeness import MeasuredPoint

#: Fields of an engine that say where it runs.
_GROUP = ("board", "board_count")
#: A point that differs in more fields than this is like none.
ALIKE = 3

Fields = Mapping[str, object]
#: The key of a measured point, and its fields of workload, protocol, reality and replicate.
Point = tuple[str, Fields]


def explained(
    measured: Sequence[MeasuredPoint], tasks: Sequence[Task]
) -> list[Mapping[str, object]]:
    """Return for each task, none of which is measured, what makes it look new."""
    nearest = Nearest(measured)
    return [nearest.explained(task) for task in tasks]


class Nearest:
    """Measured points by engine, and the nearest of them to a new one."""

    def __init__(self, measured: Sequence[MeasuredPoint]) -> None:
        """Group the points by engine."""
        self._points: list[tuple[Fields, list[Point]]] = []
        held: dict[int, list[Point]] = {}
        for point in measured:
            if id(point.engine) not in held:
                held[id(point.engine)] = []
                self._points.append((engine_fields(point.engine), held[id(point.engine)]))
            rest = {f"protocol.{name}": value for name, value in point.protocol.items()}
            rest |= {"reality": point.reality, "replicate": point.replicate}
            held[id(point.engine)].append((point.key, _workload(point.workload) | rest))
        self._engines: dict[int, list[tuple[tuple[str, ...], list[Point]]]] = {}

    def explained(self, task: Task) -> Mapping[str, object]:
        """Return the task with its nearest measured point and the fields that differ."""
        key, differing = self._nearest(task)
        line = {"key": task.key, "engine": task.engine.label, "workload": task.workload.label}
        if key is None:
            return {
                **line,
                "nearest": None,
                "differs": [],
                "because": "nothing like it is measured",
            }
        return {**line, "nearest": key, "differs": list(differing),
                "because": f"{', '.join(differing)} (nearest {key[:15]})"}  # fmt: skip

    def _nearest(self, task: Task) -> tuple[str | None, tuple[str, ...]]:
        asked = _workload(task.workload) | {
            f"protocol.{name}": getattr(task.protocol, name) for name in PROTOCOL_FIELDS
        }
        asked |= {"reality": str(task.reality), "replicate": task.replicate}
        best: tuple[str | None, tuple[str, ...]] = (None, ("",) * (ALIKE + 1))
        for engine, points in self._by_distance(task.engine):
            if len(engine) >= len(best[1]):
                break
            for key, known in points:
                found = (*engine, *differences(known, asked))
                if len(found) < len(best[1]):
                    best = key, found
        return best

    def _by_distance(self, engine: EngineSpec) -> list[tuple[tuple[str, ...], list[Point]]]:
        """Return the measured engines, the least different first, with how they differ."""
        if id(engine) not in self._engines:
            asked = engine_fields(engine)
            found = [(differences(known, asked), points) for known, points in self._points]
            near = [pair for pair in found if len(pair[0]) <= ALIKE]
            self._engines[id(engine)] = sorted(near, key=lambda pair: len(pair[0]))
        return self._engines[id(engine)]


def differences(known: Fields, asked: Fields) -> tuple[str, ...]:
    """Return ``name: was → is`` for every field that is not the same in both."""
    return tuple(
        f"{name}: {_shown(known.get(name))} → {_shown(asked.get(name))}"
        for name in sorted({*known, *asked})
        if known.get(name) != asked.get(name)
    )


def engine_fields(engine: EngineSpec) -> Fields:
    """Return what is measured of an engine by name, as in the configuration."""
    found = {
        name if name in _GROUP else f"engine.{name}": getattr(engine, name)
        for name in ENGINE_FIELDS
    }
    found |= {f"engine.options.{name}": value for name, value in engine.options.items()}
    return {**found, **_model("model", engine.model), **_model("engine.speculation", engine.draft)}


def _model(prefix: str, model: ModelSpec | None) -> dict[str, object]:
    """Return what names a model: where its weights are random, its shape and not its name."""
    if model is None:
        return {}
    if model.weights is Weights.REAL:
        return {prefix: model.name, f"{prefix}.commit": model.commit, "weights": "real"}
    return {prefix: _Named(model.name, dict(model.architecture)), "weights": "random"}


class _Named:
    """An architecture that is shown by a name which does not count."""

    def __init__(self, name: str, architecture: Fields) -> None:
        self.name = name
        self.architecture = architecture

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Named) and self.architecture == other.architecture

    def __hash__(self) -> int:
        return hash(self.name)


def _workload(workload: Workload) -> dict[str, object]:
    return {f"workload.{f.name}": getattr(workload, f.name) for f in fields(workload)}


def _shown(value: object) -> str:
    if isinstance(value, _Named):
        return value.name
    return "nothing" if value is None else str(value)
