"""The boards a session was given: which they are, that they are what it asked for, and empty.

It owns the verification, through NVML and of a CPU through /proc, before anything is loaded. It
never sets a power limit, never ends a process that is not its own, and takes no label's word for a
board.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection

from db.errors import NodeUnfit
from db.records import Board
from workers.boards import FoundBoard, discover
from workers.meters.binding import LIMIT_TOLERANCE_W, Gpu, Library, NvmlUnavailable
from workers.products import catalog_slugs

#: Part of a board's memory by which NVML's total may differ from what it is sold with: ECC and the
#: driver keep some (15 of 16 GiB are left of a T4), and half of it is another product.
MEMORY_TOLERANCE = 0.12
#: Seconds between two looks at whether a board is empty.
LOOK_S = 0.25


class WrongBoard(NodeUnfit):
    """The node does not hold the board it is taken for: nothing is measured on it."""


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

    A scheduler's own label is no identity: it calls unlike boards by one name. WrongBoard says
    that it is the node which is not what it claims. `power_limit_w` is the limit that the engine
    declares: the enforced one must be it. It is never set here.
    """
    names = catalog_slugs() | ({board.nvml_name: board.slug} if board.nvml_name else {})
    found = {f.uuid: f for f in discover(names)}
    kinds = [found[uuid].slug if uuid in found else "unknown" for uuid in uuids]
    if kinds != [board.slug] * count:
        got = ", ".join(kinds) or "no GPU"
        raise WrongBoard(f"{count} x {board.slug} is asked for, this session was given {got}")
    for uuid in uuids:
        if found[uuid].mig:
            raise WrongBoard(f"MIG is on: the sensors of a {board.slug} cover all its instances")
        _require_memory(found[uuid], board)
        if power_limit_w is not None:
            _require_limit(found[uuid], power_limit_w)


def verify_cpu(slug: str) -> None:
    """Raise WrongBoard unless this machine is that `cpu:` board, by its own account.

    It is the one that names the label of a node; a machine with GPUs is no CPU board.
    """
    held = sorted({board.slug for board in discover(catalog_slugs())})
    if held != [slug]:
        raise WrongBoard(f"{slug} is asked for, this machine holds {' and '.join(held)}")


def _require_memory(found: FoundBoard, board: Board) -> None:
    if found.memory_bytes is None or board.memory_bytes is None:
        return
    has, sold = (size / 2**30 for size in (found.memory_bytes, board.memory_bytes))
    if abs(has / sold - 1) > MEMORY_TOLERANCE:
        raise WrongBoard(f"a {board.slug} is sold with {sold:.0f} GiB, {found.uuid} has {has:.0f}")


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


def wait_until_empty(uuids: Collection[str], wait_s: float) -> None:
    """Return once no process computes on these GPUs: the last one's context takes a while to go.

    Raises NodeUnfit after `wait_s`. The pids are those of the host, whatever this process sees.
    """
    ends_s = time.monotonic() + wait_s
    while busy := _users(uuids):
        if time.monotonic() > ends_s:
            words = "; ".join(f"{uuid} by pid {', '.join(map(str, pids))}"
                              for uuid, pids in busy.items())  # fmt: skip
            raise NodeUnfit(f"the board is in use after {wait_s:g} s of waiting: {words}")
        time.sleep(LOOK_S)


def _users(uuids: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Return who computes on which of these GPUs, as far as the driver tells."""
    if not uuids:
        return {}
    try:
        with Library() as library:
            users = {gpu.uuid: gpu.compute_pids() for gpu in library.gpus() if gpu.uuid in uuids}
    except NvmlUnavailable as error:
        raise NodeUnfit(f"NVML is not usable: {error.fix}") from error
    return {uuid: pids for uuid, pids in users.items() if pids}


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
