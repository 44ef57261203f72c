"""`campaign instrument` on a board whose sensors are known: it finds out what they do."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.nvml.curve import StandinGpu
from tests.nvml.load import SIZE_BYTES
from tests.nvml.processes import gone

pytestmark = pytest.mark.nvml

ROOT = Path(__file__).resolve().parents[2]
UUID = "GPU-eeeeeeee-0000-0000-0000-000000000000"
BENCH = """
import json, sys
from workers.instrument.bench import EDGES_S, Bench
from workers.instrument.experiments import counter_source, repeats
from workers.instrument.loader import Loader
from workers.meters.binding import Library
from workers.meters.nvml import NvmlMeter
with Library() as library:
    gpu = library.gpus()[0]
    bench = Bench(gpu=gpu, meter=NvmlMeter((gpu.uuid,)), pace=0.25,
                  loader=Loader('tests.nvml.drawn_load', 0))
    print(json.dumps({}))
    bench.loader.stop()
"""
REASONS = BENCH.format("[length['reasons'] for length in repeats(bench).values()]")
SOURCE = BENCH.format("counter_source(bench, 0.1)['slope']")
OUTLASTING = BENCH.format(
    "[len(bench.steps(0.2, 3)), EDGES_S, bench.edges_s, len(bench.steps(0.2, 2))]"
)
#: A load that takes no notice of anything, for as long as a test may take.
DEAF = """
import os, time
from pathlib import Path
from workers.meters.child import Parent
parent = Parent()
requests = (request for request in parent.requests() if request is not None)
next(requests)
parent.answer({'ready': True})
next(requests)
Path(os.environ['DEAF_PID']).write_text(str(os.getpid()))
time.sleep(600)
"""


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
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environ = os.environ | {"PYTHONPATH": path}
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


def test_a_load_outlasts_windows_whose_edges_take_long_and_one_that_did_not_is_left_out(board):
    """A counter that ticks once a second: a fifth of a second takes two, edges and all."""
    board(tick_s=1.0)
    done = run("-c", OUTLASTING)
    assert done.returncode == 0, done.stderr
    first, usual_s, took_s, second = json.loads(done.stdout)
    assert first < 3
    assert took_s > usual_s
    assert second == 2


def test_windows_of_each_length_say_what_they_lack(board):
    board(counter=0)
    done = run("-c", REASONS)
    assert done.returncode == 0, done.stderr
    assert all("no_counter" in reasons for reasons in json.loads(done.stdout))


def test_a_verb_that_is_ended_takes_its_load_along(board, tmp_path):
    board()
    (tmp_path / "deaf.py").write_text(DEAF)
    told = tmp_path / "pid"
    environ = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}", "DEAF_PID": str(told)}
    verb = subprocess.Popen([sys.executable, "-m", "campaign", "instrument", "--pace", "0.05",
                             "-o", tmp_path / "found.json", "--load", "deaf"], env=environ,
                            stderr=subprocess.DEVNULL)  # fmt: skip
    with verb:
        while verb.poll() is None and not (told.exists() and told.read_text()):
            time.sleep(0.05)
        verb.terminate()
    assert verb.returncode == 128 + signal.SIGTERM
    assert gone(int(told.read_text()))


#: A load that works, and answers with something that is none.
WRONG = (
    DEAF.partition("next(requests)\nPath")[0]
    + """
for request in requests:
    parent.answer({'stretches': None})
"""
)


def test_a_defect_in_one_experiment_is_said_and_the_others_go_on(board, tmp_path, monkeypatch):
    board()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "wrong.py").write_text(WRONG)
    file = tmp_path / "found.json"
    done = run("-m", "campaign", "instrument", "-o", file, "--pace", "0.05", "--load", "wrong")
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())["found"]
    failed = {name: value["failed"] for name, value in found.items() if "failed" in value}
    assert set(failed) == {"sensors", "counter_source", "against_integral", "windows", "meter_cost"}
    assert set(failed.values()) == {"TypeError: not a list: None"}
    assert "Traceback" in done.stderr


def test_a_load_that_breaks_down_says_why(board, tmp_path, monkeypatch):
    board()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "broken.py").write_text("raise MemoryError('no room for a load')")
    file = tmp_path / "found.json"
    done = run("-m", "campaign", "instrument", "-o", file, "--pace", "0.05", "--load", "broken")
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())["found"]
    assert found["load"]["why_not"].endswith("MemoryError: no room for a load")
    assert "Traceback" in done.stderr


def test_without_a_load_the_rest_is_found_and_the_file_says_why(board, tmp_path):
    board()
    file = tmp_path / "found.json"
    done = run("-m", "campaign", "instrument", "-o", file, "--pace", "0.2")
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())["found"]
    assert found["load"]["why_not"]
    for counter in ("counter", "counter_alone"):
        period = found["idle_ticks"][counter]["period"]
        assert period["period_s"] == pytest.approx(0.02, rel=0.1)


def test_a_machine_without_a_gpu_is_told_so_in_one_line(tmp_path):
    done = run("-m", "campaign", "instrument", "-o", tmp_path / "found.json")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
