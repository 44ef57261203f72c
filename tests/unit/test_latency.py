"""Latencies of requests under load, by the definitions of `vllm bench serve`."""

from __future__ import annotations

import random

import numpy as np
import pytest

from db.readings import RequestTiming
from workers.workloads.latency import Course, Deadlines, good, latencies, percentile, summary

S = 1_000_000_000


def course(*stamps_s: float, due_s=0.0, sent_s=None, ended_s=None, counts=None) -> Course:
    """A request of 100 prompt tokens whose tokens came at these seconds."""
    made = Course(
        due_ns=round(due_s * S),
        sent_ns=round((due_s if sent_s is None else sent_s) * S),
        input_tokens=100,
        output_tokens=len(stamps_s),
    )
    for at_s, count in zip(stamps_s, counts or [1] * len(stamps_s), strict=True):
        made.tokens(round(at_s * S), count)
    if ended_s is None or ended_s >= 0:
        made.ended(round((stamps_s[-1] if ended_s is None else ended_s) * S), None)
    return made


RUNNING = -1.0


def test_time_to_first_token_counts_from_when_a_request_should_have_been_sent() -> None:
    """Sent half a second late: that half second is part of what its user waits."""
    found = latencies([course(2.0, 2.5, due_s=1.0, sent_s=1.5)])
    assert found["ttft_s"]["mean"] == pytest.approx(1.0)
    assert found["e2e_s"]["mean"] == pytest.approx(1.5)
    assert found["late_s"]["mean"] == pytest.approx(0.5)


def test_time_per_output_token_is_of_a_request_and_inter_token_latency_of_all_gaps() -> None:
    """Two requests: gaps of 1 s three times, and one of 0.2 s. TPOT weighs requests, ITL gaps."""
    found = latencies([course(1.0, 2.0, 3.0, 4.0), course(1.0, 1.2)])
    assert found["tpot_s"]["mean"] == pytest.approx((1.0 + 0.2) / 2)
    assert found["itl_s"]["mean"] == pytest.approx(3.2 / 4)


def test_tokens_that_come_together_are_one_delivery_but_count_each() -> None:
    """Five tokens in two deliveries: one gap of 0.8 s over four tokens after the first."""
    found = latencies([course(1.0, 1.8, counts=[2, 3])])
    assert found["itl_s"]["mean"] == pytest.approx(0.8)
    assert found["tpot_s"]["mean"] == pytest.approx(0.2)


def test_a_single_token_has_no_time_per_token() -> None:
    found = latencies([course(1.0)])
    assert set(found) == {"ttft_s", "e2e_s", "late_s"}
    assert latencies([]) == {}


def test_percentiles_are_those_of_numpy() -> None:
    chance = random.Random(3)
    for size in (1, 2, 3, 10, 101, 1000):
        values = [chance.expovariate(1) for _ in range(size)]
        found = summary(values)
        assert found["mean"] == pytest.approx(np.mean(values))
        for share in (50, 90, 95, 99):
            assert found[f"p{share}"] == pytest.approx(np.percentile(values, share))
    assert percentile([1.0, 2.0], 50) == 1.5


def test_tokens_count_where_they_came_start_included_end_not() -> None:
    made = course(1.0, 2.0, 3.0, 4.0, counts=[1, 2, 4, 8])
    assert made.tokens_in(1 * S, 3 * S) == 3
    assert made.tokens_in(3 * S, 5 * S) == 12
    assert sum(made.tokens_in(at * S, (at + 1) * S) for at in range(6)) == 15


def test_a_prompt_counts_once_where_its_first_token_came() -> None:
    made = course(1.5, 2.5)
    windows = [(0, S), (S, 2 * S), (2 * S, 3 * S)]
    assert [made.prompt_in(*edges) for edges in windows] == [0, 100, 0]
    assert course(ended_s=RUNNING).prompt_in(0, S) == 0


@pytest.mark.parametrize(
    ("made", "straddles", "ended"),
    [
        (course(2.0, 3.0, due_s=1.5), False, True),
        (course(2.0, 3.0, due_s=0.5), True, True),
        (course(2.0, 5.0, due_s=1.5), True, False),
        (course(2.0, 5.0, due_s=0.5), True, False),
        (course(2.0, due_s=1.5, ended_s=RUNNING), True, False),
        (course(0.5, 0.7, due_s=0.1), False, False),
        (course(4.5, due_s=4.2), False, False),
        (course(3.0, 4.0, due_s=1.0), True, False),
    ],
)
def test_what_crosses_an_edge_straddles(made: Course, straddles: bool, ended: bool) -> None:
    """The window is [1 s, 4 s); the last is sent at its start and ends at its end."""
    if made.sent_ns == S:
        made.sent_ns -= 1
    assert made.straddles(1 * S, 4 * S) is straddles
    assert made.ended_in(1 * S, 4 * S) is ended


def test_goodput_counts_requests_that_met_every_deadline() -> None:
    timings = [
        RequestTiming(input_tokens=1, output_tokens=11, ttft_s=ttft, e2e_s=ttft + 10 * tpot)
        for ttft, tpot in ((0.1, 0.01), (0.1, 0.05), (0.5, 0.01), (0.5, 0.05))
    ]
    assert good(timings, Deadlines()) == 4
    assert good(timings, Deadlines(ttft_s=0.2)) == 2
    assert good(timings, Deadlines(tpot_s=0.02)) == 2
    assert good(timings, Deadlines(ttft_s=0.2, tpot_s=0.02)) == 1
    assert good(timings, Deadlines(e2e_s=0.605)) == 3
    single = RequestTiming(input_tokens=1, output_tokens=1, ttft_s=0.1, e2e_s=0.1)
    assert good([single], Deadlines(tpot_s=0.001)) == 1
