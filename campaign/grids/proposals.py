"""What speculation cannot be asked for, and why: proven by vLLM 0.32's own rules of its options.

Part of campaign/grids/fit.py's rules. How many tokens a text lets an engine keep is no rule.
"""

from __future__ import annotations

from db.records import Board, EngineSpec, Weights
from workers.costs.speculation import LENGTH, METHOD, SYNTHETIC, unknown
from workers.engines.vllm_arguments import SPECULATIVE

Reason = tuple[str, str]


def speculation_misfit(engine: EngineSpec, board: Board) -> Reason | None:
    """Return why an engine cannot propose tokens as asked, as (reason, detail); None if it may."""
    options = _options(engine)
    if engine.speculation is None:
        found = ", ".join(options)
        return ("no_speculation", f"{found} without engine.speculation") if options else None
    return _artefact(engine, board) or _acceptance(engine) or _lookup(engine) or _draft(engine)


def _options(engine: EngineSpec) -> list[str]:
    """Return the options of speculation that are set."""
    if engine.backend != "vllm":
        return []
    return [name for name in SPECULATIVE if engine.options.get(name) is not None]


def _artefact(engine: EngineSpec, board: Board) -> Reason | None:
    """Speculation on random weights accepts what no real model would, or nothing."""
    synthetic = engine.options.get(METHOD) == SYNTHETIC
    if synthetic and board.is_cpu:
        return "artefact", "vLLM's CPU sampler does not accept synthetically"
    if engine.model.weights is Weights.RANDOM and not synthetic:
        return "artefact", ("what random weights accept says nothing of real ones; use weights="
                            f"real, or engine.options.vllm.{METHOD}={SYNTHETIC}")  # fmt: skip
    return None


def _acceptance(engine: EngineSpec) -> Reason | None:
    length = engine.options.get(LENGTH)
    if engine.options.get(METHOD) == SYNTHETIC:
        wrong = unknown(engine)
        return ("acceptance", f"{wrong}, as {METHOD}={SYNTHETIC} needs it") if wrong else None
    if length is not None:
        return "acceptance", f"{LENGTH}={length} is for {METHOD}={SYNTHETIC} alone"
    return None


def _lookup(engine: EngineSpec) -> Reason | None:
    least = engine.options.get("prompt_lookup_min")
    most = engine.options.get("prompt_lookup_max")
    if isinstance(least, int) and isinstance(most, int) and least > most:
        return "lookup", f"prompt_lookup_min={least} is above prompt_lookup_max={most}"
    return None


def _draft(engine: EngineSpec) -> Reason | None:
    parts, own = engine.options.get("draft_tensor_parallel_size"), engine.tensor_parallel
    if engine.draft is None or parts in (None, 1, own):
        return None
    text = f"draft_tensor_parallel_size={parts} is neither 1 nor its target's {own}"
    return "draft_parallel", text
