"""What transformers does not do here, found before it is tried, each as one line.

The plan leaves most of these points out (campaign/grids/fit.py); whoever comes past it is told
here. Never imports transformers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from db.errors import EngineFault
from db.records import EngineSpec
from workers.engines.engine import Decoding
from workers.engines.limits import Limits
from workers.engines.software import versions

#: Caches whose last tokens can be taken back, which rejected proposals need.
CROPPED = (None, "dynamic", "offloaded", "quantized")


def refuse_unsupported(spec: EngineSpec, known: Collection[str]) -> None:
    """Raise EngineFault for what the adapter does not do; `known` are the options it has."""
    unknown = sorted(spec.options.keys() - known)
    reason = None
    if unknown:
        reason = f"options {', '.join(unknown)} are not among {', '.join(sorted(known))}"
    elif spec.tensor_parallel > 1:
        reason = "tensor parallelism is not supported; use vllm"
    elif spec.quantization is not None:
        reason = f"quantization {spec.quantization} is not supported; use vllm"
    elif spec.speculation:
        reason = _no_speculation(spec)
    if reason:
        raise EngineFault("unsupported", f"{spec.label}: {reason}", permanent=True)
    _refuse_version(spec)


def _no_speculation(spec: EngineSpec) -> str | None:
    """Return why tokens cannot be proposed as asked; None if they can."""
    cache = spec.options.get("cache_implementation")
    if spec.speculation not in ("draft_model", "ngram"):
        return f"speculation {spec.speculation} is neither draft_model nor ngram"
    if not spec.speculative_tokens:
        return "speculation without a number of speculative_tokens"
    if spec.speculation == "draft_model" and spec.draft is None:
        return "speculation draft_model without a draft"
    if cache not in CROPPED:
        return f"assisted generation takes no tokens back from a {cache} cache"
    return None


def _refuse_version(spec: EngineSpec) -> None:
    installed = versions("transformers").get("transformers")
    if spec.version is not None and spec.version != installed:
        message = f"transformers {spec.version} is asked for, {installed} is installed"
        raise EngineFault("unsupported", f"{spec.label}: {message}", permanent=True)


def refuse_sizes(configs: Sequence[object], limits: Limits) -> None:
    """Raise EngineFault where a model has too few positions, or a draft another vocabulary.

    `configs` are the library's of the model and, if there is one, its draft.
    """
    for config in configs:
        positions = getattr(config, "max_position_embeddings", None)
        if isinstance(positions, int) and positions < limits.context_tokens:
            longest = f"a context of {limits.context_tokens} tokens"
            message = f"{longest} exceeds the {positions} positions of the model or its draft"
            raise EngineFault("unsupported", message, permanent=True)
    sizes = [getattr(config, "vocab_size", None) for config in configs]
    if len(set(sizes)) > 1:
        message = f"the draft's vocabulary has {sizes[1]} tokens, its target's {sizes[0]}"
        raise EngineFault("unsupported", message, permanent=True)


def refuse_stateful(spec: EngineSpec, models: Sequence[object]) -> None:
    """Raise EngineFault where rejected proposals cannot be taken back from a model's state."""
    stateful = [type(model).__name__ for model in models if getattr(model, "_is_stateful", False)]
    if spec.speculation and stateful:
        message = f"assisted generation takes no tokens back from the state of {stateful[0]}"
        raise EngineFault("unsupported", f"{spec.label}: {message}", permanent=True)


def batch_misfit(spec: EngineSpec, decoding: Decoding, requests: int) -> str | None:
    """Return why the library cannot decode a batch like this; None if it can."""
    if spec.speculation and requests > 1:
        return f"assisted generation takes one request at a time, not {requests}"
    if spec.speculation and decoding.method == "beam":
        return "a beam search takes no proposed tokens"
    return None
