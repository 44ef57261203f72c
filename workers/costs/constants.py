"""The numbers that the estimate rests on: rates of data sheets, and eight constants beside them.

Owns their values and which of them an engine's version and a board's memory change; where they
come from is in docs/estimate.md. Never computes a cost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from db.records import Board, EngineSpec
from workers.shapes.shape import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """The eight numbers that no data sheet states; these are of HBM boards and vLLM at large.

    `bandwidth` and `compute` are the reachable fractions of the peaks. `kernel_s` is what a
    kernel takes however small it is, `launch_s` what launching one from Python takes where no
    CUDA graph does. An engine spends `step_s` per step, and `request_s` per request in it,
    outside of the kernels. Of the way from idle power to TDP a board draws `awake` as long as an
    engine holds it, and of the way from there `busy` while kernels run, as much again in
    proportion to its memory traffic, and all of it at its reachable arithmetic.
    """

    bandwidth: float = 0.85
    compute: float = 0.5
    kernel_s: float = 3.3e-6
    launch_s: float = 33e-6
    step_s: float = 6e-3
    request_s: float = 75e-6
    awake: float = 0.07
    busy: float = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """A board's peaks: `matrix_flops` of the layers' matrices, `flops` of all other arithmetic."""

    flops: float
    matrix_flops: float
    bytes_s: float


#: Quantizations of weights and activations that multiply the layers' matrices in FP8.
FP8 = frozenset({"fp8", "fp8_per_tensor", "fp8_per_channel", "fp8_per_block", "fbgemm_fp8",
                 "modelopt", "ptpc_fp8"})  # fmt: skip
#: Boards whose memory is HBM, by how their slugs begin: at idle they sleep less than the others.
HBM = ("v100", "a100", "a30", "h100", "h200", "gh200", "b200", "b300", "gb200", "mi")
GDDR = {"awake": 0.28, "busy": 0.55}
#: The share of a board's memory that vLLM fills unless it is told, by the release it holds from; as
#: the tables of its options state it, where there are any. An unknown version has the last one.
MEMORY_SHARES = {(0, 0): 0.9, (0, 25): 0.92}
#: vLLM before its second engine core, and since (its default from 0.8 on).
SECOND_CORE = (0, 8)
FIRST = {"step_s": 10e-3, "request_s": 120e-6}
SECOND = {"step_s": 1.5e-3, "request_s": 30e-6}
#: transformers: its loop of `generate`, which computes requests together at no extra cost.
TRANSFORMERS = {"step_s": 3e-3, "request_s": 0.0}

#: Kernels in a layer: norms, projections, rotation, cache, attention, activation; unfused ones.
KERNELS = 10
UNFUSED_KERNELS = 25
#: More of them in a layer of experts in FP8: what scales, sorts and pads before each matrix. From
#: runs of the same models in both formats on the same boards; docs/estimate.md has the figures.
FP8_EXPERT_KERNELS = 20
#: Bytes per second of a board's link, each way: NVLink as in SXM boards, PCIe 4.0 x16 in others.
NVLINK_BYTES_S, PCIE_BYTES_S = 300e9, 25e9
NVLINKED = ("sxm", "gb200", "gh200")
#: A CPU core without matrix instructions, where a board states nothing. Assumption.
CPU_CORE_FLOPS = 15e9
CPU_CORE_BYTES_S = 8e9


def constants_of(board: Board, engine: EngineSpec) -> Constants:
    """Return the constants for a board's memory and an engine's version.

    A vLLM whose version is not known is taken for one in between.
    """
    constants = Constants() if board.slug.startswith(HBM) else Constants(**GDDR)
    if engine.backend == "transformers":
        return replace(constants, **TRANSFORMERS)
    release = release_of(engine.version)
    if release is None:
        return constants
    return replace(constants, **(FIRST if release < SECOND_CORE else SECOND))


def default_share(version: str | None) -> float:
    """Return the share of memory that a vLLM fills unless it is told otherwise."""
    release = release_of(version)
    known = [share for since, share in MEMORY_SHARES.items() if release is None or since <= release]
    return known[-1]


def release_of(version: str | None) -> tuple[int, int] | None:
    """Return major and minor number of a version; None where it does not begin with them."""
    found = re.match(r"v?(\d+)\.(\d+)", version or "")
    return (int(found[1]), int(found[2])) if found else None


def board_rates(
    board: Board,
    numbers: Precision,
    threads: int | None = None,
    quantization: str | None = None,
) -> Rates | None:
    """Return a board's peaks for these numbers; None where not known.

    Boards state half-precision rates; float32 is taken for an eighth of them (assumption). A
    board without an FP8 rate widens FP8 weights, and so does every quantization of weights alone.
    """
    if board.is_cpu and board.memory_bandwidth_bytes_s is None:
        cores = threads or 1
        flops, bytes_s = cores * CPU_CORE_FLOPS, cores * CPU_CORE_BYTES_S
        return Rates(flops=flops, matrix_flops=flops, bytes_s=bytes_s)
    peak = board.bf16_flops or board.fp16_flops
    if peak is None or board.memory_bandwidth_bytes_s is None:
        return None
    flops = peak if numbers.half else peak / 8
    narrow = board.fp8_flops if numbers.half and quantization in FP8 else None
    return Rates(flops=flops, matrix_flops=narrow or flops, bytes_s=board.memory_bandwidth_bytes_s)
