"""A metered window as values and as text: a table for people, JSON, and the power samples as CSV.

Owns the names and the digits that are shown. Never measures; what is missing stays missing.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from campaign.tabular import MISSING, plain, print_table, say, write_csv
from db.readings import CpuEnergy, GpuEnergy
from db.records import Reality
from workers.meters.gpureport import half_width_together
from workers.meters.metered import Metered

COLUMNS = ("GPU", "name", "energy J", "± J", "mean W", "max W", "by")
TRACE_COLUMNS = ("unix_s", "gpu_index", "uuid", "power_w")
#: Digits of an energy; those of its half-width; characters of a command.
DIGITS, WIDTH_DIGITS, SHOWN = 6, 2, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuResult:
    """One GPU in a metered window; None is what was not measured, and `reasons` say why.

    `uncertainty_j` is the 95 % half-width of `energy_j` by its timing alone, `sensor_accuracy`
    the relative one of the board's sensor. docs/measurement.md says what each value covers.
    """

    index: int
    uuid: str
    name: str
    energy_j: float | None
    uncertainty_j: float | None
    sensor_accuracy: float | None
    method: str | None
    counter_j: float | None
    integrated_j: float | None
    ratio: float | None
    mean_w: float | None
    max_w: float | None
    samples: int
    power_field: str | None
    reality: Reality
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterResult:
    """A metered window. Times are Unix seconds; `cpu` is None where it is not metered.

    `started_at` and `ended_at` lie at ticks of the counters, outside of what was metered. The
    energies are those of `command_started_at` to `command_ended_at`, the times of the command, or
    of the block of `campaign.meter`; both are None where it was the window itself.
    """

    started_at: float
    ended_at: float
    duration_s: float
    command_started_at: float | None
    command_ended_at: float | None
    gpus: tuple[GpuResult, ...]
    cpu: CpuEnergy | None
    reasons: tuple[str, ...]


Cells = tuple[object, str, float | None, float | None, float | None, float | None, str]


def print_reading(metered: Metered, command: Sequence[str] | None) -> None:
    """Print a window for people, on stderr: a row per GPU and per part of the CPU."""
    rows = [*_gpu_rows(metered), *_cpu_rows(metered)]
    energies = [_joules(row[2]) for row in rows]
    width = max(map(len, energies), default=0)
    lines = [(*row[:2], f"{joules:>{width}}", _rounded(row[3]), *row[4:])
             for row, joules in zip(rows, energies, strict=True)]  # fmt: skip
    print_table(COLUMNS, lines, title=_title(metered, command), stream=sys.stderr)
    for gpu in metered.gpus:
        if gpu.reasons:
            say(f"GPU {gpu.index}: {', '.join(gpu.reasons)}")
    if metered.cpu and metered.cpu.reasons:
        say(f"CPU: {', '.join(metered.cpu.reasons)}")
    if metered.reasons:
        say(", ".join(metered.reasons))
    if metered.reality is not Reality.REAL:
        say(f"{metered.reality.value}: what answers for the driver is a stand-in")


def _title(metered: Metered, command: Sequence[str] | None) -> str:
    seconds = (metered.energy_ns[1] - metered.energy_ns[0]) / 1e9
    if not command:
        return f"{seconds:.3f} s{', interrupted' if metered.ended_by else ''}"
    line = shlex.join(command)
    line = line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
    return f"{line}: {seconds:.3f} s, exit code {metered.exit_code}"


def _gpu_rows(metered: Metered) -> Iterator[Cells]:
    for g in metered.gpus:
        yield (g.index, g.name, g.energy_j, g.timing_uncertainty_j, g.mean_w, g.max_w,
               g.method or MISSING)  # fmt: skip
    joules = [g.energy_j for g in metered.gpus if g.energy_j is not None]
    if len(joules) == len(metered.gpus) > 1:
        width_j = half_width_together(metered.gpus)
        mean_w = sum(g.mean_w or 0.0 for g in metered.gpus)
        yield "sum", f"{len(joules)} GPUs", sum(joules), width_j, mean_w, None, ""


def _cpu_rows(metered: Metered) -> Iterator[Cells]:
    if metered.cpu is None:
        return
    seconds = (metered.energy_ns[1] - metered.energy_ns[0]) / 1e9
    parts = {"packages": metered.cpu.package_j, "DRAM": metered.cpu.dram_j}
    for name, joules in parts.items():
        if joules is not None:
            mean_w = joules / seconds if seconds > 0 else None
            yield "CPU", name, joules, None, mean_w, None, metered.cpu.method or MISSING


def _joules(joules: float | None) -> str:
    """Return an energy with so many digits, and with all of those before the point."""
    if joules is None:
        return MISSING
    return f"{joules:.{max(0, DIGITS - len(str(int(joules))))}f}"


def _rounded(half_width_j: float | None) -> float | None:
    return None if half_width_j is None else float(f"{half_width_j:.{WIDTH_DIGITS}g}")


def write_reading(metered: Metered) -> None:
    """Write a window as one line of JSON on stdout, behind whatever the command printed there."""
    try:
        print(json.dumps(plain(result_of(metered))), flush=True)
    except BrokenPipeError:  # the reader left; the command's exit code stands
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def result_of(metered: Metered) -> MeterResult:
    """Return a window as JSON and `campaign.meter` have it."""
    started_at, ended_at = map(metered.unix_s, metered.window_ns)
    inside = metered.energy_ns != metered.window_ns
    from_at, to_at = map(metered.unix_s, metered.energy_ns) if inside else (None, None)
    return MeterResult(
        started_at=started_at,
        ended_at=ended_at,
        duration_s=(metered.window_ns[1] - metered.window_ns[0]) / 1e9,
        command_started_at=from_at,
        command_ended_at=to_at,
        gpus=tuple(_gpu(gpu, metered.reality) for gpu in metered.gpus),
        cpu=metered.cpu,
        reasons=metered.reasons,
    )


def _gpu(gpu: GpuEnergy, reality: Reality) -> GpuResult:
    return GpuResult(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        energy_j=gpu.energy_j,
        uncertainty_j=gpu.timing_uncertainty_j,
        sensor_accuracy=gpu.sensor_accuracy,
        method=gpu.method,
        counter_j=gpu.counter_j,
        integrated_j=gpu.integrated_j,
        ratio=gpu.ratio,
        mean_w=gpu.mean_w,
        max_w=gpu.max_w,
        samples=gpu.samples,
        power_field=gpu.power_field,
        reality=reality,
        reasons=gpu.reasons,
    )


def write_trace(metered: Metered, file: TextIO) -> None:
    """Write the power samples of the energies' time, GPU by GPU: Unix seconds and watts."""
    write_csv(TRACE_COLUMNS, _samples(metered), file)


def _samples(metered: Metered) -> Iterator[tuple[float, int, str, float]]:
    for gpu in metered.gpus:
        if gpu.trace is None:
            continue
        for offset_s, watts in zip(gpu.trace.offsets_s, gpu.trace.watts, strict=True):
            at_ns = metered.energy_ns[0] + round(offset_s * 1e9)
            yield metered.unix_s(at_ns), gpu.index, gpu.uuid, watts
