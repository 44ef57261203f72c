"""From the sampler's raw numbers of one GPU to its energy in a window. Pure.

It owns the decision which of counter and samples can be trusted, and the words for why not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from db.readings import GpuEnergy, PowerTrace
from workers.meters.binding import throttle_words
from workers.meters.counting import Edge, Energy, Tick, counter_energy
from workers.meters.edges import NO_EDGE, WIDTH_LIMIT_NS
from workers.meters.integrate import Integral, Sensor, integrate
from workers.meters.trajectory import trajectory

#: A board whose power limit is unknown is taken to draw at most this much more than it showed.
HEADROOM = 1.5
#: Samples further apart than this many sampling intervals do not carry an integral.
GAP_INTERVALS = 5
#: The coarsest counter period known; a counter read without waiting for its tick is off by it.
UNBRACKETED_S = 0.1
#: What an instant power is a mean of, and at most this part of the sensor's period (A100, H100:
#: 25 of 100 ms; V100: 10 of 20 ms; Yang, Adamek, Armour 2024), and an averaged one.
INSTANT_S, INSTANT_PART, AVERAGED_S = 0.025, 0.5, 1.0
#: Half of the longest time a value may be old that was read at any moment between two updates.
READ_LATE_S = 0.05
#: A sensor whose value and time stamp stand for so long has stopped.
STALE_S = 1.0
#: An edge of the window was bracketed, but not closely; the half-width holds that.
EDGE_WIDE = "edge_wide"
#: The driver did not tell at some moment of the window whether the board was held back.
THROTTLING_UNKNOWN = "throttling_unknown"
#: The driver enforces another power limit than the board's own.
LIMIT_NOT_DEFAULT = "limit_not_default"
#: Words of a GPU that say nothing of its energy.
ASIDE = frozenset({THROTTLING_UNKNOWN, LIMIT_NOT_DEFAULT})
#: Samples that are all alike are believed less than a counter that differs by this part.
STANDING = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the sampler saw of one GPU in one window. An edge may be the word for its absence.

    `counts` is the course of the energy counter, from the start tick to the end tick: nanoseconds
    of a tick and the millijoules it brought, ascending strictly; empty where it is not known.
    """

    uuid: str
    start: Edge | str
    end: Edge | str
    tick_s: float | None
    times_ns: tuple[int, ...]
    watts: tuple[float, ...]
    limit_w: float | None
    telemetry: tuple[Mapping[str, float | None], ...]
    throttle: int
    lost: bool
    went_back: bool
    counts: tuple[tuple[int, int], ...] = ()
    jitter_s: float = 0.0
    tick_error_s: float = 0.0
    sensor: Sensor = field(default_factory=Sensor)
    stale: bool = False
    throttle_missed: bool = False
    limit_chosen: bool = False

    @property
    def end_ns(self) -> int | None:
        """The instant of the end tick, if there is one."""
        return self.end.at_ns if isinstance(self.end, Edge) else None

    @property
    def most_w(self) -> float:
        """The most this board can draw, for bounds."""
        if self.limit_w is not None:
            return self.limit_w
        return HEADROOM * max(self.watts, default=1000.0)


def half_width_together(group: Sequence[GpuEnergy]) -> float | None:
    """Return the half-width of a group's joules; None where one GPU's is not known.

    The edges of its GPUs are the same events: their half-widths add up rather than average out.
    """
    widths_j = [g.timing_uncertainty_j for g in group]
    known_j = [width_j for width_j in widths_j if width_j is not None]
    return sum(known_j) if len(known_j) == len(widths_j) else None


def parse_report(raw: object) -> Report:
    """Read one GPU's part of the sampler's answer."""
    if not isinstance(raw, dict):
        raise TypeError(f"not a report: {raw!r}")
    start, end, samples = _edge(raw["start"]), _edge(raw["end"]), raw["samples"]
    tick = Tick(**raw["tick"]) if raw["tick"] else None
    counts: list[tuple[int, int]] = []
    if tick and isinstance(start, Edge) and isinstance(end, Edge) and not raw["went_back"]:
        counts = trajectory(
            start, end, tick, [(int(a), int(b), int(c)) for a, b, c in raw["looks"]]
        )
    return Report(
        uuid=str(raw["uuid"]), start=start, end=end,
        tick_s=tick.period_ns / 1e9 if tick else None,
        jitter_s=tick.jitter_ns / 1e9 if tick else 0.0,
        tick_error_s=tick.error_ns / 1e9 if tick else 0.0, counts=tuple(counts),
        times_ns=tuple(int(t) for t, _ in samples), watts=tuple(float(w) for _, w in samples),
        limit_w=raw["limit_w"], telemetry=tuple(raw["telemetry"]), throttle=int(raw["throttle"]),
        lost=bool(raw["lost"]), went_back=bool(raw["went_back"]), sensor=_sensor(raw),
        stale=int(raw["stalest_ns"]) >= STALE_S * 1e9,
        throttle_missed=bool(raw["throttle_missed"]), limit_chosen=bool(raw["limit_chosen"]),
    )  # fmt: skip


def _sensor(raw: Mapping[str, object]) -> Sensor:
    """Return how old the samples are: those of a sensor that was polled are stamped by updates."""
    period_ns = raw["sensor_period_ns"]
    period_s = period_ns / 1e9 if isinstance(period_ns, int) else None
    if raw["averaged"]:
        return Sensor(period_s=period_s, lag_s=AVERAGED_S / 2, unsure_s=AVERAGED_S / 2)
    mean_of_s = INSTANT_S if period_s is None else min(INSTANT_S, INSTANT_PART * period_s)
    if raw["polled"]:
        return Sensor(period_s=period_s, lag_s=mean_of_s / 2, unsure_s=mean_of_s / 4)
    return Sensor(period_s=period_s, lag_s=mean_of_s / 2 + READ_LATE_S, unsure_s=READ_LATE_S)


def _edge(raw: object) -> Edge | str:
    return Edge(**{k: int(v) for k, v in raw.items()}) if isinstance(raw, dict) else str(raw)


def unread(uuid: str, index: int, name: str, reason: str, *, sibling: bool) -> GpuEnergy:
    """Return the energy of a GPU of which nothing was read."""
    return GpuEnergy(uuid=uuid, index=index, name=name, sibling=sibling, reasons=(reason,))


def gpu_energy(
    report: Report, window: tuple[int, int], *, index: int, name: str, sibling: bool,
    power_field: str | None, mig: bool, interval_s: float,
    unbracketed_mj: tuple[object, object] = (None, None),
) -> GpuEnergy:  # fmt: skip
    """Return one GPU's energy in `window` (CLOCK_MONOTONIC nanoseconds).

    The counter comes first, the samples of the same window second; both are kept with their
    ratio. `unbracketed_mj` is the counter of a sibling at both ends, read without an edge.
    """
    if mig or report.lost:
        reason = "mig" if mig else "gpu_lost"
        return unread(report.uuid, index, name, reason, sibling=sibling)
    counted, counter_reason = _counted(report, window, unbracketed_mj if sibling else None)
    integral, sample_reason = _integral(report, window, power_field, interval_s)
    if integral and counted and _stands(report, window) and _differ(counted, integral):
        integral, sample_reason = None, "sensor_stale"
    best = counted or (
        None if integral is None
        else Energy(energy_j=integral.energy_j, half_width_j=integral.half_width_j)
    )  # fmt: skip
    ratio = (counted.energy_j / integral.energy_j
             if counted and integral and integral.energy_j > 0 else None)  # fmt: skip
    throttle_reason = THROTTLING_UNKNOWN if report.throttle_missed else None
    limit_reason = LIMIT_NOT_DEFAULT if report.limit_chosen else None
    reasons = (counter_reason, sample_reason, throttle_reason, limit_reason)
    duration_s = (window[1] - window[0]) / 1e9
    return GpuEnergy(
        uuid=report.uuid, index=index, name=name, sibling=sibling,
        energy_j=best.energy_j if best else None,
        method="counter" if counted else "integrated" if integral else None,
        counter_j=counted.energy_j if counted else None,
        integrated_j=integral.energy_j if integral else None,
        integrated_uncertainty_j=integral.half_width_j if integral else None,
        ratio=ratio, timing_uncertainty_j=best.half_width_j if best else None,
        mean_w=best.energy_j / duration_s if best and duration_s > 0 else None,
        max_w=integral.max_w if integral else None, samples=integral.samples if integral else 0,
        power_field=power_field, sensor_period_s=report.sensor.period_s,
        power_limit_w=report.limit_w,
        temperature_c=_telemetry(report, "temperature_c", max),
        sm_clock_mhz=_telemetry(report, "sm_clock_mhz", fmean),
        memory_clock_mhz=_telemetry(report, "memory_clock_mhz", fmean),
        utilization_pct=_telemetry(report, "utilization_pct", fmean),
        throttle_reasons=throttle_words(report.throttle),
        reasons=tuple(reason for reason in reasons if reason),
        trace=_trace(report, window),
    )  # fmt: skip


def _counted(
    report: Report, window: tuple[int, int], unbracketed_mj: tuple[object, object] | None
) -> tuple[Energy | None, str | None]:
    """Return the counter's joules, or the word for why there are none."""
    if report.went_back:
        return None, "counter_reset"
    if unbracketed_mj is not None:
        return _unbracketed(window, unbracketed_mj)
    for edge in (report.start, report.end):
        if isinstance(edge, str):
            return None, edge
    if report.tick_s is None or isinstance(report.start, str) or isinstance(report.end, str):
        return None, "counter_stuck"
    widest_s = 2 * max(report.start.half_width_s, report.end.half_width_s)
    if widest_s > report.tick_s / 2:
        return None, NO_EDGE
    energy = counter_energy(report.start, report.end, window, tick_s=report.tick_s,
                            limit_w=report.most_w, tick_error_s=report.tick_error_s,
                            jitter_s=report.jitter_s)  # fmt: skip
    wide = EDGE_WIDE if widest_s * 1e9 > WIDTH_LIMIT_NS else None
    return energy, wide if energy else "counter_reset"


def _unbracketed(
    window: tuple[int, int], values: tuple[object, object]
) -> tuple[Energy | None, str | None]:
    """Return a sibling's joules from two plain reads: off by up to a tick at each end."""
    start_mj, end_mj = values
    duration_s = (window[1] - window[0]) / 1e9
    if not isinstance(start_mj, int) or not isinstance(end_mj, int) or duration_s <= 0:
        return None, "no_counter"
    energy_j = (end_mj - start_mj) / 1e3
    tick_j = energy_j / duration_s * UNBRACKETED_S
    return Energy(energy_j=energy_j, half_width_j=math.hypot(tick_j, tick_j)), None


def _integral(
    report: Report, window: tuple[int, int], power_field: str | None, interval_s: float
) -> tuple[Integral | None, str | None]:
    """Return the samples' integral, or the word for why there is none."""
    if power_field is None:
        return None, "no_power_sensor"
    if not any(window[0] < t < window[1] for t in report.times_ns):
        return None, "no_samples"
    if report.stale:
        return None, "sensor_stale"
    max_gap_ns = round(GAP_INTERVALS * interval_s * 1e9)
    integral = integrate(report.times_ns, report.watts, window, max_gap_ns=max_gap_ns,
                         sensor=report.sensor)  # fmt: skip
    return integral, None if integral else "sample_gap"


def _stands(report: Report, window: tuple[int, int]) -> bool:
    """Whether the samples of a window long enough to tell are all the same."""
    inside = [w for t, w in zip(report.times_ns, report.watts, strict=True)
              if window[0] < t < window[1]]  # fmt: skip
    return window[1] - window[0] >= STALE_S * 1e9 and len(set(inside)) == 1


def _differ(counted: Energy, integral: Integral) -> bool:
    allowed_j = counted.half_width_j + integral.half_width_j + STANDING * counted.energy_j
    return abs(counted.energy_j - integral.energy_j) > allowed_j


def _telemetry(report: Report, key: str, fold: Callable[[list[float]], float]) -> float | None:
    values = [v for t in report.telemetry if (v := t[key]) is not None]
    return fold(values) if values else None


def _trace(report: Report, window: tuple[int, int]) -> PowerTrace | None:
    inside = [(t, w) for t, w in zip(report.times_ns, report.watts, strict=True)
              if window[0] <= t <= window[1]]  # fmt: skip
    if not inside:
        return None
    return PowerTrace(
        offsets_s=tuple((t - window[0]) / 1e9 for t, _ in inside),
        watts=tuple(w for _, w in inside),
    )
