"""Which quantizations an engine can load, of which weights, on which boards.

Part of campaign/grids/fit.py's rules, and proven as they are: by vLLM 0.32's own list of
methods, the boards' generations, and what the weights are. Of a checkpoint that is not on this
machine nothing is concluded. Never asks a network.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from campaign.catalogue.capability import ADA, TURING, capability
from campaign.catalogue.hub import cached_config
from campaign.configuration.reader import nearest
from db.records import Board, EngineSpec, ModelSpec, Weights
from workers.engines.quantize import FORMS, why_not
from workers.engines.vllm_arguments import OF_EXPERTS
from workers.shapes.shape import QUANTIZED, Shape

#: Quantizations of vLLM and the compute capability their kernels begin at.
QUANTIZED_FROM = {
    **dict.fromkeys(FORMS, TURING),
    **dict.fromkeys(("fp8", "fp8_per_tensor", "fp8_per_channel", "fp8_per_block"), ADA),
}
#: Those that vLLM does not load on a CPU.
NOT_ON_CPU = frozenset({"fp8", "fp8_per_tensor", "auto_awq", "awq_marlin"})
#: Those that compute in half precision alone.
HALF = QUANTIZED_FROM.keys() - {"compressed-tensors"}
#: Those that read a checkpoint of their own kind, which random weights are never written as.
OF_CHECKPOINTS = frozenset(
    {"fbgemm_fp8", "fp_quant", "modelopt", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed",
     "quark", "torchao", "inc", "moe_wna16", "gpt_oss_mxfp4", "deepseek_v4_fp8", "online"}
)  # fmt: skip
#: Where a config.json says how its weights are quantized.
_SECTIONS = ("quantization_config", "compression_config")
#: Those of earlier releases of vLLM, for a pinned engine.version.
GONE = frozenset({"bitsandbytes", "gguf", "hqq", "marlin", "bitblas", "gptq_bitblas", "ptpc_fp8",
                  "deepspeedfp", "tpu_int8"})  # fmt: skip


def quantization_misfit(engine: EngineSpec, board: Board, shape: Shape | None) -> str | None:
    """Return why an engine cannot load its weights quantized as asked; None if it may."""
    method = engine.quantization
    if method is None:
        return None
    if method not in QUANTIZED:
        return f"{method} is no quantization of vLLM{nearest(method, QUANTIZED)}"
    if engine.backend == "transformers":
        return "transformers runs without quantization here; use vllm"
    if engine.backend == "simulated":
        return None
    if method in GONE and engine.version is None:
        return f"vLLM no longer loads {method}"
    return _board(engine, method, board) or _weights(engine, method, shape)


def _board(engine: EngineSpec, method: str, board: Board) -> str | None:
    """Return why a board, or the number format, has no kernel for a method."""
    if method in HALF and engine.dtype == "float32":
        return f"vLLM computes with {method} in bfloat16 or float16 alone"
    if board.is_cpu:
        hint = "; there it is called awq" if FORMS.get(method) == "awq" else ""
        return f"vLLM does not load {method} on a CPU{hint}" if method in NOT_ON_CPU else None
    needed, has = QUANTIZED_FROM.get(method), capability(board.slug)
    if needed and has and has < needed:
        return f"{method} needs compute capability {needed}; {board.slug} has {has}"
    return None


def _weights(engine: EngineSpec, method: str, shape: Shape | None) -> str | None:
    """Return why the weights are not such as a method reads."""
    if method in OF_EXPERTS and shape is not None and not shape.experts:
        return f"{method} is of experts, which {engine.model.name} has none of"
    if engine.model.weights is Weights.REAL:
        return _checkpoint(engine.model, method)
    if method in OF_CHECKPOINTS:
        return f"{method} loads weights that are quantized so; random ones are not"
    if method in FORMS and shape is not None:
        return why_not(shape, engine.tensor_parallel)
    return None


def _checkpoint(model: ModelSpec, method: str) -> str | None:
    """Return why real weights are not quantized as a method reads them, by their config.json."""
    form, file = FORMS.get(method), cached_config(model.name, model.commit)
    if model.folder is not None:
        file = Path(model.folder, "config.json")
    if form is None or file is None:
        return None
    found = _method_of(file)
    if found in (None, form):
        return None
    what = f"are quantized as {found}" if found else "are not quantized"
    return f"{method} loads weights that are quantized as {form}; those of {model.name} {what}"


@cache
def _method_of(file: Path) -> str | None:
    """Return how a checkpoint is quantized: empty if it is not, None where it does not say."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        texts = told.get("text_config") or {}
        found = (config.get(key) for config in (told, texts) for key in _SECTIONS)
        section = next((each for each in found if each), {"quant_method": ""})
        return str(section["quant_method"]).lower()
    except (OSError, ValueError, AttributeError, LookupError, TypeError):
        return None  # not of this form: the engine that loads it says so
