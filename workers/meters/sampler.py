"""The sampler: a process of its own that reads the GPUs while the engine keeps its parent busy.

It owns the timing (clean counter edges, power samples at a steady rate) and reports raw numbers
over its pipes; workers/meters/nvml.py makes joules of them. It never interprets, never writes a
file, and ends with its parent. All times are CLOCK_MONOTONIC nanoseconds.

Requests: ``open``, ``close``, ``pids``. One answer each, after one greeting.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from dataclasses import asdict, dataclass, field

from workers.meters.binding import Gpu, Library, NvmlUnavailable, SensorError, Telemetry
from workers.meters.child import Message, Parent, integer, items
from workers.meters.edges import STUCK, Search
from workers.meters.integrate import Edge

#: Clocks, temperature, utilisation and processes are read with every n-th power sample.
SLOW_EVERY = 10
#: Samples kept between windows: one before the next window is what its edge needs.
KEPT = 2


@dataclass(slots=True)
class Track:
    """What the sampler remembers about one GPU; the last fields are of the open window only."""

    gpu: Gpu
    sibling: bool
    limit_w: float | None = None
    tick_ns: int | None = None
    last_mj: int | None = None
    lost: bool = False
    samples: deque[tuple[int, float]] = field(default_factory=deque)
    telemetry: list[Telemetry] = field(default_factory=list)
    pids: set[int] = field(default_factory=set)
    throttle: int = 0
    went_back: bool = False
    start: Edge | str = "no_counter"

    def counter(self) -> int:
        """Read the energy counter and notice when it went backwards."""
        value_mj = self.gpu.energy_mj()
        if self.last_mj is not None and value_mj < self.last_mj:
            self.went_back = True
        self.last_mj = value_mj
        return value_mj

    @property
    def countable(self) -> bool:
        """Whether its counter can still be asked."""
        return self.gpu.has_counter and not self.lost


class Sampler:
    """Samples every GPU given to it and finds the edges of windows on those of the group."""

    def __init__(self, gpus: tuple[Gpu, ...], group: frozenset[str], interval_ns: int) -> None:
        """Start with nothing known about the counters' periods."""
        self.tracks = [Track(gpu=g, sibling=g.uuid not in group) for g in gpus]
        for track in self.tracks:
            track.limit_w = track.gpu.power_limit_w()
        self.interval_ns = interval_ns
        self.due_ns = time.monotonic_ns()
        self.taken = 0
        self.is_open = False

    # ---- sampling --------------------------------------------------------------------------

    def sample(self, *, slow: bool | None = None) -> None:
        """Take one power sample of every GPU, and the slow values when it is their turn."""
        slow = self.taken % SLOW_EVERY == 0 if slow is None else slow
        for track in self.tracks:
            if track.lost:
                continue
            try:
                self._sample_one(track, slow=slow)
            except SensorError as error:
                track.lost = error.reason == "gpu_lost"
        self.taken += 1
        self.due_ns = max(self.due_ns + self.interval_ns, time.monotonic_ns())

    def _sample_fast(self) -> None:
        self.sample(slow=False)

    def _sample_one(self, track: Track, *, slow: bool) -> None:
        if track.gpu.power_field is not None:
            before_ns = time.monotonic_ns()
            watts = track.gpu.power_w()
            track.samples.append(((before_ns + time.monotonic_ns()) // 2, watts))
        if not self.is_open:
            while len(track.samples) > KEPT:
                track.samples.popleft()
        if track.gpu.has_counter:
            track.counter()
        track.throttle |= track.gpu.throttle_bits()
        if slow and not track.sibling:
            track.telemetry.append(track.gpu.telemetry())
            if self.is_open:
                track.pids.update(track.gpu.pids())

    def wait_s(self) -> float:
        """Seconds until the next sample is due."""
        return max(0.0, (self.due_ns - time.monotonic_ns()) / 1e9)

    # ---- edges -----------------------------------------------------------------------------

    def learn(self) -> None:
        """Watch the group's counters tick, to know the periods of those not known yet."""
        unknown = {t.gpu.uuid: t for t in self.group if t.countable and t.tick_ns is None}
        search = Search(now_ns=time.monotonic_ns)
        for uuid, track in unknown.items():
            try:
                search.hold(uuid, track.counter)
            except SensorError as error:
                track.lost = error.reason == "gpu_lost"
        for uuid, tick_ns in search.periods().items():
            unknown[uuid].tick_ns = tick_ns

    def _hold(self, search: Search) -> dict[str, Edge | str]:
        """Note the values of the group's counters; return the words for those without one."""
        missing: dict[str, Edge | str] = {}
        for track in self.group:
            uuid = track.gpu.uuid
            try:
                if track.countable and track.tick_ns is not None:
                    search.hold(uuid, track.counter)
                else:
                    missing[uuid] = STUCK if track.countable else "no_counter"
            except SensorError as error:
                missing[uuid] = error.reason
                track.lost = error.reason == "gpu_lost"
        return missing

    @property
    def group(self) -> list[Track]:
        """The tracks of the metered group."""
        return [t for t in self.tracks if not t.sibling]

    def open(self) -> Message:
        """Fix the start edge of a window."""
        self.learn()
        self.is_open = True
        for track in self.tracks:
            track.went_back, track.throttle = False, 0
            track.telemetry.clear()
        search = Search(now_ns=time.monotonic_ns, meanwhile=self._sample_fast)
        edges = {**self._hold(search), **search.run()}
        for track in self.group:
            track.start = edges[track.gpu.uuid]
        # The first sample, with the slow values, comes right after the answer and cannot delay it.
        self.due_ns, self.taken = time.monotonic_ns(), 0
        return {"opened_ns": time.monotonic_ns(),
                "starts_ns": [e.at_ns for e in edges.values() if isinstance(e, Edge)],
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
        self.sample(slow=True)
        self.is_open = False
        return {"gpus": [self._report(t, ends.get(t.gpu.uuid, "no_counter")) for t in self.tracks],
                "siblings_mj": siblings}  # fmt: skip

    def _siblings(self) -> Message:
        """Read the counters of the GPUs beside the group, without waiting for a tick."""
        values = {}
        for track in self.tracks:
            if track.sibling and track.countable:
                try:
                    values[track.gpu.uuid] = track.counter()
                except SensorError as error:
                    track.lost = error.reason == "gpu_lost"
        return values

    def _report(self, track: Track, end: Edge | str) -> Message:
        return {
            "uuid": track.gpu.uuid,
            "start": _plain(track.start), "end": _plain(end), "tick_ns": track.tick_ns,
            "samples": list(track.samples), "limit_w": track.limit_w,
            "telemetry": [asdict(t) for t in track.telemetry],
            "throttle": track.throttle, "lost": track.lost, "went_back": track.went_back,
        }  # fmt: skip

    def pids(self) -> Message:
        """Return the processes on the group's GPUs now, and in windows since the last request."""
        seen: set[int] = set()
        for track in self.group:
            try:
                seen.update(track.pids, () if track.lost else track.gpu.pids())
            except SensorError as error:
                track.lost = error.reason == "gpu_lost"
            track.pids.clear()
        return {"pids": sorted(seen)}

    def serve(self, request: Message) -> Message:
        """Answer one request."""
        match request["do"]:
            case "open":
                return self.open()
            case "close":
                return self.close(aligned=bool(request["aligned"]))
            case _:
                return self.pids()

    def greet(self, library: Library) -> Message:
        """Return what was found, for the parent to check."""
        return {"driver": library.driver, "standin": library.is_standin, "gpus": [
            {"uuid": t.gpu.uuid, "index": t.gpu.index, "name": t.gpu.name, "sibling": t.sibling,
             "counter": t.gpu.has_counter, "power_field": t.gpu.power_field,
             "mig": t.gpu.mig_enabled()}
            for t in self.tracks]}  # fmt: skip


def _plain(edge: Edge | str) -> object:
    return asdict(edge) if isinstance(edge, Edge) else edge


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
        gc.disable()  # no pause inside an edge; the sampler makes no reference cycles
        sampler.learn()
        for request in requests:
            if request is not None:
                parent.answer(sampler.serve(request))
            if sampler.wait_s() == 0.0:
                sampler.sample()


if __name__ == "__main__":
    main()
