"""The long form, `make chaos`: thousands of tasks, every kill point hit at least fifty times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.adversary import Goal
from tests.chaos.trial import LEASE_S, Size, aloud, seed_of_the_day, trial

LONG = Size(
    grid=(
        "model=[meta-llama/Llama-3.1-8B,Qwen/Qwen2.5-7B,mistralai/Mistral-7B-v0.3]",
        "workload.input_tokens=[64,80,100,128,160,200,256,320]",
        "workload.output_tokens=[160,190,225,270,320]",
        "workload.batch_size=[1,2,3,4,6,8]",
        "engine.options.simulated.pace=0.03",
    ),
    tasks=2160,
    goal=Goal(hits=50, outages=4, lease_s=LEASE_S),
    limit_s=3600.0,
)


@pytest.mark.timeout(5400)
def test_nothing_is_lost_nor_counted_twice_in_thousands_of_tasks(public_tmp: Path) -> None:
    assert trial(public_tmp, LONG, seed_of_the_day(), aloud) == []
