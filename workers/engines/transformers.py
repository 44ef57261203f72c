"""Hugging Face transformers: one static batch at a time through `generate`.

Owns the import of transformers for measuring. Prompts of unequal length are padded on the left;
`options` are arguments of `from_pretrained` (``attn_implementation``) or of `generate`
(``cache_implementation``), and ``torch_compile``, which alone decides whether anything is
compiled. What a model's own generation_config.json prefers is left out: a workload says it all.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.errors import TaskFault
from db.readings import Batch, Loaded
from db.records import EngineSpec, ModelSpec
from workers.clock import Clock
from workers.engines.engine import GREEDY, Decoding, Request
from workers.engines.faults import engine_fault, task_fault
from workers.engines.limits import Limits
from workers.engines.software import configuration, versions
from workers.engines.transformers_decoding import Passes, Steps, asked
from workers.engines.transformers_limits import (
    batch_misfit,
    refuse_sizes,
    refuse_stateful,
    refuse_unsupported,
)
from workers.engines.weights import SEED, materialize, vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_LOADING = frozenset({"attn_implementation"})
_GENERATING = frozenset({"cache_implementation"})
_OWN = frozenset({"torch_compile"})


class TransformersEngine:
    """One model in transformers on the first visible GPU, or on the CPU; perhaps with a draft."""

    def __init__(self, spec: EngineSpec, folder: Path, limits: Limits, clock: Clock) -> None:
        self.vocabulary = 0
        self._spec = spec
        self._cache = folder
        self._limits = limits
        self._clock = clock
        self._model: PreTrainedModel | None = None
        self._draft: PreTrainedModel | None = None
        self._passes: list[Passes] = []
        self._device = "cpu"

    def prepare(self) -> None:
        """Bring the weights to this host. Raises EngineFault."""
        refuse_unsupported(self._spec, _LOADING | _GENERATING | _OWN)
        for model in self._models():
            materialize(model, self._spec.dtype, self._cache)

    def _models(self) -> list[ModelSpec]:
        """Return the model, and the one that proposes tokens if one does."""
        draft = self._spec.draft if self._spec.speculation == "draft_model" else None
        return [self._spec.model] if draft is None else [self._spec.model, draft]

    def load(self) -> Loaded:
        """Load the model onto the board; returns its configuration. Raises EngineFault."""
        import torch

        spec = self._spec
        refuse_unsupported(spec, _LOADING | _GENERATING | _OWN)
        folders = [materialize(model, spec.dtype, self._cache) for model in self._models()]
        self.vocabulary = vocabulary(folders[0])
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            if spec.threads is not None:
                torch.set_num_threads(spec.threads)
            loaded = [self._loaded(folder) for folder in folders]
            self._model, self._draft = loaded[0], loaded[1] if loaded[1:] else None
            torch.manual_seed(SEED)  # of samples: drawn on from batch to batch, none like another
            self._now()
        except Exception as error:
            raise engine_fault(error, f"loading {spec.label}") from error
        refuse_sizes([model.config for model in loaded], self._limits)
        refuse_stateful(spec, loaded)
        self._passes = [Passes(model) for model in loaded]
        names = {str(f): m.name for f, m in zip(folders, self._models(), strict=True)}
        return Loaded(
            resolved=self._resolved(loaded, names),
            software=versions("transformers", "torch", "tokenizers", "safetensors", "accelerate"),
            pid=os.getpid(),
        )

    def _loaded(self, folder: Path) -> PreTrainedModel:
        import torch
        from transformers import AutoModelForCausalLM, GenerationConfig
        from transformers.utils import logging

        logging.disable_progress_bar()
        options, tokens = self._spec.options, self._spec.speculative_tokens
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, self._spec.dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            **{name: options[name] for name in _LOADING & options.keys()},
        )
        model.to(self._device).eval()
        # Without an end token nothing stops early, and no token has to be forbidden.
        model.generation_config = GenerationConfig(
            eos_token_id=None,
            pad_token_id=0,
            disable_compile=True,
            # Of a draft: always as many, however sure it is and whatever was accepted before.
            num_assistant_tokens=tokens,
            num_assistant_tokens_schedule="constant",
            assistant_confidence_threshold=0.0,
            **{name: options[name] for name in _GENERATING & options.keys()},
        )
        if options.get("torch_compile"):
            model.forward = torch.compile(model.forward)
        return model

    def _resolved(
        self, loaded: Sequence[PreTrainedModel], names: dict[str, str]
    ) -> dict[str, object]:
        import torch

        model, draft = loaded[0], self._draft
        return configuration(
            {
                "engine": "transformers",
                "model": model.config,
                "generation": model.generation_config,
                "speculation": self._spec.speculation,
                "speculative_tokens": self._spec.speculative_tokens,
                "draft": None if draft is None else draft.config,
                "device": self._device,
                "dtype": model.dtype,
                "attn_implementation": model.config._attn_implementation,  # noqa: SLF001
                "torch_compile": bool(self._spec.options.get("torch_compile")),
                "sampling_seed": SEED,
                "threads": torch.get_num_threads(),
                "matmul_precision": torch.get_float32_matmul_precision(),
                "parameters": sum(p.numel() for p in model.parameters()),
            },
            replace=names,
        )

    def generate(self, requests: Sequence[Request], decoding: Decoding = GREEDY) -> Batch:
        """Generate one static batch; the prompts arrive when it begins.

        Each request's last token is the last one it asked for, though the batch goes on until the
        longest has its own. Times are of tokens that are chosen and, on a GPU, computed.
        Raises TaskFault.
        """
        if self._model is None:
            raise task_fault(RuntimeError("not loaded"), self._spec.label)
        why = batch_misfit(self._spec, decoding, len(requests))
        if why is not None:
            raise TaskFault("unsupported", f"{self._spec.label}: {why}", permanent=True)
        try:
            return self._batch(self._model, requests, decoding)
        except Exception as error:
            raise task_fault(error, f"generating in {self._spec.label}", stateless=True) from error

    def _batch(
        self, model: PreTrainedModel, requests: Sequence[Request], decoding: Decoding
    ) -> Batch:
        import torch

        for passes in self._passes:
            passes.begin()
        compiling = bool(self._spec.options.get("torch_compile"))
        graphs = _compiled_graphs() if compiling else 0
        started_ns = self._now()
        steps = Steps(requests, self._device, self._now)
        missing = [steps.longest - len(request.prompt) for request in requests]
        padded = [[0] * m + list(r.prompt) for m, r in zip(missing, requests, strict=True)]
        mask = [[0] * m + [1] * (steps.longest - m) for m in missing]
        with torch.inference_mode():
            output = model.generate(
                input_ids=torch.tensor(padded, device=self._device),
                attention_mask=torch.tensor(mask, device=self._device),
                max_new_tokens=max(request.output_tokens for request in requests),
                use_cache=True,
                stopping_criteria=[steps],
                **asked(decoding),
                **self._proposed(),
            )
        ended_ns = self._now()
        counters = steps.counters(self._passes[0], self._passes[1:], self._spec)
        if compiling:
            counters["compiled_graphs"] = float(_compiled_graphs() - graphs)
            ran = counters["forward_passes"] if _compiled_graphs() else 0.0
            counters["compiled_forward_passes"] = ran
        return Batch(
            started_ns=started_ns,
            ended_ns=ended_ns,
            requests=tuple(steps.timings(output[:, steps.longest :].tolist(), started_ns)),
            prefix_cache_hit_tokens=0,  # no cache outlives a call of generate
            running_mean=steps.running_mean,
            counters=counters,
        )

    def _proposed(self) -> dict[str, Any]:
        """Return the arguments of `generate` for who proposes tokens, if anybody does."""
        if self._spec.speculation == "ngram":
            return {"prompt_lookup_num_tokens": self._spec.speculative_tokens}
        return {} if self._draft is None else {"assistant_model": self._draft}

    def _now(self) -> int:
        """Return the time once the board has done what it was given."""
        if self._device == "cuda":
            import torch

            torch.cuda.synchronize()
        return self._clock.now_ns()

    def close(self) -> None:
        """Drop the model and the board's cache of freed memory."""
        self._model = self._draft = None
        gc.collect()
        if self._device == "cuda":
            import torch

            torch.cuda.empty_cache()


def _compiled_graphs() -> int:
    """Return how many graphs this process has compiled so far."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])
