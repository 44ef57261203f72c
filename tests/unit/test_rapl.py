"""RAPL on a made powercap tree: which zones count, wraps, and what cannot be read."""

import os
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.meters.rapl import RaplMeter, wrapped_delta_uj

RANGE_UJ = 262_143_328_850


class Tree:
    """A powercap folder whose counters the test sets."""

    def __init__(self, root):
        self.root = root

    def zone(self, path, name, energy_uj=0, range_uj=RANGE_UJ):
        folder = self.root / path
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
        self.set(path, energy_uj)

    def set(self, path, energy_uj):
        (self.root / path / "energy_uj").write_text(f"{energy_uj}\n")


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def metered(tree, **after_uj):
    meter = RaplMeter(tree.root)
    meter.open()
    for path, energy_uj in after_uj.items():
        tree.set(path.replace("_", ":").replace("rapl", "intel-rapl"), energy_uj)
    return meter.close()


def test_packages_of_all_sockets_are_summed_and_dram_apart(tree):
    for socket in (0, 1):
        tree.zone(f"intel-rapl:{socket}", f"package-{socket}", 1_000_000)
        tree.zone(f"intel-rapl:{socket}:0", "dram", 500_000)
    energy = metered(tree, rapl_0=4_000_000, rapl_1=6_000_000, rapl_0_0=700_000, rapl_1_0=800_000)
    assert (energy.package_j, energy.dram_j) == (pytest.approx(8.0), pytest.approx(0.5))
    assert (energy.method, energy.reasons) == ("rapl", ())


def test_what_lies_inside_or_around_a_package_is_not_summed(tree):
    tree.zone("intel-rapl:0", "package-0")
    tree.zone("intel-rapl:0:0", "core")
    tree.zone("intel-rapl:0:1", "uncore")
    tree.zone("intel-rapl:1", "psys")
    tree.zone("intel-rapl-mmio:0", "package-0")
    energy = metered(tree, rapl_0=2_000_000, rapl_0_0=9_000_000, rapl_0_1=9_000_000,
                     rapl_1=9_000_000)  # fmt: skip
    assert energy.package_j == pytest.approx(2.0)
    assert energy.dram_j is None
    assert energy.reasons == ("rapl_no_dram",)


def test_dies_of_one_package_count_each(tree):
    tree.zone("intel-rapl:0", "package-0-die-0")
    tree.zone("intel-rapl:1", "package-0-die-1")
    assert metered(tree, rapl_0=1_000_000, rapl_1=2_000_000).package_j == pytest.approx(3.0)


def test_a_counter_that_wraps_is_unwrapped(tree):
    tree.zone("intel-rapl:0", "package-0", RANGE_UJ - 1_000_000)
    assert metered(tree, rapl_0=2_000_000).package_j == pytest.approx(3.0)


@given(start=st.integers(0, RANGE_UJ - 1), drawn=st.integers(0, RANGE_UJ - 1))
def test_the_delta_survives_one_wrap_at_any_place(start, drawn):
    assert wrapped_delta_uj(start, (start + drawn) % RANGE_UJ, RANGE_UJ) == drawn


def test_a_counter_too_small_for_the_window_tells_nothing(tree):
    tree.zone("intel-rapl:0", "package-0", range_uj=1)
    energy = metered(tree, rapl_0=1)
    assert energy.package_j is None
    assert "rapl_wrap_ambiguous" in energy.reasons


def test_zones_that_are_listed_inside_each_other_too_count_once(tree):
    """The kernel shows a zone in its parent's folder and again, as a link, beside it."""
    tree.zone("intel-rapl:0", "package-0", 1_000_000)
    tree.zone("intel-rapl:0/intel-rapl:0:0", "dram", 500_000)
    (tree.root / "intel-rapl:0:0").symlink_to(tree.root / "intel-rapl:0" / "intel-rapl:0:0")
    (tree.root / "intel-rapl").mkdir()
    energy = metered(tree, rapl_0=3_000_000, rapl_0_0=1_500_000)
    assert (energy.package_j, energy.dram_j) == (pytest.approx(2.0), pytest.approx(1.0))


def test_several_sockets_wrap_each_at_its_own_range(tree):
    tree.zone("intel-rapl:0", "package-0", RANGE_UJ - 1_000_000)
    tree.zone("intel-rapl:1", "package-1", 65_532_610_987 - 500_000, range_uj=65_532_610_987)
    energy = metered(tree, rapl_0=1_000_000, rapl_1=1_500_000)
    assert energy.package_j == pytest.approx(4.0)


def test_a_counter_that_was_reset_is_no_wrap(tree):
    """Half of a range in a moment would be more than any package draws."""
    tree.zone("intel-rapl:0", "package-0", RANGE_UJ // 2)
    energy = metered(tree, rapl_0=1_000_000)
    assert (energy.package_j, energy.method) == (None, None)
    assert "rapl_reset" in energy.reasons


def test_a_counter_that_stands_still_is_never_zero_joules(tree):
    """Virtual machines offer such counters."""
    tree.zone("intel-rapl:0", "package-0", 1_000_000)
    tree.zone("intel-rapl:0:0", "dram", 0)
    energy = metered(tree, rapl_0=2_000_000)
    assert (energy.package_j, energy.dram_j) == (pytest.approx(1.0), None)
    assert energy.reasons == ("rapl_stuck",)
    assert metered(tree).package_j is None


@pytest.mark.parametrize("file", ["name", "max_energy_range_uj"])
def test_a_zone_that_does_not_say_what_it_is_is_no_reason_to_sum_the_rest(tree, file):
    tree.zone("intel-rapl:0", "package-0")
    tree.zone("intel-rapl:1", "package-1")
    (tree.root / "intel-rapl:1" / file).unlink()
    assert RaplMeter(tree.root).why_not == ("rapl_unreadable",)
    energy = metered(tree, rapl_0=1_000_000)
    assert (energy.package_j, energy.reasons) == (None, ("rapl_unreadable",))


def test_no_tree_is_absent_and_says_so(tmp_path):
    meter = RaplMeter(tmp_path / "nothing")
    assert meter.why_not == ("rapl_absent",)
    assert "intel_rapl_msr" in meter.fix
    meter.open()
    energy = meter.close()
    assert (energy.package_j, energy.dram_j, energy.method) == (None, None, None)
    assert energy.reasons == ("rapl_absent",)


@pytest.mark.parametrize("content", ["", "not a number\n"])
def test_nonsense_in_a_counter_is_unreadable(tree, content):
    tree.zone("intel-rapl:0", "package-0")
    (tree.root / "intel-rapl:0" / "energy_uj").write_text(content)
    assert RaplMeter(tree.root).why_not == ("rapl_unreadable",)


def test_a_socket_that_disappears_voids_the_sum(tree):
    tree.zone("intel-rapl:0", "package-0")
    tree.zone("intel-rapl:1", "package-1")
    meter = RaplMeter(tree.root)
    meter.open()
    (tree.root / "intel-rapl:1" / "energy_uj").unlink()
    assert meter.close().package_j is None


@contextmanager
def without_root():
    """Nobody's eyes: root reads every file, whatever its mode."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_counters_of_root_alone_come_with_the_fix(tree):
    tree.zone("intel-rapl:0", "package-0")
    meter = RaplMeter(tree.root)
    meter.open()
    (tree.root / "intel-rapl:0" / "energy_uj").chmod(0o000)
    with without_root():
        assert meter.why_not == ("rapl_unreadable",)
        assert "sudo chmod -R a+r" in meter.fix
        assert "CAP_DAC_READ_SEARCH" in meter.fix
        assert meter.close().reasons == ("rapl_unreadable",)
