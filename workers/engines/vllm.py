"""vLLM, in this process, on a GPU or on the CPU: offline generation with continuous batching.

Owns the import of vllm and the environment it is imported with. `options` are fields of its
EngineArgs by their own names; those the measurement rests on cannot be set. Every time stamp is
CLOCK_MONOTONIC: the engine's own for tokens, ours for the moment a batch is handed over (its own
arrival time is wall-clock time, which can be stepped).
"""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from db.errors import EngineFault
from db.readings import Batch, Loaded, RequestTiming
from db.records import EngineSpec, Scalar
from workers.clock import Clock
from workers.engines.faults import engine_fault, task_fault
from workers.engines.limits import Limits
from workers.engines.software import configuration, versions
from workers.engines.vllm_arguments import engine_arguments, set_environment
from workers.engines.weights import config_of, materialize, vocabulary

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput

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


class VllmEngine:
    """One model in vLLM; tensor parallel workers are processes of its own."""

    def __init__(self, spec: EngineSpec, folder: Path, limits: Limits, clock: Clock) -> None:
        self.vocabulary = 0
        self._spec = spec
        self._cache = folder
        self._limits = limits
        self._clock = clock
        self._llm: LLM | None = None

    def prepare(self) -> None:
        """Bring the weights to this host. Raises EngineFault."""
        materialize(self._spec.model, self._spec.dtype, self._cache)

    def load(self) -> Loaded:
        """Load the model; returns vLLM's resolved configuration. Raises EngineFault."""
        spec = self._spec
        folder = materialize(spec.model, spec.dtype, self._cache)
        self.vocabulary = vocabulary(folder)
        set_environment(spec)
        try:
            self._llm = self._started(folder)
            return Loaded(
                resolved=self._resolved(self._llm, folder), software=_software(), pid=os.getpid()
            )
        except EngineFault:
            raise
        except Exception as error:
            raise engine_fault(error, f"loading {spec.label}") from error

    def _started(self, folder: Path) -> LLM:
        import torch
        import vllm
        from vllm.platforms import current_platform

        spec = self._spec
        _refuse_version(spec, vllm.__version__)
        on_cpu = current_platform.is_cpu()
        arguments = engine_arguments(spec, self._limits, folder, on_cpu=on_cpu)
        if on_cpu:
            _know_architecture(folder)
            if spec.threads is not None:
                # Before vLLM: its CPU worker replaces this function by one that does nothing.
                torch.set_num_threads(spec.threads)
        return vllm.LLM(**arguments)

    def _resolved(self, llm: LLM, folder: Path) -> dict[str, object]:
        import torch

        resolved = configuration(
            llm.llm_engine.vllm_config,
            replace={str(folder): self._spec.model.name, str(self._cache.absolute()): "weights"},
            leave_out=_OF_A_PROCESS,
        )
        return {"engine": "vllm", "threads": torch.get_num_threads(), **resolved}

    def generate(self, prompts: Sequence[Sequence[int]], output_tokens: int) -> Batch:
        """Generate one batch greedily; all requests arrive when it is handed over.

        Raises TaskFault.
        """
        if self._llm is None:
            raise task_fault(RuntimeError("not loaded"), self._spec.label)
        from vllm import SamplingParams

        sampling = SamplingParams(
            temperature=0.0,
            max_tokens=output_tokens,
            min_tokens=output_tokens,
            ignore_eos=True,
            detokenize=False,
        )
        requests = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        started_ns = self._clock.now_ns()
        try:
            outputs = self._llm.generate(requests, sampling, use_tqdm=False)
        except Exception as error:
            raise task_fault(error, f"generating in {self._spec.label}") from error
        ended_ns = self._clock.now_ns()
        return Batch(
            started_ns=started_ns,
            ended_ns=ended_ns,
            requests=tuple(_timing(output, started_ns, ended_ns) for output in outputs),
            prefix_cache_hit_tokens=_cached(outputs),
        )

    def close(self) -> None:
        """Stop the workers and free what can be freed."""
        llm, self._llm = self._llm, None
        if llm is None:
            return
        llm.llm_engine.engine_core.shutdown()
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        del llm
        gc.collect()
        cleanup_dist_env_and_memory()


def _know_architecture(folder: Path) -> None:
    """Import the model's class here, where vLLM would ask a second process about it first.

    That process protects CUDA from being initialised too early; on a CPU it only costs another
    import of everything, once per architecture and machine.
    """
    from vllm.model_executor.models.registry import ModelRegistry

    names = config_of(folder).get("architectures")
    for name in names if isinstance(names, list) else ():
        if name in ModelRegistry.models:
            ModelRegistry.register_model(name, ModelRegistry.models[name].load_model_cls())


def _timing(output: RequestOutput, started_ns: int, ended_ns: int) -> RequestTiming:
    """Return a request's tokens and latencies since the batch was handed over.

    Without the engine's own stamps the first token has no time and the last the batch's end.
    """
    stats = output.metrics
    first_s = getattr(stats, "first_token_ts", 0.0)
    last_s = getattr(stats, "last_token_ts", 0.0)
    started_s = started_ns / 1e9
    return RequestTiming(
        input_tokens=len(output.prompt_token_ids or ()),
        output_tokens=len(output.outputs[0].token_ids),
        ttft_s=first_s - started_s if first_s else None,
        e2e_s=(last_s or ended_ns / 1e9) - started_s,
    )


def _cached(outputs: Sequence[RequestOutput]) -> int | None:
    """Return the prompt tokens answered from the prefix cache; None if any is not told."""
    counts = [output.num_cached_tokens for output in outputs]
    return None if any(count is None for count in counts) else sum(counts)


def _software() -> dict[str, str]:
    """Return versions; vLLM's from its module, since its distribution goes by several names."""
    import vllm

    names = ("torch", "transformers", "tokenizers", "safetensors", "triton", "flashinfer-python")
    return {"vllm": vllm.__version__, **versions(*names)}


def _refuse_version(spec: EngineSpec, installed: str) -> None:
    asked: Scalar = spec.version
    if asked is not None and asked != installed.partition("+")[0]:
        message = f"vllm {asked} is asked for, {installed} is installed"
        raise EngineFault("unsupported", f"{spec.label}: {message}", permanent=True)
