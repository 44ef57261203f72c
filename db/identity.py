"""The identity of a task: a canonical form of everything measured, and its SHA-256.

Pure. Two levels (the engine once, then each task) because hashing whole tasks is 8x slower.
A field enters through the explicit lists here; one that equals its default is left out, so a
field added later leaves every older key as it was. Timeouts, paths, addresses, display and the
version of our own code never enter. The exact bytes are pinned by golden tests: changing them
means a new KEY_VERSION.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields

from db.records import EngineSpec, MeasurementProtocol, ModelSpec, Reality, Weights, Workload

KEY_VERSION = "v1"

ENGINE_FIELDS = (
    "backend", "board", "board_count", "version", "dtype", "quantization", "tensor_parallel",
    "threads", "mode", "speculation", "speculative_tokens", "power_limit_w",
)  # fmt: skip
WORKLOAD_FIELDS = (
    "input_tokens", "output_tokens", "batch_size", "requests", "lengths", "prefix_tokens",
    "arrival", "rate_rps", "decoding", "beams", "temperature", "top_p",
)  # fmt: skip
PROTOCOL_FIELDS = (
    "window_s", "repeats", "repeats_max", "interval_target", "warmup_max", "warmup_agree",
    "warmup_tolerance", "idle_s", "energy", "phases",
)  # fmt: skip


def canonical(value: object) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, integral floats as integers."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True,
                      allow_nan=False)  # fmt: skip


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _chosen(record: object, names: tuple[str, ...]) -> dict[str, object]:
    """Return the named fields of a dataclass that differ from their default."""
    defaults = {f.name: f.default for f in fields(record)}  # type: ignore[arg-type]
    values = {name: getattr(record, name) for name in names}
    return {n: v for n, v in values.items() if defaults[n] is MISSING or v != defaults[n]}


def model_identity(model: ModelSpec) -> dict[str, object]:
    """Return what names a model: hub commit for real weights, the shape for random ones."""
    if model.weights is Weights.RANDOM:
        return {"weights": "random", "architecture": model.architecture}
    return {"weights": "real", "name": model.name, "commit": model.commit}


def engine_identity(engine: EngineSpec) -> dict[str, object]:
    """Return everything of an engine that is measured."""
    return {
        "model": model_identity(engine.model),
        **_chosen(engine, ENGINE_FIELDS),
        **({"options": engine.options} if engine.options else {}),
        **({"draft": model_identity(engine.draft)} if engine.draft else {}),
    }


def digest(value: object) -> str:
    """Return the SHA-256 of a value's canonical form, in hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def engine_digest(engine: EngineSpec) -> str:
    """Return the identity of an engine, in hex."""
    return digest(engine_identity(engine))


def task_key(
    engine: str, workload: Workload, protocol: MeasurementProtocol, reality: Reality, replicate: int
) -> str:
    """Return ``v1:<sha256>`` of a task; `engine` is the engine's digest."""
    body = {
        "engine": engine,
        "workload": _chosen(workload, WORKLOAD_FIELDS),
        "protocol": _chosen(protocol, PROTOCOL_FIELDS),
        "reality": str(reality),
        "replicate": replicate,
    }
    return f"{KEY_VERSION}:{digest(body)}"
