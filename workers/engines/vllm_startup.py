"""The start of vLLM, in whichever mode: what it is started with, and what it says it resolved.

Imports vllm inside functions, after `set_environment`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db.errors import EngineFault
from db.records import EngineSpec
from workers.engines.limits import Limits
from workers.engines.software import configuration, versions
from workers.engines.vllm_arguments import engine_arguments
from workers.engines.weights import config_of, materialize

#: Fields of vLLM's configuration that differ between processes of one configuration.
_OF_A_PROCESS = frozenset(
    {
        "instance_id",
        "data_parallel_master_port",
        "_data_parallel_master_port_list",
        "data_parallel_rpc_port",
        "nccl_comm_port",
        "master_port",
        "_coord_store_port",
        "served_model_name",
        "compilation_time",
        "encoder_compilation_time",
        "traced_files",
        "cache_dir",
        "local_cache_dir",
        "static_forward_context",  # every attention layer again
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where the weights of a model and of its draft lie on this host, in a cache or elsewhere."""

    model: Path
    draft: Path | None
    cache: Path


def fetch(spec: EngineSpec, cache: Path) -> Folders:
    """Return the folders of a spec's weights, brought to this host. Raises EngineFault."""
    model = materialize(spec.model, spec.dtype, cache, spec.quantization)
    draft = None if spec.draft is None else materialize(spec.draft, spec.dtype, cache)
    return Folders(model=model, draft=draft, cache=cache)


def arguments(spec: EngineSpec, limits: Limits, folders: Folders) -> dict[str, Any]:
    """Return the arguments of vLLM on this machine; its environment is set by now.

    Raises EngineFault where another version is asked for, or an option cannot be set.
    """
    import torch
    import vllm
    from vllm.platforms import current_platform

    _refuse_version(spec, vllm.__version__)
    on_cpu = current_platform.is_cpu()
    given = engine_arguments(spec, limits, folders.model, folders.draft, on_cpu=on_cpu)
    if on_cpu:
        for known in (folders.model, folders.draft):
            _know_architecture(known)
        if spec.threads is not None:
            # Before vLLM: its CPU worker replaces this function by one that does nothing.
            torch.set_num_threads(spec.threads)
    return given


def resolved(
    spec: EngineSpec, config: object, folders: Folders, threads: int | None
) -> dict[str, Any]:
    """Return vLLM's resolved configuration; folders are told by what they hold."""
    names = {str(folders.model): spec.model.name}
    if folders.draft is not None and spec.draft is not None:
        names[str(folders.draft)] = spec.draft.name
    names[str(folders.cache.absolute())] = "weights"
    told = configuration(config, replace=names, leave_out=_OF_A_PROCESS)
    return {"engine": "vllm", "threads": threads, **told}


def software() -> dict[str, str]:
    """Return versions; vLLM's from its module, since its distribution goes by several names."""
    import vllm

    names = ("torch", "transformers", "tokenizers", "safetensors", "triton", "flashinfer-python")
    return {"vllm": vllm.__version__, **versions(*names)}


def _know_architecture(folder: Path | None) -> None:
    """Import the model's class here, where vLLM would ask a second process about it first.

    That process protects CUDA from being initialised too early; on a CPU it only costs another
    import of everything, once per architecture and machine.
    """
    from vllm.model_executor.models.registry import ModelRegistry

    names = config_of(folder).get("architectures") if folder is not None else None
    for name in names if isinstance(names, list) else ():
        if name in ModelRegistry.models:
            ModelRegistry.register_model(name, ModelRegistry.models[name].load_model_cls())


def _refuse_version(spec: EngineSpec, installed: str) -> None:
    if spec.version is not None and spec.version != installed.partition("+")[0]:
        message = f"vllm {spec.version} is asked for, {installed} is installed"
        raise EngineFault("unsupported", f"{spec.label}: {message}", permanent=True)
