"""The sampler: a process of its own that reads the GPUs while the engine keeps its parent busy.

It owns the timing (clean counter edges, power samples at a steady rate) and reports raw numbers
over its pipes; workers/meters/nvml.py makes joules of them. It never interprets, never writes a
file, and ends with its parent. All times are CLOCK_MONOTONIC nanoseconds.

Requests: ``open``, ``close``, ``pids``. One answer each, after one greeting.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time

from workers.meters.binding import Gpu, Library, NvmlUnavailable, SensorError
from workers.meters.child import Message, Parent, integer, items
from workers.meters.counting import Edge
from workers.meters.edges import Search
from workers.meters.track import Track

#: Clocks, temperature, utilisation and processes are read with every n-th power sample.
SLOW_EVERY = 10
#: Beside busy processes ticks are seen in time by those that go first.
PRIORITY = -10
#: A window waits no longer than this for the update of a sensor after its end.
OUTLAST_NS = 130_000_000


class Sampler:
    """Samples every GPU given to it and finds the edges of windows on those of the group."""

    def __init__(self, gpus: tuple[Gpu, ...], group: frozenset[str], interval_ns: int) -> None:
        """Start with nothing known about the counters' periods."""
        self.tracks = [Track(gpu=g, sibling=g.uuid not in group) for g in gpus]
        for track in self.tracks:
            track.limit_w, track.averaged = track.gpu.power_limit_w(), track.gpu.averaged
        self.group = [t for t in self.tracks if not t.sibling]
        self.interval_ns = interval_ns
        self.due_ns = self.poll_due_ns = time.monotonic_ns()
        self.taken = 0
        self.is_open = False

    def sample(self, *, slow: bool | None = None) -> None:
        """Take one power sample of every GPU, and the slow values when it is their turn."""
        slow = self.taken % SLOW_EVERY == 0 if slow is None else slow
        for track in self.tracks:
            track.sample(slow=slow, is_open=self.is_open)
        self.taken += 1
        self.due_ns = max(self.due_ns + self.interval_ns, time.monotonic_ns())

    def _sample_fast(self) -> None:
        self.sample(slow=False)

    def wait_s(self) -> float:
        """Seconds until something is due."""
        due = [t.look_due_ns for t in self.group if t.look_due_ns is not None]
        due += [self.poll_due_ns] if self._polled() else []
        return max(0.0, (min([self.due_ns, *due]) - time.monotonic_ns()) / 1e9)

    def _polled(self) -> list[Track]:
        """Return the GPUs whose sensor is watched for updates: while a window is open."""
        return [t for t in self.group if t.polled] if self.is_open else []

    def poll(self) -> None:
        """Look for updates of the sensors that are watched."""
        polled = self._polled()
        for track in polled:
            track.poll()
        pauses_ns = [t.power.pause_ns(self.interval_ns) for t in polled]
        self.poll_due_ns = time.monotonic_ns() + max(pauses_ns, default=self.interval_ns)

    def outlast(self) -> None:
        """Wait for the next update of the sensors that a window's energy rests on.

        It shows what the power was at the window's end.
        """
        waiting = self._polled()
        deadline_ns = time.monotonic_ns() + OUTLAST_NS
        while waiting and time.monotonic_ns() < deadline_ns:
            time.sleep(max(t.power.pause_ns(self.interval_ns) for t in waiting) / 1e9)
            waiting = [t for t in waiting if not t.poll() and t.polled]

    def work(self) -> None:
        """Do what is due: looks at counters that are followed and at sensors, and samples."""
        now_ns = time.monotonic_ns()
        for track in self.group:
            track.look_if_due(now_ns)
        if now_ns >= self.due_ns:
            self.sample()
        elif now_ns >= self.poll_due_ns:
            self.poll()
        any(track.refine() for track in self.group)  # at most one, each takes a tick

    def learn(self) -> None:
        """Watch the group's counters tick, to know the periods of those not known yet."""
        unknown = {t.gpu.uuid: t for t in self.group if t.countable and t.tick is None}
        search = Search(now_ns=time.monotonic_ns)
        for uuid, track in unknown.items():
            try:
                search.hold(uuid, track.counter)
            except SensorError as error:
                track.failed(error)
        for uuid, period in search.periods().items():
            watched = search.watches[uuid].last_clean
            unknown[uuid].learned(period, watched[0] if watched else None)

    def _hold(self, search: Search) -> dict[str, Edge | str]:
        """Note the values of the group's counters; return the words for those without one."""
        words = {track.gpu.uuid: track.hold(search) for track in self.group}
        return {uuid: word for uuid, word in words.items() if word is not None}

    def open(self, *, follow: bool) -> Message:
        """Fix the start edge of a window; `follow` looks at the group's counters once per tick."""
        self.learn()
        self.is_open = True
        for track in self.tracks:
            track.begin()
        search = Search(now_ns=time.monotonic_ns, meanwhile=self._sample_fast)
        edges = {**self._hold(search), **search.run()}
        for track in self.group:
            track.saw(edges[track.gpu.uuid])
            track.start = track.latest(edges[track.gpu.uuid])
            track.begin_looks(follow=follow)
        # The first sample, with the slow values, comes right after the answer and cannot delay it.
        self.due_ns, self.taken = time.monotonic_ns(), 0
        return {"opened_ns": time.monotonic_ns(),
                "starts_ns": [t.start.at_ns for t in self.group if isinstance(t.start, Edge)],
                "siblings_mj": self._siblings()}  # fmt: skip

    def close(self, *, aligned: bool) -> Message:
        """Fix the end edge of the window and report everything seen in it.

        The window ends now or, `aligned`, at the tick that is about to come.
        """
        search = Search(now_ns=time.monotonic_ns, meanwhile=self._sample_fast)
        missing = self._hold(search)  # first of all: ticks after this count
        siblings = {} if aligned else self._siblings()
        self._sample_fast()
        ends = {**missing, **search.run()}
        siblings = siblings or self._siblings()
        for track in self.group:
            track.saw(ends[track.gpu.uuid])
        self.outlast()
        self.sample(slow=True)
        self.is_open = False
        return {"gpus": [t.report(ends.get(t.gpu.uuid, "no_counter")) for t in self.tracks],
                "siblings_mj": siblings}  # fmt: skip

    def _siblings(self) -> dict[str, int]:
        """Read the counters of the GPUs beside the group, without waiting for a tick."""
        values = {}
        for track in self.tracks:
            if track.sibling and track.countable:
                try:
                    values[track.gpu.uuid] = track.counter()
                except SensorError as error:
                    track.failed(error)
        return values

    def serve(self, request: Message) -> Message:
        """Answer one request."""
        match request["do"]:
            case "open":
                return self.open(follow=bool(request.get("follow")))
            case "close":
                return self.close(aligned=bool(request["aligned"]))
            case _:
                return {"pids": sorted(set().union(*(t.users() for t in self.group)))}

    def greet(self, library: Library) -> Message:
        """Return what was found, for the parent to check."""
        return {"driver": library.driver, "standin": library.is_standin, "gpus": [
            {"uuid": t.gpu.uuid, "index": t.gpu.index, "name": t.gpu.name, "sibling": t.sibling,
             "counter": t.gpu.has_counter, "power_field": t.gpu.power_field,
             "mig": t.gpu.mig_enabled()}
            for t in self.tracks]}  # fmt: skip


def main() -> None:
    """Serve one parent until it goes."""
    parent = Parent()
    requests = parent.requests(lambda: sampler.wait_s() if sampler is not None else 1.0)
    sampler: Sampler | None = None
    settings = next((r for r in requests if r is not None), None)
    if settings is None:
        return
    try:
        library = Library()
    except NvmlUnavailable as error:
        parent.answer({"unavailable": error.reason, "fix": error.fix})
        return
    group = frozenset(str(uuid) for uuid in items(settings["group"]))
    with library:
        sampler = Sampler(library.gpus(), group, integer(settings["interval_ns"]))
        parent.answer(sampler.greet(library))
        with contextlib.suppress(PermissionError):  # it helps, but need not be allowed
            os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
        gc.disable()  # no pause inside an edge; the sampler makes no reference cycles
        sampler.learn()
        for request in requests:
            if request is not None:
                parent.answer(sampler.serve(request))
            if sampler.wait_s() == 0.0:
                sampler.work()


if __name__ == "__main__":
    main()
