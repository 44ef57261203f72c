"""What vLLM is started with: its environment and arguments, from a spec and its workloads.

Never imports vllm.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from db.errors import EngineFault
from db.records import EngineSpec, Scalar
from workers.engines.limits import Limits
from workers.engines.quantize import form_of
from workers.engines.weights import config_of
from workers.shapes.shape import precision, shape_of

#: Tokens in a block of the KV cache on the CPU, unless `block_size` says otherwise.
_CPU_BLOCK_TOKENS = 128
#: Blocks beyond those of a full batch: the null block, and one to begin with.
_SPARE_BLOCKS = 4
#: Tokens looked ahead where the engine does not say.
LOOK_AHEAD = 4
#: Options that belong to vLLM's speculative configuration, by their own names there.
SPECULATIVE = (
    "rejection_sample_method",
    "synthetic_acceptance_length",
    "prompt_lookup_max",
    "prompt_lookup_min",
    "draft_tensor_parallel_size",
)
#: Quantizations that vLLM accepts of any model, and applies to the experts of a mixture alone.
OF_EXPERTS = frozenset(
    {"int8_per_channel_weight_only", "experts_int8", "moe_wna16", "nvfp4_per_token"}
)
#: Where Linux says what a CPU can do.
CPU_INFO = Path("/proc/cpuinfo")
#: Fields of EngineArgs that are no options, and what decides each of them.
FIXED: Mapping[str, str] = {
    "model": "engine.model",
    "dtype": "engine.dtype",
    "quantization": "engine.quantization",
    "tensor_parallel_size": "engine.tensor_parallel",
    "distributed_executor_backend": "engine.tensor_parallel",
    "speculative_config": "engine.speculation, engine.draft and engine.speculative_tokens",
    "spec_method": "engine.speculation",
    "spec_model": "engine.draft",
    "spec_tokens": "engine.speculative_tokens",
    "load_format": "the weights, which are safetensors",
    "trust_remote_code": "the rule that no code of a model is run",
    "hf_token": "the environment",
    "skip_tokenizer_init": "the prompts, which are token ids",
    "disable_log_stats": "the counters, which are read",
    "use_tqdm_on_load": "the log, which is kept",
}


def engine_arguments(
    spec: EngineSpec, limits: Limits, folder: Path, draft: Path | None = None, *, on_cpu: bool
) -> dict[str, Any]:
    """Return the arguments of vLLM's engine; `draft` is the folder of the draft's weights.

    What follows from the workloads gives way to the spec's options, which may not touch what the
    measurement rests on. Raises EngineFault.
    """
    options = {name: value for name, value in spec.options.items() if value is not None}
    speculative = {name: options.pop(name) for name in SPECULATIVE if name in options}
    _refuse(spec, speculative, folder, on_cpu=on_cpu)
    fixed: dict[str, Any] = {
        "model": str(folder),
        "dtype": spec.dtype,
        "quantization": spec.quantization,
        "tensor_parallel_size": spec.tensor_parallel,
        "distributed_executor_backend": "mp" if spec.tensor_parallel > 1 else "uni",
        "speculative_config": _speculation(spec, draft, speculative),
        "load_format": "auto",
        "trust_remote_code": False,
        "skip_tokenizer_init": True,
        "disable_log_stats": False,
        "use_tqdm_on_load": False,
    }
    follows: dict[str, Any] = {
        "max_model_len": limits.context_tokens,
        "max_num_seqs": limits.batch_size,
        "seed": 0,
        # Its own implementation, or none: what it has not it would compute as transformers does.
        "model_impl": "vllm",
    }
    if on_cpu and "gpu_memory_utilization" not in options:
        # Unbounded, vLLM takes most of the host's memory for its cache.
        follows["kv_cache_memory_bytes"] = _kv_cache_bytes(spec, limits, (folder, draft))
    return follows | options | fixed


def _refuse(
    spec: EngineSpec, speculative: Mapping[str, Scalar], folder: Path, *, on_cpu: bool
) -> None:
    """Raise EngineFault for options that cannot be set, or not here."""
    why = [f"{name} follows from {FIXED[name]}" for name in sorted(FIXED.keys() & spec.options)]
    if speculative and spec.speculation is None:
        why.append(f"{', '.join(speculative)} without engine.speculation")
    if spec.speculation == "draft_model" and spec.draft is None:
        why.append("engine.speculation=draft_model needs engine.draft")
    if on_cpu and speculative.get("rejection_sample_method") == "synthetic":
        why.append("vLLM accepts synthetically on GPUs alone, not with its CPU sampler")
    if on_cpu and form_of(spec.quantization) in ("awq", "gptq") and not has_four_bits():
        why.append("vLLM multiplies weights of four bits on CPUs with AVX-512, not on this one")
    shape = shape_of(spec.model.name, config_of(folder))
    if spec.quantization in OF_EXPERTS and shape is not None and not shape.experts:
        why.append(f"quantization={spec.quantization} is of experts, which this model has none of")
    if why:
        raise EngineFault("unsupported", f"{spec.label}: {'; '.join(why)}", permanent=True)


def has_four_bits() -> bool:
    """Whether vLLM's build for this CPU has a kernel for weights of four bits.

    Of x86 those with AVX-512 have it; where nothing says what the CPU can do, vLLM is left to find.
    """
    if platform.machine() != "x86_64" or not CPU_INFO.exists():
        return True
    return "avx512f" in CPU_INFO.read_text(encoding="utf-8").split()


def _speculation(
    spec: EngineSpec, draft: Path | None, options: Mapping[str, Scalar]
) -> dict[str, Any] | None:
    """Return vLLM's configuration of the speculation that a spec asks for."""
    if spec.speculation is None:
        return None
    ahead = spec.speculative_tokens or LOOK_AHEAD
    config = {"method": spec.speculation, "num_speculative_tokens": ahead, **options}
    return config if draft is None else config | {"model": str(draft)}


def _kv_cache_bytes(spec: EngineSpec, limits: Limits, folders: Sequence[Path | None]) -> int:
    """Return the bytes of a KV cache that holds the largest batch at the longest context.

    Of each worker, which has its part of keys and values, of a draft's too, or a copy of them.
    """
    shapes = [shape_of(spec.model.name, config_of(f)) for f in folders if f is not None]
    option = spec.options.get("block_size")
    block = option if isinstance(option, int) else _CPU_BLOCK_TOKENS
    ahead = spec.speculative_tokens or LOOK_AHEAD if spec.speculation else 0
    blocks = limits.batch_size * -(-(limits.context_tokens + ahead) // block) + _SPARE_BLOCKS
    token = 0.0
    for shape in shapes:
        if shape is None:
            return 2 << 30
        kept = shape.kv_elements_per_token * shape.kv_copies(spec.tensor_parallel)
        token += kept * precision(spec.dtype).kv_bytes / spec.tensor_parallel
    return int(blocks * block * token)


def set_environment(spec: EngineSpec) -> None:
    """Set what vLLM reads when it is imported; the user's own settings of what it prints stay."""
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",  # the folder is local by now
    }
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    # Kernels that are compiled as they are needed ask for ninja by name, which lies beside Python.
    programs, paths = str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)
    if programs not in paths.split(os.pathsep):
        os.environ["PATH"] = f"{paths}{os.pathsep}{programs}"
    if spec.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(spec.threads)
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = cores_of_workers(
            sorted(os.sched_getaffinity(0)), spec.threads, spec.tensor_parallel
        )


def cores_of_workers(cores: Sequence[int], threads: int, workers: int) -> str:
    """Return vLLM's text of which cores each worker computes on: equal parts of `threads` cores.

    Only processes of their own are bound by it; in this process the number of threads counts.
    """
    usable = list(cores[:threads])
    if len(usable) < workers:
        return "nobind"
    part = len(usable) // workers
    parts = (usable[rank * part : (rank + 1) * part] for rank in range(workers))
    return "|".join(",".join(map(str, cpus)) for cpus in parts)
