"""Lists of requests offline: passes, batches, what a window says of them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from db.errors import InvalidMeasurement, TaskFault
from db.leases import Claim
from db.readings import Batch, Measurement, WindowKind
from db.records import MeasurementProtocol, Reality, Workload
from tests.engines.harness import BOARD, spec_of
from workers.engines.engine import GREEDY, Decoding, Request
from workers.engines.simulated import open_simulated
from workers.protocol import measure
from workers.rig import Rig
from workers.validity import Gates

PROTOCOL = MeasurementProtocol(
    name="test", window_s=1e-6, repeats=2, repeats_max=2, interval_target=1.0, warmup_max=5,
    warmup_agree=5, warmup_tolerance=0.5, idle_s=0.1, phases="none",
)  # fmt: skip
LIST = Workload(
    input_tokens=4096, output_tokens=64, batch_size=8, requests=20, lengths="generation"
)


class Recorder:
    """A simulated engine that remembers what it was asked, and says what it is told to."""

    def __init__(self, **said: Any) -> None:
        self.engine, self.meter, self.clock = open_simulated(spec_of("simulated"), BOARD, seed=1)
        self.engine.load()
        self.vocabulary = self.engine.vocabulary
        self.asked: list[tuple[Request, ...]] = []
        self.decodings: set[Decoding] = set()
        self._said = said

    def generate(self, requests: Sequence[Request], decoding: Decoding = GREEDY) -> Batch:
        self.asked.append(tuple(requests))
        self.decodings.add(decoding)
        return replace(self.engine.generate(requests), **self._said)

    def measure(
        self, workload: Workload, protocol: MeasurementProtocol = PROTOCOL,
        places: int | None = None,
    ) -> Measurement:  # fmt: skip
        rig = Rig(
            engine=self, meter=self.meter, clock=self.clock, gates=Gates(short_window_s=0.0),
            prefix_caching=False, traces=Path("/nowhere"), places=places,
        )  # fmt: skip
        claim = Claim(
            task_id=1, key="v1:x", lease_id=uuid.uuid4(), workload=workload, protocol=protocol,
            reality=Reality.SIMULATED, replicate=0,
        )  # fmt: skip
        return measure(rig, claim, lambda: None)


def sizes(engine: Recorder) -> list[int]:
    return [len(batch) for batch in engine.asked]


def test_a_static_list_is_passed_in_batches_after_a_warm_up_of_single_batches() -> None:
    engine = Recorder()
    done = engine.measure(LIST)
    assert sizes(engine) == [8] * 5 + [8, 8, 4] * 2
    assert [(w.batches, w.requests) for w in done.windows] == [(3, 20)] * 2
    assert done.warmup_batches == 5


def test_an_engine_that_compiles_is_warm_for_every_size_of_the_list() -> None:
    """Batches of 8, 8 and 4, each padded to a longest prompt of its own."""
    engine = Recorder(counters={"compiled_graphs": 0.0})
    done = engine.measure(LIST)
    assert sizes(engine) == [8] * 5 + [8, 4] + [8, 8, 4] * 2
    assert done.warmup_batches == 7
    alike = Recorder(counters={"compiled_graphs": 0.0})
    alike.measure(replace(LIST, lengths="fixed", input_tokens=64))
    assert sizes(alike) == [8] * 5 + [4] + [8, 8, 4] * 2


def test_a_window_that_paid_for_compiling_says_so() -> None:
    assert "compiled" in Recorder(counters={"compiled_graphs": 1.0}).measure(LIST).marks
    assert "compiled" not in Recorder(counters={"compiled_graphs": 0.0}).measure(LIST).marks


def test_a_list_at_once_is_one_batch_and_its_warm_up_is_not() -> None:
    engine = Recorder(running_mean=8.0)
    done = engine.measure(replace(LIST, arrival="at_once"))
    assert sizes(engine) == [8] * 5 + [20] * 2
    assert [(w.batches, w.requests) for w in done.windows] == [(1, 20)] * 2


def test_passes_are_whole_and_as_many_as_a_window_takes() -> None:
    """A pass takes some tenths of a virtual second."""
    engine = Recorder()
    done = engine.measure(LIST, replace(PROTOCOL, window_s=3.0))
    for window in done.windows:
        assert window.batches % 3 == 0
        assert window.batches > 3
        assert window.reading.duration_s >= 3.0


def test_every_pass_asks_for_the_same_lengths_with_prompts_of_its_own() -> None:
    engine = Recorder()
    engine.measure(LIST)
    first, second = ([r for batch in engine.asked[at : at + 3] for r in batch] for at in (5, 8))
    assert [len(r.prompt) for r in first] == [len(r.prompt) for r in second]
    assert len({len(r.prompt) for r in first}) > 10
    assert not {tuple(r.prompt) for r in first} & {tuple(r.prompt) for r in second}
    other = Recorder(running_mean=8.0)
    other.measure(replace(LIST, arrival="at_once"))
    assert [len(r.prompt) for r in other.asked[-1]] == [len(r.prompt) for r in first]


def test_windows_begin_with_prefixes_of_their_own() -> None:
    engine = Recorder()
    engine.measure(replace(LIST, lengths="fixed", input_tokens=64, prefix_tokens=16))
    first, second = engine.asked[5:8], engine.asked[8:11]
    assert len({tuple(r.prompt[:16]) for batch in first for r in batch}) == 1
    assert len({tuple(r.prompt[:16]) for batch in (*first, *second) for r in batch}) == 2


def test_running_mean_is_weighted_by_time_and_counters_are_summed() -> None:
    engine = Recorder(running_mean=5.0, counters={"drafts": 2.0})
    done = engine.measure(LIST)
    assert done.windows[0].running_mean == pytest.approx(5.0)
    assert done.windows[0].counters["drafts"] == 6.0
    assert Recorder(running_mean=None).measure(LIST).windows[0].running_mean is None


def test_what_was_left_out_for_its_length_is_counted_for_each_pass() -> None:
    short = replace(LIST, lengths="summarisation", input_tokens=600, requests=200)
    one = Recorder().measure(short).windows[0]
    several = Recorder().measure(short, replace(PROTOCOL, window_s=60.0)).windows[0]
    passes = several.requests / one.requests
    assert passes > 1
    assert one.counters["dropped_over_input_tokens"] > 200
    assert several.counters["dropped_over_input_tokens"] == pytest.approx(
        passes * one.counters["dropped_over_input_tokens"]
    )
    assert "dropped_over_input_tokens" not in Recorder().measure(
        replace(LIST, lengths="fixed")
    ).windows[0].counters  # fmt: skip


def test_tokens_are_chosen_as_asked_in_warm_up_and_windows() -> None:
    engine = Recorder()
    engine.measure(replace(LIST, decoding="beam", beams=4))
    assert engine.decodings == {Decoding(method="beam", beams=4)}


def test_the_prefill_run_passes_the_same_list_with_one_token() -> None:
    engine = Recorder()
    done = engine.measure(LIST, replace(PROTOCOL, phases="both"))
    kinds = [w.kind for w in done.windows]
    assert kinds == [WindowKind.REPEAT] * 2 + [WindowKind.PREFILL] * 2
    whole = [r for batch in engine.asked[5:8] for r in batch]
    short = [r for batch in engine.asked[-3:] for r in batch]
    assert [len(r.prompt) for r in short] == [len(r.prompt) for r in whole]
    assert {r.output_tokens for r in short} == {1}


def test_a_list_that_was_not_computed_together_as_it_could_be_voids() -> None:
    """Twenty equal requests in eight places are 6.7 at best, their last wave being half empty."""
    work = replace(LIST, lengths="fixed", input_tokens=64, arrival="at_once")
    with pytest.raises(InvalidMeasurement) as raised:
        Recorder(running_mean=5.9).measure(work)
    assert raised.value.gate == "batch_not_reached"
    assert Recorder(running_mean=6.1).measure(work).windows


def test_a_static_batch_that_the_engine_did_not_take_whole_voids() -> None:
    """Batches of 8, 8 and 4; an engine without places of its own computes them as they are."""
    work = replace(LIST, lengths="fixed", input_tokens=64)
    with pytest.raises(InvalidMeasurement) as raised:
        Recorder(running_mean=5.9).measure(work, places=8)
    assert raised.value.gate == "batch_not_reached"
    assert Recorder(running_mean=6.1).measure(work, places=8).windows
    assert Recorder(running_mean=5.9).measure(work).windows


def test_an_answer_that_is_another_requests_voids() -> None:
    class Swapping(Recorder):
        def generate(self, requests: Sequence[Request], decoding: Decoding = GREEDY) -> Batch:
            batch = super().generate(requests, decoding)
            return replace(batch, requests=batch.requests[::-1])

    with pytest.raises(InvalidMeasurement) as raised:
        Swapping().measure(LIST)
    assert raised.value.gate == "wrong_token_count"


def test_lengths_that_cannot_be_are_a_fault_for_good() -> None:
    with pytest.raises(TaskFault, match="generates 64") as raised:
        Recorder().measure(replace(LIST, output_tokens=8))
    assert raised.value.permanent
