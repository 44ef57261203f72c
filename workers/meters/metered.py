"""The window around a command, a block of code or some seconds: every meter, opened as one.

It owns the order of edges: the counters' tick first, the command inside, the next tick last. It
never starts a command whose energy nobody could measure, and never ends one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from db.errors import NodeUnfit
from db.readings import CpuEnergy, GpuEnergy
from db.records import Reality
from workers.meters import program, rapl
from workers.meters.nvml import GpuWindow, NvmlMeter
from workers.meters.visible import HIDDEN, VISIBLE, Choice, choose

#: How often the power sensors are read by default, seconds.
INTERVAL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """What a window held. Times are CLOCK_MONOTONIC nanoseconds, `unix_ns` what makes them Unix.

    The energies are those of `energy_ns`: the command's or block's own time, else the window's.
    `ended_by` is the signal that cut a window short.
    """

    window_ns: tuple[int, int]
    energy_ns: tuple[int, int]
    unix_ns: int
    gpus: tuple[GpuEnergy, ...]
    cpu: CpuEnergy | None
    reality: Reality
    reasons: tuple[str, ...]
    exit_code: int | None = None
    ended_by: int | None = None

    def unix_s(self, at_ns: int) -> float:
        """Return an instant in Unix seconds, to the microsecond."""
        return round((at_ns + self.unix_ns) / 1e9, 6)


class Meters:
    """The meters of chosen GPUs and of the CPU; use as a context manager.

    `notes` are lines for people about what is not metered, with the fix.
    """

    def __init__(
        self, named: str | None, environ: Mapping[str, str], *, interval_s: float, aligned: bool
    ) -> None:
        """Find what can be metered. Raises NodeUnfit, with the fix, where nothing can.

        `named` are GPUs of the command line, None for those CUDA shows; `aligned` ends windows
        at a tick.
        """
        self._cpu = rapl.RaplMeter(rapl.POWERCAP)
        self._aligned = aligned
        self._choice = Choice(gpus=(), reasons_of={})
        self._nvml, why_no_gpu = self._open_gpus(named, environ, interval_s)
        self.reality = self._nvml.reality if self._nvml else Reality.REAL
        cpu_fix = self._cpu.fix
        if why_no_gpu and cpu_fix:
            self.shutdown()
            raise NodeUnfit(f"nothing can be metered here: {why_no_gpu}; {cpu_fix}")
        absent = self._cpu.why_not == ("rapl_absent",)
        self.notes = tuple(n for n in (why_no_gpu, None if absent else cpu_fix) if n)
        # Mapped once: the wall clock may be stepped, windows must not move with it.
        self._unix_ns = time.time_ns() - time.monotonic_ns()

    def _open_gpus(
        self, named: str | None, environ: Mapping[str, str], interval_s: float
    ) -> tuple[NvmlMeter | None, str | None]:
        """Return the meter of the chosen GPUs, and why none of them can be metered, if so.

        Raises ConfigError or NodeUnfit for GPUs that were asked for and cannot be had.
        """
        try:
            with program.shielded():
                nvml = NvmlMeter((), interval_s=interval_s, aligned=self._aligned)
        except NodeUnfit as error:
            if named is not None:
                raise
            self._choice = replace(self._choice, reasons=("no_nvml",))
            return None, f"no GPU: {error}"
        try:
            self._choice = choose(nvml.gpus, named, environ)
        except BaseException:
            nvml.shutdown()
            raise
        nvml.choose([gpu.uuid for gpu in self._choice.gpus])
        why_not = self._why_no_gpu(environ, found=bool(nvml.gpus))
        if not self._choice.gpus:
            nvml.shutdown()
        return nvml if self._choice.gpus else None, why_not

    def _why_no_gpu(self, environ: Mapping[str, str], *, found: bool) -> str | None:
        """Return why no chosen GPU can be metered; None if one can."""
        if not found:
            self._choice = replace(self._choice, reasons=("no_gpu",))
            return "no GPU: NVML lists none: see nvidia-smi -L (in a container: --gpus all)"
        if HIDDEN in self._choice.reasons:
            return (f"no GPU: {VISIBLE}={environ[VISIBLE]!r} hides them all: unset it, or name "
                    "GPUs with --gpus")  # fmt: skip
        if any((g.counter or g.power_field) and not g.mig for g in self._choice.gpus):
            return None
        first = self._choice.gpus[0]
        why = "is split by MIG" if first.mig else "has neither energy counter nor power sensor"
        return f"no GPU: GPU {first.index} ({first.name}) {why}: name another one with --gpus"

    def __enter__(self) -> Self:
        """Return the meters themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """End the meters' processes."""
        self.shutdown()

    def shutdown(self) -> None:
        """End the meters' processes; safe to call twice."""
        if self._nvml:
            self._nvml.shutdown()

    def command(self, path: str, arguments: Sequence[str]) -> Metered:
        """Meter a program from its start to its end; the energies are the program's alone.

        The ticks that hold its edges are split by time. Raises ConfigError if it does not start.
        """
        opened_ns = self._open()
        with program.signals_held() as mask:
            ran = program.run(path, arguments, mask)
            return self._inside(opened_ns, ran.started_ns, ran.ended_ns, ran.exit_code)

    def begin(self) -> tuple[int, int]:
        """Start the window of a block; returns when the window began, and when the block does."""
        return self._open(), time.monotonic_ns()

    def end(self, opened_ns: int, started_ns: int) -> Metered:
        """Meter the block that `begin` began, up to now; the energies are the block's alone."""
        return self._inside(opened_ns, started_ns, time.monotonic_ns())

    def _inside(
        self, opened_ns: int, started_ns: int, ended_ns: int, exit_code: int | None = None
    ) -> Metered:
        """End a window that is wider than what was done in it."""
        window, cpu = self._close(started_ns, ended_ns)
        until_ns = window.ended_ns if window.ticked_ns is None else window.ticked_ns
        return self._metered(window, cpu, window_ns=(opened_ns, until_ns), exit_code=exit_code)

    def seconds(self, duration_s: float) -> Metered:
        """Meter from a tick to the first tick after `duration_s`, or after a signal."""
        opened_ns = self._open()
        with program.signals_held():
            ended_by = program.pause(opened_ns + round(duration_s * 1e9))
            window, cpu = self._close(opened_ns, time.monotonic_ns())
        return self._metered(window, cpu, window_ns=(window.started_ns, window.ended_ns),
                             ended_by=ended_by)  # fmt: skip

    def _open(self) -> int:
        """Start a window; returns the instant of its start."""
        opened_ns = self._nvml.open() if self._nvml else time.monotonic_ns()
        self._cpu.open()
        return opened_ns

    def _close(self, started_ns: int, ended_ns: int) -> tuple[GpuWindow, CpuEnergy]:
        """End the window; the CPU's ends with the command, or with the tick that is waited for."""
        if self._nvml is None:
            window = GpuWindow(started_ns=started_ns, ended_ns=ended_ns, gpus=())
            return window, self._cpu.close()
        self._nvml.begin_close()
        cpu = None if self._aligned else self._cpu.close()
        window = self._nvml.finish_close(started_ns, ended_ns)
        return window, cpu or self._cpu.close()

    def _metered(
        self, window: GpuWindow, cpu: CpuEnergy, *, window_ns: tuple[int, int],
        exit_code: int | None = None, ended_by: int | None = None,
    ) -> Metered:  # fmt: skip
        absent = cpu.reasons == ("rapl_absent",)
        more = self._choice.reasons_of
        gpus = tuple(replace(g, reasons=(*g.reasons, *more.get(g.uuid, ())))
                     for g in window.gpus if not g.sibling)  # fmt: skip
        return Metered(
            window_ns=window_ns, energy_ns=(window.started_ns, window.ended_ns),
            unix_ns=self._unix_ns, gpus=gpus, cpu=None if absent else cpu, reality=self.reality,
            reasons=(*self._choice.reasons, *window.reasons, *(cpu.reasons if absent else ())),
            exit_code=exit_code, ended_by=ended_by,
        )  # fmt: skip
