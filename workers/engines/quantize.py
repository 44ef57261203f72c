"""Random weights in the forms that AWQ, GPTQ and compressed-tensors give to what they quantize.

Each weight is rounded to the nearest step of its group: no method's search for better steps matters
to weights that mean nothing. Embeddings, norms and the output stay as they are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.errors import EngineFault

if TYPE_CHECKING:
    import torch

#: What is written here: four bits, four bits, and eight of weights and activations. Other methods
#: quantize while they load, or need weights of their own.
METHODS = ("awq", "gptq", "compressed-tensors")
_GROUPS = (128, 64, 32)
_PER_WORD = 8
#: Where AWQ keeps eight neighbours in a word.
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def quantize(source: Path, target: Path, method: str) -> None:
    """Write a folder of weights again with its layers quantized. Raises EngineFault."""
    from safetensors.torch import load_file, save_file

    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    files = sorted(source.glob("*.safetensors"))
    group = _group(config, files)
    for file in files:
        tensors: dict[str, Any] = {}
        for name, tensor in load_file(file).items():
            if _is_layer(name, tensor.dim()):
                tensors |= _kept(name.removesuffix(".weight"), tensor, group, method)
            else:
                tensors[name] = tensor
        save_file(tensors, target / file.name, metadata={"format": "pt"})
    told = config | {"quantization_config": _form(method, group)}
    (target / "config.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    for other in source.iterdir():
        if other.is_file() and not (target / other.name).exists() and "index" not in other.name:
            shutil.copy(other, target / other.name)


def _form(method: str, group: int) -> dict[str, Any]:
    """Return how a method's configuration says what was done."""
    four = {"quant_method": method, "bits": 4, "group_size": group}
    if method == "awq":
        return four | {"zero_point": True, "version": "gemm"}
    if method == "gptq":
        return four | {"sym": True, "desc_act": False}
    eight = {"num_bits": 8, "type": "int", "symmetric": True}
    layers = {
        "targets": ["Linear"],
        "weights": eight | {"strategy": "channel", "dynamic": False},
        "input_activations": eight | {"strategy": "token", "dynamic": True},
    }
    return {
        "quant_method": method,
        "format": "int-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": layers},
        "ignore": ["lm_head"],
    }


def _is_layer(name: str, dimensions: int) -> bool:
    return ".layers." in name and name.endswith(".weight") and dimensions == 2  # noqa: PLR2004


def _group(config: dict[str, Any], files: list[Path]) -> int:
    """Return the inputs that share a scale: the most that divide those of every layer."""
    widths = {width for file in files for width in _widths(file)}
    mixture = any("expert" in name for name in config)
    group = next((g for g in _GROUPS if all(width % g == 0 for width in widths)), None)
    if mixture or group is None:
        why = "with experts" if mixture else f"whose layers take {sorted(widths)} inputs"
        message = f"random weights are not quantized here for a model {why}"
        raise EngineFault("unsupported", message, permanent=True)
    return group


def _widths(file: Path) -> Iterator[int]:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        for name in opened.keys():  # noqa: SIM118 - not a mapping
            shape = opened.get_slice(name).get_shape()
            if _is_layer(name, len(shape)):
                yield shape[1]


def _kept(name: str, weight: torch.Tensor, group: int, method: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a layer; `weight` is outputs x inputs."""
    if method != "compressed-tensors":
        return _packed(name, weight, group, method)
    import torch

    scale = (weight.float().abs().amax(1, keepdim=True) / 127).clamp_min(1e-8)
    steps = (weight.float() / scale).round().clamp(-128, 127).to(torch.int8)
    return {f"{name}.weight": steps, f"{name}.weight_scale": scale}


def _packed(name: str, weight: torch.Tensor, group: int, method: str) -> dict[str, torch.Tensor]:
    """Return a layer's tensors; `weight` is outputs x inputs, what is kept inputs x outputs."""
    import torch

    grouped = weight.float().t().reshape(-1, group, weight.shape[0])
    if method == "awq":
        low, high = grouped.amin(1, keepdim=True), grouped.amax(1, keepdim=True)
        scale = ((high - low) / 15).clamp_min(1e-8)
        zero = (-low / scale).round().clamp(0, 15)
    else:
        scale = (grouped.abs().amax(1, keepdim=True) / 7).clamp_min(1e-8)
        zero = torch.full_like(scale, 8)
    steps = (grouped / scale).round().add(zero).clamp(0, 15).int().flatten(0, 1)
    zeros = zero.squeeze(1).int()
    kept = {f"{name}.scales": scale.squeeze(1).to(weight.dtype).contiguous()}
    if method == "awq":
        kept[f"{name}.qweight"] = _words(steps, _AWQ_ORDER)
        kept[f"{name}.qzeros"] = _words(zeros, _AWQ_ORDER)
        return kept
    order = tuple(range(_PER_WORD))
    kept[f"{name}.qweight"] = _words(steps.t(), order).t().contiguous()
    kept[f"{name}.qzeros"] = _words(zeros - 1, order)
    kept[f"{name}.g_idx"] = torch.arange(weight.shape[1], dtype=torch.int32) // group
    return kept


def _words(steps: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """Return rows of four-bit steps, eight neighbours in a word."""
    import torch

    eights = steps.long().reshape(steps.shape[0], -1, _PER_WORD)
    word = torch.zeros(eights.shape[:2], dtype=torch.int64)
    for bit, place in enumerate(order):
        word |= eights[:, :, place] << (4 * bit)
    word = torch.where(word >= 2**31, word - 2**32, word)
    return word.to(torch.int32).contiguous()
