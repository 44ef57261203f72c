"""CPU packages and DRAM through the powercap tree of the Linux kernel (RAPL).

It owns the choice of zones and the arithmetic of their wrapping counters. Cores and uncore lie
inside a package and psys contains it: they are never summed. It never estimates.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from db.readings import CpuEnergy

POWERCAP = Path("/sys/class/powercap")
#: A package draws less than this: a window in which a counter could wrap twice tells nothing, and
#: a counter that ran further than that, give or take a second, was reset and did not wrap.
PACKAGE_LIMIT_W = 1000.0
SLACK_S = 1.0

_ZONE = re.compile(r"intel-rapl:\d+(:\d+)?")  # not intel-rapl-mmio, which mirrors the packages
_PACKAGE = re.compile(r"package-\d+(-die-\d+)?")
_FIX = (
    "CPU energy is readable by root only: sudo chmod -R a+r {root}/intel-rapl* "
    "(until the next boot), or run with CAP_DAC_READ_SEARCH"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """One counter: a CPU package or its DRAM. It counts microjoules and wraps at `range_uj`.

    A zone that does not say what it is, or where it wraps, has the range 0: it may be a package.
    """

    path: Path
    is_dram: bool
    range_uj: int

    def read_uj(self) -> int:
        """Read the counter. Raises OSError, or ValueError for what is not a number."""
        return int((self.path / "energy_uj").read_text())


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The counters at the start of a window; a zone that could not be read is absent."""

    at_ns: int
    values_uj: dict[Path, int]


class RaplMeter:
    """Meters the CPU packages and DRAM of this machine."""

    def __init__(self, root: Path = POWERCAP) -> None:
        """Find the zones under `root`."""
        self._root = root
        self.zones = tuple(find_zones(root))
        self._start: Start | None = None

    @property
    def why_not(self) -> tuple[str, ...]:
        """Why package energy cannot be measured; empty if it can."""
        packages = [z for z in self.zones if not z.is_dram]
        if not packages:
            return ("rapl_absent",)
        known = all(z.range_uj > 0 for z in self.zones)
        readable = known and len(_read(self.zones)) == len(self.zones)
        return () if readable else ("rapl_unreadable",)

    @property
    def fix(self) -> str | None:
        """One line that says how to make it readable; None if it is, or if nothing helps."""
        match self.why_not:
            case ("rapl_unreadable",):
                return _FIX.format(root=self._root)
            case ("rapl_absent",):
                return (f"no CPU energy counter under {self._root}: virtual machines have none; on "
                        "bare metal: modprobe intel_rapl_msr")  # fmt: skip
        return None

    def open(self) -> None:
        """Start a window."""
        self._start = Start(at_ns=time.monotonic_ns(), values_uj=_read(self.zones))

    def close(self) -> CpuEnergy:
        """End the window and report it; what could not be read is None with a reason."""
        ends, ended_ns = _read(self.zones), time.monotonic_ns()
        start, self._start = self._start, None
        if start is None or self.why_not:
            return CpuEnergy(reasons=self.why_not or ("not_opened",))
        duration_s = (ended_ns - start.at_ns) / 1e9
        zones = {dram: [z for z in self.zones if z.is_dram is dram] for dram in (False, True)}
        parts = {
            dram: _sum(same, start.values_uj, ends, duration_s) for dram, same in zones.items()
        }
        joules = {dram: part for dram, part in parts.items() if not isinstance(part, str)}
        return CpuEnergy(
            package_j=joules.get(False), dram_j=joules.get(True),
            method="rapl" if False in joules else None,
            reasons=tuple(part for part in parts.values() if isinstance(part, str)),
        )  # fmt: skip


def find_zones(root: Path) -> Iterable[Zone]:
    """Yield the package and DRAM zones under `root`, sorted by path."""
    for path in sorted(root.glob("intel-rapl:*")):
        if not _ZONE.fullmatch(path.name):
            continue
        name, range_uj = _text(path / "name"), _text(path / "max_energy_range_uj")
        if name is None or name == "dram" or _PACKAGE.fullmatch(name):
            wraps_uj = int(range_uj) if name and range_uj and range_uj.isdecimal() else 0
            yield Zone(path=path, is_dram=name == "dram", range_uj=wraps_uj)


def _text(path: Path) -> str | None:
    """Return a file's content; None if it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return None


def wrapped_delta_uj(start_uj: int, end_uj: int, range_uj: int) -> int:
    """Return the microjoules between two reads of a counter that wraps once at most."""
    return end_uj - start_uj if end_uj >= start_uj else end_uj + range_uj - start_uj


def _read(zones: Iterable[Zone]) -> dict[Path, int]:
    values = {}
    for zone in zones:
        try:
            values[zone.path] = zone.read_uj()
        except (OSError, ValueError):
            continue  # its absence is the reason that `close` reports
    return values


def _sum(
    zones: list[Zone], starts: dict[Path, int], ends: dict[Path, int], duration_s: float
) -> float | str:
    """Return joules over all zones, or the word for why there are none."""
    if not zones:
        return "rapl_no_dram"
    total_uj = 0
    for zone in zones:
        if zone.path not in starts or zone.path not in ends:
            return "rapl_unreadable"
        if duration_s * PACKAGE_LIMIT_W * 1e6 > zone.range_uj:
            return "rapl_wrap_ambiguous"
        delta_uj = wrapped_delta_uj(starts[zone.path], ends[zone.path], zone.range_uj)
        if delta_uj == 0:
            return "rapl_stuck"
        if delta_uj > (duration_s + SLACK_S) * PACKAGE_LIMIT_W * 1e6:
            return "rapl_reset"
        total_uj += delta_uj
    return total_uj / 1e6
