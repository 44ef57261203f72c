"""Energy by phase of a whole task, metered through the real binding on power that is known."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

import pytest

from db.errors import InvalidMeasurement
from db.leases import Claim
from db.readings import Batch, Loaded, Phase, PhaseMethod, RequestTiming, WindowKind
from db.records import MeasurementProtocol, Reality, Workload
from tests.nvml.curve import StandinGpu
from tests.nvml.load import Load
from workers.clock import MonotonicClock
from workers.meters.select import open_meter
from workers.phases import spans_of
from workers.protocol import measure
from workers.rig import Rig
from workers.validity import Gates

pytestmark = pytest.mark.nvml

A, B = "GPU-aaaaaaaa-0000-0000-0000-000000000000", "GPU-bbbbbbbb-0000-0000-0000-000000000000"
IDLE_W, PREFILL_W, MIXED_W, DECODE_W = 60.0, 640.0, 520.0, 310.0
#: What is drawn is written this much ahead of the clock.
AHEAD_NS = 2_000_000
PROTOCOL = MeasurementProtocol(
    name="test", window_s=1.5, repeats=2, repeats_max=2, interval_target=0.05, warmup_max=0,
    warmup_agree=2, warmup_tolerance=0.1, idle_s=1, phases="both",
)  # fmt: skip
WORK = Workload(input_tokens=20, output_tokens=5, batch_size=2)


class LoadEngine:
    """An engine whose batches take the time and draw the power they are told to."""

    vocabulary = 1000

    def __init__(self, loads, prefill_s=0.4, mixed_s=0.0, decode_s=0.5, pulses=False, pace_s=0.0):
        self._loads = loads
        self._lengths_s = (prefill_s, mixed_s, decode_s)
        self._pulses, self._pace_ns = pulses, round(pace_s * 1e9)
        self.batches = []

    def prepare(self):
        pass

    def load(self):
        return Loaded(resolved={}, software={}, pid=1)

    def close(self):
        pass

    def generate(self, requests, decoding=None):
        """All prompts are read, the last one in the mixed steps; then every token but the first.

        With `pulses` each step of decode draws its power in its first half only; batches begin
        `pace_s` apart.
        """
        prefill_s, mixed_s, decode_s = self._lengths_s
        output_tokens = requests[0].output_tokens
        decode_s = decode_s if output_tokens > 1 else 0.0
        at_ns = started_ns = time.monotonic_ns() + AHEAD_NS
        if self._pace_ns:
            at_ns = started_ns = (at_ns // self._pace_ns + 1) * self._pace_ns
        half_s = decode_s / (output_tokens - 1) / 2 if output_tokens > 1 else 0.0
        decode = [(DECODE_W, half_s), (IDLE_W, half_s)] * (output_tokens - 1)
        steps = [(PREFILL_W, prefill_s), (MIXED_W, mixed_s),
                 *(decode if self._pulses else [(DECODE_W, decode_s)])]  # fmt: skip
        for watts, seconds in [step for step in steps if step[1] > 0]:
            self._draw(at_ns, watts)
            at_ns += round(seconds * 1e9)
        self._draw(at_ns, IDLE_W)
        time.sleep((at_ns - time.monotonic_ns()) / 1e9)
        firsts_s = [prefill_s] * (len(requests) - 1) + [prefill_s + mixed_s]
        batch = Batch(
            started_ns=started_ns,
            ended_ns=at_ns,
            requests=tuple(
                RequestTiming(input_tokens=len(request.prompt), output_tokens=output_tokens,
                              ttft_s=first_s, e2e_s=prefill_s + mixed_s + decode_s)
                for request, first_s in zip(requests, firsts_s, strict=True)
            ),
        )  # fmt: skip
        self.batches.append(batch)
        return batch

    def _draw(self, at_ns, watts):
        for load in self._loads:
            load.switch(at_ns, watts)

    def exact_j(self, phase, window):
        """Joules of a phase of the window's batches, over all boards."""
        read = window.reading
        inside = [b for b in self.batches if read.started_ns <= b.started_ns < read.ended_ns]
        assert len(inside) == window.batches
        spans = [s for b in inside if (s := spans_of(b).get(phase)) is not None]
        return sum(load.energy_j(*span) for load in self._loads for span in spans)


@pytest.fixture
def task(standin, closing, tmp_path):
    """A function that measures a task on boards of its own; returns the engine and the result."""

    def run(*boards, protocol=PROTOCOL, **lengths):
        loads = [Load(tmp_path / board.uuid, IDLE_W) for board in boards]
        standin(*(replace(board, curve="load", low_w=IDLE_W, load=str(tmp_path / board.uuid))
                  for board in boards))  # fmt: skip
        meter = closing(open_meter(["nvml"], [board.uuid for board in boards]))
        engine = LoadEngine(loads, **lengths)
        meter.freeze_processes()
        rig = Rig(engine=engine, meter=meter, clock=MonotonicClock(), gates=Gates(),
                  prefix_caching=False)  # fmt: skip
        claim = Claim(task_id=1, key="v1:", lease_id=uuid.UUID(int=1), workload=WORK,
                      protocol=protocol, reality=Reality.SIMULATED, replicate=0)  # fmt: skip
        return engine, measure(rig, claim, lambda: None)

    return run


@pytest.fixture
def measured(task):
    """The same; returns the engine and the windows."""

    def run(*boards, **options):
        engine, done = task(*boards, **options)
        return engine, done.windows

    return run


def rows_of(window, method):
    return {row.phase: row for row in window.phases if row.method is method}


@pytest.mark.parametrize("boards", [1, 2])
def test_both_methods_find_the_known_energy_and_agree(measured, boards):
    gpus = [StandinGpu(uuid=each, latency_us=15.0) for each in (A, B)[:boards]]
    engine, windows = measured(*gpus)
    assert [w.kind for w in windows] == [WindowKind.REPEAT] * 2 + [WindowKind.PREFILL] * 2
    for window in windows[:2]:
        steps, run = (rows_of(window, method) for method in PhaseMethod)
        assert list(steps) == list(run) == [Phase.PREFILL, Phase.DECODE]
        for phase, row in steps.items():
            exact_j = engine.exact_j(phase, window)
            assert row.energy_j == pytest.approx(exact_j, rel=2e-3)
            assert row.energy_j == pytest.approx(exact_j, abs=row.timing_uncertainty_j + 0.01)
            assert run[phase].energy_j == pytest.approx(exact_j, rel=0.02)
            assert run[phase].energy_j == pytest.approx(row.energy_j, rel=0.02)
            assert row.reasons == run[phase].reasons == ()
        assert (steps[Phase.PREFILL].tokens, steps[Phase.DECODE].tokens) == (
            window.batches * 2 * 20, window.batches * 2 * 4,
        )  # fmt: skip


def test_mixed_steps_are_found_apart(measured):
    steps = replace(PROTOCOL, phases="steps", repeats=1, repeats_max=1)
    engine, (window,) = measured(StandinGpu(uuid=A), protocol=steps,
                                 prefill_s=0.3, mixed_s=0.35, decode_s=0.4)  # fmt: skip
    rows = rows_of(window, PhaseMethod.STEPS)
    assert list(rows) == list(Phase)
    for phase, row in rows.items():
        assert row.energy_j == pytest.approx(engine.exact_j(phase, window), rel=2e-3)
        assert row.reasons == (() if phase is Phase.MIXED else ("phases_mixed",))


@pytest.mark.parametrize(
    ("tick_s", "prefill_s"), [(0.1, 0.4), (0.02, 0.15)], ids=["slow counter", "short prefill"]
)
def test_a_phase_shorter_than_ten_ticks_is_none_and_the_prefill_run_still_tells(
    measured, tick_s, prefill_s
):
    once = replace(PROTOCOL, repeats=1, repeats_max=1)
    engine, windows = measured(StandinGpu(uuid=A, tick_s=tick_s), protocol=once,
                               prefill_s=prefill_s, decode_s=1.2)  # fmt: skip
    steps, run = (rows_of(windows[0], method) for method in PhaseMethod)
    prefill = steps[Phase.PREFILL]
    assert (prefill.energy_j, prefill.reasons) == (None, ("phase_unresolved",))
    decode_j = engine.exact_j(Phase.DECODE, windows[0])
    assert steps[Phase.DECODE].energy_j == pytest.approx(decode_j, rel=0.02)
    prefill_j = engine.exact_j(Phase.PREFILL, windows[0])
    assert run[Phase.PREFILL].energy_j == pytest.approx(prefill_j, rel=0.03)


def test_a_counter_that_adds_up_a_slow_sensor_says_so_in_its_half_width(measured):
    """It shows a quarter of the time, and late: ten of its steps are a second."""
    slow = StandinGpu(uuid=A, accumulates=1, origin_s=time.monotonic() - 10)
    once = replace(PROTOCOL, repeats=1, repeats_max=1, phases="steps", window_s=3)
    engine, (window,) = measured(slow, protocol=once, prefill_s=1.1, decode_s=1.3)
    for phase, row in rows_of(window, PhaseMethod.STEPS).items():
        exact_j = engine.exact_j(phase, window)
        assert row.energy_j == pytest.approx(exact_j, abs=row.timing_uncertainty_j)
        assert row.timing_uncertainty_j < 0.2 * exact_j


def test_without_a_counter_long_phases_are_found_by_samples(measured):
    once = replace(PROTOCOL, repeats=1, repeats_max=1, phases="steps", window_s=2)
    engine, (window,) = measured(StandinGpu(uuid=A, counter=0), protocol=once,
                                 prefill_s=1.1, decode_s=1.3)  # fmt: skip
    assert window.reading.energy_method == "nvml_integrated"
    for phase, row in rows_of(window, PhaseMethod.STEPS).items():
        exact_j = engine.exact_j(phase, window)
        assert row.energy_j == pytest.approx(exact_j, abs=row.timing_uncertainty_j)
        assert row.timing_uncertainty_j < 0.25 * exact_j


def test_without_a_counter_short_phases_are_none(measured):
    once = replace(PROTOCOL, repeats=1, repeats_max=1, phases="steps")
    _, (window,) = measured(StandinGpu(uuid=A, counter=0), protocol=once)
    assert window.reading.energy_j is not None
    for row in rows_of(window, PhaseMethod.STEPS).values():
        assert (row.energy_j, row.reasons) == (None, ("phase_unresolved",))


RHYTHMS = {
    "steps": {"prefill_s": 0.2, "decode_s": 0.4},
    "batches": {"prefill_s": 0.04, "decode_s": 0.02, "pace_s": 0.1},
    "neither": {"prefill_s": 0.2, "decode_s": 0.52},
}


@pytest.mark.parametrize(
    ("rhythm", "counter", "marked"),
    [("steps", 0, True), ("batches", 0, True), ("neither", 0, False), ("steps", 1, False)],
)
def test_a_load_in_the_rhythm_of_the_sensor_is_marked_where_samples_are_all_there_is(
    task, rhythm, counter, marked
):
    """It looks every 0.1 s; 0.4 s are four steps of it, 0.52 s are not."""
    protocol = replace(PROTOCOL, phases="none", repeats=1, repeats_max=1)
    board = StandinGpu(uuid=A, counter=counter)
    _, done = task(board, protocol=protocol, pulses=True, **RHYTHMS[rhythm])
    (window,) = done.windows
    assert window.reading.energy_method == f"nvml_{'counter' if counter else 'integrated'}"
    assert ("aliased" in done.marks) == marked


def test_processes_that_cannot_be_listed_are_marked(task):
    protocol = replace(PROTOCOL, phases="none", repeats=1, repeats_max=1, window_s=0.5)
    _, done = task(StandinGpu(uuid=A), protocol=protocol)
    assert "processes_unknown" not in done.marks
    _, done = task(StandinGpu(uuid=B, failures=(("processes", 4, 1.0, 0.0),)), protocol=protocol)
    assert "processes_unknown" in done.marks


def test_a_board_that_is_lost_has_no_phases(measured):
    """Its window is voided; what is kept of it says why the phases are missing too."""
    once = replace(PROTOCOL, repeats=1, repeats_max=1, phases="steps", window_s=3)
    with pytest.raises(InvalidMeasurement, match="lost") as voided:
        measured(StandinGpu(uuid=A, lost_at=time.monotonic() + 2.5), protocol=once)
    (window,) = voided.value.measurement.windows
    for row in window.phases:
        assert (row.energy_j, row.reasons) == (None, ("no_energy",))
