"""Which layers are of which kind: full attention, a window, a state; one MLP, experts, neither.

Reads the lists, periods and letters that families state it with. Counts nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from workers.shapes.families import PURE_STATES, Config

FULL, WINDOW, STATE, BOTH, NOTHING = "full", "window", "state", "both", "nothing"
DENSE, EXPERTS = "dense", "experts"

#: More layers than any model has: a slip of the keyboard.
MOST_LAYERS = 10_000

#: (mixer, MLP) of one layer.
Kind = tuple[str, str]

_MIXERS = {
    "full_attention": FULL, "attention": FULL, "global": FULL, "*": FULL,
    "sliding_attention": WINDOW, "chunked_attention": WINDOW, "local": WINDOW,
    "linear_attention": STATE, "mamba": STATE, "conv": STATE, "M": STATE,
    "hybrid": BOTH,
    "mlp": NOTHING, "-": NOTHING, "moe": NOTHING, "E": NOTHING,
}  # fmt: skip


def window_of(config: Config) -> int | None:
    """Return how many tokens a windowed layer sees; None where none is windowed."""
    if not config.flag("use_sliding_window", default=config.family.windows_on):
        return None
    for key in ("sliding_window", "window_size", "attention_chunk_size"):
        if config.stated(key):
            return config.number(key) or None
    return config.family.window


def kinds(config: Config, layers: int) -> list[Kind] | None:
    """Return the kind of each layer; None where a layer is of a kind that is not known here."""
    if layers > MOST_LAYERS:
        return None
    stated = _words(config)
    if config.kind == "nemotron_h":
        return _letters(stated, layers)
    mixers: Sequence[str | None] = [_MIXERS.get(word) for word in stated]
    if not stated:
        mixers = _mixers(config, layers)
    if config.kind == "falcon_h1":
        mixers = [BOTH] * layers
    mlps = _mlps(config, layers)
    if None in mixers or len(mixers) != layers or len(mlps) != layers:
        return None
    windowed = window_of(config) is not None
    named = [m if windowed or m != WINDOW else FULL for m in mixers if m is not None]
    return list(zip(named, mlps, strict=True))


def _words(config: Config) -> tuple[str, ...]:
    """Return the kinds of layers in a family's own words; empty where it states none."""
    for key in ("layer_types", "layers_block_type", "attention_layers"):
        if found := config.words(key):
            return found
    pattern = config.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        return tuple(pattern)
    nested = config.get("attention_types")
    return _unrolled(nested) if isinstance(nested, list) else ()


def _unrolled(nested: list[object]) -> tuple[str, ...]:
    """Return the words of a list such as ``[[["global", "local"], 12]]``, layer by layer."""
    found: list[str] = []
    for part in nested:
        match part:
            case [[*words], int(times)]:
                found += [str(word) for word in words] * times
            case _:
                found.append(str(part))
    return tuple(found)


def _letters(stated: tuple[str, ...], layers: int) -> list[Kind] | None:
    """Return the kinds of a family whose layers are a mixer or an MLP, never both."""
    found: list[Kind] = []
    for word in stated:
        mixer = _MIXERS.get(word)
        if mixer is None:
            return None
        mlp = {"mlp": DENSE, "-": DENSE, "moe": EXPERTS, "E": EXPERTS}.get(word, NOTHING)
        found.append((mixer, mlp))
    return found if len(found) == layers else None


def _mixers(config: Config, layers: int) -> list[str]:
    """Return the mixers by a family's periods."""
    if config.family.states is not None:
        full = _full(config, layers)
        return [FULL if n in full else STATE for n in range(layers)]
    if config.kind == "gpt_neo":
        return [WINDOW if n % 2 else FULL for n in range(layers)]
    return _windows(config, layers)


def _full(config: Config, layers: int) -> Collection[int]:
    """Return which layers of a family of states have attention instead."""
    match config.kind:
        case "jamba":
            offset = config.at("attn_layer_offset", 4)
            return range(offset, layers, config.period("attn_layer_period", 8))
        case "bamba":
            return config.numbers("attn_layer_indices")
        case "lfm2":
            return config.numbers("full_attn_idxs") or range(layers)
    if config.family.states == "delta":
        every = config.period("full_attention_interval", 4)
        return range(every - 1, layers, every)
    return ()


def _windows(config: Config, layers: int) -> list[str]:
    """Return full and windowed layers: all but each n-th, or all from one on."""
    every = config.number("sliding_window_pattern", "_sliding_window_pattern")
    every = config.family.full_every if every is None else every
    if every:
        return [WINDOW if (n + 1) % every else FULL for n in range(layers)]
    first = 0 if config.family.windows_on else config.at("max_window_layers", 28)
    return [WINDOW if n >= first else FULL for n in range(layers)]


def _mlps(config: Config, layers: int) -> list[str]:
    """Return the MLPs: experts in all layers, or in those that a family's periods name."""
    if config.kind in PURE_STATES:
        return [NOTHING] * layers
    if not config.size("experts") or (config.kind == "jamba" and config.size("experts") == 1):
        return [DENSE] * layers
    if stated := config.words("mlp_layer_types"):
        return [EXPERTS if word == "sparse" else DENSE for word in stated]
    if config.kind == "jamba":
        period = config.period("expert_layer_period", 2)
        offset = config.at("expert_layer_offset", 1)
        return [EXPERTS if n % period == offset else DENSE for n in range(layers)]
    if config.kind == "llama4_text":
        step = config.period("interleave_moe_layer_step", 1)
        sparse = config.numbers("moe_layers") or tuple(range(step - 1, layers, step))
        return [EXPERTS if n in sparse else DENSE for n in range(layers)]
    leading = config.at("first_k_dense_replace", 0)
    step = config.period("decoder_sparse_step", 1)
    plain = config.numbers("mlp_only_layers")
    return [
        EXPERTS if n >= leading and n not in plain and (n + 1) % step == 0 else DENSE
        for n in range(layers)
    ]
