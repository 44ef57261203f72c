"""How one layer mixes the tokens of a sequence: by attention, or by a state that it carries along.

Each function turns a configuration into the mixer's share of a layer. Convolutions count with
their matrices: each of their weights meets a token once. Caches are those of vLLM: of latent
attention the latent and its rotary part, of a convolution one input less than it is wide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from workers.shapes.families import PURE_STATES, Config
from workers.shapes.layers import Layers


def heads_of(config: Config) -> tuple[int, int, int]:
    """Return attention heads, key-value heads and the size of a head; zeros without attention."""
    heads, hidden = config.size("heads") or 0, config.size("hidden") or 0
    if config.kind in PURE_STATES or not heads:
        return 0, 0, 0
    kv, size = config.size("kv_heads") or heads, config.size("head_dim") or hidden // heads
    if config.number("kv_lora_rank"):
        size = config.at("qk_nope_head_dim", 0) + config.at("qk_rope_head_dim", 0)
    grouped = config.flag("new_decoder_architecture", default=False)
    if config.kind == "gpt_bigcode" or (config.kind == "falcon" and not grouped):
        kv = 1 if config.flag("multi_query", default=True) else heads
    return heads, kv, size


def attention(config: Config, hidden: int, window: int | None) -> Layers:
    """Return attention with keys and values for each token, over `window` tokens or all."""
    if config.number("kv_lora_rank"):
        return _latent(config, hidden)
    heads, kv, size = heads_of(config)
    queries = 2 if config.family.states == "delta" else 1  # its output is gated by as many again
    inputs = (queries * heads + 2 * kv) * size
    vectors = inputs if config.bias("qkv") else 0
    vectors += hidden if config.bias("out") else 0
    vectors += _heads_norm(config, heads + kv, size)
    vectors += heads if config.kind == "gpt_oss" else 0  # its sinks
    return Layers(
        mixer_parameters=hidden * (inputs + heads * size),
        vectors=vectors,
        pair_macs=2 * heads * size,
        decode_pair_macs=2 * heads * size,
        kv_elements=2 * kv * size,
        window=window,
    )


def _heads_norm(config: Config, heads: int, size: int) -> int:
    """Return the parameters of the norms of queries and keys, over `heads` of both."""
    one, all_heads = 2 * size, heads * size
    match config.kind:
        case "glm4_moe":
            return one if config.flag("use_qk_norm", default=False) else 0
        case "cohere":
            return all_heads if config.flag("use_qk_norm", default=False) else 0
        case "stablelm":
            return all_heads if config.flag("qk_layernorm", default=False) else 0
        case "phi":
            return 2 * one if config.flag("qk_layernorm", default=False) else 0
    return {None: 0, "head": one, "full": all_heads}[config.family.heads_norm]


def _latent(config: Config, hidden: int) -> Layers:
    """Return multi-head latent attention, decoded in its absorbed form: over the latents alone."""
    heads = config.size("heads") or 0
    latent, rope = config.at("kv_lora_rank", 0), config.at("qk_rope_head_dim", 0)
    nope, value = config.at("qk_nope_head_dim", 0), config.at("v_head_dim", 0)
    rank = config.number("q_lora_rank")
    queries = heads * (nope + rope)
    asked = rank * (hidden + queries) if rank else hidden * queries
    matrices = asked + hidden * (latent + rope) + latent * heads * (nope + value)
    return Layers(
        mixer_parameters=matrices + heads * value * hidden,
        vectors=latent + (rank or 0),
        pair_macs=heads * (nope + rope + value),
        decode_pair_macs=heads * (2 * latent + rope),
        kv_elements=latent + rope,
    )


def _mamba(config: Config, hidden: int) -> Layers:
    """Return the first Mamba: a state of `state_size` for each inner channel."""
    jamba = config.kind == "jamba"
    inner = config.at("mamba_expand" if jamba else "expand", 2) * hidden
    state = config.at("mamba_d_state" if jamba else "state_size", 16)
    width = config.at("mamba_d_conv" if jamba else "conv_kernel", 4)
    rank = config.at("mamba_dt_rank" if jamba else "time_step_rank", -(-hidden // 16))
    biased = config.flag("mamba_proj_bias" if jamba else "use_bias", default=False)
    matrices = hidden * 2 * inner + inner * (rank + 2 * state) + rank * inner + inner * hidden
    vectors = inner * state + 2 * inner  # A; D and the bias of the step
    vectors += inner if _conv_bias(config) else 0
    vectors += 2 * inner + hidden if biased else 0
    vectors += rank + 2 * state if jamba else 0
    return Layers(
        mixer_parameters=matrices + inner * width,
        vectors=vectors,
        state_elements=inner * (state + width - 1),
        state_macs=2 * inner * state,
    )


def _mamba2(config: Config, hidden: int) -> Layers:
    """Return Mamba-2: heads that each carry a matrix of `head x state`."""
    heads = config.number("mamba_n_heads", "mamba_num_heads", "num_heads") or 128
    size = config.number("mamba_d_head", "mamba_head_dim")
    if size is None and config.kind == "mamba2":
        size = config.at("head_dim", 64)
    expand = config.number("mamba_expand", "expand") or 2
    inner = config.number("mamba_d_ssm") or (heads * size if size else expand * hidden)
    lone = config.kind in ("mamba2", "nemotron_h")
    state = config.number("mamba_d_state", "ssm_state_size", "state_size") or (128 if lone else 256)
    width = config.number("mamba_d_conv", "conv_kernel") or 4
    groups = config.number("mamba_n_groups", "n_groups") or (8 if lone else 1)
    channels = inner + 2 * groups * state
    projected = inner + channels + heads
    vectors = 3 * heads + (channels if _conv_bias(config) else 0)
    if config.kind != "falcon_h1" or config.flag("mamba_rms_norm", default=False):
        vectors += inner
    if config.flag("mamba_proj_bias", default=False) or (
        lone and config.flag("use_bias", default=False)
    ):
        vectors += projected + hidden
    return Layers(
        mixer_parameters=hidden * projected + inner * hidden + channels * width,
        vectors=vectors,
        state_elements=inner * state + channels * (width - 1),
        state_macs=2 * inner * state,
    )


def _delta(config: Config, hidden: int) -> Layers:
    """Return the gated delta rule: each value head carries a matrix of `key x value`."""
    key_heads, key = config.at("linear_num_key_heads", 16), config.at("linear_key_head_dim", 128)
    heads, value = config.at("linear_num_value_heads", 32), config.at("linear_value_head_dim", 128)
    width = config.at("linear_conv_kernel_dim", 4)
    channels = 2 * key_heads * key + heads * value
    projected = channels + heads * value + 2 * heads
    return Layers(
        mixer_parameters=hidden * (projected + heads * value) + channels * width,
        vectors=2 * heads + value,
        state_elements=heads * key * value + channels * (width - 1),
        state_macs=3 * heads * key * value,
    )


def _conv(config: Config, hidden: int) -> Layers:
    """Return a short gated convolution."""
    width = config.at("conv_L_cache", 3)
    biased = config.flag("conv_bias", default=False)
    return Layers(
        mixer_parameters=4 * hidden * hidden + hidden * width,
        vectors=5 * hidden if biased else 0,
        state_elements=hidden * (width - 1),
    )


def _conv_bias(config: Config) -> bool:
    key = "mamba_conv_bias" if config.get("mamba_conv_bias") is not None else "use_conv_bias"
    return config.flag(key, default=True)


#: What carries a state, by the name a family's layers go by.
STATES: Mapping[str, Callable[[Config, int], Layers]] = {
    "mamba": _mamba,
    "mamba2": _mamba2,
    "delta": _delta,
    "conv": _conv,
}
