"""All experiments on one board, from the empty board on, in one go.

It owns what runs when: what needs no load first, so that even a machine without a library that
computes says something. An experiment that fails says why, and the others go on.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator

from db.errors import NodeUnfit
from workers.boardlock import BoardLock
from workers.instrument import experiments
from workers.instrument.bench import Bench
from workers.instrument.experiments import USUAL_S, Found
from workers.instrument.findings import Period
from workers.instrument.loader import Loader
from workers.meters.binding import Gpu, Library, NvmlUnavailable, SensorError
from workers.meters.child import ChildGone
from workers.meters.nvml import NvmlMeter

Say = Callable[[str], None]
Keep = Callable[[Found], None]


def examine(index: int, keep: Keep, *, program: str, pace: float, say: Say) -> Found:
    """Return what was found of a board's instruments, by experiment. Raises NodeUnfit.

    `keep` gets all that is known after each experiment: the time may be over before the last one.
    """
    try:
        with Library() as library:
            gpu = next((g for g in library.gpus() if g.index == index), None)
            if gpu is None:
                raise NodeUnfit(f"no GPU {index} answers: see nvidia-smi -L")
            lock = BoardLock((gpu.uuid,))
            if not lock.acquire():
                raise NodeUnfit(f"{gpu.name} is held by another session of this host")
            try:
                told, found = _about(library, gpu, pace), dict[str, object]()
                for name, value in _all(gpu, program, pace, say):
                    found[name] = value
                    keep(told | {"found": found})
                return told | {"found": found}
            finally:
                lock.release()
    except NvmlUnavailable as error:
        raise NodeUnfit(error.fix) from error


def _about(library: Library, gpu: Gpu, pace: float) -> Found:
    return {
        "pace": pace,
        "board": gpu.name, "driver": library.driver,
        "reality": "simulated" if library.is_standin else "real",
        "counter": gpu.has_counter, "power_field": gpu.power_field,
        "power_limit_w": gpu.power_limit_w(), "mig": gpu.mig_enabled(),
    }  # fmt: skip


def _all(gpu: Gpu, program: str, pace: float, say: Say) -> Iterator[tuple[str, object]]:
    meter = NvmlMeter((gpu.uuid,))
    meter.shutdown()  # the first windows start it again: nobody else reads until then
    bench = Bench(gpu=gpu, meter=meter, loader=None, pace=pace)
    try:
        yield from _passive(bench, say)
        bench.loader = Loader(program, gpu.index)
        if bench.loader.why_not is not None:
            say(f"no load: {bench.loader.said or bench.loader.why_not}")
            yield "load", {"why_not": bench.loader.why_not}
            return
        yield from _active(bench, say)
    finally:
        if bench.loader is not None:
            bench.loader.stop()
        meter.shutdown()


def _passive(bench: Bench, say: Say) -> Iterator[tuple[str, object]]:
    """What a board tells that nobody works on."""
    yield "latency_us", _tried("latency", lambda: experiments.latency(bench), say)
    yield "idle_ticks", _tried("idle ticks", lambda: experiments.idle_ticks(bench), say)
    yield "idle_empty", _tried("idle, empty", lambda: experiments.idle(bench), say)


def _active(bench: Bench, say: Say) -> Iterator[tuple[str, object]]:
    """What a load shows."""
    yield "idle_resident", _tried("idle, resident", lambda: experiments.idle(bench), say)
    sensors = _tried("sensors", lambda: experiments.loaded_sensors(bench), say)
    yield "sensors", sensors
    rhythm_s = _rhythm_s(sensors)
    yield (
        "counter_source",
        _tried("counter's source", lambda: experiments.counter_source(bench, rhythm_s), say),
    )
    yield (
        "against_integral",
        _tried("counter against integral", lambda: experiments.against_integral(bench), say),
    )
    yield "windows", _tried("windows", lambda: experiments.repeats(bench), say)
    yield "meter_cost", _tried("meter on and off", lambda: experiments.meter_cost(bench), say)


def _rhythm_s(sensors: Found) -> float:
    """Return how often the instant power is new; the usual where nobody saw."""
    one = sensors.get("instant") or sensors.get("legacy")
    found = one.get("period") if isinstance(one, dict) else None
    return found.period_s if isinstance(found, Period) else USUAL_S


def _tried(name: str, experiment: Callable[[], Found], say: Say) -> Found:
    """Return what an experiment found, or why it failed: a board that is lost says so."""
    began_s = time.monotonic()
    try:
        found = experiment()
    except ChildGone as gone:
        found = {"failed": f"ChildGone: {gone}"}
        say(gone.said)
    except (SensorError, NodeUnfit) as error:
        found = {"failed": f"{type(error).__name__}: {error}"}
    except Exception as error:  # noqa: BLE001 - a defect: said with its traceback, the others go on
        found = {"failed": f"{type(error).__name__}: {error}"}
        say(traceback.format_exc())
    say(f"{name}: {found.get('failed', 'done')}, {time.monotonic() - began_s:.1f} s")
    return found
