"""The experiments on one board's instruments, one after another, and what was found.

It owns their order and their lengths. What needs a load is None where there is none. A setting of
the board is never changed: it is looked at as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import fmean

from db.readings import GpuEnergy
from workers.instrument.bench import Bench
from workers.instrument.findings import (
    apart_s,
    averaging,
    fed_by_sensor,
    period,
    quantiles,
    quantum_mj,
    spread,
)
from workers.instrument.loader import Stretch, irregular, soon_ns, square, steady
from workers.instrument.watch import COUNTER, FIELDS, Series, latencies_us, readers, watch

#: Windows whose spreads are compared, seconds, and how many of each.
LENGTHS_S, EACH = (0.25, 0.5, 1.0, 2.0), 10
#: Phases of a load that keeps the sensor's rhythm.
PHASES = 8
#: A sensor that nobody saw change is taken for one of the usual period.
USUAL_S = 0.1
#: How often the meter is put on and off.
TURNS = 6

Found = dict[str, object]


def latency(bench: Bench) -> Found:
    """How long each query takes, microseconds."""
    gpu = bench.gpu
    calls: dict[str, Callable[[], object]] = dict(readers(gpu))
    calls |= {"clocks": gpu.telemetry, "throttling": gpu.throttle_bits, "processes": gpu.pids}
    times = max(20, round(bench.seconds(300)))
    return {name: quantiles(took) for name, took in latencies_us(calls, times).items()}


def idle_ticks(bench: Bench) -> Found:
    """The counter and the sensors of a board that does nothing.

    The counter once more by itself: where calls are slow, a turn of all sensors is no look at it.
    """
    sensors = readers(bench.gpu)
    found = _described(watch(sensors, time.monotonic_ns() + round(bench.seconds(4.0) * 1e9)))
    if COUNTER in sensors:
        until_ns = time.monotonic_ns() + round(bench.seconds(2.0) * 1e9)
        alone = watch({COUNTER: sensors[COUNTER]}, until_ns)
        found["counter_alone"] = _described(alone)[COUNTER]
    return found


def loaded_sensors(bench: Bench) -> Found:
    """Ticks, updates and averaging under a load without rhythm; and whose ticks coincide."""
    bench.meter.shutdown()  # nobody else is to read meanwhile
    series, stretches = bench.under(irregular(bench.seconds(25.0)))
    found = _described(series)
    for name in FIELDS:
        if name in series:
            one = series[name]
            found[f"{name}_averaging"] = averaging(one.at_ns, one.values, stretches)
    if COUNTER in series:
        found["ticks_from_updates_s"] = {
            name: apart_s(series[COUNTER].at_ns, series[name].at_ns)
            for name in FIELDS if name in series
        }  # fmt: skip
    found["worked_part"] = _worked(stretches)
    return found


def counter_source(bench: Bench, sensor_period_s: float) -> Found:
    """Whether the counter repeats the sensor's errors: the sensor's rhythm at eight phases.

    All phases hold the same load, so a counter that differs with them is fed by the sensor.
    """
    bench.meter.shutdown()
    counted_w, sensed_w, origin_ns = [], [], soon_ns()
    period_ns = round(sensor_period_s * 1e9)
    for phase in range(PHASES):
        rounds = (soon_ns() - origin_ns) // period_ns + 1
        from_ns = origin_ns + rounds * period_ns + phase * period_ns // PHASES
        lasting_s = bench.seconds(4.0)
        series, _ = bench.under(square(sensor_period_s, 0.5, lasting_s, from_ns=from_ns))
        counter, sensor = series.get(COUNTER), series.get("instant") or series.get("legacy")
        watts = None if counter is None else _mean_w(counter)
        if counter is None or watts is None or sensor is None or not sensor.values:
            return {"slope": None, "why": "no counter, or no sensor"}
        shown_w = _in_time(sensor, counter.at_ns[1], counter.at_ns[-1])
        if shown_w is None:
            return {"slope": None, "why": "the sensor showed nothing while the counter counted"}
        counted_w.append(watts)
        sensed_w.append(shown_w)
    slope = fed_by_sensor(counted_w, sensed_w)
    return {"slope": slope, "counter_w": counted_w, "sensor_w": sensed_w,
            "why": None if slope is not None else "the sensor shows every phase alike"}  # fmt: skip


def against_integral(bench: Bench) -> Found:
    """Counter over integral of the samples: at full load, and in steps like decoding's."""
    seconds = bench.seconds(5.0)
    full = bench.loaded(steady(bench.lasting_s(seconds, 1)), seconds, 1)
    steps = bench.steps(seconds, 1)
    return {"full": _first(full), "steps": _first(steps)}


def idle(bench: Bench) -> Found:
    """Watts of the board while nobody computes: as it is now."""
    return _window(bench.window(bench.seconds(10.0)))


def repeats(bench: Bench) -> Found:
    """Windows of five seconds and shorter ones, by the length they had: how their watts spread.

    `load_ended` is how many of them were left out because the load ended before they did,
    `reasons` why a value of a window is missing or weak.
    """
    found: Found = {}
    times = bench.times(EACH)
    for length_s in (*LENGTHS_S, 5.0):
        seconds = bench.seconds(length_s)
        windows = bench.steps(seconds, times)
        found[f"{seconds:g}"] = {
            "mean_w": spread([gpu.mean_w for gpu in windows]),
            "half_width": _relative(windows),
            "ratio": spread([gpu.ratio for gpu in windows]),
            "load_ended": times - len(windows),
            "reasons": sorted({word for gpu in windows for word in gpu.reasons}),
        }
    return found


def meter_cost(bench: Bench) -> Found:
    """Work done in equal times with the meter on, following its ticks, and with none there."""
    done: dict[str, list[float]] = {"on": [], "off": []}
    for turn in range(2 * bench.times(TURNS)):
        metered = turn % 2 == 0
        if metered:
            bench.meter.open(follow=True)
        else:
            bench.meter.shutdown()
        switches = steady(bench.seconds(3.0))
        bench.load.start(switches)
        _, count = bench.load.finish(bench.seconds(3.0))
        if metered:
            bench.meter.begin_close()
            bench.meter.finish_close(switches[0], switches[1])
        done["on" if metered else "off"].append(float(count))
    kept = fmean(done["on"]) / fmean(done["off"]) if fmean(done["off"]) else None
    return {"on_over_off": kept, "on": spread(done["on"]), "off": spread(done["off"])}


def _described(series: Mapping[str, Series]) -> Found:
    """Return period, reads and the driver's own stamps of each sensor."""
    found: Found = {}
    for name, one in series.items():
        stamps = [us * 1000 for us in one.stamps_us if us is not None]
        found[name] = {
            "reads": one.reads,
            "period": period(one.at_ns, one.widths_ns),
            "stamped": period(stamps, [0] * len(stamps)) if stamps else None,
            "quantum_mj": quantum_mj(one.values) if name == COUNTER else None,
        }
    return found


def _mean_w(counter: Series) -> float | None:
    """Return the mean watts between a counter's first change and its last."""
    if len(counter.values) < 3:  # noqa: PLR2004 - the first value began before the watch
        return None
    return (counter.values[-1] - counter.values[1]) * 1e6 / (counter.at_ns[-1] - counter.at_ns[1])


def _in_time(sensor: Series, from_ns: int, to_ns: int) -> float | None:
    """Return the mean of what a sensor showed over a stretch of time; None if it showed nothing."""
    marks = [*sensor.at_ns[1:], max(to_ns, sensor.at_ns[-1])]
    held = ((w, max(0, min(b, to_ns) - max(a, from_ns)))
            for w, a, b in zip(sensor.values, sensor.at_ns, marks, strict=True))  # fmt: skip
    parts = [(watts, ns) for watts, ns in held if ns]
    return sum(w * ns for w, ns in parts) / sum(ns for _, ns in parts) if parts else None


def _worked(stretches: list[Stretch]) -> float | None:
    if not stretches:
        return None
    return sum(b - a for a, b in stretches) / (stretches[-1][1] - stretches[0][0])


def _relative(windows: list[GpuEnergy]) -> float | None:
    """Return the mean half-width of windows, as a part of their joules."""
    known = [g.timing_uncertainty_j / g.energy_j for g in windows
             if g.energy_j and g.timing_uncertainty_j is not None]  # fmt: skip
    return fmean(known) if known and len(known) == len(windows) else None


def _first(windows: list[GpuEnergy]) -> Found:
    return _window(windows[0]) if windows else {"load_ended": 1}


def _window(gpu: GpuEnergy) -> Found:
    return {
        name: getattr(gpu, name)
        for name in (
            "energy_j", "method", "counter_j", "integrated_j", "integrated_uncertainty_j", "ratio",
            "timing_uncertainty_j", "mean_w", "max_w", "samples", "power_field",
            "sensor_period_s", "temperature_c", "sm_clock_mhz", "throttle_reasons", "reasons",
        )
    }  # fmt: skip
