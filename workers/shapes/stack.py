"""The layers of a model as its configuration describes them, and what it must state for that.

Puts mixers, MLPs and norms together. A layer of a kind that is not described here makes the whole
unknown.
"""

from __future__ import annotations

from collections import Counter

from workers.shapes.families import NAMES, PURE_STATES, Config
from workers.shapes.layers import Layers, joined
from workers.shapes.mixers import STATES, attention, heads_of
from workers.shapes.mlps import dense, mixture, width_of
from workers.shapes.pattern import (
    BOTH,
    DENSE,
    EXPERTS,
    FULL,
    MOST_LAYERS,
    STATE,
    WINDOW,
    Kind,
    kinds,
    window_of,
)


def lacking(config: Config) -> tuple[str, ...]:
    """Return what a ``config.json`` of a listed family must state and does not, by its own names.

    Names of one size are joined by ``or``; empty for a family that is not listed here.
    """
    if not config.known:
        return ()
    family, pure = config.family, config.kind in PURE_STATES
    sizes = ["hidden", "vocabulary", *(() if pure else ("heads",)), *family.needs]
    missing = [name for name in sizes if not _states(config, name)]
    missing += [] if _layers(config) else ["layers"]
    if not pure and not width_of(config, 1) and "expert_intermediate" not in sizes:
        missing.append("intermediate")
    return tuple(" or ".join(NAMES.get(name, (name,))[:2]) for name in missing)


def impossible(config: Config) -> str | None:
    """Return which sizes of a listed family no model has together; None if nothing speaks against.

    Asks for what it must state first: `lacking`.
    """
    layers, hidden = _layers(config), config.size("hidden") or 0
    heads, kv_heads, head_dim = heads_of(config)
    if layers > MOST_LAYERS:
        return f"{layers} layers are more than any model has; at most {MOST_LAYERS}"
    if not heads:
        return None
    if heads % kv_heads:
        return f"{kv_heads} key-value heads do not divide {_named(config, 'heads')}={heads}"
    follows = not config.size("head_dim") and not config.number("kv_lora_rank")
    if follows and hidden % heads:
        return f"{heads} heads do not divide {_named(config, 'hidden')}={hidden}"
    if hidden < head_dim:
        return f"{_named(config, 'hidden')}={hidden} is less than one head's {head_dim}"
    return None


def _named(config: Config, size: str) -> str:
    """Return the name that a configuration has for a size it states."""
    return next(key for key in NAMES[size] if config.number(key))


def _states(config: Config, name: str) -> bool:
    """Whether a configuration states a size by our name, or a key by its own, be it with none."""
    return config.size(name) is not None if name in NAMES else config.stated(name)


def context_of(config: Config) -> int | None:
    """Return the most tokens of a sequence; None where neither model nor family states them."""
    return config.size("max_position") or config.family.context


def _layers(config: Config) -> int:
    """Return the number of layers; 0 where it is not stated."""
    listed = config.words("layers_block_type") or config.words("layer_types")
    pattern = config.get("hybrid_override_pattern")
    return config.size("layers") or len(listed) or (len(pattern) if isinstance(pattern, str) else 0)


def groups_of(config: Config, hidden: int) -> tuple[Layers, ...] | None:
    """Return the layers by kind; None where there is one that is not described here."""
    found = kinds(config, _layers(config))
    if found is None:
        return None
    counted = Counter(found)
    if config.family.states is None and any(mixer in (STATE, BOTH) for mixer, _ in counted):
        return None
    return tuple(_group(config, hidden, kind, count) for kind, count in counted.items())


def _group(config: Config, hidden: int, kind: Kind, count: int) -> Layers:
    """Return `count` layers of a kind: their mixers, MLPs and norms."""
    mixer, mlp = kind
    parts = [Layers(vectors=_norms(config) * config.family.norm * hidden)]
    if mixer in (FULL, WINDOW, BOTH):
        parts.append(attention(config, hidden, window_of(config) if mixer == WINDOW else None))
    if mixer in (STATE, BOTH) and config.family.states:
        parts.append(STATES[config.family.states](config, hidden))
    if mlp in (DENSE, EXPERTS):
        parts.append((dense if mlp == DENSE else mixture)(config, hidden))
    return joined(*parts, count=count)


def _norms(config: Config) -> int:
    """Return how many norms of the hidden size a layer has; parallel blocks share one."""
    if config.kind == "falcon":
        if config.flag("new_decoder_architecture", default=False):
            return config.number("num_ln_in_parallel_attn") or 2
        return 1 if config.flag("parallel_attn", default=True) else 2
    if config.kind == "stablelm" and config.flag("use_parallel_residual", default=False):
        return 1
    return config.family.norms


def vectors_of(config: Config, hidden: int, vocabulary: int) -> int:
    """Return the parameters outside of layers and of the matrices of tokens."""
    family = config.family
    norms = 2 if config.kind == "bloom" else 1  # one behind the embedding
    if config.kind == "opt" and not config.flag("do_layer_norm_before", default=True):
        norms = 0
    found = norms * family.norm * hidden + (vocabulary if config.bias("head") else 0)
    positions = context_of(config)
    if family.positions is not None and positions:
        found += (positions + family.positions) * hidden
    return found
