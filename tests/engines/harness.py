"""Engines in processes of their own, and what the conformance suite lets each of them do."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from db.errors import EngineFault, TaskFault
from db.readings import Batch, Loaded
from db.records import Board, EngineSpec, ModelSpec, Weights
from workers.engines.engine import GREEDY, Decoding, Request, alike
from workers.engines.registry import Limits
from workers.engines.simulated import open_simulated
from workers.workloads.prompts import Prompts

ROOT = Path(__file__).parents[2]
LIMITS = Limits(context_tokens=384, batch_size=4)

TINY = {
    "llama": {
        "model_type": "llama", "hidden_size": 128, "intermediate_size": 256,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 1024, "tie_word_embeddings": True, "max_position_embeddings": 512,
    },
    "qwen2": {
        "model_type": "qwen2", "hidden_size": 128, "intermediate_size": 256,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 1024, "tie_word_embeddings": True, "max_position_embeddings": 512,
    },
    "opt": {
        "model_type": "opt", "hidden_size": 128, "ffn_dim": 256, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 1024, "word_embed_proj_dim": 128,
        "max_position_embeddings": 512,
    },
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "vllm": {"enforce_eager": True, "enable_prefix_caching": False},
    "transformers": {"attn_implementation": "sdpa"},
    "simulated": {},
}
BOARD = Board(
    slug="a100-sxm-80gb",
    nvml_name="NVIDIA A100-SXM4-80GB",
    memory_bytes=80 * 2**30,
    memory_bandwidth_bytes_s=2.039e12,
    bf16_flops=312e12,
    fp16_flops=312e12,
    tdp_w=400,
    idle_w=50,
)


def tiny(name: str = "llama") -> ModelSpec:
    return ModelSpec(name=f"tiny-{name}", weights=Weights.RANDOM, architecture=TINY[name])


def spec_of(backend: str, model: ModelSpec | None = None, **changes: Any) -> EngineSpec:
    spec = EngineSpec(
        model=model or tiny(),
        backend=backend,
        board="a100-sxm-80gb" if backend == "simulated" else "cpu:any:1",
        threads=1,
        options=OPTIONS[backend],
    )
    return replace(spec, **changes)


class Host:
    """Engines of one real backend in a process of their own, one open at a time."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Any = None

    def _start(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("host.py")), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        )
        theirs.close()
        self._pipe = ours

    def ask(self, name: str, *arguments: object) -> Any:
        if self._process is None:
            self._start()
        self._pipe.send((name, arguments))
        assert self._pipe.poll(240), f"{name} did not answer"
        state, answer = self._pipe.recv()
        if state == "ok":
            return answer
        if state in ("EngineFault", "TaskFault"):
            kind, message, permanent = answer
            fault = EngineFault if state == "EngineFault" else TaskFault
            raise fault(kind, message, permanent=permanent)
        raise AssertionError(answer)

    def open(self, spec: EngineSpec, limits: Limits = LIMITS) -> HostedEngine:
        self.ask("open", spec, str(self.cache), limits)
        return HostedEngine(self)

    def stop(self) -> None:
        """End the process; whoever asks next gets another."""
        if self._process is not None:
            self._pipe.close()
            self._process.wait(30)
            self._process = None


class HostedEngine:
    """The Engine protocol, through the pipe of a host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.vocabulary = 0

    def prepare(self) -> None:
        self._host.ask("prepare")

    def load(self) -> Loaded:
        loaded: Loaded = self._host.ask("load")
        self.vocabulary = self._host.ask("vocabulary")
        return loaded

    def generate(self, requests: Sequence[Request], decoding: Decoding = GREEDY) -> Batch:
        batch: Batch = self._host.ask("generate", requests, decoding)
        return batch

    def inside(self, function: str, *arguments: object) -> Any:
        """What a function of inside.py finds, called with the engine where the engine is."""
        return self._host.ask("inside", function, arguments)

    def close(self) -> None:
        self._host.ask("close")


class SimulatedHost:
    """Simulated engines need no process."""

    def open(self, spec: EngineSpec, limits: Limits = LIMITS) -> Any:
        engine, _, _ = open_simulated(spec, BOARD, seed=1)
        return engine

    def stop(self) -> None:
        pass


@dataclass
class Run:
    """What one engine did: loaded, then fresh batches of (input, output, batch size)."""

    loaded: Loaded
    vocabulary: int
    batches: dict[tuple[int, int, int], Batch] = field(default_factory=dict)
    repeated: Batch | None = None


SHAPES = ((64, 16, 1), (64, 16, 4), (33, 7, 3), (8, 1, 2))


def run_engine(host: Any, spec: EngineSpec, *, repeat: bool = False) -> Run:
    """Load an engine, generate every shape with fresh prompts, close it.

    `repeat` hands one long batch over twice.
    """
    engine = host.open(spec)
    engine.prepare()
    loaded = engine.load()
    run = Run(loaded=loaded, vocabulary=engine.vocabulary)
    source = Prompts(vocabulary=engine.vocabulary, seed="conformance")
    for input_tokens, output_tokens, count in SHAPES:
        prompts = source.batch(count, input_tokens)
        run.batches[input_tokens, output_tokens, count] = engine.generate(
            alike(prompts, output_tokens)
        )
    if repeat:
        prompts = source.batch(2, 300)
        engine.generate(alike(prompts, 4))
        run.repeated = engine.generate(alike(prompts, 4))
    engine.close()
    return run
