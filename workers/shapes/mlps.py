"""What one layer does to each token by itself: one MLP, or experts of which each token takes a few.

Each function turns a configuration into the MLP's share of a layer.
"""

from __future__ import annotations

from workers.shapes.families import Config
from workers.shapes.layers import Layers

#: What Llama's first releases of a family rounded their MLP with, where it is not stated.
_ROUND_TO = 256


def width_of(config: Config, hidden: int) -> int | None:
    """Return the width of a dense MLP; None where a configuration must state it and does not."""
    if config.kind == "mpt":
        return config.at("expansion_ratio", 4) * hidden
    stated = config.number("intermediate_size_mlp") or config.size("intermediate")
    if config.kind == "lfm2" and stated and config.flag("block_auto_adjust_ff_dim", default=True):
        multiplier = config.get("block_ffn_dim_multiplier")
        scale = multiplier if isinstance(multiplier, int | float) else 1.0
        step = config.at("block_multiple_of", _ROUND_TO)
        return -(-int(scale * (2 * stated // 3)) // step) * step
    return stated or (4 * hidden if config.family.wide else None)


def dense(config: Config, hidden: int) -> Layers:
    """Return the one MLP of a layer."""
    if config.kind == "granitemoehybrid":
        return _shared(config, hidden, config.at("shared_intermediate_size", 1024))
    return _shared(config, hidden, width_of(config, hidden) or 0)


def _shared(config: Config, hidden: int, width: int) -> Layers:
    """Return an MLP of a width that every token passes."""
    inputs = 2 if config.family.gated else 1
    vectors = inputs * width + hidden if config.bias("mlp") else 0
    vectors += 2 if config.kind == "apertus" else 0  # its activation has two parameters
    return Layers(mlp_parameters=(inputs + 1) * hidden * width, vectors=vectors)


def expert_width(config: Config, hidden: int) -> int:
    """Return the width of one routed expert."""
    return config.size("expert_intermediate") or config.size("intermediate") or 4 * hidden


def mixture(config: Config, hidden: int) -> Layers:
    """Return the experts of a layer, their router, and what all tokens share."""
    experts, width = config.size("experts") or 0, expert_width(config, hidden)
    shared = _width_of_shared(config, width)
    inputs = 2 if config.family.gated else 1
    latent = config.number("moe_latent_size")
    always = experts * hidden + (inputs + 1) * hidden * shared
    always += 2 * hidden * latent if latent else 0
    always += hidden if config.number("shared_expert_intermediate_size") else 0  # its gate
    biased = config.kind == "gpt_oss"
    return Layers(
        mlp_parameters=always,
        expert_parameters=(inputs + 1) * (latent or hidden) * width,
        expert_vectors=inputs * width + hidden if biased else 0,
        experts=experts,
        experts_per_token=min(config.size("experts_per_token") or 1, experts),
        vectors=experts if biased else 0,
    )


def _width_of_shared(config: Config, width: int) -> int:
    """Return the width of what every token passes beside its experts; 0 without."""
    stated = config.number(
        "shared_expert_intermediate_size", "shared_intermediate_size",
        "moe_shared_expert_intermediate_size",
    )  # fmt: skip
    if stated is not None:
        return stated
    if config.kind == "llama4_text":
        return width
    return (config.number("n_shared_experts") or 0) * width
