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

from db.errors import NodeUnfit
from db.records import Board
from workers.meters.binding import Gpu, Library, NvmlUnavailable
from workers.meters.rapl import POWERCAP, RaplMeter

CPUINFO = Path("/proc/cpuinfo")
#: Watts by which an enforced power limit may differ from the declared one: NVML tells milliwatts.
LIMIT_TOLERANCE_W = 0.5
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


def uuids_of(visible: str) -> tuple[str, ...]:
    """Return the UUIDs named by a CUDA_VISIBLE_DEVICES value: indices, UUIDs or their prefixes.

    Raises NodeUnfit for a MIG instance, for what is not here, and for indices on a machine of
    unlike GPUs whose CUDA order is not NVML's.
    """
    wanted = [part.strip() for part in visible.split(",") if part.strip()]
    if not wanted:
        return ()
    try:
        with Library() as library:
            gpus = library.gpus()
    except NvmlUnavailable as error:
        raise NodeUnfit(f"NVML is not usable: {error.fix}") from error
    return tuple(_resolve(part, gpus, visible) for part in wanted)


def verify(
    uuids: tuple[str, ...], board: Board, count: int, power_limit_w: float | None = None
) -> None:
    """Raise NodeUnfit unless these GPUs are `count` boards of that exact product, MIG off.

    A scheduler's own label is no identity: it calls unlike boards by one name. `power_limit_w` is
    the limit that the engine declares: the enforced one must be it. It is never set here.
    """
    found = {f.uuid: f for f in discover({board.nvml_name: board.slug} if board.nvml_name else {})}
    kinds = [found[uuid].slug if uuid in found else "unknown" for uuid in uuids]
    if kinds != [board.slug] * count:
        got = ", ".join(kinds) or "no GPU"
        raise NodeUnfit(f"{count} x {board.slug} is asked for, this session was given {got}")
    if any(found[uuid].mig for uuid in uuids):
        raise NodeUnfit(f"MIG is on: the sensors of a {board.slug} cover all its instances")
    if power_limit_w is not None:
        for uuid in uuids:
            _require_limit(found[uuid], power_limit_w)


def _require_limit(board: FoundBoard, declared_w: float) -> None:
    enforced_w = board.power_limit_w
    if enforced_w is None:
        raise NodeUnfit(f"{board.uuid} does not say its power limit: engine.power_limit_w cannot "
                        "be verified")  # fmt: skip
    if abs(enforced_w - declared_w) > LIMIT_TOLERANCE_W:
        raise NodeUnfit(
            f"engine.power_limit_w={declared_w:g} is asked for, {board.uuid} enforces "
            f"{enforced_w:g} W: nvidia-smi -i {board.index} -pl {declared_w:g} sets it"
        )


def _resolve(part: str, gpus: tuple[Gpu, ...], visible: str) -> str:
    if part.startswith("MIG"):
        raise NodeUnfit(f"{part} is a MIG instance: its board's sensors cover all instances; "
                        "switch MIG off (nvidia-smi -mig 0)")  # fmt: skip
    if part.isdecimal():
        found = [g.uuid for g in gpus if g.index == int(part)]
        unlike = len({g.name for g in gpus}) > 1
        if unlike and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
            raise NodeUnfit("this machine holds unlike GPUs, which CUDA numbers differently than "
                            "NVML: export CUDA_DEVICE_ORDER=PCI_BUS_ID")  # fmt: skip
    else:
        found = [g.uuid for g in gpus if part.startswith("GPU-") and g.uuid.startswith(part)]
    if len(found) != 1:
        raise NodeUnfit(f"CUDA_VISIBLE_DEVICES={visible}: {part} names {len(found)} of the "
                        f"{len(gpus)} GPUs here")  # fmt: skip
    return found[0]


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
