"""An online engine whose steps are scripted: requests, tokens and counters as a server's, no model.

It implements the project's own contract in real time: every step takes as long as it is told, each
request in it gets one token, and at most `places` are in it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from db.errors import TaskFault
from db.readings import Batch, Loaded, Reading, RequestTiming
from db.records import Reality
from workers.engines.engine import GREEDY, Decoding, Listener, Request
from workers.meters.curve import Curve


@dataclass
class Running:
    request: Request
    listener: Listener
    left: int


class ScriptedEngine:
    """`slow(step)` is how many times longer than `step_s` a step takes."""

    vocabulary = 1000

    def __init__(
        self, step_s: float = 0.002, places: int = 8, *, hits: int = 0, preempted: int = 0,
        fail_at: int | None = None, short: int = 0, slow: Callable[[int], float] = lambda _: 1.0,
    ) -> None:  # fmt: skip
        self._step_s, self._places, self._slow = step_s, places, slow
        self._hits, self._preempted, self._fail_at, self._short = hits, preempted, fail_at, short
        self._changed = threading.Condition()
        self._waiting: deque[Running] = deque()
        self._running: list[Running] = []
        self._counters: Counter[str] = Counter()
        self._closed = False
        self.submitted: list[tuple[int, Request]] = []
        self.decodings: list[Decoding] = []
        self.stamps: list[tuple[int, int]] = []
        self.ends_ns: list[int] = []
        self.most_together = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def prepare(self) -> None:
        pass

    def load(self) -> Loaded:
        return Loaded(resolved={"engine": "scripted"}, software={}, pid=1)

    @property
    def together(self) -> int:
        """Requests it holds now."""
        return len(self._waiting) + len(self._running)

    def submit(self, request: Request, decoding: Decoding, listener: Listener) -> None:
        with self._changed:
            self.submitted.append((time.monotonic_ns(), request))
            self.decodings.append(decoding)
            self._waiting.append(Running(request, listener, request.output_tokens - self._short))
            self.most_together = max(self.most_together, self.together)
            self._changed.notify_all()

    def counters(self) -> dict[str, float]:
        with self._changed:
            return dict(self._counters)

    def generate(self, requests: Sequence[Request], decoding: Decoding = GREEDY) -> Batch:
        started_ns, heard = time.monotonic_ns(), [Heard() for _ in requests]
        for request, listener in zip(requests, heard, strict=True):
            self.submit(request, decoding, listener)
        for listener in heard:
            assert listener.done.wait(30)
        return Batch(
            started_ns=started_ns,
            ended_ns=time.monotonic_ns(),
            requests=tuple(
                RequestTiming(
                    input_tokens=len(request.prompt), output_tokens=listener.count,
                    ttft_s=0.001, e2e_s=0.002,
                )
                for request, listener in zip(requests, heard, strict=True)
            ),
        )  # fmt: skip

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        due_s = time.monotonic()
        while True:
            with self._changed:
                if not self._waiting and not self._running and not self._closed:
                    self._changed.wait_for(lambda: self._closed or self._waiting)
                    due_s = time.monotonic()
                if self._closed:
                    return
                while self._waiting and len(self._running) < self._places:
                    self._running.append(self._waiting.popleft())
            due_s += self._step_s * self._slow(int(self._counters["engine_steps"]))
            time.sleep(max(0.0, due_s - time.monotonic()))
            self._step()

    def _step(self) -> None:
        now_ns = time.monotonic_ns()
        with self._changed:
            self._counters["engine_steps"] += 1
            self._counters["engine_steps_running"] += len(self._running)
            self._counters["vllm:prefix_cache_hits"] += self._hits
            self._counters["vllm:num_preemptions"] += self._preempted
            steps = self._counters["engine_steps"]
            running, self._running = self._running, []
        failed = TaskFault("out_of_memory", "told to") if steps == self._fail_at else None
        for one in running:
            one.left -= 1
            one.listener.tokens(now_ns, 1)
            self.stamps.append((now_ns, 1))
            if one.left <= 0 or failed:
                self.ends_ns.append(now_ns)
                one.listener.ended(now_ns, failed)
            else:
                self._running.append(one)


class Heard:
    def __init__(self) -> None:
        self.done, self.count = threading.Event(), 0

    def tokens(self, now_ns: int, count: int) -> None:
        self.count += count

    def ended(self, now_ns: int, error: BaseException | None) -> None:
        self.done.set()


class Stopwatch:
    """A meter of a board that draws 100 W, always; `opening_s` is how long an edge takes."""

    name = "stopwatch"
    measures = True
    why_not: tuple[str, ...] = ()
    reality = Reality.SIMULATED
    software: Mapping[str, str] = MappingProxyType({})

    def __init__(self, opening_s: float = 0.01) -> None:
        self._opening_s = opening_s
        self.opened_ns: int | None = None
        self.readings: list[Reading] = []

    def open(self, *, follow: bool = False) -> None:
        assert self.opened_ns is None
        time.sleep(self._opening_s)
        self.opened_ns = time.monotonic_ns()

    def close(self) -> Reading:
        ended_ns = time.monotonic_ns()
        time.sleep(self._opening_s)
        assert self.opened_ns is not None
        reading = Reading(
            started_ns=self.opened_ns, ended_ns=ended_ns, started_at=1.7e9, reality=self.reality,
        )  # fmt: skip
        self.opened_ns = None
        reading = replace(
            reading, energy_j=100.0 * reading.duration_s, energy_method="roofline",
            timing_uncertainty_j=0.0,
        )  # fmt: skip
        self.readings.append(reading)
        return reading

    def curves(self) -> tuple[Curve, ...]:
        return ()

    def foreign_processes(self) -> tuple[int, ...]:
        return ()

    def freeze_processes(self) -> None:
        pass

    def shutdown(self) -> None:
        pass
