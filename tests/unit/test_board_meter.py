"""The meter of a board group: whose energy it is, and how accurate its sensors are."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from db.readings import GpuEnergy
from workers.boardlock import BoardLock, others_measure
from workers.meters.accuracy import Accuracy, together
from workers.meters.select import open_meter

GPU = GpuEnergy(uuid="GPU-1", index=0, name="NVIDIA H100", energy_j=300.0)
OTHER = GpuEnergy(uuid="GPU-2", index=1, name="NVIDIA H100", energy_j=100.0)

HOLD = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


# ---- sensors -----------------------------------------------------------------------------------


def test_an_accuracy_is_of_one_gpu_or_of_all_boards_of_a_kind():
    accuracy = Accuracy({"GPU-1": 0.01, "h100": 0.05, "a100": 0.5}, board="h100")
    assert accuracy.of(GPU).sensor_accuracy == 0.01
    assert accuracy.of(OTHER).sensor_accuracy == 0.05


def test_a_sibling_may_be_any_product_and_a_board_unknown_to_the_calibration_has_none():
    sibling = GpuEnergy(uuid="GPU-3", index=2, name="NVIDIA T4", sibling=True)
    assert Accuracy({"h100": 0.05}, board="h100").of(sibling).sensor_accuracy is None
    assert Accuracy({"a100": 0.05}, board="h100").of(GPU).sensor_accuracy is None
    assert Accuracy().of(GPU).sensor_accuracy is None


def test_the_accuracy_of_a_sum_is_weighted_by_joules_and_needs_every_sensor():
    known = Accuracy({"GPU-1": 0.02, "GPU-2": 0.06})
    assert together([known.of(GPU), known.of(OTHER)]) == pytest.approx(0.03)
    assert together([known.of(GPU), OTHER]) is None
    assert together([]) is None


# ---- the processor's energy --------------------------------------------------------------------


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    zone = tmp_path / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    for name, content in {"name": "package-0", "max_energy_range_uj": "262143328850",
                          "energy_uj": "1000000"}.items():  # fmt: skip
        (zone / name).write_text(content)
    return tmp_path / "powercap"


@pytest.mark.parametrize(
    ("shared", "expected"),
    [([False, False], 2.0), ([True, False], None), ([False, True], None)],
    ids=["alone", "at the start", "at the end"],
)
def test_a_processor_that_others_use_too_has_no_energy_of_ours(
    shared: list[bool], expected: float | None, powercap: Path
) -> None:
    answers = iter(shared)
    meter = open_meter(["rapl"], powercap=powercap, shared=lambda: next(answers))
    meter.open()
    (powercap / "intel-rapl:0" / "energy_uj").write_text("3000000")
    reading = meter.close()
    assert reading.energy_j == (expected and pytest.approx(expected))
    if expected is None:
        assert reading.cpu is not None
        assert (reading.cpu.package_j, reading.cpu.reasons) == (None, ("shared_node",))
        assert "shared_node" in reading.reasons


def test_a_calibrated_processor_says_so(powercap: Path) -> None:
    accuracy = Accuracy({"cpu:x:2": 0.1}, board="cpu:x:2")
    meter = open_meter(["rapl"], powercap=powercap, accuracy=accuracy)
    meter.open()
    (powercap / "intel-rapl:0" / "energy_uj").write_text("3000000")
    assert meter.close().sensor_accuracy == 0.1
    meter.open()
    assert meter.close().sensor_accuracy is None  # nothing was measured that it could be of


# ---- who else measures -------------------------------------------------------------------------


def test_another_process_that_holds_a_board_is_seen_until_it_ends(tmp_path: Path) -> None:
    ours = BoardLock(["GPU-a"], tmp_path)
    theirs = BoardLock(["GPU-b"], tmp_path)
    assert ours.acquire()
    assert theirs.acquire()
    theirs.release()
    assert not others_measure(tmp_path)  # one's own lock is no company
    (file,) = [path for path in tmp_path.glob("*.lock") if _free(path)]
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert others_measure(tmp_path)
        other.stdin.close()
        other.wait()
    assert not others_measure(tmp_path)


def _free(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def test_a_system_without_a_list_of_locks_has_no_others(tmp_path: Path) -> None:
    assert not others_measure(tmp_path, tmp_path / "no such list")


def test_locks_on_other_files_are_nobodys_boards(tmp_path: Path) -> None:
    lock = BoardLock(["GPU-a"], tmp_path)
    assert lock.acquire()
    (file,) = tmp_path.glob("*.lock")
    inode = file.stat().st_ino
    lines = [f"1: FLOCK  ADVISORY  WRITE 1 00:2d:{inode + 1} 0 EOF",
             f"2: POSIX  ADVISORY  WRITE 1 00:2d:{inode} 0 EOF", "2: -> FLOCK", ""]  # fmt: skip
    listed = tmp_path / "locks"
    listed.write_text("\n".join(lines))
    assert not others_measure(tmp_path, listed)
    listed.write_text(f"1: FLOCK  ADVISORY  WRITE 1 00:2d:{inode} 0 EOF")
    assert others_measure(tmp_path, listed)
