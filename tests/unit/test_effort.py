"""What a task takes, by hand: its warm-up and its windows; and what the tasks of a plan take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from campaign.catalogue.catalog import load_catalog
from campaign.forecast.totals import BoardTotal, totals
from db.records import EngineSpec, MeasurementProtocol, Reality, Task, Workload
from workers.costs.cost import estimate
from workers.effort import Effort, Unit, effort_of, unit_of
from workers.shapes.shape import shape_of
from workers.workloads.lengths import means

PROTOCOL = MeasurementProtocol(
    name="test", window_s=5, repeats=3, repeats_max=9, interval_target=0.02, warmup_max=20,
    warmup_agree=2, warmup_tolerance=0.1, idle_s=1,
)  # fmt: skip
BOTH = replace(PROTOCOL, phases="both")
#: Passes of 2 s, of which half a second is prefill.
UNIT = Unit(seconds=2.0, batch_s=2.0, prefill_s=0.5, power_w=300.0, online=False, endless=False)

CATALOG = load_catalog()
BOARD = CATALOG.board("h100-sxm-80gb")
MODEL = CATALOG.model("meta-llama/Llama-3.1-8B")
ENGINE = EngineSpec(model=MODEL, backend="vllm", board=BOARD.slug)
BATCH = Workload(input_tokens=128, output_tokens=64, batch_size=4)


SHAPE = shape_of(MODEL.name, MODEL.architecture)
assert SHAPE is not None


def unit(work: Workload) -> Unit:
    found = unit_of(ENGINE, SHAPE, BOARD, work)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("protocol", "one", "seconds"),
    [
        (PROTOCOL, UNIT, 2 * 2.0 + 3 * 6.0),  # three passes fill a window
        (BOTH, UNIT, 2 * 2.0 + 3 * 6.0 + 3 * 5.0),  # and ten prefills one of theirs
        (replace(PROTOCOL, warmup_max=1), UNIT, 2.0 + 3 * 6.0),
        (BOTH, replace(UNIT, online=True, seconds=40.0), 2 * 2.0 + 3 * 40.0),
        (BOTH, replace(UNIT, online=True, endless=True), 2 * 5.0 / 5 + 3 * 5.0),
        (PROTOCOL, replace(UNIT, online=True, endless=True, batch_s=7.0), 7.0 + 3 * 5.0),
    ],
)
def test_a_task_takes_its_warm_up_and_its_windows(
    protocol: MeasurementProtocol, one: Unit, seconds: float
) -> None:
    assert effort_of(protocol, one) == Effort(seconds=seconds, energy_j=300.0 * seconds)


def test_what_is_not_known_takes_its_windows_and_no_joules() -> None:
    assert effort_of(PROTOCOL, None) == Effort(seconds=15.0, energy_j=None)
    assert effort_of(BOTH, None) == Effort(seconds=30.0, energy_j=None)
    assert effort_of(PROTOCOL, replace(UNIT, power_w=None)).energy_j is None


def test_requests_are_computed_in_whole_batches_unless_they_come_as_they_can() -> None:
    cost = estimate(ENGINE, SHAPE, BOARD, BATCH)
    for requests, arrival, batches in (
        (None, "static", 1),
        (10, "static", 3),
        (10, "at_once", 2.5),
    ):
        found = unit(replace(BATCH, requests=requests, arrival=arrival))
        assert found.batch_s == cost.e2e_s
        assert found.seconds == pytest.approx(batches * cost.e2e_s)
        assert found.prefill_s == pytest.approx(batches * cost.prefill.seconds)
        assert found.power_w == pytest.approx(cost.energy_j / cost.e2e_s)
        assert (found.online, found.endless, found.at_most) == (False, False, False)


def test_drawn_lengths_count_with_their_mean_and_no_more_than_the_most() -> None:
    drawn = replace(BATCH, lengths="generation", input_tokens=4096, output_tokens=4096)
    inputs, outputs = means(drawn)
    assert max(inputs, outputs) < 4096
    assert unit(drawn) == unit(
        replace(BATCH, input_tokens=round(inputs), output_tokens=round(outputs))
    )
    short = replace(drawn, input_tokens=4, output_tokens=8)
    assert unit(short) == unit(replace(short, lengths="fixed"))


def test_requests_take_as_long_as_they_need_to_arrive() -> None:
    slow = unit(replace(BATCH, requests=10, arrival="poisson", rate_rps=0.1))
    assert (slow.seconds, slow.online, slow.endless) == (100.0, True, False)
    endless = unit(replace(BATCH, arrival="poisson", rate_rps=0.1))
    assert (endless.seconds, endless.endless) == (40.0, True)


class Told:
    """Efforts as told: an hour and 5 J per request of a batch, half an hour and 1 J per load."""

    def task(self, task: Task) -> Effort:
        hours = task.workload.batch_size
        known = task.workload.output_tokens > 1
        return Effort(seconds=3600.0 * hours, energy_j=5.0 * hours if known else None)

    def load(self, engine: EngineSpec, protocol: MeasurementProtocol) -> Effort:
        return Effort(seconds=1800.0, energy_j=1.0)

    def lacking(self, engine: EngineSpec) -> str:
        return "power"

    def ceiling_w(self, engine: EngineSpec) -> float:
        return 700.0


def test_a_plan_takes_its_tasks_and_a_load_for_each_engine_and_replicate() -> None:
    pair = replace(ENGINE, board_count=2)
    tasks = [
        Task(key=f"{engine.board_count} {replicate} {batch} {tokens}", engine=engine,
             workload=replace(BATCH, batch_size=batch, output_tokens=tokens), protocol=PROTOCOL,
             reality=Reality.REAL, replicate=replicate)
        for engine, replicate, batch, tokens in (
            (ENGINE, 0, 1, 8), (ENGINE, 0, 2, 8), (ENGINE, 1, 1, 8), (pair, 0, 4, 1),
        )
    ]  # fmt: skip
    found = totals(tasks, Told(), lambda _: 8)[BOARD.slug]
    sessions_h = [3.5, 1.5, 4.5]
    assert found == BoardTotal(
        tasks=4, blind={"power": 1}, loads=3, board_h=3.5 + 1.5 + 2 * 4.5, session_h=9.5,
        longest_h=4.5, largest=2, joules=4 * 5.0 + 3 * 1.0,
        ceiling_j=700.0 * 3600 * sum(sessions_h), idled_h=7 * 3.5 + 7 * 1.5 + 6 * 4.5,
    )  # fmt: skip
