"""Sending requests as they arrive, from a thread of its own, while others are computed.

Owns when a request is sent and what is known of each. A late send is never hidden: a request keeps
the time at which it should have been sent. Measures nothing and judges nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from types import TracebackType
from typing import Self

from db.errors import TaskFault
from workers.engines.engine import OnlineEngine, Request, decoding_of
from workers.workloads.latency import Course
from workers.workloads.worklist import Worklist

#: Prompts made while there is time: of a burst as many can be sent without making any.
AHEAD = 64
#: Seconds without a token after which requests that are waited for will not end.
SILENCE_S = 300.0


class Load:
    """The load of a worklist on an engine, inside a ``with`` block.

    At its end nothing more is sent, and what was sent has ended: the engine is empty again.
    `count` requests, or as many as there is time for; `turn` names the draw of a Poisson process.
    """

    def __init__(
        self, engine: OnlineEngine, work: Worklist, *, count: int | None = None, turn: int = 0
    ) -> None:
        """Prepare the first requests; nothing is sent."""
        self._engine = engine
        self._work = work
        self._decoding = decoding_of(work.workload)
        self._lengths = islice(work.lengths(), count)
        self._arrivals_s = work.arrivals_s(turn)
        self._closed = work.workload.arrival == "closed"
        self._clients = work.workload.batch_size
        self._changed = threading.Condition()
        self._free_ns: deque[int] = deque()  # when each idle client of a closed load became so
        self._ready: deque[tuple[float, Request]] = deque()
        self._courses: list[Course] = []
        self._open = 0
        self._stopping = False
        self._sent_all = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        #: Requests that ended since the load began.
        self.ended = 0
        while len(self._ready) < AHEAD and self._prepare():
            pass

    def __enter__(self) -> Self:
        """Begin to send."""
        now_ns = time.monotonic_ns()
        self._started_ns = now_ns
        self._free_ns.extend([now_ns] * self._clients)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Send nothing more and wait for what was sent. Raises TaskFault if that stands still."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()
        while not self.wait(1.0, until=lambda: self._open == 0):
            quiet_ns = time.monotonic_ns() - max(c.last_ns for c in self._courses)
            if quiet_ns > SILENCE_S * 1e9:
                message = f"{self._open} requests did not end, without a token for {SILENCE_S:g} s"
                raise TaskFault("engine_error", message)

    # ---- for who measures ------------------------------------------------------------------

    @property
    def unfinished(self) -> int:
        """Requests that were sent and have not ended."""
        return self._open

    @property
    def is_through(self) -> bool:
        """Whether all requests were sent and have ended."""
        return self._sent_all and self._open == 0

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Wait so long, or until something is so; returns whether it is."""
        with self._changed:
            return self._changed.wait_for(until, seconds)

    def check(self) -> None:
        """Raise TaskFault if a request failed, or could not be sent."""
        error = self._error
        if isinstance(error, TaskFault):
            raise error
        if error is not None:
            raise TaskFault("engine_error", f"a request under load failed: {error}") from error

    def courses(self) -> tuple[Course, ...]:
        """Return the requests sent so far and not forgotten, in order."""
        with self._changed:
            return tuple(self._courses)

    def forget(self, before_ns: int) -> None:
        """Forget requests that ended before an instant."""
        with self._changed:
            self._courses = [
                c for c in self._courses if c.ended_ns is None or c.ended_ns >= before_ns
            ]

    # ---- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping and self._error is None:
                if not self._ready and not self._prepare():
                    break
                due_ns = self._due_ns()
                now_ns = time.monotonic_ns()
                if due_ns is not None and due_ns <= now_ns:
                    self._send(due_ns, now_ns)
                elif len(self._ready) >= AHEAD or not self._prepare():
                    self._idle(due_ns)
        except BaseException as error:  # noqa: BLE001 - told by `check`
            self._fail(error)
        with self._changed:
            self._sent_all = True
            self._changed.notify_all()

    def _prepare(self) -> bool:
        """Make one request more; False if there is none."""
        lengths = next(self._lengths, None)
        if lengths is None:
            return False
        (request,) = self._work.requests([lengths])
        self._ready.append((next(self._arrivals_s), request))
        return True

    def _due_ns(self) -> int | None:
        """Return when the next request should be sent; None while every client is busy."""
        if self._closed:
            return self._free_ns[0] if self._free_ns else None
        return self._started_ns + round(self._ready[0][0] * 1e9)

    def _idle(self, due_ns: int | None) -> None:
        """Wait until the next request is due, a client is free, or the load ends."""
        with self._changed:
            wake = lambda: self._stopping or (self._closed and bool(self._free_ns))  # noqa: E731
            seconds = None if due_ns is None else (due_ns - time.monotonic_ns()) / 1e9
            if seconds is None or seconds > 0:
                self._changed.wait_for(wake, seconds)

    def _send(self, due_ns: int, now_ns: int) -> None:
        _, request = self._ready.popleft()
        course = Course(
            due_ns=due_ns, sent_ns=now_ns, input_tokens=len(request.prompt),
            output_tokens=request.output_tokens, told=self._one_ended,
        )  # fmt: skip
        with self._changed:
            self._courses.append(course)
            self._open += 1
            if self._closed:
                self._free_ns.popleft()
        try:
            self._engine.submit(request, self._decoding, course)
        except BaseException:
            with self._changed:
                self._open -= 1
            raise

    def _one_ended(self, course: Course) -> None:
        """Hear of an end, in the engine's thread."""
        if course.error is not None:
            self._fail(course.error)
        with self._changed:
            self._open -= 1
            self.ended += 1
            if self._closed:
                self._free_ns.append(course.last_ns)
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._stopping = True
            self._changed.notify_all()
