"""Random weights in the forms that AWQ, GPTQ and compressed-tensors give to what they quantize.

Each weight is rounded to the nearest step of its group: no method's search for better steps matters
to weights that mean nothing. Embeddings, norms and the output stay as they are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.errors import EngineFault
from workers.shapes.shape import Shape

if TYPE_CHECKING:
    import torch

#: vLLM's names of what is written here, and the form that they read. Other methods quantize while
#: they load, or need weights of their own.
FORMS: Mapping[str, str] = {
    **dict.fromkeys(("awq", "auto_awq", "awq_marlin"), "awq"),
    **dict.fromkeys(("gptq", "auto_gptq", "gptq_marlin"), "gptq"),
    "compressed-tensors": "compressed-tensors",
}
#: Bytes of a weight in each form, without scales: four bits, four bits, and eight of weights and
#: activations.
FORM_BYTES: Mapping[str, float] = {"awq": 0.5, "gptq": 0.5, "compressed-tensors": 1.0}
#: Families whose layers are matrices of outputs x inputs, named `….layers.N.….weight`.
FAMILIES = frozenset(
    {"gemma", "gemma2", "gemma3_text", "glm", "gpt_neox", "granite", "llama", "mistral", "olmo",
     "olmo2", "olmo3", "opt", "phi", "phi3", "qwen2", "qwen3", "stablelm", "starcoder2"}
)  # fmt: skip
_GROUPS = (128, 64, 32)
_PER_WORD = 8
#: Where AWQ keeps eight neighbours in a word.
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def form_of(quantization: str | None) -> str | None:
    """Return the form that random weights are written in for a method; None: as they are drawn."""
    return FORMS.get(quantization or "")


def group_of(widths: Collection[int]) -> int | None:
    """Return the inputs that share a scale: the most that divide those of every layer."""
    return next((g for g in _GROUPS if all(width % g == 0 for width in widths)), None)


def why_not(shape: Shape, parts: int = 1) -> str | None:
    """Return why random weights of a shape are not quantized here; None if they are.

    `parts` are the boards that share the inputs of a layer's last matrices: groups stay whole.
    """
    if shape.experts:
        return "random weights of experts are not quantized here"
    if shape.family not in FAMILIES:
        return f"random weights of {shape.family} are not quantized here"
    split = {shape.heads * shape.head_dim, shape.intermediate}
    group = group_of({shape.hidden, *split})
    if group is None:
        return f"its layers take {shape.hidden}, {shape.intermediate} inputs, which are no groups"
    odd = sorted(width for width in split if width % (parts * group))
    return f"{odd[0]} inputs over {parts} boards are no groups of {group}" if odd else None


def quantize(source: Path, target: Path, method: str) -> None:
    """Write a folder of weights again with its layers in a form. Raises EngineFault."""
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
    matrix = name.endswith(".weight") and dimensions == 2  # noqa: PLR2004
    return matrix and ".layers." in name and "norm" not in name  # norms of heads have two too


def _group(config: dict[str, Any], files: list[Path]) -> int:
    """Return the inputs that share a scale. Raises EngineFault where there is nothing to scale."""
    widths = {width for file in files for width in _widths(file)}
    mixture = any("expert" in name for name in config)
    group = group_of(widths) if widths else None
    if mixture or group is None:
        why = "with experts" if mixture else f"whose layers take {sorted(widths) or 'no'} inputs"
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
