"""Windows of an engine under load: requests arrive while others are computed.

Without `requests`, the load goes on and windows are cut from it: tokens count by their own time
stamps, requests across an edge are told apart. With `requests`, every repeat is the whole list,
from its first arrival to its last token, on an engine that is empty before and after. Prefill and
decode of different requests share steps: their energy is not told apart here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self, cast

from db.errors import InvalidMeasurement, TaskFault
from db.readings import Phase, PhaseEnergy, PhaseMethod, Reading, Window, WindowKind
from db.records import MeasurementProtocol
from workers.engines.engine import Engine, OnlineEngine, decoding_of
from workers.engines.vllm_counters import running_mean, since
from workers.killpoints import reach
from workers.phases import MIXED
from workers.rig import Rig
from workers.validity import agree, check_cache, check_request
from workers.workloads.latency import DEADLINES, good, latencies
from workers.workloads.load import Load
from workers.workloads.loadgates import BACKLOG
from workers.workloads.worklist import Worklist

#: A slice of warm-up is this part of a window.
SLICES = 5
#: Seconds between looks at the lease and at what failed.
LOOK_S = 0.1
GOOD = "good_requests"
CACHE_HITS = "vllm:prefix_cache_hits"


def online(engine: Engine) -> OnlineEngine:
    """Return an engine that takes requests under load. Raises TaskFault if it does not."""
    if not (hasattr(engine, "submit") and hasattr(engine, "counters")):
        message = "this engine takes no requests as they arrive: engine.mode=online"
        raise TaskFault("unsupported", message, permanent=True)
    return cast("OnlineEngine", engine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What a task under load is measured with."""

    rig: Rig
    engine: OnlineEngine
    protocol: MeasurementProtocol
    work: Worklist
    checkpoint: Callable[[], None]

    def look(self, load: Load) -> None:
        """Raise what ends the measurement: a lost lease, a failed request."""
        self.checkpoint()
        load.check()

    def window(
        self, ordinal: int, load: Load, reading: Reading, counted: dict[str, float]
    ) -> Window:
        """Return what happened between the edges of a reading. Raises InvalidMeasurement."""
        edges = reading.started_ns, reading.ended_ns
        courses = load.courses()
        ended = [course for course in courses if course.ended_in(*edges)]
        for course in ended:
            check_request(course.timing(), (course.input_tokens, course.asked_tokens))
        if self.rig.deadlines.any:
            timings = (course.timing() for course in ended)
            counted = {**counted, GOOD: float(good(timings, self.rig.deadlines))}
        hits = counted.get(CACHE_HITS)
        cached = None if hits is None else round(hits)
        check_cache(cached, prefix_caching=self.rig.prefix_caching)
        window = Window(
            kind=WindowKind.REPEAT,
            ordinal=ordinal,
            reading=reading,
            requests=len(ended),
            input_tokens=sum(course.prompt_in(*edges) for course in courses),
            output_tokens=sum(course.tokens_in(*edges) for course in courses),
            prefix_cache_hit_tokens=cached,
            phases=_phases(self.protocol),
            running_mean=running_mean(counted),
            straddling=sum(course.straddles(*edges) for course in courses),
            counters=counted,
        )
        if not window.output_tokens:
            message = f"no token came in {reading.duration_s:.1f} s: longer windows, or more load"
            raise InvalidMeasurement("wrong_token_count", message)
        found = latencies(ended)
        if self.rig.deadlines.any:
            found[DEADLINES] = self.rig.deadlines.asked_ms
        ttft_s, tpot_s, e2e_s = (
            found[name]["mean"] if name in found else None for name in ("ttft_s", "tpot_s", "e2e_s")
        )
        return replace(window, ttft_s=ttft_s, itl_s=tpot_s, e2e_s=e2e_s, latencies=found)


def _phases(protocol: MeasurementProtocol) -> tuple[PhaseEnergy, ...]:
    """Return that no phase ever occurs alone, by each method that was asked for."""
    return tuple(
        PhaseEnergy(phase=phase, method=method, duration_s=None, reasons=(MIXED,))
        for method in PhaseMethod
        if protocol.phases in (method, "both")
        for phase in (Phase.PREFILL, Phase.DECODE)
    )


class Ongoing:
    """Windows cut from a load that goes on, inside a ``with`` block."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._load = Load(serving.engine, serving.work)

    def __enter__(self) -> Self:
        """Begin the load."""
        self._load.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """End the load; returns once the engine is empty."""
        self._load.__exit__(None, None, None)

    def warm_up(self) -> int:
        """Let the load run until the last slices' throughputs agree; returns how many it took.

        Not before every client of a closed load, or one request of another, was answered.
        """
        protocol, load = self._serving.protocol, self._load
        work = self._serving.work.workload
        turned = work.batch_size if work.arrival == "closed" else 1
        rates: list[float] = []
        while protocol.warmup_max and (len(rates) < protocol.warmup_max or load.ended < turned):
            started_ns = self._serving.rig.clock.now_ns()
            self._pause(protocol.window_s / SLICES)
            ended_ns = self._serving.rig.clock.now_ns()
            tokens = sum(course.tokens_in(started_ns, ended_ns) for course in load.courses())
            rates.append(tokens * 1e9 / (ended_ns - started_ns))
            load.forget(ended_ns)
            if load.ended >= turned and agree(rates, protocol):
                break
        return len(rates)

    def window(self, ordinal: int) -> Window:
        """Meter the load for a window's length."""
        serving, load, meter = self._serving, self._load, self._serving.rig.meter
        unfinished, dropped = load.unfinished, serving.work.dropped()
        meter.open()
        try:
            before = serving.engine.counters()
            self._pause(serving.protocol.window_s)
            reach("in_window")
            counted = since(serving.engine.counters(), before)
        except BaseException:
            meter.close()  # the meter is used again; this reading describes nothing whole
            raise
        reading = meter.close()
        counted[BACKLOG] = float(load.unfinished - unfinished)
        counted |= since(serving.work.dropped(), dropped)
        window = serving.window(ordinal, load, reading, counted)
        load.forget(reading.ended_ns)
        return window

    def _pause(self, seconds: float) -> None:
        clock = self._serving.rig.clock
        ends_ns = clock.now_ns() + round(seconds * 1e9)
        while (left_s := (ends_ns - clock.now_ns()) / 1e9) > 0:
            self._serving.look(self._load)
            self._load.wait(min(LOOK_S, left_s))
        self._serving.look(self._load)


class Listed:
    """Windows of a whole list each, inside a ``with`` block."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def __enter__(self) -> Self:
        """The engine is empty between lists: there is nothing to begin."""
        return self

    def __exit__(self, *error: object) -> None:
        """Nor to end."""

    def warm_up(self) -> int:
        """Hand the first batch over, again and again, until the last times agree."""
        serving = self._serving
        durations: list[float] = []
        while len(durations) < serving.protocol.warmup_max:
            requests = serving.work.requests(serving.work.first)
            batch = serving.engine.generate(requests, decoding_of(serving.work.workload))
            serving.checkpoint()
            durations.append(batch.duration_s)
            if agree(durations, serving.protocol):
                break
        return len(durations)

    def window(self, ordinal: int) -> Window:
        """Meter one list, from its first arrival to its last token."""
        serving, meter = self._serving, self._serving.rig.meter
        serving.work.turn()
        load = Load(serving.engine, serving.work, count=len(serving.work.once), turn=ordinal)
        meter.open()
        try:
            before = serving.engine.counters()
            with load:
                while not load.wait(LOOK_S, until=lambda: load.is_through):
                    serving.look(load)
            load.check()
            reach("in_window")
            counted = since(serving.engine.counters(), before) | serving.work.left_out
        except BaseException:
            meter.close()
            raise
        return serving.window(ordinal, load, meter.close(), counted)
