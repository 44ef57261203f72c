"""The gates: what voids a measurement, and what only marks it.

A void gate raises InvalidMeasurement, the attempt is tried again. A mark is stored with the
accepted row, views can exclude it. Thresholds come from the meter's configuration. The words are
explained in docs/measurement.md.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from db.errors import InvalidMeasurement
from db.readings import Batch, GpuEnergy, RequestTiming, Window
from db.records import MeasurementProtocol
from workers.meters.aliasing import aliased
from workers.meters.gpureport import LIMIT_NOT_DEFAULT, THROTTLING_UNKNOWN
from workers.meters.integrate import NOMINAL_PERIOD_S
from workers.student import student
from workers.workloads.lengths import Pair
from workers.workloads.loadgates import check_batch_reached, load_marks

#: The counter of an engine that compiles: how many graphs it did meanwhile.
COMPILED = "compiled_graphs"
#: Clock event reasons that mean the board could not run as asked.
THERMAL_THROTTLES = frozenset({"hw_slowdown", "hw_thermal", "sw_thermal", "power_brake"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """Thresholds of the marks.

    `counter_disagreement` is relative, beyond both uncertainties; a window below `short_window_s`
    is marked; `temperature_drift_c` is between the first and last repeat. `batch_reached` is the
    part of the requests that an engine could compute together, below which it voids, and
    `generator_late` the part of TTFT that sending late may add.
    """

    counter_disagreement: float = 0.02
    short_window_s: float = 5.0
    temperature_drift_c: float = 5.0
    batch_reached: float = 0.9
    generator_late: float = 0.05


def half_width(values: Sequence[float]) -> float | None:
    """Return the 95 % half-width of a mean over repeats; None with fewer than two."""
    if len(values) < 2:  # noqa: PLR2004 - a spread needs two
        return None
    degrees = len(values) - 1
    mean = statistics.fmean(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / degrees
    return student(degrees) * math.sqrt(variance / len(values))


def relative_half_width(windows: Sequence[Window]) -> float | None:
    """Return the relative 95 % half-width of the mean, within one session.

    Of joules per output token where every window has them, else of seconds per output token. It
    holds the spread over the repeats and, for joules, the timing of each window; neither the
    accuracy of the sensors nor what differs between sessions.
    """
    measured = all(w.reading.energy_j is not None for w in windows)
    costs = [_cost(w, measured=measured) for w in windows]
    width = half_width(costs)
    if width is None:
        return None
    timing = math.hypot(*(_timing(w) for w in windows)) / len(windows) if measured else 0.0
    return math.hypot(width, timing) / statistics.fmean(costs)


def _cost(window: Window, *, measured: bool) -> float:
    """Return joules per output token, or seconds where joules are not there for every window."""
    cost = window.reading.energy_j if measured else window.reading.duration_s
    return (cost or 0.0) / window.output_tokens


def _timing(window: Window) -> float:
    """Return the half-width that timing leaves in a window's joules per output token."""
    return (window.reading.timing_uncertainty_j or 0.0) / window.output_tokens


def agree(values: Sequence[float], protocol: MeasurementProtocol) -> bool:
    """Whether the last of the warm-up's values lie within its tolerance of their mean."""
    last = values[-protocol.warmup_agree :]
    if len(last) < protocol.warmup_agree:
        return False
    mean = statistics.fmean(last)
    return all(abs(value - mean) <= protocol.warmup_tolerance * mean for value in last)


def check_batch(batch: Batch, lengths: Sequence[Pair], *, prefix_caching: bool) -> None:
    """Void on a wrong number of requests or tokens, and on cache hits nobody asked for.

    `lengths` are those asked for, in order: prompt tokens and tokens to generate.
    """
    if len(batch.requests) != len(lengths):
        message = f"{len(batch.requests)} of {len(lengths)} requests came back"
        raise InvalidMeasurement("batch_not_reached", message)
    for request, asked in zip(batch.requests, lengths, strict=True):
        check_request(request, asked)
    check_cache(batch.prefix_cache_hit_tokens, prefix_caching=prefix_caching)


def check_request(request: RequestTiming, asked: Pair) -> None:
    """Void on a request of other lengths than those asked for."""
    counts = (request.input_tokens, request.output_tokens)
    if counts != asked:
        message = f"{counts} tokens in a request, not {asked}"
        raise InvalidMeasurement("wrong_token_count", message)


def check_cache(hit_tokens: int | None, *, prefix_caching: bool) -> None:
    """Void on prompt tokens from a cache that nobody asked for."""
    if hit_tokens and not prefix_caching:
        message = f"{hit_tokens} prompt tokens came from the prefix cache"
        raise InvalidMeasurement("prefix_cache_hit", message)


def judge(
    windows: Sequence[Window],
    protocol: MeasurementProtocol,
    gates: Gates,
    foreign: Sequence[int] | None,
    reachable: float | None = None,
) -> tuple[str, ...]:
    """Return the marks of a task's repeats; raises InvalidMeasurement where a gate voids them.

    `foreign` are the processes of others on the group's GPUs, None where nobody can tell;
    `reachable` is how many requests could be computed together, None where none are asked to be.
    """
    if foreign:
        pids = ", ".join(map(str, foreign))
        raise InvalidMeasurement("foreign_process", f"processes {pids} used the group's GPUs")
    for window in windows:
        for gpu in _group(window):
            _void_gpu(gpu)
        if window.reading.energy_j is None and protocol.energy == "measured":
            reasons = ", ".join(window.reading.reasons)
            raise InvalidMeasurement("no_energy", f"energy was asked for but is missing: {reasons}")
    if reachable is not None:
        check_batch_reached(windows, reachable, gates.batch_reached)
    unknown = ("processes_unknown",) if foreign is None else ()
    return tuple(dict.fromkeys((*_marks(windows, protocol, gates), *unknown)))


def _group(window: Window) -> list[GpuEnergy]:
    return [gpu for gpu in window.reading.gpus if not gpu.sibling]


def _void_gpu(gpu: GpuEnergy) -> None:
    if "gpu_lost" in gpu.reasons:
        raise InvalidMeasurement("gpu_lost", f"{gpu.name} ({gpu.uuid}) was lost")
    if "counter_reset" in gpu.reasons and gpu.energy_j is None:
        raise InvalidMeasurement("counter_reset", f"the counter of {gpu.uuid} was reset")
    hot = THERMAL_THROTTLES.intersection(gpu.throttle_reasons)
    if hot:
        message = f"{gpu.uuid} was throttled: {', '.join(sorted(hot))}"
        raise InvalidMeasurement("throttled_thermal", message)


def _marks(windows: Sequence[Window], protocol: MeasurementProtocol, gates: Gates) -> Iterator[str]:
    if any(w.reading.energy_j is None for w in windows):
        yield "no_energy"
    if min(w.reading.duration_s for w in windows) < gates.short_window_s:
        yield "short_window"
    spread = relative_half_width(windows)
    if spread is None or spread > protocol.interval_target:
        yield "interval_wide"
    for window in windows:
        for gpu in _group(window):
            yield from _gpu_marks(gpu, gates)
            if _aliased(gpu, window):
                yield "aliased"
        if window.reading.cpu is not None and "shared_node" in window.reading.cpu.reasons:
            yield "shared_node"
    if any(window.counters.get(COMPILED, 0) for window in windows):
        yield "compiled"
    if _drift_c(windows) > gates.temperature_drift_c:
        yield "temperature_drift"
    yield from load_marks(windows, gates.generator_late)


def _gpu_marks(gpu: GpuEnergy, gates: Gates) -> Iterator[str]:
    if "sw_power_cap" in gpu.throttle_reasons:
        yield "throttled_power"
    for word in (THROTTLING_UNKNOWN, LIMIT_NOT_DEFAULT):
        if word in gpu.reasons:
            yield word
    if "sample_gap" in gpu.reasons and gpu.energy_j is not None:
        yield "sample_gap"
    if gpu.counter_j is not None and gpu.integrated_j is not None:
        both_j = (gpu.timing_uncertainty_j or 0.0) + (gpu.integrated_uncertainty_j or 0.0)
        allowed_j = both_j + gates.counter_disagreement * gpu.counter_j
        if abs(gpu.counter_j - gpu.integrated_j) > allowed_j:
            yield "counter_disagrees"


def _aliased(gpu: GpuEnergy, window: Window) -> bool:
    """Whether the load may hide from the power sensor; its counter, where there is one, sees it.

    The load repeats with every decode step and with every batch. One that keeps time with the
    sensor hides its updates as well: the period it usually has counts where none was seen.
    """
    if gpu.method != "integrated":
        return False
    period_s = gpu.sensor_period_s or NOMINAL_PERIOD_S
    batch_s = window.reading.duration_s / window.batches if window.batches else None
    steps = (step for step in (window.itl_s, batch_s) if step is not None)
    return any(aliased(step, period_s) for step in steps)


def _drift_c(windows: Sequence[Window]) -> float:
    """Return the largest change of a GPU's temperature between first and last repeat, in °C."""
    first = {g.uuid: g.temperature_c for g in _group(windows[0])}
    changes = [
        abs(gpu.temperature_c - before)
        for gpu in _group(windows[-1])
        if gpu.temperature_c is not None and (before := first.get(gpu.uuid)) is not None
    ]
    return max(changes, default=0.0)
