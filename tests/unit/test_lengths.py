"""Lengths of requests: fixed, of the classical tasks, of traces; what is too long is counted."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from db.errors import ConfigError, TaskFault
from db.records import Workload
from workers.workloads import tracefiles
from workers.workloads.batching import reachable_mean
from workers.workloads.lengths import Pair, means, names, problem, tasks
from workers.workloads.lognormal import fitted
from workers.workloads.tracefiles import adopt, resolve
from workers.workloads.traces import order_of
from workers.workloads.worklist import Worklist, open_lengths

ROWS = ((0.0, 100, 10), (1.5, 9000, 20), (2.0, 200, 900), (4.0, 300, 30), (8.0, 400, 40))


def workload(lengths: str = "fixed", **changes: Any) -> Workload:
    return Workload(
        **{"input_tokens": 4096, "output_tokens": 64, "batch_size": 4, "lengths": lengths} | changes
    )


def trace(folder: Path, rows: Any = ROWS, name: str = "mine") -> str:
    """Keep a trace of these rows; returns its name."""
    path = folder / f"{name}.csv"
    lines = [f"2024-05-12 00:00:{at:09.6f}+00:00,{i},{o}" for at, i, o in rows]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]) + "\n")
    return adopt(path, folder / "traces")


def drawn(work: Workload, count: int, folder: Path = Path("/nowhere")) -> list[Pair]:
    return list(islice(open_lengths(work, folder).drawn(), count))


def worklist(work: Workload, folder: Path = Path("/nowhere"), **changes: Any) -> Worklist:
    return Worklist(work, vocabulary=1000, seed="x", traces=folder, **changes)


# ---- the words -----------------------------------------------------------------------------------


def test_the_words_are_fixed_the_tasks_and_the_traces() -> None:
    assert names()[:3] == ("fixed", "translation", "generation")
    assert {"azure-2023-code", "azure-2024-conv", "burstgpt-2-without-fails"} < set(names())


def test_fixed_lengths_are_all_alike() -> None:
    assert drawn(workload(), 3) == [(4096, 64)] * 3


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (workload("azure-2025-conv"), "azure-2025-conv is none of fixed, translation"),
        (workload("my.csv"), "nor a file written ./like/this"),
        (workload(arrival="trace"), "arrival=trace needs the times of a trace"),
        (workload("summarisation", arrival="trace"), "lengths=summarisation has none"),
        (workload("translation", output_tokens=63), "leaves out every request"),
    ],
)
def test_lengths_that_contradict_themselves_are_said_in_a_line(work: Workload, words: str) -> None:
    said = problem(work)
    assert said is not None
    assert words in said
    assert "\n" not in said
    with pytest.raises(TaskFault, match="workload") as raised:
        worklist(work)
    assert raised.value.permanent


@pytest.mark.parametrize("lengths", ["fixed", "translation", "azure-2023-code", "./x.csv"])
def test_lengths_that_are_known_are_no_problem(lengths: str) -> None:
    assert problem(workload(lengths)) is None


def test_means_are_the_published_ones() -> None:
    assert means(workload()) == (4096, 64)
    assert means(workload("classification")) == (292.48, 1)
    assert means(workload("azure-2023-conv")) == (1154.70, 211.13)
    assert means(workload("azure-2024-code@0123456789ab")) == (2511.28, 22.69)
    assert means(workload("burstgpt-1")) is None


# ---- the classical tasks -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["translation", "generation", "classification", "summarisation"])
@pytest.mark.parametrize("count", [1024, 4096])
def test_the_examples_of_a_run_have_the_moments_of_the_paper(name: str, count: int) -> None:
    """arXiv:2504.17674 Table 3: mean and standard deviation within a per cent, none beyond the
    longest, and the longest nearly reached."""
    task = tasks()[name]
    found = drawn(workload(name), count)
    inputs = [tokens for tokens, _ in found]
    assert statistics.fmean(inputs) == pytest.approx(task.input_mean, rel=0.01)
    assert statistics.pstdev(inputs) == pytest.approx(task.input_std, rel=0.01)
    assert 0.7 * task.input_max < max(inputs) <= task.input_max
    assert min(inputs) >= 1
    assert {output for _, output in found} == {task.output_tokens}


def test_neighbours_are_not_alike() -> None:
    """The order is random: the mean of batches spreads as that of independent draws does."""
    inputs = [tokens for tokens, _ in drawn(workload("summarisation"), 1024)]
    batches = [statistics.fmean(inputs[at : at + 16]) for at in range(0, 1024, 16)]
    assert statistics.stdev(batches) == pytest.approx(400.70 / 4, rel=0.25)


def test_the_same_examples_are_drawn_for_every_engine_and_every_arrival() -> None:
    static = worklist(workload("generation", requests=64))
    closed = worklist(workload("generation", requests=64, arrival="closed", batch_size=8))
    assert static.once == closed.once


def test_examples_that_are_too_long_are_left_out_and_counted_not_clipped() -> None:
    """As many as the fitted distribution has beyond 512 tokens."""
    lengths = open_lengths(workload("summarisation", input_tokens=512), Path("/nowhere"))
    inputs = [tokens for tokens, _ in islice(lengths.drawn(), 1024)]
    assert max(inputs) <= 512
    assert inputs.count(512) < 10
    share = fitted(838.49, 400.70, 2386).share(512.5)
    left_out = lengths.dropped["over_input_tokens"]
    assert left_out / (1024 + left_out) == pytest.approx(1 - share, abs=0.02)


def test_a_most_that_leaves_hardly_an_example_is_refused() -> None:
    with pytest.raises(ConfigError, match="summarisation: its prompts have 838 tokens"):
        open_lengths(workload("summarisation", input_tokens=64), Path("/nowhere"))


def test_a_distribution_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no lognormal below 100"):
        fitted(99.0, 300.0, 100)


# ---- traces --------------------------------------------------------------------------------------


def test_rows_of_a_trace_keep_prompt_and_output_together(tmp_path: Path) -> None:
    lengths = trace(tmp_path)
    found = drawn(workload(lengths), 300, tmp_path / "traces")
    assert set(found) == {(100, 10), (300, 30), (400, 40)}


def test_what_is_too_long_is_left_out_and_counted(tmp_path: Path) -> None:
    work = workload(trace(tmp_path), requests=3000)
    made = worklist(work, tmp_path / "traces")
    assert made.left_out["dropped_over_input_tokens"] == pytest.approx(1000, rel=0.15)
    assert made.left_out["dropped_over_output_tokens"] == pytest.approx(1000, rel=0.15)


def test_a_replay_takes_the_rows_in_order_with_their_times(tmp_path: Path) -> None:
    shuffled = (ROWS[3], ROWS[0], ROWS[4], ROWS[1], ROWS[2])
    for rows in (ROWS, shuffled):
        work = workload(trace(tmp_path, rows), arrival="trace")
        made = worklist(work, tmp_path / "traces")
        assert list(islice(made.lengths(), 4)) == [(100, 10), (300, 30), (400, 40), (100, 10)]
        assert list(islice(made.arrivals_s(), 5)) == pytest.approx([0, 4, 8, 12, 16])


def test_a_replay_of_some_requests_stretches_those(tmp_path: Path) -> None:
    work = workload(trace(tmp_path), arrival="trace", requests=2, rate_rps=0.5, batch_size=1)
    made = worklist(work, tmp_path / "traces")
    assert made.once == ((100, 10), (300, 30))
    assert list(islice(made.arrivals_s(), 2)) == pytest.approx([0, 2])


def test_a_replay_of_more_requests_than_there_are_begins_again(tmp_path: Path) -> None:
    work = workload(trace(tmp_path), arrival="trace", requests=7)
    assert worklist(work, tmp_path / "traces").once[3:6] == ((100, 10), (300, 30), (400, 40))


def test_a_trace_of_which_nothing_fits_is_refused(tmp_path: Path) -> None:
    work = workload(trace(tmp_path), output_tokens=9)
    with pytest.raises(TaskFault, match="leave out every request"):
        worklist(work, tmp_path / "traces")


def test_a_trace_that_is_not_there_says_what_brings_it(tmp_path: Path) -> None:
    for lengths, fix in (
        ("azure-2023-conv", "`campaign fetch azure-2023-conv` brings it"),
        ("azure-2024-code@0123456789ab", "`campaign fetch azure-2024-code` brings it"),
        ("mine@0123456789ab", "`campaign fetch ./mine.csv` keeps a copy"),
    ):
        with pytest.raises(ConfigError, match=fix):
            open_lengths(workload(lengths), tmp_path)


def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    lengths = trace(tmp_path)
    kept = tmp_path / "traces" / f"{lengths}.csv"
    kept.write_text(kept.read_text().replace("100,10", "100,11"))
    with pytest.raises(ConfigError, match="its SHA-256 begins with"):
        open_lengths(workload(lengths), tmp_path / "traces")


# ---- the name that says what is measured ---------------------------------------------------------


def test_a_file_is_named_by_its_content(tmp_path: Path) -> None:
    first = trace(tmp_path)
    digest = hashlib.sha256((tmp_path / "mine.csv").read_bytes()).hexdigest()
    assert first == f"mine@{digest[:12]}"
    assert trace(tmp_path, ROWS[:2]) != first
    assert resolve(first, tmp_path) == first


def test_a_campaign_continues_when_the_original_is_gone(tmp_path: Path) -> None:
    lengths = trace(tmp_path)
    (tmp_path / "mine.csv").unlink()
    assert drawn(workload(lengths), 1, tmp_path / "traces")


@pytest.mark.parametrize("lengths", ["fixed", "translation", "azure-2023-conv", "burstgpt-1"])
def test_what_has_a_published_checksum_is_its_own_name(lengths: str, tmp_path: Path) -> None:
    assert resolve(lengths, tmp_path) == lengths


def test_a_file_is_read_where_it_lies(tmp_path: Path) -> None:
    kept = trace(tmp_path)
    assert resolve(str(tmp_path / "mine.csv"), tmp_path / "elsewhere") == kept
    assert not (tmp_path / "elsewhere").exists()


def test_a_trace_without_a_published_checksum_is_named_by_the_file_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="campaign fetch azure-2024-code"):
        resolve("azure-2024-code", tmp_path)
    trace(tmp_path)
    file = tmp_path / tracefiles.listed()["azure-2024-code"].file
    (tmp_path / "mine.csv").rename(file)
    resolved = resolve("azure-2024-code", tmp_path)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert resolved == f"azure-2024-code@{digest[:12]}"
    with pytest.raises(ConfigError, match="it has 16,803,695 rows, this file 5"):
        open_lengths(workload(resolved), tmp_path)
    known = tracefiles.listed()
    complete = known | {"azure-2024-code": replace(known["azure-2024-code"], rows=len(ROWS))}
    monkeypatch.setattr("workers.workloads.tracefiles.listed", lambda: complete)
    assert drawn(workload(resolved), 1, tmp_path)


def test_a_file_that_is_no_trace_is_refused_when_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="its first line is 'a,b'"):
        resolve(str(tmp_path / "notes.csv"), tmp_path / "traces")
    assert not (tmp_path / "traces").exists()


# ---- lists ---------------------------------------------------------------------------------------


def test_a_list_is_handed_over_in_batches_or_at_once() -> None:
    static = worklist(workload("translation", requests=10))
    assert [len(batch) for batch in static.batches()] == [4, 4, 2]
    assert [pair for batch in static.batches() for pair in batch] == list(static.once)
    assert static.first == static.once[:4]
    at_once = worklist(workload("translation", requests=10, arrival="at_once"))
    assert list(at_once.batches()) == [at_once.once]


def test_without_a_number_of_requests_a_list_is_one_batch() -> None:
    assert worklist(workload()).once == ((4096, 64),) * 4


def test_the_prefill_run_has_the_same_prompts_with_one_token() -> None:
    whole = worklist(workload("generation", requests=50))
    short = worklist(workload("generation", requests=50), output_tokens=1)
    assert [i for i, _ in short.once] == [i for i, _ in whole.once]
    assert {o for _, o in short.once} == {1}


def test_requests_are_as_long_as_asked_and_never_the_same() -> None:
    made = worklist(workload("translation"))
    first, again = made.requests(made.once), made.requests(made.once)
    assert [(len(r.prompt), r.output_tokens) for r in first] == list(made.once)
    assert not {tuple(r.prompt) for r in first} & {tuple(r.prompt) for r in again}


# ---- what an engine could reach ------------------------------------------------------------------


def by_steps(lengths: list[Pair], places: int, budget: int) -> Iterator[int]:
    """The same schedule, one step after another: requests computed together in each."""
    waiting, running = list(lengths), []
    while waiting or running:
        left = max(1, budget - sum(1 for r in running if r[0] == 0))
        grown = [r for r in running if r[0] == 0]
        for request in running:
            taken = min(left, request[0])
            request[0] -= taken
            left -= taken
            if taken and request[0] == 0:
                grown.append(request)
        while left and waiting and len(running) < places:
            prompt, output = waiting.pop(0)
            taken = min(left, prompt)
            left -= taken
            running.append([prompt - taken, output])
            if taken == prompt:
                grown.append(running[-1])
        yield len(running)
        for request in grown:
            request[1] -= 1
        running = [r for r in running if r[1] > 0]


@pytest.mark.parametrize(
    ("lengths", "places", "budget"),
    [
        ([(8, 10)] * 4, 4, 100),
        ([(8, 10)] * 9, 4, 100),
        ([(50, 7), (130, 3), (10, 1), (40, 12)] * 5, 4, 64),
        ([(300, 1)] * 40, 16, 256),
        ([(512, 64)] * 64, 64, 2048),
    ],
)
def test_what_could_be_reached_is_what_the_schedule_gives(
    lengths: list[Pair], places: int, budget: int
) -> None:
    steps = list(by_steps(lengths, places, budget))
    assert reachable_mean([lengths], places, budget) == pytest.approx(statistics.fmean(steps))


def test_of_batches_one_after_another_every_step_counts() -> None:
    batches: list[list[Pair]] = [[(8, 10)] * 4, [(8, 10)] * 4, [(8, 10)]]
    assert reachable_mean(batches, 4, 100) == pytest.approx((40 + 40 + 10) / 30)


def test_only_batches_and_clients_are_for_the_engine_to_reach() -> None:
    reached = {
        arrival: worklist(
            workload(arrival=arrival, input_tokens=64, rate_rps=1.0 if rated else None)
        ).reachable(None, 0, 4)
        for arrival, rated in (
            ("static", False), ("at_once", False), ("closed", False),
            ("poisson", True), ("constant", True),
        )
    }  # fmt: skip
    assert reached["static"] == reached["at_once"] == pytest.approx(4.0)
    assert 3.0 < reached["closed"] < 4.0
    assert reached["poisson"] is reached["constant"] is None


def test_one_batch_is_not_expected_to_overlap_with_another() -> None:
    """A hundred prompts of 900 tokens take 44 steps of 2,048; nothing fills what is left free."""
    work = workload(arrival="at_once", input_tokens=900, output_tokens=100, batch_size=100)
    steps = list(by_steps([(900, 100)] * 100, 100, 2048))
    assert worklist(work).reachable(2048, 0, 100) == pytest.approx(statistics.fmean(steps))
    assert statistics.fmean(steps) < 70


def test_fewer_places_than_a_static_batch_has_are_all_that_can_be_reached() -> None:
    assert worklist(workload(input_tokens=64)).reachable(None, 0, 2) == pytest.approx(2.0)


def test_what_could_be_reached_is_not_asked_where_nobody_can_tell(tmp_path: Path) -> None:
    static = workload(input_tokens=64)
    assert worklist(static).reachable(None, 0, None) is None  # it computes a batch as it is
    unlike = workload(trace(tmp_path), output_tokens=4096)
    assert worklist(unlike, tmp_path / "traces").reachable(None, 0, 4) is None
    for arrival in ("static", "at_once"):
        beams = workload(arrival=arrival, input_tokens=64, decoding="beam", beams=2)
        assert worklist(beams).reachable(None, 0, 8) is None


def test_order_of_a_sorted_trace_takes_no_memory(tmp_path: Path) -> None:
    from workers.workloads.traces import read_trace

    trace(tmp_path)
    assert isinstance(order_of(read_trace(tmp_path / "mine.csv")), range)


@pytest.mark.parametrize(("output", "reached"), [(1, 2.0), (4, 3.2), (31, 3.875)])
def test_a_client_that_asks_after_its_answer_misses_a_step(output: int, reached: float) -> None:
    work = workload(arrival="closed", input_tokens=8, output_tokens=output)
    assert worklist(work).reachable(None, 0, 4) == pytest.approx(reached, rel=0.01)
