"""The boards of the NVML stand-in seen from Python: their configuration and exact integrals.

It mirrors the arithmetic of standin.c (a test compares the two) and never calls NVML.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StandinGpu:
    """One simulated board. Times ``*_at`` are absolute CLOCK_MONOTONIC seconds, 0 is never.

    Ticks stay off whole milliseconds: there the kernel's own timer interrupts whoever watches,
    which no board does. `processes` are (pid, bytes, from, to); `mig` -1 is "not supported".
    """

    name: str = "NVIDIA H100 80GB HBM3"
    uuid: str = "GPU-00000000-0000-0000-0000-000000000000"
    curve: str = "constant"
    low_w: float = 300.0
    high_w: float = 300.0
    period_s: float = 1.0
    duty: float = 0.5
    memory_mib: int = 81559
    limit_w: float = 700.0
    counter: int = 1
    instant: int = 1
    average: int = 1
    legacy: int = 1
    mig: int = 0
    tick_s: float = 0.02
    tick_phase_s: float = 0.00137
    sensor_period_s: float = 0.1
    sensor_window_s: float = 0.025
    reset_at: float = 0.0
    reset_every_s: float = 0.0
    lost_at: float = 0.0
    throttle_at: float = 0.0
    throttle: int = 0
    latency_us: float = 0.0
    temperature_c: int = 50
    processes: tuple[tuple[int, int, float, float], ...] = ()

    def energy_to_j(self, t_s: float) -> float:
        """Joules from CLOCK_MONOTONIC zero to `t_s`, exactly."""
        if self.curve == "constant":
            return self.low_w * t_s
        k = math.floor(t_s / self.period_s)
        u = t_s - k * self.period_s
        rise, width = self.high_w - self.low_w, self.duty * self.period_s
        if self.curve == "ramp":
            return self.low_w * t_s + rise * (k * self.period_s + u * u / self.period_s) / 2
        start = self._burst_offset(k) if self.curve == "burst" else 0.0
        return self.low_w * t_s + rise * (k * width + min(max(u - start, 0.0), width))

    def energy_j(self, start_ns: int, end_ns: int) -> float:
        """Joules between two CLOCK_MONOTONIC stamps, exactly."""
        return self.energy_to_j(end_ns / 1e9) - self.energy_to_j(start_ns / 1e9)

    def _burst_offset(self, k: int) -> float:
        z = (k + 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        z ^= z >> 31
        return (z >> 11) / 2**53 * (1.0 - self.duty) * self.period_s


def build(folder: Path) -> Path:
    """Compile the stand-in into `folder` as libnvidia-ml.so.1; put that on LD_LIBRARY_PATH."""
    source = Path(__file__).with_name("standin.c")
    subprocess.run(
        ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o",
         str(folder / "libnvidia-ml.so.1"), str(source), "-lm"],
        check=True,
    )  # fmt: skip
    return folder


def write_config(
    path: Path, gpus: Sequence[StandinGpu], *, driver: str | None = None, init_error: int = 0
) -> Path:
    """Write the file that NVML_STANDIN names."""
    lines = [f"driver {driver}"] if driver else []
    lines += [f"init_error {init_error}"] if init_error else []
    for gpu in gpus:
        lines.append("gpu")
        for key, value in asdict(gpu).items():
            if key == "processes":
                lines += [f"process {pid} {size} {start!r} {end!r}"
                          for pid, size, start, end in value]  # fmt: skip
            else:
                lines.append(f"{key} {value if isinstance(value, str) else repr(value)}")
    path.write_text("\n".join(lines) + "\n")
    return path
