"""The boards this machine holds, by exact product, and what can be measured on them.

It owns the discovery through NVML and /proc and the naming of what it finds. It never runs
anything on a board and keeps NVML open only while it asks.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.meters.binding import Gpu, Library, NvmlUnavailable
from workers.meters.rapl import POWERCAP, RaplMeter

CPUINFO = Path("/proc/cpuinfo")
#: Instructions on bfloat16, by their names in /proc/cpuinfo on x86 and ARM.
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundBoard:
    """One board of this machine: a GPU with its UUID, or the CPU where there is none."""

    slug: str
    name: str
    uuid: str | None = None
    index: int | None = None
    memory_bytes: int | None = None
    power_limit_w: float | None = None
    mig: bool = False
    has_counter: bool = False
    power_field: str | None = None
    threads: int | None = None
    dtype: str = "bfloat16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line for people on what can be measured here; `fix` says how to get more."""

    subject: str
    ok: bool
    detail: str
    fix: str | None = None


def discover(slugs: Mapping[str, str] | None = None) -> list[FoundBoard]:
    """Return the GPUs of this machine in NVML's order, or its CPU as the one board without any.

    `slugs` maps exact NVML names to slugs; a name that is not in it is turned into one.
    """
    try:
        with Library() as library:
            found = [_gpu_board(gpu, slugs or {}) for gpu in library.gpus()]
    except NvmlUnavailable:
        found = []  # `diagnose` says why; a machine without NVML is a CPU board
    return found or [cpu_board()]


def driven_by_standin() -> bool:
    """Whether a stand-in library answers instead of a driver: what it meters is simulated."""
    try:
        with Library() as library:
            return library.is_standin
    except NvmlUnavailable:
        return False


def _gpu_board(gpu: Gpu, slugs: Mapping[str, str]) -> FoundBoard:
    return FoundBoard(
        slug=slugs.get(gpu.name) or slugify(gpu.name), name=gpu.name, uuid=gpu.uuid,
        index=gpu.index, memory_bytes=gpu.memory_bytes(), power_limit_w=gpu.power_limit_w(),
        mig=gpu.mig_enabled(), has_counter=gpu.has_counter, power_field=gpu.power_field,
    )  # fmt: skip


def cpu_board(cpuinfo: Path = CPUINFO) -> FoundBoard:
    """Return this machine as a board: ``cpu:<model>:<threads>``, threads this process may use."""
    usable = getattr(os, "sched_getaffinity", None)  # not on macOS
    threads = len(usable(0)) if usable else os.cpu_count() or 1
    try:
        text = cpuinfo.read_text()
    except OSError:
        text = ""  # not Linux, or /proc is not mounted: the architecture has to do
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    name = match[1].strip() if match else platform.machine()
    slug = f"cpu:{slugify(name)}:{threads}"
    return FoundBoard(slug=slug, name=name, threads=threads, dtype=_cpu_dtype(text))


def _cpu_dtype(cpuinfo: str) -> str:
    """Return bfloat16 for a CPU with instructions for it, else float32: emulated it is slower."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = match[1].split() if match else []
    return "bfloat16" if BF16_FLAGS.intersection(flags) else "float32"


def slugify(name: str) -> str:
    """Return a product name in lower case with single hyphens, e.g. ``nvidia-h100-80gb-hbm3``."""
    plain = re.sub(r"\((r|tm|c)\)", " ", name.lower())
    return re.sub(r"[^a-z0-9.]+", "-", plain).strip("-.")


def diagnose(powercap: Path = POWERCAP) -> tuple[Finding, ...]:
    """Return what can be measured on this machine and, where something cannot, the fix."""
    return (*_diagnose_nvml(), _diagnose_rapl(powercap), _diagnose_codecarbon())


def _diagnose_nvml() -> tuple[Finding, ...]:
    try:
        with Library() as library:
            gpus = [(gpu, gpu.mig_enabled()) for gpu in library.gpus()]
            driver = library.driver
    except NvmlUnavailable as error:
        return (Finding(subject="nvml", ok=False, detail=error.reason, fix=error.fix),)
    if not gpus:
        return (Finding(subject="nvml", ok=False, detail=f"driver {driver}, no GPU",
                        fix="no GPU answers: nvidia-smi -L must list it"),)  # fmt: skip
    here = Finding(subject="nvml", ok=True, detail=f"driver {driver}, {len(gpus)} GPU")
    return (here, *(_diagnose_gpu(gpu, mig=mig) for gpu, mig in gpus))


def _diagnose_gpu(gpu: Gpu, *, mig: bool) -> Finding:
    counter = "energy counter" if gpu.has_counter else "no energy counter (older than Volta?)"
    detail = f"{gpu.name} {gpu.uuid}: {counter}, power field {gpu.power_field or 'none'}"
    fix = None
    if mig:
        fix = f"MIG is on: nvidia-smi -i {gpu.index} -mig 0"
    elif not gpu.has_counter and gpu.power_field is None:
        fix = "this board reports neither energy nor power"
    return Finding(subject=f"gpu {gpu.index}", ok=fix is None, detail=detail, fix=fix)


def _diagnose_rapl(powercap: Path) -> Finding:
    meter = RaplMeter(powercap)
    packages = sum(not zone.is_dram for zone in meter.zones)
    detail = f"{packages} CPU package(s), {len(meter.zones) - packages} DRAM counter(s)"
    return Finding(subject="rapl", ok=not meter.why_not, fix=meter.fix,
                   detail=", ".join((detail, *meter.why_not)))  # fmt: skip


def _diagnose_codecarbon() -> Finding:
    found = importlib.util.find_spec("codecarbon") is not None
    return Finding(
        subject="codecarbon", ok=found, detail="estimates" if found else "not installed",
        fix=None if found else "pip install codecarbon",
    )  # fmt: skip
