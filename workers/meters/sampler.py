"""The sampler: a process of its own that reads the GPUs while the engine keeps its parent busy.

It owns the timing (clean counter edges, power samples at a steady rate) and reports raw numbers
over its pipes; workers/meters/nvml.py makes joules of them. It never interprets, never writes a
file, and ends with its parent. All times are CLOCK_MONOTONIC nanoseconds.

Requests: ``open``, ``close``, ``pids``. One answer each, after one greeting with every GPU of the
machine, and to ``close`` one more for each GPU; ``open`` and ``pids`` say which of them are meant.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from workers.meters.binding import Gpu, Library, NvmlUnavailable, SensorError
from workers.meters.child import Message, Parent, integer, items
from workers.meters.counting import Edge, Tick
from workers.meters.edges import NO_EDGE, Search
from workers.meters.prompt import be_prompt, nap
from workers.meters.track import Track

#: Clocks, temperature, utilisation and processes are read with every n-th power sample.
SLOW_EVERY = 10
#: A window begins at most so long before its opening is answered, or one tick.
OLDEST_NS = 200_000_000
#: A window waits no longer than this for the update of a sensor after its end.
OUTLAST_NS = 130_000_000


class Sampler:
    """Samples every GPU given to it and finds the edges of windows on those of the group."""

    def __init__(self, gpus: tuple[Gpu, ...], interval_ns: int) -> None:
        """Start with nothing known about the counters' periods, and no group."""
        self.tracks = [Track(gpu=gpu) for gpu in gpus]
        for track in self.tracks:
            track.limit_w, track.averaged = track.gpu.power_limit_w(), track.gpu.averaged
            track.limit_chosen = track.gpu.limit_chosen()
        self.group: list[Track] = []
        self.interval_ns = interval_ns
        self.due_ns = self.poll_due_ns = time.monotonic_ns()
        self.taken = 0
        self.is_open = False

    def choose(self, group: object) -> None:
        """Take the GPUs with these UUIDs for the group."""
        uuids = frozenset(items(group))
        for track in self.tracks:
            track.sibling = track.gpu.uuid not in uuids
        self.group = [t for t in self.tracks if not t.sibling]

    def sample(self, *, slow: bool | None = None) -> None:
        """Take one power sample of every GPU, and the slow values when it is their turn."""
        slow = self.taken % SLOW_EVERY == 0 if slow is None else slow
        for track in self.tracks:
            track.sample(slow=slow, is_open=self.is_open)
        self.taken += 1
        self.due_ns = max(self.due_ns + self.interval_ns, time.monotonic_ns())

    def _sample_fast(self) -> None:
        self.sample(slow=False)

    def _sample_if_due(self) -> None:
        if time.monotonic_ns() >= self.due_ns:
            self._sample_fast()

    def _search(self) -> Search:
        return Search(now_ns=time.monotonic_ns, meanwhile=self._sample_if_due, nap=nap)

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
        if any(t.look_due_ns is not None and t.look_due_ns <= now_ns for t in self.group):
            for track in self.group:
                track.look_if_near(now_ns)
        if now_ns >= self.due_ns:
            self.sample()
        elif now_ns >= self.poll_due_ns:
            self.poll()
        any(track.refine() for track in self.group)  # at most one, each takes a tick

    def learn(self, unknown: Sequence[Track]) -> dict[str, str]:
        """Watch counters tick to know their periods; return the words for those that do not tell.

        It takes some ticks, so a window that may do without a period starts without.
        """
        tracks = {track.gpu.uuid: track for track in unknown}
        search = self._search()
        held = {uuid: track.hold(search) for uuid, track in tracks.items()}
        words = {uuid: word for uuid, word in held.items() if word is not None}
        return words | self._note(search.periods())

    def _note(self, periods: Mapping[str, Tick | str]) -> dict[str, str]:
        """Note the periods of counters; return the words in place of periods."""
        words = {}
        for track in self.group:
            period = periods.get(track.gpu.uuid)
            if isinstance(period, Tick):
                track.learned(period)
            elif period is not None:
                words[track.gpu.uuid] = track.failed(SensorError(period))
        return words

    def open(self, *, follow: bool) -> Message:
        """Fix the start edge of a window; `follow` looks at the group's counters once per tick.

        A counter takes a tick as a rule, at most 15 of them, and 2 s if it stands: all at once, or
        one after another where calls are slow. It ends within 8 s in any case.
        """
        self.is_open = True
        for track in self.tracks:
            track.begin()
        search = self._search()
        words = {track.gpu.uuid: track.hold(search) for track in self.group}
        periods = search.periods() if follow else {}
        edges = search.latest()
        for track in self.group:
            track.start = words[track.gpu.uuid] or edges[track.gpu.uuid]
        unknown = self._note({**search.by_the_way(), **periods})
        # An edge that is not the last one is moved on along the ticks, whose period that takes.
        for track in self.group:
            track.saw(track.start)
            track.start = unknown.get(track.gpu.uuid) or track.latest(track.start)
        starts_ns = self._starts_ns()
        if any(isinstance(track.start, str) for track in self.group):
            self._sample_fast()  # its energy is that of the samples, and the search took a while
        for track in self.group:
            track.begin_looks(follow=follow)
        # The first sample, with the slow values, comes right after the answer and cannot delay it.
        self.due_ns, self.taken = time.monotonic_ns(), 0
        return {"opened_ns": time.monotonic_ns(), "starts_ns": starts_ns,
                "siblings_mj": self._siblings()}  # fmt: skip

    def _starts_ns(self) -> list[int]:
        """Return the instants of the group's start edges; the last of them begins the window.

        If that one is older than a tick, what came after it was not the window: there is none.
        """
        starts_ns = [t.start.at_ns for t in self.group if isinstance(t.start, Edge)]
        oldest_ns = max([OLDEST_NS, *(t.tick.period_ns for t in self.group if t.tick is not None)])
        if not starts_ns or time.monotonic_ns() - max(starts_ns) <= oldest_ns:
            return starts_ns
        for track in self.group:
            track.start = NO_EDGE if isinstance(track.start, Edge) else track.start
        return []

    def close(self, *, aligned: bool) -> Iterator[Message]:
        """Fix the end edge of the window and report everything seen in it, one GPU after another.

        The window ends now or, `aligned`, at the tick that is about to come. It takes as long as
        `open`, twice so many ticks while a period is still to be learned.
        """
        search = self._search()
        # First of all: ticks after this count. Without a start edge none is looked for.
        missing = {t.gpu.uuid: t.start if isinstance(t.start, str) else t.hold(search)
                   for t in self.group}  # fmt: skip
        siblings = {} if aligned else self._siblings()
        self._sample_fast()
        edges = search.run()
        ends = {uuid: word or edges[uuid] for uuid, word in missing.items()}
        siblings = siblings or self._siblings()
        self.outlast()
        self.sample(slow=True)
        ends |= self.learn([t for t in self.group
                            if t.unknown and isinstance(ends[t.gpu.uuid], Edge)])  # fmt: skip
        self.is_open = False  # from here on samples are forgotten
        for track in self.group:
            track.saw(ends[track.gpu.uuid])
        yield {"gpus": len(self.tracks), "siblings_mj": siblings}
        for track in self.tracks:
            yield track.report(ends.get(track.gpu.uuid, "no_counter"))

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

    def serve(self, request: Message) -> Iterable[Message]:
        """Return the answers to one request."""
        match request["do"]:
            case "open":
                self.choose(request["group"])
                return [self.open(follow=bool(request.get("follow")))]
            case "close":
                return self.close(aligned=bool(request["aligned"]))
            case _:
                self.choose(request["group"])
                users = [track.users() for track in self.group]
                return [{"pids": sorted(set().union(*(pids for pids, _ in users))),
                         "known": all(known for _, known in users)}]  # fmt: skip

    def greet(self, library: Library) -> Message:
        """Return what was found, for the parent to check."""
        return {"driver": library.driver, "standin": library.is_standin, "gpus": [
            {"uuid": t.gpu.uuid, "index": t.gpu.index, "name": t.gpu.name,
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
    with library:
        sampler = Sampler(library.gpus(), integer(settings["interval_ns"]))
        parent.answer(sampler.greet(library))
        be_prompt()
        gc.disable()  # no pause inside an edge; the sampler makes no reference cycles
        for request in requests:
            if request is not None:
                for answer in sampler.serve(request):
                    parent.answer(answer)
            if sampler.wait_s() == 0.0:
                sampler.work()


if __name__ == "__main__":
    main()
