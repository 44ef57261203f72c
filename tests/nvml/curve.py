"""The boards of the NVML stand-in seen from Python: their configuration and exact integrals.

It mirrors the arithmetic of standin.c (a test compares the two) and never calls NVML.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path

MASK = (1 << 64) - 1
LEVELS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class StandinGpu:
    """One simulated board. Times ``*_at`` are absolute CLOCK_MONOTONIC seconds, 0 is never.

    Ticks stay off whole milliseconds: there the kernel's own timer interrupts whoever watches,
    which no board does. `curve` is constant, square, ramp, burst (a pulse anywhere in its period),
    drift (a warm-up, time constant `duty` of the period), noise (a level per period) or load (what
    a test writes into the file `load`, see tests/nvml/load.py).
    A tick comes up to `tick_jitter_s` late, its value of that moment or, `tick_held`, of the time
    it was due. A counter that `accumulates` adds up the sensor's readings since `origin_s`.
    `default_limit_w` 0 is `limit_w`. `processes` are (pid, bytes, from, to); `mig` -1 is "not
    supported". `failures` are (what, NVML code, from, to), what being energy, power, fields,
    state, processes, identity or all.
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
    default_limit_w: float = 0.0
    counter: int = 1
    instant: int = 1
    average: int = 1
    legacy: int = 1
    mig: int = 0
    tick_s: float = 0.02
    tick_phase_s: float = 0.00137
    tick_jitter_s: float = 0.0
    tick_held: int = 0
    accumulates: int = 0
    origin_s: float = 0.0
    sensor_period_s: float = 0.1
    sensor_phase_s: float = 0.0
    sensor_window_s: float = 0.025
    legacy_window_s: float = 1.0
    load: str = ""
    stale_at: float = 0.0
    stuck_at: float = 0.0
    reset_at: float = 0.0
    reset_every_s: float = 0.0
    lost_at: float = 0.0
    throttle_at: float = 0.0
    throttle: int = 0
    latency_us: float = 0.0
    temperature_c: int = 50
    architecture: int = 9
    processes: tuple[tuple[int, int, float, float], ...] = ()
    failures: tuple[tuple[str, int, float, float], ...] = ()

    def energy_to_j(self, t_s: float) -> float:
        """Joules from CLOCK_MONOTONIC zero to `t_s`, exactly."""
        if self.curve == "constant":
            return self.low_w * t_s
        k = math.floor(t_s / self.period_s)
        u = t_s - k * self.period_s
        rise, width = self.high_w - self.low_w, self.duty * self.period_s
        if self.curve == "ramp":
            return self.low_w * t_s + rise * (k * self.period_s + u * u / self.period_s) / 2
        if self.curve == "drift":
            whole = self.period_s - width * (1 - math.exp(-1 / self.duty))
            risen = k * whole + u - width * (1 - math.exp(-u / width))
            return self.low_w * t_s + rise * risen
        if self.curve == "noise":
            rounds, i = divmod(k, LEVELS)
            sums = levels()
            cells = rounds * sums[LEVELS] + sums[i]
            return self.low_w * t_s + rise * (cells * self.period_s + chance(i) * u)
        start = chance(k) * (1 - self.duty) * self.period_s if self.curve == "burst" else 0.0
        return self.low_w * t_s + rise * (k * width + min(max(u - start, 0.0), width))

    def energy_j(self, start_ns: int, end_ns: int) -> float:
        """Joules between two CLOCK_MONOTONIC stamps, exactly."""
        return self.energy_to_j(end_ns / 1e9) - self.energy_to_j(start_ns / 1e9)

    def updated_s(self, t_s: float) -> float:
        """Return the instant of the sensor's last update before `t_s`."""
        since = t_s - self.sensor_phase_s
        return math.floor(since / self.sensor_period_s) * self.sensor_period_s + self.sensor_phase_s

    def sensor_w(self, t_s: float) -> float:
        """Return what the instant power shows at `t_s`: a mean that ended with the last update."""
        end_s = self.updated_s(t_s)
        start_s = end_s - self.sensor_window_s
        return (self.energy_to_j(end_s) - self.energy_to_j(start_s)) / self.sensor_window_s


def chance(k: int) -> float:
    """Return a number in [0, 1) that looks random and is the same for the same k."""
    z = (k + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    z ^= z >> 31
    return (z >> 11) / 2**53


@cache
def levels() -> tuple[float, ...]:
    """Return the sums of the levels that a noisy board goes through over and over."""
    return tuple(accumulate(map(chance, range(LEVELS)), initial=0.0))


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
    path: Path,
    gpus: Sequence[StandinGpu],
    *,
    driver: str | None = None,
    init_error: int = 0,
    trigger: Path | None = None,
) -> Path:
    """Write the file that NVML_STANDIN names.

    With a `trigger` events count from the CLOCK_MONOTONIC seconds that will be written there.
    """
    lines = [f"driver {driver}"] if driver else []
    lines += [f"trigger {trigger}"] if trigger else []
    lines += [f"init_error {init_error}"] if init_error else []
    for gpu in gpus:
        lines.append("gpu")
        for key, value in asdict(gpu).items():
            if key == "processes":
                lines += [f"process {pid} {size} {start!r} {end!r}"
                          for pid, size, start, end in value]  # fmt: skip
            elif key == "load" and not value:
                continue
            elif key == "failures":
                lines += [f"fail {what} {code} {start!r} {end!r}"
                          for what, code, start, end in value]  # fmt: skip
            else:
                lines.append(f"{key} {value if isinstance(value, str) else repr(value)}")
    path.write_text("\n".join(lines) + "\n")
    return path
