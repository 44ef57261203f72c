"""Hugging Face transformers: one static batch at a time through `generate`.

Owns the import of transformers for measuring. Prompts of unequal length are padded on the left;
`options` are arguments of `from_pretrained` (``attn_implementation``) or of `generate`
(``cache_implementation``), and ``torch_compile``.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from db.errors import EngineFault
from db.readings import Batch, Loaded, RequestTiming
from db.records import EngineSpec, Scalar
from workers.clock import Clock
from workers.engines.faults import engine_fault, task_fault
from workers.engines.limits import Limits
from workers.engines.software import configuration, versions
from workers.engines.weights import materialize, vocabulary

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_LOADING = frozenset({"attn_implementation"})
_GENERATING = frozenset({"cache_implementation"})
_OWN = frozenset({"torch_compile"})


class TransformersEngine:
    """One model in transformers on the first visible GPU, or on the CPU."""

    def __init__(self, spec: EngineSpec, folder: Path, limits: Limits, clock: Clock) -> None:
        self.vocabulary = 0
        self._spec = spec
        self._cache = folder
        self._limits = limits
        self._clock = clock
        self._model: PreTrainedModel | None = None
        self._device = "cpu"

    def prepare(self) -> None:
        """Bring the weights to this host. Raises EngineFault."""
        _refuse_unsupported(self._spec)
        materialize(self._spec.model, self._spec.dtype, self._cache)

    def load(self) -> Loaded:
        """Load the model onto the board; returns its configuration. Raises EngineFault."""
        _refuse_unsupported(self._spec)
        folder = materialize(self._spec.model, self._spec.dtype, self._cache)
        self.vocabulary = vocabulary(folder)
        try:
            self._model = self._loaded(folder)
        except Exception as error:
            raise engine_fault(error, f"loading {self._spec.label}") from error
        _refuse_long_context(self._model, self._limits)
        return Loaded(
            resolved=self._resolved(self._model, folder),
            software=versions("transformers", "torch", "tokenizers", "safetensors", "accelerate"),
            pid=os.getpid(),
        )

    def _loaded(self, folder: Path) -> PreTrainedModel:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        options = self._spec.options
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        if self._spec.threads is not None:
            torch.set_num_threads(self._spec.threads)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, self._spec.dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            **{name: options[name] for name in _LOADING & options.keys()},
        )
        model.to(self._device).eval()
        # Fixed lengths: without an end token nothing stops early, and nothing has to be masked.
        model.generation_config.eos_token_id = None
        model.generation_config.pad_token_id = 0
        if options.get("torch_compile"):
            model.forward = torch.compile(model.forward)
        self._synchronize(model)
        return model

    def _resolved(self, model: PreTrainedModel, folder: Path) -> dict[str, object]:
        import torch

        return configuration(
            {
                "engine": "transformers",
                "model": model.config,
                "generation": model.generation_config,
                "device": self._device,
                "dtype": model.dtype,
                "attn_implementation": model.config._attn_implementation,  # noqa: SLF001
                "torch_compile": bool(self._spec.options.get("torch_compile")),
                "threads": torch.get_num_threads(),
                "matmul_precision": torch.get_float32_matmul_precision(),
                "parameters": sum(p.numel() for p in model.parameters()),
            },
            replace={str(folder): self._spec.model.name},
        )

    def generate(self, prompts: Sequence[Sequence[int]], output_tokens: int) -> Batch:
        """Generate one static batch greedily; the prompts arrive when it begins.

        The first token is stamped once it is chosen and, on a GPU, computed. All requests of a
        static batch end together. Raises TaskFault.
        """
        if self._model is None:
            raise task_fault(RuntimeError("not loaded"), self._spec.label)
        try:
            return self._batch(self._model, prompts, output_tokens)
        except Exception as error:
            raise task_fault(error, f"generating in {self._spec.label}") from error

    def _batch(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], output_tokens: int
    ) -> Batch:
        import torch

        options = self._spec.options
        longest = max(len(prompt) for prompt in prompts)
        stamp = _FirstToken(lambda: self._now(model))
        started_ns = self._now(model)
        with torch.inference_mode():
            padded = [[0] * (longest - len(p)) + list(p) for p in prompts]
            mask = [[0] * (longest - len(p)) + [1] * len(p) for p in prompts]
            output = model.generate(
                input_ids=torch.tensor(padded, device=self._device),
                attention_mask=torch.tensor(mask, device=self._device),
                max_new_tokens=output_tokens,
                do_sample=False,
                use_cache=True,
                stopping_criteria=[stamp],
                **{name: options[name] for name in _GENERATING & options.keys()},
            )
        ended_ns = self._now(model)
        generated = [len(row) for row in output[:, longest:].tolist()]
        first_ns = stamp.first_ns
        return Batch(
            started_ns=started_ns,
            ended_ns=ended_ns,
            requests=tuple(
                RequestTiming(
                    input_tokens=len(prompt),
                    output_tokens=count,
                    ttft_s=None if first_ns is None else (first_ns - started_ns) / 1e9,
                    e2e_s=(ended_ns - started_ns) / 1e9,
                )
                for prompt, count in zip(prompts, generated, strict=True)
            ),
            prefix_cache_hit_tokens=0,  # no cache outlives a call of generate
        )

    def _now(self, model: PreTrainedModel) -> int:
        """Return the time once the board has done what it was given."""
        self._synchronize(model)
        return self._clock.now_ns()

    def _synchronize(self, model: PreTrainedModel) -> None:
        if model.device.type == "cuda":
            import torch

            torch.cuda.synchronize()

    def close(self) -> None:
        """Drop the model and the board's cache of freed memory."""
        self._model = None
        gc.collect()
        if self._device == "cuda":
            import torch

            torch.cuda.empty_cache()


class _FirstToken:
    """A stopping criterion that never stops: its first call comes with the first token."""

    def __init__(self, now: Callable[[], int]) -> None:
        self.first_ns: int | None = None
        self._now = now

    def __call__(self, input_ids: torch.Tensor, _scores: object, **_: object) -> torch.Tensor:
        """Stamp the first call; say of every request that it goes on."""
        if self.first_ns is None:
            self.first_ns = self._now()
        import torch

        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def _refuse_unsupported(spec: EngineSpec) -> None:
    """Raise EngineFault for what this adapter does not do."""
    known = _LOADING | _GENERATING | _OWN
    unknown = sorted(spec.options.keys() - known)
    reason = None
    if unknown:
        reason = f"options {', '.join(unknown)} are not among {', '.join(sorted(known))}"
    elif spec.tensor_parallel > 1:
        reason = "tensor parallelism is not supported; use vllm"
    elif spec.quantization is not None:
        reason = f"quantization {spec.quantization} is not supported; use vllm"
    if reason:
        raise EngineFault("unsupported", f"{spec.label}: {reason}", permanent=True)
    _refuse_version(spec)


def _refuse_version(spec: EngineSpec) -> None:
    installed = versions("transformers").get("transformers")
    if spec.version is not None and spec.version != installed:
        message = f"transformers {spec.version} is asked for, {installed} is installed"
        raise EngineFault("unsupported", f"{spec.label}: {message}", permanent=True)


def _refuse_long_context(model: PreTrainedModel, limits: Limits) -> None:
    """Raise EngineFault where the model has no positions for the longest workload."""
    positions: Scalar = getattr(model.config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions < limits.context_tokens:
        message = f"a context of {limits.context_tokens} tokens exceeds its {positions} positions"
        raise EngineFault("unsupported", message, permanent=True)
