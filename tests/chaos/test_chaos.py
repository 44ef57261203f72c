"""A small campaign under every kind of attack; `make chaos` is the long form."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.adversary import Goal
from tests.chaos.trial import LEASE_S, Size, aloud, seed_of_the_day, trial

pytestmark = [pytest.mark.chaos, pytest.mark.crash, pytest.mark.ray, pytest.mark.store]

SHORT = Size(
    grid=(
        "model=meta-llama/Llama-3.1-8B",
        "workload.input_tokens=[64,128,256]",
        "workload.output_tokens=[160,224,320]",
        "workload.batch_size=[1,2,4,8]",
        "engine.options.simulated.pace=0.01",
    ),
    tasks=108,
    goal=Goal(hits=1, outages=1, lease_s=LEASE_S),
    limit_s=1200.0,
)


@pytest.mark.timeout(1800)
def test_nothing_is_lost_nor_counted_twice_whatever_dies(public_tmp: Path) -> None:
    assert trial(public_tmp, SHORT, seed_of_the_day(), aloud) == []
