"""vLLM, in this process, on a GPU or on the CPU: offline generation with continuous batching.

Owns vLLM's offline engine and the environment it is imported with. `options` are fields of its
EngineArgs by their own names; those the measurement rests on cannot be set. Every time stamp is
CLOCK_MONOTONIC: the engine's own for tokens, ours for the moment a batch is handed over (its own
arrival time is wall-clock time, which can be stepped).
"""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from db.errors import EngineFault, TaskFault
from db.readings import Batch, Loaded
from db.records import EngineSpec
from workers.clock import Clock
from workers.engines import vllm_requests as asked
from workers.engines.engine import GREEDY, Decoding, Request
from workers.engines.faults import engine_fault, task_fault
from workers.engines.limits import Limits
from workers.engines.vllm_arguments import set_environment
from workers.engines.vllm_counters import Counters, running_mean, since
from workers.engines.vllm_startup import Folders, arguments, fetch, resolved, software
from workers.engines.weights import vocabulary
from workers.transcript import Printed

if TYPE_CHECKING:
    from vllm import LLM


class VllmEngine:
    """One model in vLLM; tensor parallel workers are processes of its own."""

    def __init__(self, spec: EngineSpec, folder: Path, limits: Limits, clock: Clock) -> None:
        self.vocabulary = 0
        self._spec = spec
        self._cache = folder
        self._limits = limits
        self._clock = clock
        self._llm: LLM | None = None
        self._counters: Counters | None = None
        self._printed = Printed()

    def prepare(self) -> None:
        """Bring the weights to this host. Raises EngineFault."""
        fetch(self._spec, self._cache)

    def load(self) -> Loaded:
        """Load the model; returns vLLM's resolved configuration. Raises EngineFault."""
        spec = self._spec
        folders = fetch(spec, self._cache)
        self.vocabulary = vocabulary(folders.model)
        set_environment(spec)
        self._printed = Printed()
        try:
            loaded = self._started(folders)
        except EngineFault:
            raise
        except Exception as error:
            raise engine_fault(error, f"loading {spec.label}", self._told_by_workers()) from error
        self._printed = Printed()
        return loaded

    def _told_by_workers(self) -> str:
        """Return what they printed: of a worker that fails vLLM says only that it did."""
        return self._printed.text if self._spec.tensor_parallel > 1 else ""

    def _started(self, folders: Folders) -> Loaded:
        import torch
        import vllm

        self._llm = vllm.LLM(**arguments(self._spec, self._limits, folders))
        engine = self._llm.llm_engine
        self._counters = Counters(engine.logger_manager)
        return Loaded(
            resolved=resolved(self._spec, engine.vllm_config, folders, torch.get_num_threads()),
            software=software(),
            pid=os.getpid(),
        )

    def generate(self, requests: Sequence[Request], decoding: Decoding = GREEDY) -> Batch:
        """Generate one batch; all requests arrive when it is handed over.

        Raises TaskFault.
        """
        if self._llm is None or self._counters is None:
            raise task_fault(RuntimeError("not loaded"), self._spec.label)
        before = self._counters.read()
        try:
            if decoding.method == "beam":
                batch = self._beams(self._llm, requests, decoding)
            else:
                batch = self._tokens(self._llm, requests, decoding)
        except TaskFault:
            raise
        except Exception as error:
            doing = f"generating in {self._spec.label}"
            raise task_fault(error, doing, printed=self._told_by_workers()) from error
        counted = since(self._counters.read(), before)
        return replace(batch, counters=counted, running_mean=running_mean(counted))

    def _tokens(self, llm: LLM, requests: Sequence[Request], decoding: Decoding) -> Batch:
        # As vLLM does: one for all that are alike. To make one takes longer than most prompts.
        alike = {request.output_tokens: request for request in requests}
        choices = {length: asked.sampling(one, decoding) for length, one in alike.items()}
        sampling = [choices[request.output_tokens] for request in requests]
        prompts = [asked.prompt_of(request) for request in requests]
        started_ns = self._clock.now_ns()
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        ended_ns = self._clock.now_ns()
        return Batch(
            started_ns=started_ns,
            ended_ns=ended_ns,
            requests=tuple(asked.timing(output, started_ns, ended_ns) for output in outputs),
            prefix_cache_hit_tokens=asked.cached(outputs),
        )

    def _beams(self, llm: LLM, requests: Sequence[Request], decoding: Decoding) -> Batch:
        """Search beams: every step asks again, and what it finds in the cache is its own."""
        started_ns = self._clock.now_ns()
        outputs = asked.beam_search(llm, self._spec, requests, decoding)
        ended_ns = self._clock.now_ns()
        seconds = (ended_ns - started_ns) / 1e9
        found = zip(requests, outputs, strict=True)
        return Batch(
            started_ns=started_ns,
            ended_ns=ended_ns,
            requests=tuple(asked.beam_timing(r, output, seconds) for r, output in found),
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
