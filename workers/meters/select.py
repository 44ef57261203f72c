"""The meter of a board group: what is there, chosen by name, read as one.

It owns the choice of meters and the sum over them; each meter owns its own measuring. It never
fills a gap: a board whose energy was not measured has `energy_j` None, the reasons, and at most
an estimate beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from db.errors import ConfigError
from db.readings import CpuEnergy, Reading
from db.records import Reality
from workers.meters import rapl
from workers.meters.accuracy import Accuracy, together
from workers.meters.codecarbon import CodeCarbonMeter
from workers.meters.curve import Curve
from workers.meters.gpureport import ASIDE, half_width_together
from workers.meters.meter import Meter
from workers.meters.nvml import GpuWindow, NvmlMeter

NAMES = ("auto", "nvml", "rapl", "codecarbon")
#: A RAPL counter is refreshed about every millisecond; both ends of a window are off by one.
RAPL_TICK_S = 0.001


def open_meter(
    names: Sequence[str], gpu_uuids: Sequence[str] = (), *, interval_s: float = 0.1,
    powercap: Path = rapl.POWERCAP, accuracy: Accuracy | None = None,
    shared: Callable[[], bool] = lambda: False,
) -> Meter:  # fmt: skip
    """Return the meter of a board group; the group is the machine's CPU without `gpu_uuids`.

    `names` come from the configuration. ``auto`` takes NVML for GPUs, RAPL where it is readable,
    and CodeCarbon's estimate only where neither measures the board. Raises ConfigError for an
    unknown name or ``nvml`` without GPUs, NodeUnfit where a GPU of the group cannot be found.
    `shared` says whether others measure on this machine now: the CPU's energy is then not ours.
    """
    chosen = _chosen(names, gpu_uuids, interval_s)
    nvml = (NvmlMeter(gpu_uuids, interval_s=interval_s)
            if gpu_uuids and chosen & {"auto", "nvml"} else None)  # fmt: skip
    cpu = rapl.RaplMeter(powercap) if chosen & {"auto", "rapl"} else None
    why_not = _why_not(nvml, cpu, gpu_uuids)
    estimate = ("codecarbon" in chosen) or ("auto" in chosen and bool(why_not))
    return BoardMeter(
        nvml=nvml, cpu=cpu, estimate=CodeCarbonMeter(gpu_uuids) if estimate else None,
        gpu_count=len(gpu_uuids), why_not=why_not, accuracy=accuracy or Accuracy(),
        shared=shared,
    )  # fmt: skip


def _why_not(
    nvml: NvmlMeter | None, cpu: rapl.RaplMeter | None, gpu_uuids: Sequence[str]
) -> tuple[str, ...]:
    """Return why the board's energy cannot be measured; empty if it can."""
    if gpu_uuids:
        return nvml.why_not if nvml else ("nvml_not_chosen",)
    return ("no_gpu", *reasons) if (reasons := _why_no_rapl(cpu)) else ()


def _why_no_rapl(cpu: rapl.RaplMeter | None) -> tuple[str, ...]:
    return cpu.why_not if cpu else ("rapl_not_chosen",)


def _chosen(names: Sequence[str], gpu_uuids: Sequence[str], interval_s: float) -> frozenset[str]:
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise ConfigError(f"meter: {unknown[0] if unknown else 'empty'} is not one of "
                          f"{', '.join(NAMES)}")  # fmt: skip
    if "nvml" in names and not gpu_uuids:
        raise ConfigError("meter: nvml needs a GPU, and this board is a CPU: use meter=[auto]")
    if interval_s <= 0:
        raise ConfigError(f"meter: the sampling interval must be positive, not {interval_s}")
    return frozenset(names)


class BoardMeter:
    """Meters one board group with every meter it was given."""

    def __init__(
        self, *, nvml: NvmlMeter | None, cpu: rapl.RaplMeter | None,
        estimate: CodeCarbonMeter | None, gpu_count: int, why_not: tuple[str, ...],
        accuracy: Accuracy, shared: Callable[[], bool],
    ) -> None:  # fmt: skip
        """Take the meters over."""
        self._accuracy = accuracy
        self._shared, self._was_shared = shared, False
        self._nvml, self._cpu, self._estimate = nvml, cpu, estimate
        self._gpu_count = gpu_count
        self.why_not = why_not
        self.measures = not why_not
        self.reality = nvml.reality if nvml else Reality.REAL
        self.software: Mapping[str, str] = {"nvidia_driver": nvml.driver} if nvml else {}
        parts = {"nvml": nvml, "rapl": cpu and not cpu.why_not, "codecarbon": estimate}
        self.name = "+".join(name for name, there in parts.items() if there) or "none"
        # Mapped once: the wall clock may be stepped, windows must not move with it.
        self._unix_ns = time.time_ns() - time.monotonic_ns()
        self._started_ns = 0
        self._curves: tuple[Curve, ...] = ()

    def open(self, *, follow: bool = False) -> None:
        """Start a window. The slow starters go first, the board's own edge last."""
        self._was_shared = self._cpu is not None and self._shared()
        if self._estimate:
            self._estimate.open()
        self._started_ns = self._nvml.open(follow=follow) if self._nvml else time.monotonic_ns()
        if self._cpu:
            self._cpu.open()

    def close(self) -> Reading:
        """End the window at the moment of the call and report it."""
        ended_ns = time.monotonic_ns()
        if self._nvml:
            self._nvml.begin_close()
        cpu = self._cpu.close() if self._cpu else None
        if cpu is not None and (self._was_shared or self._shared()):
            cpu = CpuEnergy(reasons=("shared_node",))
        estimate = self._estimate.close() if self._estimate else None
        window = GpuWindow(started_ns=self._started_ns, ended_ns=ended_ns, gpus=())
        if self._nvml:
            window = self._nvml.finish_close(self._started_ns, ended_ns)
        self._curves = window.curves
        gpus = tuple(map(self._accuracy.of, window.gpus))
        sensors = together([g for g in gpus if not g.sibling]) if gpus else self._accuracy.of_board
        energy = self._gpu_sum(window) if self._gpu_count else self._cpu_sum(cpu, window)
        energy_j, method, half_width_j, reasons = energy
        return Reading(
            started_ns=window.started_ns, ended_ns=window.ended_ns,
            started_at=(window.started_ns + self._unix_ns) / 1e9, reality=self.reality,
            energy_j=energy_j, energy_method=method, timing_uncertainty_j=half_width_j,
            sensor_accuracy=None if energy_j is None else sensors,
            gpus=gpus, cpu=cpu, estimate=estimate, reasons=reasons,
        )  # fmt: skip

    def _gpu_sum(
        self, window: GpuWindow
    ) -> tuple[float | None, str | None, float | None, tuple[str, ...]]:
        """Return joules, method, half-width and reasons of the group's GPUs together."""
        group = [g for g in window.gpus if not g.sibling]
        reasons = (*window.reasons, *(r for g in group for r in g.reasons), *self.why_not)
        unique = tuple(dict.fromkeys(reason for reason in reasons if reason not in ASIDE))
        joules = [g.energy_j for g in group if g.energy_j is not None]
        if len(joules) < self._gpu_count:
            return None, None, None, unique or ("no_energy",)
        counted = all(g.method == "counter" for g in group)
        method = f"nvml_{'counter' if counted else 'integrated'}"
        return sum(joules), method, half_width_together(group), unique

    def _cpu_sum(
        self, cpu: CpuEnergy | None, window: GpuWindow
    ) -> tuple[float | None, str | None, float | None, tuple[str, ...]]:
        """Return the same for a machine without a GPU: packages, and DRAM where it is counted."""
        if cpu is None or cpu.package_j is None:
            reasons = (*self.why_not, *(cpu.reasons if cpu else ()))
            return None, None, None, tuple(dict.fromkeys(reasons))
        if cpu.dram_j is None and "rapl_no_dram" not in cpu.reasons:
            return None, None, None, cpu.reasons  # DRAM is there and was not read: not a sum
        energy_j = cpu.package_j + (cpu.dram_j or 0.0)
        duration_s = (window.ended_ns - window.started_ns) / 1e9
        half_width_j = energy_j / duration_s * RAPL_TICK_S * 2 if duration_s > 0 else None
        return energy_j, "rapl", half_width_j, cpu.reasons

    def curves(self) -> tuple[Curve, ...]:
        """Return the courses of the GPUs' energy in the window closed last; a CPU has none."""
        return self._curves

    def freeze_processes(self) -> None:
        """Remember which processes belong to the session; later ones are foreign."""
        if self._nvml:
            self._nvml.freeze_processes()

    def foreign_processes(self) -> tuple[int, ...] | None:
        """Pids on the group's GPUs that were not there when they were frozen; None if unknown."""
        return self._nvml.foreign_processes() if self._nvml else ()

    def shutdown(self) -> None:
        """End the meters' processes; safe to call twice."""
        for meter in (self._nvml, self._estimate):
            if meter:
                meter.shutdown()
