"""Which GPUs are meant: those named on the command line, those CUDA would show, or all. Pure.

It owns the reading of lists of GPUs, CUDA's own (CUDA_VISIBLE_DEVICES) included. It never asks a
driver, and never guesses: a list it cannot follow is refused, or followed as far as CUDA does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from db.errors import ConfigError, NodeUnfit
from workers.meters.nvml import GpuInfo

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
WHOLE, PART = "GPU-", "MIG-"

#: Why a choice is not quite what was asked for.
CUT = "cuda_visible_devices_cut"
HIDDEN = "cuda_hides_all_gpus"
ORDER_ASSUMED = "cuda_order_assumed_pci"
NOT_VISIBLE = "not_in_cuda_visible_devices"

#: CUDA reads an index as strtoul does: what follows the digits is ignored.
_INDEX = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The GPUs to meter, and what has to be known about how they were chosen.

    `reasons` are about the list, `reasons_of` about single GPUs by UUID.
    """

    gpus: tuple[GpuInfo, ...]
    reasons: tuple[str, ...] = ()
    reasons_of: Mapping[str, tuple[str, ...]]


def choose(gpus: Sequence[GpuInfo], named: str | None, environ: Mapping[str, str]) -> Choice:
    """Return the GPUs of this machine that `named` lists, else those that CUDA shows, else all.

    `named` holds indices as nvidia-smi counts them and UUIDs, with commas between; a UUID may be
    cut short as long as it fits one GPU. Raises ConfigError for what is not here and NodeUnfit
    for MIG, whose instances have no sensors of their own.
    """
    value = environ.get(VISIBLE)
    if named is None and value is None:
        return Choice(gpus=tuple(gpus), reasons_of={})
    if named is None:
        shown, reasons = _visible(gpus, value or "", environ)
        return Choice(gpus=_whole(shown), reasons=reasons, reasons_of={})
    chosen = tuple(dict.fromkeys(_named(gpus, word.strip()) for word in named.split(",")))
    beyond = () if value is None else set(chosen) - set(_shown(gpus, value))
    return Choice(gpus=_whole(chosen), reasons_of={gpu.uuid: (NOT_VISIBLE,) for gpu in beyond})


def _named(gpus: Sequence[GpuInfo], word: str) -> GpuInfo:
    """Return the GPU that one word of ``--gpus`` means."""
    if word.startswith(PART):
        raise _no_instance(word)
    if word.isascii() and word.isdecimal():
        found = [gpu for gpu in gpus if gpu.index == int(word)]
    else:
        found = _begun(gpus, word)
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"--gpus: {word} fits {len(found)} GPUs: write more of the UUID")
    if not word:
        raise ConfigError("--gpus: a name is empty: write for example --gpus 0,1")
    here = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in gpus) or "none"
    raise ConfigError(f"--gpus: no GPU {word} on this machine (here: {here})")


def _begun(gpus: Sequence[GpuInfo], word: str) -> list[GpuInfo]:
    """Return the GPUs whose UUID begins with a word."""
    return [gpu for gpu in gpus if word.startswith(WHOLE) and gpu.uuid.startswith(word)]


def _visible(
    gpus: Sequence[GpuInfo], value: str, environ: Mapping[str, str]
) -> tuple[tuple[GpuInfo, ...], tuple[str, ...]]:
    """Return what CUDA shows, and what has to be known about it."""
    words = value.split(",")
    for word in words:
        if word.startswith(PART):
            raise _no_instance(word)
    followed, shown = list(_followed(gpus, value)), _shown(gpus, value)
    rest = words[len(followed) :]
    on_purpose = value == "" or [word.strip() for word in rest[:1]] == ["-1"]
    unsure = len({gpu.name for gpu in gpus}) > 1 and environ.get(ORDER) != "PCI_BUS_ID"
    holds = {
        CUT: len(shown) < len(words) and not on_purpose,
        HIDDEN: not shown,
        # CUDA counts the fastest GPU first unless told otherwise; NVML goes by the PCI bus.
        ORDER_ASSUMED: unsure and not value.startswith(WHOLE) and 0 < len(shown) < len(gpus),
    }
    return shown, tuple(reason for reason, is_so in holds.items() if is_so)


def _shown(gpus: Sequence[GpuInfo], value: str) -> tuple[GpuInfo, ...]:
    """Return the GPUs that CUDA shows for a value of CUDA_VISIBLE_DEVICES.

    The first word decides whether all are indices or UUIDs; the first invalid one ends the list,
    and one that comes twice empties it (CUDA programming guide, environment variables; PyTorch,
    torch.cuda._parse_visible_devices).
    """
    shown = tuple(_followed(gpus, value))
    return shown if len(set(shown)) == len(shown) else ()


def _followed(gpus: Sequence[GpuInfo], value: str) -> Iterator[GpuInfo]:
    """Yield the GPU of each word up to the first invalid one."""
    by_uuid = value.startswith(WHOLE)
    for word in value.split(","):
        found = _begun(gpus, word) if by_uuid else _counted(gpus, word.strip())
        if len(found) != 1:
            return
        yield found[0]


def _counted(gpus: Sequence[GpuInfo], word: str) -> list[GpuInfo]:
    digits = _INDEX.match(word)
    return [gpu for gpu in gpus if digits and gpu.index == int(digits[0])]


def _whole(gpus: tuple[GpuInfo, ...]) -> tuple[GpuInfo, ...]:
    """Return the GPUs that were asked for. Raises NodeUnfit if one is split into instances."""
    for gpu in gpus:
        if gpu.mig:
            raise NodeUnfit(
                f"GPU {gpu.index} ({gpu.uuid}) is split by MIG and its sensors cover all "
                f"instances together: name another GPU, or switch MIG off (nvidia-smi -i "
                f"{gpu.index} -mig 0)"
            )
    return gpus


def _no_instance(word: str) -> NodeUnfit:
    return NodeUnfit(
        f"{word} is a MIG instance, and an instance has no sensors of its own (mig): name whole "
        "GPUs with --gpus"
    )
