"""Energy by phase, against curves whose phases are known."""

from __future__ import annotations

import math
import uuid
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.leases import Claim
from db.readings import (
    Batch,
    GpuEnergy,
    Phase,
    PhaseEnergy,
    PhaseMethod,
    Reading,
    RequestTiming,
    Window,
    WindowKind,
)
from db.records import Board, EngineSpec, MeasurementProtocol, ModelSpec, Reality, Weights, Workload
from workers.engines.engine import alike
from workers.engines.simulated import open_simulated
from workers.meters.counting import Edge
from workers.meters.curve import CounterCurve, Curve, SampledCurve, curve_of
from workers.meters.gpureport import Report
from workers.meters.integrate import Sensor
from workers.phases import by_prefill_run, by_steps, spans_of
from workers.protocol import measure
from workers.rig import Rig
from workers.validity import Gates

S = 1_000_000_000
TICK_NS = 20_000_000
START_NS = 1_000 * S


@dataclass(frozen=True)
class Power:
    """Piecewise constant power from START_NS on: the watts of each piece, and where it ends."""

    ends_ns: tuple[int, ...]
    watts: tuple[float, ...]

    def to_j(self, at_ns: int) -> float:
        """Joules from START_NS to an instant, exactly."""
        piece = min(bisect_right(self.ends_ns, at_ns), len(self.watts) - 1)
        start_ns = self.ends_ns[piece - 1] if piece else START_NS
        return self._sums_j[piece] + self.watts[piece] * (at_ns - start_ns) / 1e9

    @cached_property
    def _sums_j(self) -> tuple[float, ...]:
        lengths_ns = (end - start for start, end in pairwise((START_NS, *self.ends_ns)))
        joules = (w * ns / 1e9 for w, ns in zip(self.watts, lengths_ns, strict=True))
        return tuple(accumulate(joules, initial=0.0))

    def counter(self, phase_ns: int, tick_ns: int = TICK_NS) -> CounterCurve:
        """What a counter of whole millijoules makes of it."""
        first = START_NS + phase_ns
        times = range(first, self.ends_ns[-1], tick_ns)
        return CounterCurve(
            times_ns=tuple(times),
            joules=tuple(math.floor(self.to_j(t) * 1e3) / 1e3 for t in times),
            resolution_s=tick_ns / 1e9,
        )


def batch_of(start_ns: int, prefill_ns: int, mixed_ns: int, decode_ns: int) -> Batch:
    """Two requests: the first token of the second comes when the mixed phase ends."""
    last_s = (prefill_ns + mixed_ns + decode_ns) / 1e9
    firsts_s = (prefill_ns / 1e9, (prefill_ns + mixed_ns) / 1e9)
    return Batch(
        started_ns=start_ns,
        ended_ns=start_ns + prefill_ns + mixed_ns + decode_ns,
        requests=tuple(
            RequestTiming(input_tokens=100, output_tokens=11, ttft_s=first_s, e2e_s=last_s)
            for first_s in firsts_s
        ),
    )


def reading(energy_j: float | None = 100.0, width_j: float | None = 0.1) -> Reading:
    return Reading(
        started_ns=START_NS, ended_ns=START_NS + 2 * S, started_at=1.7e9, reality=Reality.SIMULATED,
        energy_j=energy_j, timing_uncertainty_j=width_j,
    )  # fmt: skip


def found(rows: Sequence[PhaseEnergy]) -> dict[Phase, PhaseEnergy]:
    assert len({row.phase for row in rows}) == len(rows)
    return {row.phase: row for row in rows}


WATTS = st.floats(20, 700)
LENGTHS = st.integers(11 * TICK_NS, 40 * TICK_NS)
gaps = st.integers(0, 3 * TICK_NS)
batches = st.lists(
    st.tuples(LENGTHS, st.one_of(st.just(0), LENGTHS), LENGTHS, gaps), min_size=1, max_size=4
)
offsets = st.integers(0, TICK_NS - 1)


def laid_out(
    shapes: Sequence[tuple[int, int, int, int]], watts: tuple[float, float, float, float]
) -> tuple[list[Batch], Power]:
    """Batches one after the other, each phase and the gaps between at powers of their own.

    Before the first and after the last there is a second at 100 W.
    """
    at_ns, done, ends, drawn = START_NS + S, [], [START_NS + S], [100.0]
    for prefill_ns, mixed_ns, decode_ns, gap_ns in shapes:
        done.append(batch_of(at_ns, prefill_ns, mixed_ns, decode_ns))
        lengths = (prefill_ns, mixed_ns, decode_ns, gap_ns if len(done) < len(shapes) else 0)
        for length_ns, watt in zip(lengths, watts, strict=True):
            at_ns += length_ns
            ends.append(at_ns)
            drawn.append(watt)
    return done, Power((*ends, at_ns + S), (*drawn, 100.0))


# ---- by steps ----------------------------------------------------------------------------------


@given(batches, st.tuples(WATTS, WATTS, WATTS, WATTS), offsets)
def test_phases_at_a_power_of_their_own_are_found_exactly(
    shapes: list[tuple[int, int, int, int]], watts: tuple[float, float, float, float], offset: int
) -> None:
    """Millijoules of rounding are all that is left, however the ticks lie and short the gaps are.

    Without a gap that draws more than what it lies between: its joules are then not all its own.
    """
    watts = (*watts[:3], min(watts))
    done, power = laid_out(shapes, watts)
    rows = found(by_steps(done, [power.counter(offset)], reading()))
    assert {Phase.PREFILL, Phase.DECODE} <= set(rows)
    for phase, row in rows.items():
        spans = [s[phase] for b in done if (s := spans_of(b)) is not None and phase in s]
        exact_j = sum(power.to_j(end) - power.to_j(start) for start, end in spans)
        rounding_j = 0.02 * len(spans)
        assert row.energy_j == pytest.approx(exact_j, abs=rounding_j)
        assert row.timing_uncertainty_j == pytest.approx(0.0, abs=2 * rounding_j)
        assert row.duration_s == pytest.approx(sum(e - s for s, e in spans) / 1e9)


@given(batches, st.tuples(WATTS, WATTS, WATTS, WATTS), offsets)
def test_a_gap_that_draws_more_than_the_phases_is_in_the_half_width(
    shapes: list[tuple[int, int, int, int]], watts: tuple[float, float, float, float], offset: int
) -> None:
    done, power = laid_out(shapes, (*watts[:3], 700.0))
    rows = found(by_steps(done, [power.counter(offset)], reading()))
    for phase, row in rows.items():
        if row.energy_j is None:
            assert row.reasons[-1] == "phase_unresolved"
            continue
        spans = [s[phase] for b in done if (s := spans_of(b)) is not None and phase in s]
        exact_j = sum(power.to_j(end) - power.to_j(start) for start, end in spans)
        assert row.timing_uncertainty_j is not None
        allowed_j = row.timing_uncertainty_j + 0.02 * len(spans)
        assert row.energy_j == pytest.approx(exact_j, abs=allowed_j)


courses = st.tuples(
    st.lists(st.integers(1, 3 * TICK_NS), min_size=2, max_size=60),
    st.lists(st.floats(0, 20), min_size=60, max_size=60),
).map(
    lambda drawn: CounterCurve(
        times_ns=tuple(accumulate(drawn[0], initial=START_NS)),
        joules=tuple(accumulate(drawn[1][: len(drawn[0])], initial=5.0)),
        resolution_s=TICK_NS / 1e9,
    )
)


@given(courses, st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_parts_of_any_course_add_up_to_the_whole_and_are_never_negative(
    course: CounterCurve, cuts: list[float]
) -> None:
    start, end = course.times_ns[0], course.times_ns[-1]
    marks = sorted({start, end, *(start + round(cut * (end - start)) for cut in cuts)})
    parts = [part for part in course.parts(list(pairwise(marks))) if part is not None]
    assert len(parts) == len(marks) - 1
    assert min(part.energy_j for part in parts) >= -1e-9
    assert min(part.half_width_j for part in parts) >= 0
    whole_j = course.joules[-1] - course.joules[0]
    assert math.fsum(part.energy_j for part in parts) == pytest.approx(whole_j, abs=1e-9)


@given(courses, st.floats(0, 1))
def test_a_course_keeps_to_its_ticks(course: CounterCurve, cut: float) -> None:
    start, end = course.times_ns[0], course.times_ns[-1]
    at_ns = start + round(cut * (end - start))
    (part,) = course.parts([(start, at_ns)])
    assert part is not None
    tick = bisect_right(course.times_ns, at_ns) - 1
    low_j, high_j = course.joules[tick], course.joules[min(tick + 1, len(course.joules) - 1)]
    assert low_j - 1e-9 <= part.energy_j + course.joules[0] <= high_j + 1e-9


@given(courses, st.floats(0, 1), st.floats(0, 1))
def test_more_time_is_never_less_energy(course: CounterCurve, one: float, other: float) -> None:
    start, end = course.times_ns[0], course.times_ns[-1]
    early, late = (start + round(cut * (end - start)) for cut in sorted((one, other)))
    parts = course.parts([(start, early), (early, late)])
    assert all(part is not None and part.energy_j >= -1e-9 for part in parts)


@given(batches, st.tuples(WATTS, WATTS, WATTS, WATTS), offsets)
def test_phases_and_the_rest_are_the_window(
    shapes: list[tuple[int, int, int, int]], watts: tuple[float, float, float, float], offset: int
) -> None:
    done, power = laid_out(shapes, (*watts[:3], min(watts)))
    curve = power.counter(offset)
    rows = by_steps(done, [curve], reading())
    spans = sorted(span for batch in done for span in (spans_of(batch) or {}).values())
    marks = [curve.times_ns[0], *(at for span in spans for at in span), curve.times_ns[-1]]
    every = [span for span in pairwise(marks) if span[1] > span[0]]
    parts = dict(zip(every, curve.parts(every), strict=True))
    rest = [part.energy_j for span, part in parts.items() if part and span not in spans]
    phases = [row.energy_j for row in rows if row.energy_j is not None]
    assert len(phases) == len(rows)
    whole_j = curve.joules[-1] - curve.joules[0]
    assert math.fsum([*rest, *phases]) == pytest.approx(whole_j, abs=1e-6)


def test_a_tick_that_holds_more_than_its_neighbours_say_is_in_the_half_width() -> None:
    """10 ms of 700 W right before a boundary: nobody can tell on which side of it they were."""
    first_ns, burst_ns = START_NS + 50 * TICK_NS + TICK_NS // 2, TICK_NS // 2
    power = Power(
        (first_ns - burst_ns, first_ns, START_NS + 2 * S), (300.0, 700.0, 200.0)
    )  # fmt: skip
    curve = power.counter(0)
    (energy,) = curve.parts([(START_NS, first_ns)])
    assert energy is not None
    wrong_j = abs(energy.energy_j - power.to_j(first_ns))
    assert 0.5 < wrong_j < energy.half_width_j


def test_a_batch_that_begins_with_a_tick_does_not_colour_the_gap_before_it() -> None:
    shapes = [(21 * TICK_NS, 0, 12 * TICK_NS + 7_000_000, 13_000_000), (12 * TICK_NS, 0, S, 0)]
    done, power = laid_out(shapes, (600.0, 0.0, 250.0, 60.0))
    rows = found(by_steps(done, [power.counter(0)], reading()))
    assert rows[Phase.DECODE].energy_j == pytest.approx(250 * 1.247, abs=0.01)
    assert rows[Phase.DECODE].timing_uncertainty_j == pytest.approx(0.0, abs=0.01)


def test_a_power_that_wanders_is_in_the_half_width() -> None:
    """A phase that changes from tick to tick need not have gone on as its last tick was.

    An idle gap in the same tick hides that: only the ticks before can warn.
    """
    at_ns = START_NS + 20 * TICK_NS + TICK_NS // 2
    next_ns = at_ns + TICK_NS // 4
    wandering = [(START_NS + (n + 1) * TICK_NS, 400.0 + 30.0 * (-1) ** n) for n in range(20)]
    pieces = [*wandering, (at_ns, 430.0), (next_ns, 60.0), (START_NS + S, 430.0)]
    power = Power(*(tuple(column) for column in zip(*pieces, strict=True)))  # type: ignore[arg-type]
    energy, _ = power.counter(0).parts([(START_NS, at_ns), (next_ns, START_NS + S - TICK_NS)])
    assert energy is not None
    wrong_j = abs(energy.energy_j - power.to_j(at_ns))
    assert 0.5 < wrong_j <= energy.half_width_j + 1e-6


def test_an_instant_of_a_tick_that_is_not_sure_counts_as_often_as_it_is_crossed() -> None:
    """1 ms across a step of 300 W is 0.3 J, at each end of each of two batches."""
    done, power = laid_out([(15 * TICK_NS, 0, 20 * TICK_NS, 0)] * 2, (600.0, 0.0, 300.0, 0.0))
    curve = power.counter(7_000_000)
    sure, unsure = by_steps(done, [curve], reading()), by_steps(
        done, [replace(curve, unsure_s=0.001)], reading()
    )  # fmt: skip
    assert sure[0].timing_uncertainty_j == pytest.approx(0.0, abs=0.05)
    # Into the first batch the step is 500 W, from decode to prefill and back it is 300 W.
    assert unsure[0].timing_uncertainty_j == pytest.approx(0.5 + 3 * 0.3, abs=0.05)


def test_the_group_is_the_sum_of_its_boards() -> None:
    done, power = laid_out([(15 * TICK_NS, 0, 20 * TICK_NS, 0)] * 3, (600.0, 0.0, 250.0, 0.0))
    curve = power.counter(7_000_000)
    one, two = by_steps(done, [curve], reading()), by_steps(done, [curve] * 2, reading())
    for single, double in zip(one, two, strict=True):
        assert single.energy_j is not None
        assert double.energy_j == pytest.approx(2 * single.energy_j)
        assert double.timing_uncertainty_j == pytest.approx(2 * (single.timing_uncertainty_j or 0))


# ---- what is missing, and why ------------------------------------------------------------------


def test_a_phase_shorter_than_ten_ticks_is_none() -> None:
    for ticks, resolved in [(9.9, False), (10.1, True)]:
        shape = (round(ticks * TICK_NS), 0, 30 * TICK_NS, 0)
        done, power = laid_out([shape] * 3, (600.0, 0.0, 250.0, 0.0))
        rows = found(by_steps(done, [power.counter(3)], reading()))
        prefill = rows[Phase.PREFILL]
        assert (prefill.energy_j is not None) == resolved
        assert prefill.reasons == (() if resolved else ("phase_unresolved",))
        assert prefill.duration_s == pytest.approx(3 * ticks * 0.02)
        assert prefill.tokens == 600
        assert rows[Phase.DECODE].energy_j is not None


def test_a_phase_shorter_than_ten_ticks_of_the_coarsest_board_is_none() -> None:
    done, power = laid_out([(15 * TICK_NS, 0, 60 * TICK_NS, 0)], (600.0, 0.0, 250.0, 0.0))
    coarse = power.counter(0, tick_ns=5 * TICK_NS)
    rows = found(by_steps(done, [power.counter(0), coarse], reading()))
    assert rows[Phase.PREFILL].reasons == ("phase_unresolved",)
    assert rows[Phase.DECODE].energy_j is not None


def test_mixed_steps_are_reported_apart_and_say_so_beside_the_others() -> None:
    shape = (12 * TICK_NS, 14 * TICK_NS, 16 * TICK_NS, 0)
    done, power = laid_out([shape] * 2, (600.0, 500.0, 250.0, 0.0))
    rows = found(by_steps(done, [power.counter(11)], reading()))
    joules = {phase: row.energy_j for phase, row in rows.items()}
    assert joules == {
        Phase.PREFILL: pytest.approx(2 * 0.24 * 600, abs=0.02),
        Phase.MIXED: pytest.approx(2 * 0.28 * 500, abs=0.02),
        Phase.DECODE: pytest.approx(2 * 0.32 * 250, abs=0.02),
    }
    assert [row.reasons for row in rows.values()] == [("phases_mixed",), (), ("phases_mixed",)]
    # Which prompt tokens fell into the mixed steps is not known: joules per token would be wrong.
    assert [row.tokens for row in rows.values()] == [None, None, None]


def test_a_phase_that_never_occurs_alone_is_none() -> None:
    """The last prompt is read when the first request is already complete."""
    done, power = laid_out([(12 * TICK_NS, 30 * TICK_NS, 0, 0)] * 2, (600.0, 500.0, 0.0, 0.0))
    rows = found(by_steps(done, [power.counter(0)], reading()))
    decode = rows[Phase.DECODE]
    assert (decode.energy_j, decode.reasons, decode.duration_s) == (None, ("phases_mixed",), 0.0)
    assert rows[Phase.MIXED].energy_j is not None


def test_an_engine_that_does_not_say_when_the_first_token_came_has_no_phases() -> None:
    done, power = laid_out([(12 * TICK_NS, 0, 20 * TICK_NS, 0)] * 2, (600.0, 0.0, 250.0, 0.0))
    blind = [replace(r, ttft_s=None) for r in done[1].requests[:1]]
    done[1] = replace(done[1], requests=(*blind, *done[1].requests[1:]))
    rows = found(by_steps(done, [power.counter(0)], reading()))
    assert set(rows) == {Phase.PREFILL, Phase.DECODE}
    for row in rows.values():
        assert (row.energy_j, row.duration_s) == (None, None)
        assert row.reasons == ("no_first_token_time",)


@pytest.mark.parametrize(
    ("curves", "energy_j", "reason"), [(True, None, "no_energy"), (False, 5.0, "phase_unresolved")]
)
def test_without_energy_or_its_course_there_is_none(
    curves: bool, energy_j: float | None, reason: str
) -> None:
    done, power = laid_out([(12 * TICK_NS, 0, 20 * TICK_NS, 0)], (600.0, 0.0, 250.0, 0.0))
    followed: list[Curve] = [power.counter(0)] if curves else []
    for row in by_steps(done, followed, reading(energy_j)):
        assert (row.energy_j, row.timing_uncertainty_j, row.reasons) == (None, None, (reason,))


@pytest.mark.parametrize("boards", [1, 2])
def test_a_phase_of_which_a_part_was_not_covered_is_none(boards: int) -> None:
    """Never a part of the batches, never a part of the boards."""
    shape = (12 * TICK_NS, 0, 20 * TICK_NS, 0)
    done, power = laid_out([shape] * 2, (600.0, 0.0, 250.0, 0.0))
    whole = power.counter(0)
    short = replace(whole, times_ns=whole.times_ns[:100], joules=whole.joules[:100])
    rows = found(by_steps(done, [whole] * (boards - 1) + [short], reading()))
    assert rows[Phase.PREFILL].energy_j == pytest.approx(boards * 0.48 * 600, abs=0.02)
    assert rows[Phase.DECODE].energy_j is None
    assert rows[Phase.DECODE].reasons == ("phase_unresolved",)


def test_errors_of_samples_are_independent_and_add_up_in_quadrature() -> None:
    done, _ = laid_out([(S, 0, S, 0)] * 3, (600.0, 0.0, 250.0, 0.0))
    times = tuple(range(START_NS, START_NS + 9 * S, S // 20))
    curve = SampledCurve(
        times_ns=times, watts=tuple(300.0 + 50.0 * (n % 7) for n in range(len(times))),
        sensor=Sensor(period_s=0.05), resolution_s=0.05, max_gap_ns=S,
    )  # fmt: skip
    prefill = found(by_steps(done, [curve], reading()))[Phase.PREFILL]
    spans = [(batch.started_ns, batch.started_ns + S) for batch in done]
    widths_j = [part.half_width_j for part in curve.parts(spans) if part is not None]
    assert len(widths_j) == 3
    assert min(widths_j) > 0
    assert prefill.timing_uncertainty_j == pytest.approx(math.hypot(*widths_j))


def test_one_output_token_is_prefill_alone() -> None:
    one = [RequestTiming(input_tokens=9, output_tokens=1, ttft_s=0.5, e2e_s=0.5)] * 2
    batch = Batch(started_ns=START_NS, ended_ns=START_NS + S, requests=tuple(one))
    power = Power((START_NS + 2 * S,), (300.0,))
    (row,) = by_steps([batch], [power.counter(0)], reading())
    assert (row.phase, row.tokens) == (Phase.PREFILL, 18)
    assert row.energy_j == pytest.approx(150.0, abs=0.01)


# ---- what the curve of a board is --------------------------------------------------------------


def gpu(method: str | None, period_s: float | None = None, field: str = "instant") -> GpuEnergy:
    return GpuEnergy(uuid="GPU-1", index=0, name="A", method=method, power_field=field,
                     sensor_period_s=period_s)  # fmt: skip


def edge(at_ns: int, value_mj: int, previous_mj: int) -> Edge:
    return Edge(
        lo_ns=at_ns - 10_000, hi_ns=at_ns + 10_000, value_mj=value_mj, previous_mj=previous_mj,
        held_ns=at_ns, held_mj=previous_mj, first_mj=value_mj, first_lo_ns=at_ns,
        first_hi_ns=at_ns,
    )  # fmt: skip


def report(counts: Sequence[tuple[int, int]] = ()) -> Report:
    times = tuple(range(START_NS, START_NS + 4 * S, S // 10))
    start = edge(START_NS, 10_000, 8_000)
    return Report(
        uuid="GPU-1", start=start, end=edge(START_NS + 4 * S, 500_000, 498_000), tick_s=0.02,
        times_ns=times, watts=(100.0,) * len(times), limit_w=700.0, telemetry=(), throttle=0,
        lost=False, went_back=False, counts=tuple(counts),
    )  # fmt: skip


def test_a_counter_s_course_begins_with_the_tick_before_the_window() -> None:
    counts = [(START_NS + n * TICK_NS, 10_000 + 2_000 * n) for n in range(10)]
    curve = curve_of(report(counts), gpu("counter"), interval_s=0.1)
    assert isinstance(curve, CounterCurve)
    assert curve.times_ns[:2] == (START_NS - TICK_NS, START_NS)
    assert curve.joules[:3] == (8.0, 10.0, 12.0)
    assert curve.resolution_s == pytest.approx(0.02)
    assert curve.unsure_s == pytest.approx(1e-5)


def test_ticks_that_come_late_make_the_instants_of_a_course_unsure() -> None:
    counts = [(START_NS + n * TICK_NS, 10_000 + 2_000 * n) for n in range(10)]
    late = replace(report(counts), jitter_s=0.004)
    curve = curve_of(late, gpu("counter"), interval_s=0.1)
    assert isinstance(curve, CounterCurve)
    assert curve.unsure_s == pytest.approx(0.008, abs=2e-5)


def test_ticks_that_were_missed_make_a_course_coarser() -> None:
    counts = [(START_NS + n * TICK_NS, 10_000 + 2_000 * n) for n in range(0, 50, 5)]
    curve = curve_of(report(counts), gpu("counter"), interval_s=0.1)
    assert curve is not None
    assert curve.resolution_s == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("field", "period_s", "resolution_s"),
    [("instant", None, 0.1), ("instant", 0.25, 0.25), ("average", 0.1, 1.0), ("legacy", None, 1.0)],
)
def test_samples_resolve_what_their_sensor_does(
    field: str, period_s: float | None, resolution_s: float
) -> None:
    curve = curve_of(report(), gpu("integrated", period_s, field), interval_s=0.1)
    assert isinstance(curve, SampledCurve)
    assert curve.resolution_s == resolution_s
    spans = [(START_NS + S // 2, START_NS + 2 * S), (START_NS + 2 * S, START_NS + 3 * S)]
    parts = [part for part in curve.parts(spans) if part is not None]
    assert [part.energy_j for part in parts] == pytest.approx([150.0, 100.0])


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        (report(), gpu("counter")),  # its ticks could not be counted
        (replace(report(), start="no_counter"), gpu("counter")),
        (report(), gpu(None)),
    ],
)
def test_a_board_without_a_course_has_none(raw: Report, seen: GpuEnergy) -> None:
    assert curve_of(raw, seen, interval_s=0.1) is None


# ---- by a prefill run --------------------------------------------------------------------------


def window(
    energy_j: float | None, *, batches: int = 4, kind: WindowKind = WindowKind.REPEAT,
    duration_s: float = 2.0, output_tokens: int = 40, width_j: float | None = 0.3,
) -> Window:  # fmt: skip
    read = replace(reading(energy_j, width_j), ended_ns=START_NS + round(duration_s * 1e9))
    return Window(kind=kind, ordinal=0, reading=read, batches=batches, requests=8,
                  input_tokens=800, output_tokens=output_tokens)  # fmt: skip


def test_what_a_prefill_run_leaves_is_decode() -> None:
    run = [window(300.0, batches=10, width_j=0.4), window(180.0, batches=6, width_j=0.3)]
    rows = found(by_prefill_run(window(400.0), run))
    prefill, decode = rows[Phase.PREFILL], rows[Phase.DECODE]
    assert prefill.energy_j == pytest.approx(4 * 30.0)
    assert decode.energy_j == pytest.approx(400.0 - 120.0)
    assert prefill.duration_s == pytest.approx(4 * 4.0 / 16)
    assert decode.duration_s == pytest.approx(1.0)
    assert prefill.timing_uncertainty_j == pytest.approx(0.5 / 4)
    assert decode.timing_uncertainty_j == pytest.approx(math.hypot(0.3, 0.5 / 4))
    assert (prefill.tokens, decode.tokens) == (800, 32)  # the first tokens are prefill's
    assert {row.method for row in rows.values()} == {PhaseMethod.PREFILL_RUN}


def test_a_difference_within_its_half_width_is_none() -> None:
    run = [window(399.8, width_j=0.3, duration_s=1.9)]
    rows = found(by_prefill_run(window(400.0), run))
    assert rows[Phase.PREFILL].energy_j == pytest.approx(399.8)
    assert rows[Phase.DECODE].energy_j is None
    assert rows[Phase.DECODE].reasons == ("phase_unresolved",)


@pytest.mark.parametrize(("whole_j", "run_j"), [(None, 100.0), (400.0, None)])
def test_a_prefill_run_without_energy_tells_nothing(
    whole_j: float | None, run_j: float | None
) -> None:
    rows = by_prefill_run(window(whole_j), [window(100.0), window(run_j)])
    assert [row.reasons for row in rows] == [("no_energy",)] * 2
    assert [row.energy_j for row in rows] == [None] * 2


def test_an_uncertainty_that_is_not_known_is_not_zero() -> None:
    rows = by_prefill_run(window(400.0, width_j=None), [window(100.0)])
    assert [row.timing_uncertainty_j for row in rows] == [None] * 2
    done, power = laid_out([(12 * TICK_NS, 0, 20 * TICK_NS, 0)], (600.0, 0.0, 250.0, 0.0))
    for row in by_steps(done, [power.counter(0)], reading(width_j=None)):
        assert row.energy_j is not None
        assert row.timing_uncertainty_j is None


# ---- a task on a simulated board ---------------------------------------------------------------

LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "vocab_size": 128256,
}  # fmt: skip
SPEC = EngineSpec(
    model=ModelSpec(name="large", weights=Weights.RANDOM, architecture=LLAMA),
    backend="simulated",
    board="a100-sxm-80gb",
    board_count=2,
)
BOARD = Board(
    slug="a100-sxm-80gb", memory_bytes=80 * 2**30, memory_bandwidth_bytes_s=2.039e12,
    bf16_flops=312e12, tdp_w=400, idle_w=50,
)  # fmt: skip
PROTOCOL = MeasurementProtocol(
    name="test", window_s=5, repeats=2, repeats_max=2, interval_target=0.05, warmup_max=2,
    warmup_agree=2, warmup_tolerance=0.1, idle_s=1,
)  # fmt: skip


def measured(phases: str, board: Board = BOARD, output_tokens: int = 64) -> tuple[Window, ...]:
    engine, meter, clock = open_simulated(SPEC, board, seed=3)
    engine.prepare()
    engine.load()
    rig = Rig(engine=engine, meter=meter, clock=clock, gates=Gates(), prefix_caching=False)
    claim = Claim(
        task_id=1,
        key="v1:",
        lease_id=uuid.UUID(int=1),
        workload=Workload(input_tokens=512, output_tokens=output_tokens, batch_size=4),
        protocol=replace(PROTOCOL, phases=phases),
        reality=Reality.SIMULATED,
        replicate=0,
    )
    return measure(rig, claim, lambda: None).windows


@pytest.mark.parametrize(
    ("phases", "methods", "prefill_windows"),
    [
        ("none", set(), 0),
        ("steps", {"steps"}, 0),
        ("prefill_run", {"prefill_run"}, 2),
        ("both", {"steps", "prefill_run"}, 2),
    ],
)
def test_a_protocol_names_its_methods(phases: str, methods: set[str], prefill_windows: int) -> None:
    windows = measured(phases)
    kinds = [window.kind for window in windows]
    assert kinds == [WindowKind.REPEAT] * 2 + [WindowKind.PREFILL] * prefill_windows
    assert [window.ordinal for window in windows] == list(range(len(windows)))
    for window in windows[:2]:
        assert {row.method for row in window.phases} == methods
    for window in windows[2:]:
        assert window.phases == ()
        assert window.output_tokens == window.requests == 4 * window.batches
        assert window.input_tokens == 512 * window.requests
        assert window.reading.duration_s >= 5


def test_both_methods_agree_on_a_simulated_board() -> None:
    for window in measured("both")[:2]:
        steps, run = (
            {row.phase: row for row in window.phases if row.method is method}
            for method in PhaseMethod
        )
        assert list(steps) == list(run) == [Phase.PREFILL, Phase.DECODE]
        whole_j = window.reading.energy_j
        assert whole_j is not None
        for phase, row in steps.items():
            assert row.energy_j is not None
            assert run[phase].energy_j == pytest.approx(row.energy_j, rel=0.02)
            assert run[phase].duration_s == pytest.approx(row.duration_s, rel=0.02)
            assert run[phase].tokens == row.tokens
            assert row.reasons == ()
        total_j = sum(row.energy_j or 0.0 for row in steps.values())
        assert total_j == pytest.approx(whole_j, rel=1e-6)


def test_a_simulated_course_is_of_its_window_alone() -> None:
    engine, meter, _ = open_simulated(SPEC, BOARD, seed=3)
    engine.load()
    for _ in range(2):
        meter.open()
        engine.generate(alike([[20] * 64] * 4, 16))
        read = meter.close()
        one, other = meter.curves()
        assert one == other
        assert isinstance(one, CounterCurve)
        assert (one.times_ns[0], one.times_ns[-1]) == (read.started_ns, read.ended_ns)
        assert read.energy_j == pytest.approx(2 * (one.joules[-1] - one.joules[0]))


def test_a_task_of_one_output_token_is_its_own_prefill_run() -> None:
    windows = measured("both", output_tokens=1)
    assert [window.kind for window in windows] == [WindowKind.REPEAT] * 2
    for window in windows:
        assert [row.phase for row in window.phases] == [Phase.PREFILL] * 2
        for row in window.phases:
            assert row.energy_j == pytest.approx(window.reading.energy_j, rel=1e-6)


def test_a_simulated_board_without_power_has_no_phases_and_says_why() -> None:
    for window in measured("both", replace(BOARD, idle_w=None))[:2]:
        assert len(window.phases) == 4
        for row in window.phases:
            assert (row.energy_j, row.reasons) == (None, ("no_energy",))
