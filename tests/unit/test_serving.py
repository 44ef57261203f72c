"""Windows under load, against an engine whose every token is known."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from db.errors import InvalidMeasurement, LeaseLost, TaskFault
from db.leases import Claim
from db.readings import Measurement, Phase, Window, WindowKind
from db.records import MeasurementProtocol, Reality, Workload
from tests.unit.scripted import ScriptedEngine, Stopwatch
from workers.clock import MonotonicClock
from workers.engines.engine import Decoding
from workers.protocol import measure
from workers.rig import Rig
from workers.validity import Gates
from workers.workloads.latency import Deadlines

PROTOCOL = MeasurementProtocol(
    name="test", window_s=0.25, repeats=3, repeats_max=3, interval_target=1.0, warmup_max=4,
    warmup_agree=2, warmup_tolerance=0.5, idle_s=0.1, phases="both",
)  # fmt: skip
GATES = Gates(short_window_s=0.01, generator_late=1e9)
CLOSED = Workload(input_tokens=64, output_tokens=16, batch_size=4, arrival="closed")
OPEN = replace(CLOSED, arrival="poisson", rate_rps=50.0)


class Served:
    """One measurement on one scripted engine."""

    def __init__(self, engine: ScriptedEngine, tmp_path: Path) -> None:
        self.engine, self.meter, self._tmp_path = engine, Stopwatch(), tmp_path

    def measure(
        self, workload: Workload, *, protocol: MeasurementProtocol = PROTOCOL,
        gates: Gates = GATES, checkpoint: Callable[[], None] = lambda: None, **rig: Any,
    ) -> Measurement:  # fmt: skip
        made = Rig(
            engine=self.engine, meter=self.meter, clock=MonotonicClock(), gates=gates,
            **{"prefix_caching": False, "traces": self._tmp_path} | rig,
        )  # fmt: skip
        claim = Claim(
            task_id=1, key="v1:x", lease_id=uuid.uuid4(), workload=workload, protocol=protocol,
            reality=Reality.SIMULATED, replicate=0,
        )  # fmt: skip
        return measure(made, claim, checkpoint)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    made: list[ScriptedEngine] = []

    def serve(**changes: Any) -> Served:
        made.append(ScriptedEngine(**changes))
        return Served(made[-1], tmp_path)

    yield serve
    for engine in made:
        engine.close()


def tokens_in(engine: ScriptedEngine, window: Window) -> int:
    edges = window.reading.started_ns, window.reading.ended_ns
    return sum(count for at_ns, count in engine.stamps if edges[0] <= at_ns < edges[1])


# ---- windows cut from a load that goes on --------------------------------------------------------


def test_tokens_count_by_their_own_time_and_joules_are_the_windows(served: Any) -> None:
    one = served()
    done = one.measure(CLOSED)
    assert [w.kind for w in done.windows] == [WindowKind.REPEAT] * 3
    assert [w.reading for w in done.windows] == one.meter.readings
    for window in done.windows:
        assert window.output_tokens == tokens_in(one.engine, window) > 0
        assert window.reading.energy_j == pytest.approx(100 * window.reading.duration_s)
        assert window.reading.duration_s == pytest.approx(0.25, abs=0.1)
        assert window.batches == 0
    assert done.marks == ()


def test_the_load_goes_on_between_windows_and_ends_after_them(served: Any) -> None:
    one = served()
    done = one.measure(CLOSED)
    for earlier, later in pairwise(done.windows):
        gap = earlier.reading.ended_ns, later.reading.started_ns
        assert any(gap[0] <= at_ns < gap[1] for at_ns, _ in one.engine.stamps)
    assert one.engine.together == 0
    assert sum(r.output_tokens for _, r in one.engine.submitted) == len(one.engine.stamps)
    assert "load" not in {thread.name for thread in threading.enumerate()}


def test_requests_across_an_edge_are_told_apart_and_have_no_latency(served: Any) -> None:
    """Answers as long as half a window: at each edge four clients wait for theirs."""
    one = served(step_s=0.004)
    one.meter = Stopwatch(opening_s=0.15)  # many end between the windows
    done = one.measure(replace(CLOSED, output_tokens=32))
    for window in done.windows:
        edges = window.reading.started_ns, window.reading.ended_ns
        assert 4 <= window.straddling <= 8
        assert window.requests == sum(edges[0] <= at < edges[1] for at in one.engine.ends_ns) >= 4
        assert window.latencies["e2e_s"]["mean"] == pytest.approx(0.128, rel=0.25)
        assert window.e2e_s == window.latencies["e2e_s"]["mean"]
        assert window.itl_s == pytest.approx(0.004, rel=0.25)
        assert window.ttft_s is not None
        assert window.ttft_s < 0.02


def test_a_closed_load_keeps_its_clients_busy_and_no_more(served: Any) -> None:
    one = served()
    done = one.measure(CLOSED)
    assert one.engine.most_together == 4
    for window in done.windows:
        assert window.running_mean == pytest.approx(4.0, abs=0.3)


def test_prompts_are_fresh_and_tokens_are_chosen_as_asked(served: Any) -> None:
    one = served()
    one.measure(replace(CLOSED, prefix_tokens=8, decoding="sample", temperature=0.7, top_p=0.9))
    prompts = [tuple(request.prompt) for _, request in one.engine.submitted]
    assert len(set(prompts)) == len(prompts)
    assert len({prompt[:8] for prompt in prompts}) == 1
    assert set(one.engine.decodings) == {Decoding(method="sample", temperature=0.7, top_p=0.9)}


@pytest.mark.parametrize("arrival", ["poisson", "constant"])
def test_an_open_load_arrives_at_its_rate_whatever_the_engine_does(
    served: Any, arrival: str
) -> None:
    one = served(places=64)
    one.measure(replace(OPEN, arrival=arrival, rate_rps=200.0))
    times = [at_ns for at_ns, _ in one.engine.submitted]
    rate = (len(times) - 1) * 1e9 / (times[-1] - times[0])
    assert rate == pytest.approx(200.0, rel=0.25)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    if arrival == "constant":
        assert sorted(gaps)[len(gaps) // 2] == pytest.approx(5e6, rel=0.2)


def test_no_phase_occurs_alone_under_load(served: Any) -> None:
    done = served().measure(CLOSED)
    for window in done.windows:
        assert [(p.phase, p.energy_j, p.reasons) for p in window.phases] == [
            (phase, None, ("phases_mixed",)) for phase in (Phase.PREFILL, Phase.DECODE) * 2
        ]


def test_warm_up_goes_on_until_every_client_was_answered(served: Any) -> None:
    """Answers take 0.32 s, four slices 0.2 s."""
    done = served(step_s=0.005).measure(replace(CLOSED, output_tokens=64))
    assert done.warmup_batches >= 6
    assert done.windows[0].requests >= 0


def test_warm_up_goes_on_while_throughput_still_changes(served: Any) -> None:
    """Each step is four per cent shorter than the one before, for the first 60 steps."""
    patient = replace(
        PROTOCOL, window_s=1.0, repeats=1, warmup_max=60, warmup_tolerance=0.1, warmup_agree=3
    )
    one = served(slow=lambda step: max(1.0, 12 * 0.96**step))
    done = one.measure(CLOSED, protocol=patient)
    steps = {at_ns for at_ns, _ in one.engine.stamps}
    assert sum(at_ns < done.windows[0].reading.started_ns for at_ns in steps) >= 45


def test_repeats_go_on_until_the_interval_is_narrow_or_the_cap(served: Any) -> None:
    narrow = replace(PROTOCOL, interval_target=1e-9, repeats_max=5)
    done = served().measure(CLOSED, protocol=narrow)
    assert [w.ordinal for w in done.windows] == [0, 1, 2, 3, 4]
    assert "interval_wide" in done.marks


# ---- whole lists ---------------------------------------------------------------------------------


def test_a_list_is_one_window_from_its_first_arrival_to_its_last_token(served: Any) -> None:
    one = served()
    done = one.measure(replace(OPEN, requests=12, rate_rps=200.0))
    for window in done.windows:
        assert (window.requests, window.straddling) == (12, 0)
        assert (window.input_tokens, window.output_tokens) == (12 * 64, 12 * 16)
    assert one.engine.together == 0
    assert done.warmup_batches >= 2


def test_a_trace_is_replayed_at_its_own_times(served: Any, tmp_path: Path) -> None:
    from workers.workloads.tracefiles import adopt

    rows = [(0.0, 10, 3), (0.08, 20, 5), (0.1, 30, 2), (0.3, 40, 4)]
    lines = ["Timestamp,Request tokens,Response tokens", *(f"{t},{i},{o}" for t, i, o in rows)]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    lengths = adopt(tmp_path / "mine.csv", tmp_path)
    one = served()
    done = one.measure(replace(CLOSED, arrival="trace", lengths=lengths, requests=4, batch_size=1))
    assert all(w.output_tokens == 14 for w in done.windows)
    assert all(w.counters["dropped_over_input_tokens"] == 0 for w in done.windows)
    last = one.engine.submitted[-4:]
    assert [(len(r.prompt), r.output_tokens) for _, r in last] == [(i, o) for _, i, o in rows]
    offsets = [(at_ns - last[0][0]) / 1e9 for at_ns, _ in last]
    assert offsets == pytest.approx([0.0, 0.08, 0.1, 0.3], abs=0.02)


# ---- gates and marks -----------------------------------------------------------------------------


def test_a_batch_that_the_engine_does_not_reach_voids_and_keeps_its_windows(served: Any) -> None:
    """Four clients, room for three."""
    with pytest.raises(InvalidMeasurement, match="computed together in the mean") as raised:
        served(places=3).measure(CLOSED)
    assert raised.value.gate == "batch_not_reached"
    assert raised.value.measurement is not None
    assert len(raised.value.measurement.windows) == 3


def test_an_open_load_need_not_fill_its_places(served: Any) -> None:
    done = served(places=64).measure(replace(OPEN, batch_size=64))
    assert done.windows[0].running_mean is not None
    assert done.windows[0].running_mean < 10


def test_cache_hits_void_unless_they_were_asked_for(served: Any) -> None:
    with pytest.raises(InvalidMeasurement, match="prefix cache") as raised:
        served(hits=4).measure(CLOSED)
    assert raised.value.gate == "prefix_cache_hit"
    done = served(hits=4).measure(CLOSED, prefix_caching=True)
    assert all(w.prefix_cache_hit_tokens for w in done.windows)


def test_an_answer_of_another_length_voids(served: Any) -> None:
    with pytest.raises(InvalidMeasurement, match="not \\(64, 16\\)") as raised:
        served(short=1).measure(CLOSED)
    assert raised.value.gate == "wrong_token_count"


def test_a_window_without_a_token_voids(served: Any) -> None:
    calm = replace(PROTOCOL, warmup_max=0, window_s=0.1)
    with pytest.raises(InvalidMeasurement, match="no token came in"):
        served(step_s=0.5).measure(replace(CLOSED, output_tokens=1), protocol=calm)


def test_what_marks_a_load(served: Any) -> None:
    assert served(preempted=1).measure(CLOSED).marks == ("preempted",)
    late = served().measure(OPEN, gates=replace(GATES, generator_late=0.0))
    assert late.marks == ("generator_late",)


def test_a_load_that_is_more_than_the_engine_can_do_is_marked_and_still_ends(served: Any) -> None:
    """400 requests per second arrive, 4 places of 16 tokens in 2 ms steps answer 125."""
    one = served(places=4)
    done = one.measure(replace(OPEN, rate_rps=400.0))
    assert "overloaded" in done.marks
    assert one.engine.together == 0


def test_goodput_is_counted_where_deadlines_are_set(served: Any) -> None:
    done = served().measure(OPEN)
    assert "good_requests" not in done.windows[0].counters
    assert "deadlines_ms" not in done.windows[0].latencies
    strict = served().measure(OPEN, deadlines=Deadlines(ttft_s=1e-9))
    easy = served().measure(OPEN, deadlines=Deadlines(ttft_s=10.0, tpot_s=1.0))
    assert all(w.counters["good_requests"] == 0 for w in strict.windows)
    assert all(w.counters["good_requests"] == w.requests for w in easy.windows)
    asked = {"ttft": 10_000.0, "tpot": 1_000.0}
    assert [w.latencies["deadlines_ms"] for w in easy.windows] == [asked] * len(easy.windows)


# ---- what ends a measurement ---------------------------------------------------------------------


@pytest.mark.parametrize("workload", [CLOSED, replace(CLOSED, requests=400)])
def test_a_failed_request_is_a_fault_and_leaves_meter_and_engine_free(
    served: Any, workload: Workload
) -> None:
    one = served(fail_at=100)
    with pytest.raises(TaskFault, match="told to") as raised:
        one.measure(workload)
    assert raised.value.kind == "out_of_memory"
    assert (one.meter.opened_ns, one.engine.together) == (None, 0)


@pytest.mark.parametrize("workload", [CLOSED, replace(CLOSED, requests=4000)])
def test_a_lost_lease_ends_the_load_within_a_window(served: Any, workload: Workload) -> None:
    one = served()
    lost = threading.Event()

    def checkpoint() -> None:
        if one.meter.opened_ns is not None:
            lost.set()
            raise LeaseLost("taken back")

    with pytest.raises(LeaseLost):
        one.measure(workload, checkpoint=checkpoint)
    assert lost.is_set()
    assert (one.meter.opened_ns, one.engine.together) == (None, 0)


def test_an_engine_that_takes_no_requests_under_load_says_so(served: Any) -> None:
    class Offline:
        vocabulary = 1000

    one = served()
    one.engine, engine = Offline(), one.engine
    with pytest.raises(TaskFault, match="engine\\.mode=online") as raised:
        one.measure(CLOSED)
    assert raised.value.permanent
    one.engine = engine


def test_a_task_with_a_trace_that_is_not_here_faults_for_good(served: Any) -> None:
    workload = replace(CLOSED, arrival="trace", lengths="azure-2023-code")
    with pytest.raises(TaskFault, match="campaign fetch azure-2023-code") as raised:
        served().measure(workload)
    assert raised.value.permanent


@pytest.mark.parametrize("arrival", ["at_once", "poisson"])
def test_an_engine_with_other_places_than_the_batch_is_refused_before_it_is_measured(
    served: Any, arrival: str
) -> None:
    """It would compute eight together, and the row would say four."""
    one = served()
    rate = 50.0 if arrival == "poisson" else None
    workload = replace(CLOSED, arrival=arrival, rate_rps=rate, requests=CLOSED.batch_size + 1)
    with pytest.raises(TaskFault, match="up to 8 requests together") as raised:
        one.measure(workload, places=8)
    assert raised.value.permanent
    assert one.engine.submitted == []
    assert one.measure(CLOSED, places=8).windows
