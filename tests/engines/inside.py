"""What tests look at inside the process of an engine: called with the engine by host.py."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

import psutil

from db.errors import TaskFault
from workers.engines.engine import Decoding, Request
from workers.engines.weights import ON_THE_HUB
from workers.transcript import capture


def tokens(engine: Any, requests: Sequence[Request], decoding: Decoding) -> list[tuple[int, ...]]:
    """The ids a batch of vLLM generates, which our own batch does not keep."""
    llm, seen = engine._llm, []
    generate = llm.generate

    def watched(*arguments: Any, **named: Any) -> Any:
        seen.extend(outputs := generate(*arguments, **named))
        return outputs

    llm.generate = watched
    try:
        engine.generate(requests, decoding)
    finally:
        del llm.generate
    return [tuple(output.outputs[0].token_ids) for output in seen]


def choices(engine: Any, requests: Sequence[Request]) -> tuple[int, list[int]]:
    """How often vLLM was told how to choose tokens, and how many each request got."""
    from unittest.mock import patch

    from workers.engines import vllm_requests

    with patch.object(vllm_requests, "sampling", wraps=vllm_requests.sampling) as made:
        batch = engine.generate(requests)
    return made.call_count, [request.output_tokens for request in batch.requests]


def methods(engine: Any) -> set[str]:
    """How vLLM keeps the weights of the model's layers, by the names of its methods."""
    model = engine._llm.llm_engine.model_executor.driver_worker.get_model()
    found = (getattr(module, "quant_method", None) for module in model.modules())
    return {type(method).__name__ for method in found if method is not None}


def implementation(engine: Any) -> str:
    """The module of vLLM that computes the model."""
    return type(engine._llm.llm_engine.model_executor.driver_worker.get_model()).__module__


def not_implemented(_: Any, families: dict[str, str | None]) -> set[str]:
    """Which families vLLM has no implementation of, by an architecture's name or transformers'."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as BUILT
    from vllm.model_executor.models.registry import ModelRegistry

    known, named = ModelRegistry.get_supported_archs(), dict(BUILT)
    names = {family: given or named.get(family) for family, given in families.items()}
    return {f for f, name in names.items() if name and ON_THE_HUB.get(name, name) not in known}


def prompt_logprobs(engine: Any, prompt: Sequence[int]) -> list[float]:
    """The logarithm of the probability of each token of a prompt, after those before it."""
    from vllm import SamplingParams

    asked = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False, temperature=0.0)
    (output,) = engine._llm.generate([{"prompt_token_ids": list(prompt)}], asked, use_tqdm=False)
    return [next(iter(each.values())).logprob for each in output.prompt_logprobs[1:]]


def batch_defaults(_: Any, tokens: dict[str, int] | None) -> None:
    """Have vLLM take a step of so many tokens by default, by who uses it; None: its own again."""
    from unittest.mock import patch

    from vllm.engine.arg_utils import EngineArgs
    from vllm.usage.usage_lib import UsageContext

    if tokens is None:
        patch.stopall()
        return
    by_user = {UsageContext[name]: count for name, count in tokens.items()}
    patch.object(EngineArgs, "get_batch_defaults", lambda *_: (by_user, {})).start()


def compiled(engine: Any) -> int:
    """How often vLLM compiled a model in this process, or took it from its cache."""
    from vllm.compilation.counter import compilation_counter as counter

    return counter.num_aot_compiles + counter.num_aot_artifacts_loaded


def children(engine: Any) -> list[str]:
    """The command lines of the processes below this one."""
    return [" ".join(p.cmdline()) or p.name() for p in psutil.Process().children(recursive=True)]


def captured(_: Any, path: str) -> None:
    """Send what is printed to a file, as an actor does; its children take functions."""
    capture(path)
    os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"


def greedy(engine: Any) -> None:
    """Have the child's next step ask for more memory than there is."""
    told = engine._engine.collective_rpc(_greedy)
    asyncio.run_coroutine_threadsafe(told, engine._loop).result(60)


def _greedy(worker: Any) -> None:
    import torch

    def execute(*_: object, **__: object) -> None:
        torch.empty(1 << 52, dtype=torch.uint8)

    getattr(worker, "worker", worker).execute_model = execute


# ---- online ----------------------------------------------------------------------------------


class Listener:
    """Keeps what it hears of one request."""

    def __init__(self) -> None:
        self.submitted_ns = time.monotonic_ns()
        self.heard: list[tuple[int, int]] = []
        self.begun = threading.Event()
        self.done = threading.Event()
        self.ended_ns = 0
        self.error: BaseException | None = None

    def tokens(self, now_ns: int, count: int) -> None:
        self.heard.append((now_ns, count))
        self.begun.set()

    def ended(self, now_ns: int, error: BaseException | None) -> None:
        self.ended_ns, self.error = now_ns, error
        self.done.set()


def overlapping(engine: Any, requests: Sequence[Request]) -> dict[str, Any]:
    """Submit each request from a thread of its own once the one before has its first token."""
    before, listeners = engine.counters(), []
    for request in requests:
        listener = Listener()
        submit = threading.Thread(target=engine.submit, args=(request, Decoding(), listener))
        submit.start()
        submit.join()
        assert listener.begun.wait(60)
        listeners.append(listener)
    assert all(listener.done.wait(60) for listener in listeners)
    counted = {name: value - before[name] for name, value in engine.counters().items()}
    return {
        "counters": counted,
        "heard": [
            {
                "submitted_ns": each.submitted_ns,
                "tokens": each.heard,
                "ended_ns": each.ended_ns,
                "error": each.error,
            }
            for each in listeners
        ],
    }


def refused(engine: Any, request: Request, decoding: Decoding) -> tuple[str, bool, str]:
    """The kind and words with which a request is refused."""
    try:
        engine.submit(request, decoding, Listener())
    except TaskFault as fault:
        return fault.kind, fault.permanent, str(fault)
    raise AssertionError("it was taken")


def cut(engine: Any, request: Request) -> tuple[str, str]:
    """Close the engine while it answers; what its listener hears."""
    listener = Listener()
    engine.submit(request, Decoding(), listener)
    assert listener.begun.wait(60)
    engine.close()
    assert listener.done.wait(60)
    return type(listener.error).__name__, str(listener.error)


def killed(engine: Any, request: Request, pid: int) -> list[tuple[str, bool]]:
    """Kill what computes while it answers: the faults of that answer and of the next one."""
    listener = Listener()
    engine.submit(request, Decoding(), listener)
    assert listener.begun.wait(60)
    os.kill(pid, signal.SIGKILL)
    assert listener.done.wait(60)
    assert isinstance(listener.error, TaskFault)
    found = [listener.error]
    try:
        engine.generate([request])
    except TaskFault as fault:
        found.append(fault)
    engine.close()
    return [(fault.kind, fault.sound) for fault in found]
