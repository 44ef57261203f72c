"""Which adapter serves a backend, and what its workloads ask of it."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from db.errors import ConfigError, EngineFault, NodeUnfit
from db.readings import Loaded
from db.records import EngineSpec
from workers.clock import Clock, MonotonicClock
from workers.engines.engine import Engine
from workers.engines.limits import Limits

__all__ = ["BACKENDS", "Limits", "open_engine", "require_board", "why_absent"]

#: Backend -> the library it needs, and what installs it.
LIBRARIES = {
    "vllm": ("vllm", "make install FLAVOUR=cuda (NVIDIA) or FLAVOUR=cpu"),
    "transformers": ("transformers", "make install FLAVOUR=hf"),
}
BACKENDS = (*LIBRARIES, "simulated")


def open_engine(
    spec: EngineSpec, *, folder: Path, limits: Limits, clock: Clock | None = None
) -> Engine:
    """Return the engine of a spec, not yet prepared or loaded; `folder` caches weights.

    Raises ConfigError for an unknown backend, EngineFault where its library is not installed.
    A simulated engine comes with its meter and clock: `workers.engines.simulated`.
    """
    adapter = _adapter(spec.backend, spec.mode)
    absent = why_absent(spec.backend)
    if absent is not None:
        raise EngineFault("unsupported", absent, permanent=True)
    return adapter(spec, folder, limits, clock or MonotonicClock())


def why_absent(backend: str) -> str | None:
    """Return why a backend cannot be loaded from this environment, with the fix; None if it can.

    Looks for the libraries without importing them.
    """
    if backend not in LIBRARIES:
        return None
    library, install = LIBRARIES[backend]
    if find_spec(library) is not None and find_spec("torch") is not None:
        return None
    return f"{library} is not installed: {install}"


def require_board(spec: EngineSpec, loaded: Loaded) -> None:
    """Raise NodeUnfit where an engine computes elsewhere than on the board that is metered.

    As a library without its GPU build does, or with a driver too old for it: on the CPU.
    """
    told = loaded.resolved
    config = told.get("device_config")
    device = told.get("device") or (config.get("device_type") if isinstance(config, dict) else None)
    if device is None or (device == "cpu") is spec.board.startswith("cpu:"):
        return
    raise NodeUnfit(
        f"{spec.backend} computes on {device} here, and {spec.board} would be metered: install its "
        "build for this board (make install FLAVOUR=cuda or cpu), and see `campaign doctor`"
    )


def _adapter(backend: str, mode: str) -> Callable[[EngineSpec, Path, Limits, Clock], Engine]:
    if mode == "online" and backend in LIBRARIES:
        if backend != "vllm":
            raise ConfigError(f"engine.mode=online: {backend} has no server's engine; use vllm")
        from workers.engines.vllm_online import VllmOnline

        return VllmOnline
    if backend == "vllm":
        from workers.engines.vllm import VllmEngine

        return VllmEngine
    if backend == "transformers":
        from workers.engines.transformers import TransformersEngine

        return TransformersEngine
    near = get_close_matches(backend, BACKENDS, n=1)
    hint = f"; did you mean {near[0]}?" if near and near[0] != backend else ""
    if backend == "simulated":
        hint = "; it runs on claimed boards: add cluster=simulated"
    raise ConfigError(f"engine.backend={backend}: not one of {', '.join(LIBRARIES)} here{hint}")
