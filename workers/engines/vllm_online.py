"""vLLM as a server runs it: requests arrive while others are computed, tokens are streamed.

Owns vLLM's asynchronous engine, whose computing happens in a child process, and the event loop
that speaks with it in a thread of its own. Tokens are stamped as they are received here, on
CLOCK_MONOTONIC, before they are text. The child dies with this process, however this one ends.
Of a child that fails vLLM says only that it did; why is what it printed.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from db.errors import EngineFault
from db.readings import Batch, Loaded, RequestTiming
from db.records import EngineSpec
from workers.clock import Clock
from workers.engines import vllm_requests as asked
from workers.engines.engine import GREEDY, Decoding, Listener, Request
from workers.engines.faults import engine_fault, task_fault
from workers.engines.limits import Limits
from workers.engines.vllm_arguments import set_environment
from workers.engines.vllm_counters import Counters, running_mean, since
from workers.engines.vllm_executor import mortal
from workers.engines.vllm_startup import Folders, arguments, fetch, resolved, software
from workers.engines.weights import vocabulary
from workers.transcript import Printed

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

#: How long the child may take to end before it is killed.
_END_S = 20.0


class VllmOnline:
    """One model in vLLM's asynchronous engine; computed by a child process."""

    def __init__(self, spec: EngineSpec, folder: Path, limits: Limits, clock: Clock) -> None:
        self.vocabulary = 0
        self._spec = spec
        self._cache = folder
        self._limits = limits
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._engine: AsyncLLM | None = None
        self._counters: Counters | None = None
        self._processes: list[psutil.Process] = []
        self._streams: set[asyncio.Task[None]] = set()
        self._requests = 0
        self._printed = Printed()

    def prepare(self) -> None:
        """Bring the weights to this host. Raises EngineFault."""
        fetch(self._spec, self._cache)

    def load(self) -> Loaded:
        """Load the model in a child process; returns what vLLM resolved. Raises EngineFault."""
        spec = self._spec
        folders = fetch(spec, self._cache)
        self.vocabulary = vocabulary(folders.model)
        set_environment(spec)
        # The child of a process with threads must not be a copy of it.
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
        self._printed = Printed()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        try:
            # Started by the loop's thread: the child dies with the thread that started it.
            loaded = asyncio.run_coroutine_threadsafe(self._started(folders), self._loop).result()
        except EngineFault:
            raise
        except Exception as error:
            raise engine_fault(error, f"loading {spec.label}", self._printed.text) from error
        self._printed = Printed()
        return loaded

    async def _started(self, folders: Folders) -> Loaded:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM
        from vllm.v1.executor import Executor

        spec, context = self._spec, UsageContext.OPENAI_API_SERVER
        given = AsyncEngineArgs(**arguments(spec, self._limits, folders))
        # vLLM's defaults are by who uses it: without a word a step of 2,048 tokens, of a server on
        # an H100 8,192.
        config = given.create_engine_config(context)
        executor = mortal(Executor.get_class(config))
        self._engine = AsyncLLM(
            config, executor, log_stats=True, log_requests=False, usage_context=context
        )
        self._counters = Counters(self._engine.logger_manager)
        started = self._engine.engine_core.resources.engine_manager.processes
        self._processes = [psutil.Process(each.pid) for each in started]
        self._processes += self._processes[0].children(recursive=True)
        return Loaded(
            resolved={"mode": "online", **resolved(spec, config, folders, spec.threads)},
            software=software(),
            pid=self._processes[0].pid,
        )

    # ---- requests ----------------------------------------------------------------------------

    def submit(self, request: Request, decoding: Decoding, listener: Listener) -> None:
        """Hand a request over and return at once; safe from any thread. Raises TaskFault."""
        engine, loop = self._engine, self._loop
        if engine is None or loop is None or engine.errored:
            why = "its process is gone" if engine is not None else "not loaded"
            raise task_fault(RuntimeError(why), self._spec.label, printed=self._printed.text)
        if decoding.method == "beam":
            raise asked.unsupported(self._spec, "beam search is for offline batches")
        work = self._streamed(engine, request, decoding, listener)
        loop.call_soon_threadsafe(lambda: self._follow(loop.create_task(work)))

    def _follow(self, stream: asyncio.Task[None]) -> None:
        """Keep a task, which a loop alone does not, until it is done."""
        self._streams.add(stream)
        stream.add_done_callback(self._streams.discard)

    async def _streamed(
        self, engine: AsyncLLM, request: Request, decoding: Decoding, listener: Listener
    ) -> None:
        """Stream one request to its listener, which hears of its end in every case."""
        self._requests += 1
        error: BaseException | None = None
        try:
            outputs = engine.generate(
                asked.prompt_of(request),
                asked.sampling(request, decoding, streamed=True),
                str(self._requests),
            )
            async for output in outputs:
                listener.tokens(self._clock.now_ns(), len(output.outputs[0].token_ids))
        except Exception as failed:  # noqa: BLE001 - told to the listener, with its cause
            doing = f"generating in {self._spec.label}"
            error = task_fault(failed, doing, printed=self._printed.text)
            error.__cause__ = failed
        except asyncio.CancelledError as cancelled:
            error = task_fault(cancelled, f"{self._spec.label} was closed")
            raise
        finally:
            listener.ended(self._clock.now_ns(), error)

    def generate(self, requests: Sequence[Request], decoding: Decoding = GREEDY) -> Batch:
        """Submit all requests now and wait for the last of them. Raises TaskFault."""
        before = self.counters()
        heard = [_Heard() for _ in requests]
        started_ns = self._clock.now_ns()
        for request, listener in zip(requests, heard, strict=True):
            self.submit(request, decoding, listener)
        wait([listener.end for listener in heard])  # the last one, whatever became of the others
        ends_ns = [listener.end.result() for listener in heard]
        counted = since(self.counters(), before)
        return Batch(
            started_ns=started_ns,
            ended_ns=max(ends_ns),
            requests=tuple(
                listener.timing(request, started_ns)
                for request, listener in zip(requests, heard, strict=True)
            ),
            prefix_cache_hit_tokens=int(counted["vllm:prefix_cache_hits"]),
            running_mean=running_mean(counted),
            counters=counted,
        )

    def counters(self) -> dict[str, float]:
        """Return the engine's own counters since it was loaded, by its own names.

        Of the steps that were heard of; raises TaskFault where nothing is loaded.
        """
        if self._counters is None:
            raise task_fault(RuntimeError("not loaded"), self._spec.label)
        return self._counters.read()

    # ---- the end -----------------------------------------------------------------------------

    def close(self) -> None:
        """End what is still asked for, the child and the loop; nothing is left behind."""
        engine, self._engine = self._engine, None
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        if engine is not None:
            asyncio.run_coroutine_threadsafe(self._stopped(engine), loop).result()
            _, alive = psutil.wait_procs(self._processes, timeout=_END_S)
            for process in alive:
                process.kill()
            psutil.wait_procs(alive)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        self._loop = self._thread = None

    async def _stopped(self, engine: AsyncLLM) -> None:
        """Cancel the requests, shut the engine down, and let every task come to its end."""
        await _ended(self._streams)
        engine.shutdown()
        await _ended(asyncio.all_tasks() - {asyncio.current_task()})


async def _ended(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    known = [task for task in tasks if task is not None]
    for task in known:
        task.cancel()
    await asyncio.gather(*known, return_exceptions=True)


class _Heard:
    """The listener of one request of a batch."""

    def __init__(self) -> None:
        self.end: Future[int] = Future()
        self._first_ns: int | None = None
        self._last_ns = 0
        self._tokens = 0

    def tokens(self, now_ns: int, count: int) -> None:
        """Keep the first and last stamp, and how many came."""
        if self._first_ns is None:
            self._first_ns = now_ns
        self._last_ns = now_ns
        self._tokens += count

    def ended(self, now_ns: int, error: BaseException | None) -> None:
        """Wake whoever waits for the batch."""
        if error is None:
            self.end.set_result(now_ns)
        else:
            self.end.set_exception(error)

    def timing(self, request: Request, started_ns: int) -> RequestTiming:
        """Return the request's tokens and latencies since the batch was handed over."""
        first = self._first_ns
        return RequestTiming(
            input_tokens=len(request.prompt),
            output_tokens=self._tokens,
            ttft_s=None if first is None else (first - started_ns) / 1e9,
            e2e_s=(self._last_ns - started_ns) / 1e9,
        )
