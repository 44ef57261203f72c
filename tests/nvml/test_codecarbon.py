"""CodeCarbon as an estimate: the real library, in a process of its own."""

import re
import time
from pathlib import Path

import pytest

from tests.nvml.curve import StandinGpu
from workers.meters.codecarbon import CodeCarbonMeter
from workers.meters.select import open_meter

pytestmark = pytest.mark.nvml

A, B = "GPU-aaaaaaaa-0000-0000-0000-000000000000", "GPU-bbbbbbbb-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def meter():
    """One tracker for the module: it takes seconds to be ready."""
    shared = CodeCarbonMeter()
    yield shared
    shared.shutdown()


def window(meter, seconds):
    meter.open()
    started = time.monotonic()
    time.sleep(seconds)
    lasted_s = time.monotonic() - started
    return meter.close(), lasted_s


def test_the_estimate_is_power_times_the_windows_own_time(meter):
    """Memory is constant and the processor between 10 and 100 % of its data-sheet power."""
    window(meter, 0.0)
    estimate, lasted_s = window(meter, 2.0)
    cpu_w = float(re.search(r"cpu load x ([\d.]+) W", estimate.method)[1])
    ram_w = float(re.search(r"ram ([\d.]+) W", estimate.method)[1])
    assert estimate.energy_estimated_j >= 0.97 * lasted_s * (ram_w + 0.1 * cpu_w)
    assert estimate.energy_estimated_j <= 1.25 * lasted_s * (ram_w + cpu_w)
    assert estimate.reasons == ()


def test_windows_do_not_accumulate(meter):
    first, _ = window(meter, 1.0)
    time.sleep(1.0)  # between windows nothing counts
    second, _ = window(meter, 1.0)
    assert second.energy_estimated_j < 1.6 * first.energy_estimated_j


def test_a_users_configuration_does_not_reach_it(tmp_path, monkeypatch, closing, meter):
    (tmp_path / ".codecarbon.config").write_text("[codecarbon]\nforce_ram_power=5000\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CODECARBON_FORCE_CPU_POWER", "5000")
    own = closing(CodeCarbonMeter())
    estimate, _ = window(own, 0.1)
    window(meter, 0.0)
    assert estimate.method == meter._method
    assert [p.name for p in Path(tmp_path).iterdir()] == [".codecarbon.config"]


@pytest.fixture
def smi(library, monkeypatch):
    """CodeCarbon asks for an nvidia-smi on PATH before it tries NVML."""
    program = library / "nvidia-smi"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(library), prepend=":")


def test_it_counts_the_gpus_of_the_group_only(standin, closing, smi):
    """Neither the sibling nor the processor beside it: the boundary is that of energy_j."""
    standin(StandinGpu(uuid=A, low_w=5000.0), StandinGpu(uuid=B, low_w=400.0))
    meter = closing(CodeCarbonMeter([B]))
    window(meter, 0.0)
    estimate, lasted_s = window(meter, 2.0)
    assert estimate.method.endswith(": 1 gpu nvml")
    assert estimate.energy_estimated_j == pytest.approx(400.0 * lasted_s, rel=0.1)


def test_two_meters_read_the_same_window_and_stay_apart(standin, closing, smi):
    (gpu, _) = standin(StandinGpu(uuid=A, low_w=300.0), StandinGpu(uuid=B, low_w=5000.0))
    meter = closing(open_meter(["nvml", "codecarbon"], [A]))
    assert (meter.name, meter.measures) == ("nvml+codecarbon", True)
    meter.open()
    meter.close()  # CodeCarbon has made itself ready
    meter.open()
    time.sleep(2.0)
    reading = meter.close()
    exact_j = gpu.energy_j(reading.started_ns, reading.ended_ns)
    assert reading.energy_j == pytest.approx(exact_j, abs=reading.timing_uncertainty_j + 0.01)
    assert reading.energy_method == "nvml_counter"
    estimate = reading.estimate
    assert estimate.method.startswith("codecarbon")
    # It reads the same counter without waiting for its ticks, and its window is a little longer.
    assert estimate.energy_estimated_j == pytest.approx(exact_j, rel=0.1)
    assert estimate.energy_estimated_j != reading.energy_j
    assert (reading.reasons, estimate.reasons) == ((), ())


def test_a_gpu_that_it_does_not_see_is_null_and_not_zero(closing, standin):
    standin(StandinGpu(uuid=A))  # no nvidia-smi on PATH: CodeCarbon then finds no GPU at all
    meter = closing(CodeCarbonMeter([A]))
    estimate, _ = window(meter, 0.1)
    assert estimate.energy_estimated_j is None
    assert estimate.reasons == ("codecarbon_no_gpu_energy",)


def test_a_tracker_that_dies_is_null_with_the_reason(closing):
    meter = closing(CodeCarbonMeter())
    meter.open()
    meter._child.stop()
    estimate = meter.close()
    assert (estimate.energy_estimated_j, estimate.reasons) == (None, ("codecarbon_gone",))
    estimate, _ = window(meter, 0.0)
    assert estimate.reasons == ("codecarbon_gone",)
