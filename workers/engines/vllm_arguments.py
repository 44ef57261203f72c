"""What vLLM is started with: its environment and arguments, from a spec and its workloads.

Never imports vllm.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from db.errors import EngineFault
from db.records import EngineSpec
from workers.engines.limits import Limits
from workers.engines.weights import config_of
from workers.shape import precision, shape_of

#: Tokens in a block of the KV cache on the CPU, unless `block_size` says otherwise.
_CPU_BLOCK_TOKENS = 128
#: Blocks beyond those of a full batch: the null block, and one to begin with.
_SPARE_BLOCKS = 4


def engine_arguments(
    spec: EngineSpec, limits: Limits, folder: Path, *, on_cpu: bool
) -> dict[str, Any]:
    """Return the arguments of ``vllm.LLM``.

    What follows from the workloads gives way to the spec's options, which may not touch what the
    measurement rests on. Raises EngineFault.
    """
    fixed: dict[str, Any] = {
        "model": str(folder),
        "dtype": spec.dtype,
        "quantization": spec.quantization,
        "tensor_parallel_size": spec.tensor_parallel,
        "distributed_executor_backend": "mp" if spec.tensor_parallel > 1 else "uni",
        "load_format": "auto",
        "trust_remote_code": False,
        "skip_tokenizer_init": True,
        "disable_log_stats": False,
        "use_tqdm_on_load": False,
    }
    refused = sorted(fixed.keys() & spec.options.keys())
    if refused:
        message = f"options {', '.join(refused)} follow from the engine and cannot be set"
        raise EngineFault("unsupported", f"{spec.label}: {message}", permanent=True)
    follows: dict[str, Any] = {
        "max_model_len": limits.context_tokens,
        "max_num_seqs": limits.batch_size,
        "seed": 0,
    }
    if on_cpu:
        # Unbounded, vLLM takes most of the host's memory for its cache.
        follows["kv_cache_memory_bytes"] = _kv_cache_bytes(spec, limits, folder)
    given = {name: value for name, value in spec.options.items() if value is not None}
    if "gpu_memory_utilization" in given:
        follows.pop("kv_cache_memory_bytes", None)
    return follows | given | fixed


def _kv_cache_bytes(spec: EngineSpec, limits: Limits, folder: Path) -> int:
    """Return the bytes of a KV cache that holds the largest batch at the longest context.

    Of each worker: keys and values are split over them as far as there are heads.
    """
    shape = shape_of(spec.model.name, config_of(folder))
    if shape is None:
        return 2 << 30
    option = spec.options.get("block_size")
    block = option if isinstance(option, int) else _CPU_BLOCK_TOKENS
    blocks = limits.batch_size * -(-limits.context_tokens // block) + _SPARE_BLOCKS
    token = shape.kv_elements_per_token * precision(spec.dtype).kv_bytes
    return int(blocks * block * token / min(spec.tensor_parallel, shape.kv_heads))


def set_environment(spec: EngineSpec) -> None:
    """Set what vLLM reads when it is imported; the user's own settings of what it prints stay."""
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",  # the folder is local by now
    }
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
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
