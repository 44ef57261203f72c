"""Every meter of a board group keeps the same contract; what is chosen depends on what is there."""

import time

import pytest

from db.errors import ConfigError, NodeUnfit
from db.records import Reality
from tests.nvml.curve import StandinGpu
from workers.meters.select import open_meter

pytestmark = pytest.mark.nvml

A, B = "GPU-aaaaaaaa-0000-0000-0000-000000000000", "GPU-bbbbbbbb-0000-0000-0000-000000000000"


@pytest.fixture(params=["nvml", "nvml_lost", "rapl", "nothing", "estimate"])
def meter(request, standin, closing, powercap, tmp_path):
    """One meter of each kind, behind the same contract."""
    match request.param:
        case "nvml":
            standin(StandinGpu(uuid=A), StandinGpu(uuid=B))
            return closing(open_meter(["auto"], [A], powercap=powercap))
        case "nvml_lost":
            standin(StandinGpu(uuid=A, lost_at=time.monotonic() + 3))
            return closing(open_meter(["nvml"], [A]))
        case "rapl":
            return closing(open_meter(["auto"], powercap=powercap))
        case "nothing":
            return closing(open_meter(["rapl"], powercap=tmp_path / "none"))
        case _:
            return closing(open_meter(["auto"], powercap=tmp_path / "none"))


def read(meter, seconds=0.3):
    meter.open()
    time.sleep(seconds)
    return meter.close()


def test_a_reading_is_measured_or_null_with_a_reason(meter):
    before_s = time.time()
    for _ in range(3):
        reading = read(meter)
        assert reading.duration_s > 0.29
        assert before_s - 1 < reading.started_at < time.time()
        if reading.energy_j is None:
            assert reading.reasons
            assert (reading.energy_method, reading.timing_uncertainty_j) == (None, None)
        else:
            assert reading.energy_method
            assert reading.timing_uncertainty_j is not None
        for gpu in reading.gpus:
            assert gpu.energy_j is None or gpu.energy_j > 0
            assert gpu.energy_j is not None or gpu.reasons
        if reading.estimate:
            assert reading.estimate.method.startswith("codecarbon")


def test_a_meter_says_what_it_is_and_whether_it_measures(meter):
    assert meter.measures == (not meter.why_not)
    assert meter.name
    assert meter.reality in Reality


def test_processes_may_be_frozen_and_asked_for_at_any_time(meter):
    assert meter.foreign_processes() == ()
    meter.freeze_processes()
    read(meter)
    assert meter.foreign_processes() == ()


def test_a_meter_may_be_shut_down_twice(meter):
    meter.shutdown()
    meter.shutdown()


def test_gpus_sum_over_the_group_with_the_cpu_beside_them(standin, closing, powercap):
    gpus = standin(StandinGpu(uuid=A, low_w=150.0), StandinGpu(uuid=B, low_w=250.0))
    meter = closing(open_meter(["auto"], [A, B], powercap=powercap))
    assert (meter.name, meter.reality) == ("nvml+rapl", Reality.SIMULATED)
    meter.open()
    (powercap / "intel-rapl:0" / "energy_uj").write_text("3000000")
    time.sleep(0.3)
    reading = meter.close()
    exact_j = sum(g.energy_j(reading.started_ns, reading.ended_ns) for g in gpus)
    width_j = reading.timing_uncertainty_j
    assert reading.energy_j == pytest.approx(exact_j, abs=width_j + 0.01)
    assert reading.energy_method == "nvml_counter"
    assert reading.cpu.package_j == pytest.approx(2.0)  # beside, never inside the board's energy
    assert reading.estimate is None


def test_one_board_of_the_group_without_energy_voids_the_sum(standin, closing):
    blind = StandinGpu(uuid=B, counter=0, instant=0, average=0, legacy=0, default_limit_w=350.0)
    standin(StandinGpu(uuid=A), blind)
    meter = closing(open_meter(["nvml"], [A, B]))
    assert not meter.measures
    reading = read(meter)
    assert reading.energy_j is None
    assert reading.reasons == ("no_counter", "no_power_sensor")
    assert "limit_not_default" in reading.gpus[1].reasons  # which is not why
    assert reading.gpus[0].energy_j > 0


def test_samples_in_the_sum_make_it_integrated(standin, closing):
    standin(StandinGpu(uuid=A), StandinGpu(uuid=B, counter=0))
    reading = read(closing(open_meter(["nvml"], [A, B])), seconds=0.5)
    assert reading.energy_method == "nvml_integrated"
    assert "no_counter" in reading.reasons


def test_a_cpu_board_is_packages_and_dram(closing, powercap):
    meter = closing(open_meter(["auto"], powercap=powercap))
    assert (meter.name, meter.measures, meter.reality) == ("rapl", True, Reality.REAL)
    meter.open()
    (powercap / "intel-rapl:0" / "energy_uj").write_text("6000000")
    (powercap / "intel-rapl:0:0" / "energy_uj").write_text("1500000")
    reading = meter.close()
    assert (reading.energy_j, reading.energy_method) == (pytest.approx(5.5), "rapl")
    assert (reading.gpus, reading.estimate) == ((), None)


def test_dram_that_exists_but_was_not_read_voids_the_sum(closing, powercap):
    meter = closing(open_meter(["rapl"], powercap=powercap))
    meter.open()
    (powercap / "intel-rapl:0" / "energy_uj").write_text("6000000")
    (powercap / "intel-rapl:0:0" / "energy_uj").write_text("?")
    reading = meter.close()
    assert (reading.energy_j, reading.reasons) == (None, ("rapl_unreadable",))


def test_a_cpu_without_counters_has_an_estimate_and_no_energy(closing, tmp_path):
    meter = closing(open_meter(["auto"], powercap=tmp_path / "none"))
    assert (meter.name, meter.measures) == ("codecarbon", False)
    assert meter.why_not == ("no_gpu", "rapl_absent")
    reading = read(meter)
    assert reading.energy_j is None
    assert reading.reasons == ("no_gpu", "rapl_absent")
    assert reading.estimate.energy_estimated_j > 0


@pytest.mark.parametrize(
    ("names", "gpus", "error", "words"),
    [
        (["nmvl"], [], ConfigError, "nmvl is not one of auto, nvml, rapl, codecarbon"),
        ([], [], ConfigError, "empty"),
        (["nvml"], [], ConfigError, "needs a GPU"),
        (["auto"], [B], NodeUnfit, "not on this machine"),
    ],
)
def test_a_meter_that_cannot_be_is_refused_in_one_line(standin, names, gpus, error, words):
    standin(StandinGpu(uuid=A))
    with pytest.raises(error, match=words) as caught:
        open_meter(names, gpus)
    assert "\n" not in str(caught.value)


def test_an_interval_that_is_not_positive_is_refused(standin):
    with pytest.raises(ConfigError, match="positive"):
        open_meter(["auto"], interval_s=0.0)
