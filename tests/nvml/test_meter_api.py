"""`campaign.meter`: a block of Python, its own joules, and the errors that the verb has."""

import re
import time
from dataclasses import asdict

import pytest

import campaign
from tests.nvml.curve import StandinGpu
from tests.nvml.test_meter_verb import GPU_KEYS, KEYS
from tests.unit.test_api import blocks
from workers.meters import rapl

A, B = (f"GPU-{letter * 8}-0000-0000-0000-000000000000" for letter in "ab")


@pytest.fixture(autouse=True)
def _gpus_alone(monkeypatch, tmp_path):
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(rapl, "POWERCAP", tmp_path / "no-powercap")


def test_the_energy_is_the_blocks_own(standin):
    wave = {"curve": "square", "low_w": 90.0, "high_w": 640.0, "period_s": 0.137, "duty": 0.3}
    gpus = standin(StandinGpu(uuid=A, **wave, tick_s=0.1), StandinGpu(uuid=B))
    for named, chosen in ((None, [0, 1]), ([A, 1], [0, 1]), (1, [1])):
        with campaign.meter(named) as reading:
            begun_ns = time.monotonic_ns()
            time.sleep(0.25)  # what is metered
            ended_ns = time.monotonic_ns()
        inside, around = reading.metered.energy_ns, reading.metered.window_ns
        assert around[0] < inside[0] <= begun_ns < ended_ns <= inside[1] <= around[1]
        found = reading.result
        assert list(asdict(found)) == KEYS
        assert [list(asdict(board)) for board in found.gpus] == [GPU_KEYS for _ in chosen]
        assert [board.index for board in found.gpus] == chosen
        assert found.command_started_at < found.command_ended_at
        for board in found.gpus:
            truth_j = gpus[board.index].energy_j(*inside)
            assert (board.method, board.reality) == ("counter", "simulated")
            assert abs(board.energy_j - truth_j) <= 1.5 * board.uncertainty_j + 0.01


def test_a_block_that_raises_is_metered_and_its_error_goes_on(standin):
    standin(StandinGpu(uuid=A))
    with pytest.raises(ZeroDivisionError), campaign.meter(A) as reading:  # noqa: PT012
        with pytest.raises(campaign.CampaignError, match="the block has not ended"):
            _ = reading.result
        time.sleep(0.1)
        _ = 1 / 0
    (board,) = reading.result.gpus
    assert board.energy_j > 0


def test_a_block_that_nobody_can_meter_does_not_begin(standin):
    begun = []
    standin()
    with pytest.raises(campaign.NodeUnfit, match="NVML lists none"), campaign.meter():
        begun.append("without a GPU")
    with pytest.raises(campaign.ConfigError, match="no GPU 0 on this machine"), campaign.meter(0):
        begun.append("a GPU that is not there")
    standin(StandinGpu(uuid=A), init_error=12)  # NVML_ERROR_LIBRARY_NOT_FOUND
    for gpus in (None, "0"):
        with pytest.raises(campaign.NodeUnfit, match="NVML is not usable"), campaign.meter(gpus):
            begun.append("without the library")
    assert begun == []


def test_the_example_of_the_document_prints_joules(standin, capsys):
    standin(StandinGpu(uuid=A))
    (example,) = blocks("meter", "python")
    exec(compile(example, "docs/api.md", "exec"), {})
    assert re.fullmatch(
        r"NVIDIA H100 80GB HBM3 \d+\.\d+ \d+\.\d+ \(.*\)\n", capsys.readouterr().out
    )
