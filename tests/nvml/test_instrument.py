"""`campaign instrument` on a board whose sensors are known: it finds out what they do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nvml.curve import StandinGpu
from tests.nvml.load import SIZE_BYTES

pytestmark = pytest.mark.nvml

ROOT = Path(__file__).resolve().parents[2]
UUID = "GPU-eeeeeeee-0000-0000-0000-000000000000"
SOURCE = (
    "import json, sys\n"
    "from workers.instrument.bench import Bench\n"
    "from workers.instrument.experiments import counter_source\n"
    "from workers.instrument.loader import Loader\n"
    "from workers.meters.binding import Library\n"
    "from workers.meters.nvml import NvmlMeter\n"
    "with Library() as library:\n"
    "    gpu = library.gpus()[0]\n"
    "    bench = Bench(gpu=gpu, meter=NvmlMeter((gpu.uuid,)), pace=0.25,\n"
    "                  loader=Loader('tests.nvml.drawn_load', 0))\n"
    "    print(json.dumps(counter_source(bench, 0.1)['slope']))\n"
    "    bench.loader.stop()\n"
)


@pytest.fixture
def board(standin, tmp_path, monkeypatch):
    """A function that puts a board under a drawn load behind the stand-in."""

    def place(**how):
        file = tmp_path / "load"
        file.write_bytes(bytes(SIZE_BYTES))
        monkeypatch.setenv("DRAWN_LOAD", str(file))
        monkeypatch.setenv("CAMPAIGN_LOCKS", str(tmp_path / "locks"))
        return standin(StandinGpu(uuid=UUID, curve="load", low_w=100.0, load=str(file), **how))

    return place


def run(*words):
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], env=environ, check=False, timeout=200,
                          capture_output=True, text=True)  # fmt: skip


def test_one_command_finds_what_the_sensors_do(board, tmp_path):
    board(tick_s=0.05)
    file = tmp_path / "found.json"
    done = run("-m", "campaign", "instrument", "-o", file, "--pace", "0.1",
               "--load", "tests.nvml.drawn_load")  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(file.read_text())
    found = told["found"]
    assert not [name for name, value in found.items() if "failed" in value], done.stderr
    assert told["reality"] == "simulated"
    sensors = found["sensors"]
    assert sensors["counter"]["period"]["period_s"] == pytest.approx(0.05, rel=0.1)
    assert sensors["instant"]["period"]["period_s"] == pytest.approx(0.1, rel=0.1)
    assert found["idle_empty"]["mean_w"] == pytest.approx(100.0, rel=0.01)
    assert found["against_integral"]["full"]["mean_w"] == pytest.approx(600.0, rel=0.02)
    assert told["pace"] == 0.1
    assert set(found["windows"]) == {"0.025", "0.05", "0.1", "0.2", "0.5"}  # as they were
    assert found["meter_cost"]["on_over_off"] == pytest.approx(1.0, abs=0.05)
    assert UUID not in file.read_text()


@pytest.mark.parametrize(("accumulates", "slope"), [(0, 0.0), (1, 1.0)])
def test_a_counter_that_adds_up_the_sensor_is_told_from_one_that_does_not(
    board, accumulates, slope
):
    board(accumulates=accumulates)
    done = run("-c", SOURCE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx(slope, abs=0.2)


def test_without_a_load_the_rest_is_found_and_the_file_says_why(board, tmp_path):
    board()
    file = tmp_path / "found.json"
    done = run("-m", "campaign", "instrument", "-o", file, "--pace", "0.2")
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())["found"]
    assert found["load"]["why_not"]
    assert found["idle_ticks"]["counter"]["period"]["period_s"] == pytest.approx(0.02, rel=0.1)


def test_a_machine_without_a_gpu_is_told_so_in_one_line(tmp_path):
    done = run("-m", "campaign", "instrument", "-o", tmp_path / "found.json")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
