"""NVML through nvidia-ml-py: the only module that imports pynvml, and that lazily.

It owns the translation of NVML's handles, units and errors into seconds, watts, millijoules and
one-word reasons. It never decides what a missing value means and keeps no readings.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple, Self, TypeVar

T = TypeVar("T")

#: Boards whose legacy power is instantaneous although they are Ampere: the chip is GA100.
GA100 = re.compile(r"\b(A100|A30)\b")
#: Watts by which power limits may differ that are the same: NVML tells milliwatts.
LIMIT_TOLERANCE_W = 0.5
#: The driver version that the stand-in library reports: what it meters is simulated.
STANDIN_DRIVER = "0.0.standin"

_REASONS = {
    3: "not_supported", 4: "no_permission", 9: "driver_not_loaded", 12: "library_missing",
    13: "not_supported", 15: "gpu_lost", 16: "gpu_lost", 18: "driver_mismatch", 28: "gpu_lost",
}  # fmt: skip
_FIXES = {
    "library_missing": "no libnvidia-ml.so.1: install the NVIDIA driver (in a container: run it "
    "with the NVIDIA runtime)",
    "driver_not_loaded": "the NVIDIA driver is not loaded: modprobe nvidia, or start the container "
    "with --gpus all",
    "no_permission": "this user may not open /dev/nvidia*: add it to the group that owns them",
    "driver_mismatch": "driver and library differ in version: reboot, or reload the driver",
    "binding_missing": "the Python binding is not installed: pip install nvidia-ml-py",
}
#: Bits of the clocks event reasons, as words. Idle and "none" are no throttling.
THROTTLE_BITS = {
    0x002: "applications_clocks", 0x004: "sw_power_cap", 0x008: "hw_slowdown", 0x010: "sync_boost",
    0x020: "sw_thermal", 0x040: "hw_thermal", 0x080: "power_brake", 0x100: "display_clocks",
}  # fmt: skip


class NvmlUnavailable(Exception):
    """NVML cannot be used at all. `reason` is one word, `fix` one line for people."""

    def __init__(self, reason: str) -> None:
        """Look the fix up by the reason."""
        self.reason = reason
        self.fix = _FIXES.get(reason, f"NVML does not answer ({reason}): see nvidia-smi")
        super().__init__(self.fix)


class SensorError(Exception):
    """One query of one GPU failed. `reason` is one word, e.g. ``gpu_lost``, ``not_supported``."""

    def __init__(self, reason: str) -> None:
        """Keep the word."""
        super().__init__(reason)
        self.reason = reason


def throttle_words(bits: int) -> tuple[str, ...]:
    """Return the words of the throttle reasons set in `bits`."""
    return tuple(word for bit, word in THROTTLE_BITS.items() if bits & bit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What a GPU says about itself beside energy; None where it does not say."""

    sm_clock_mhz: float | None
    memory_clock_mhz: float | None
    temperature_c: float | None
    utilization_pct: float | None


class Power(NamedTuple):
    """The power in watts, and when the driver says it was read, Unix us; None where it does not."""

    watts: float
    stamp_us: int | None


class Library:
    """NVML, initialised; use as a context manager."""

    def __init__(self) -> None:
        """Load and initialise NVML. Raises NvmlUnavailable with the fix."""
        try:
            self._nvml: ModuleType = importlib.import_module("pynvml")
        except ImportError as error:
            raise NvmlUnavailable("binding_missing") from error
        try:
            self._nvml.nvmlInit()
            self.driver = str(self._nvml.nvmlSystemGetDriverVersion())
        except self._nvml.NVMLError as error:
            raise NvmlUnavailable(_reason(error)) from error

    def __enter__(self) -> Self:
        """Return the library itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Shut NVML down."""
        self._nvml.nvmlShutdown()

    @property
    def is_standin(self) -> bool:
        """Whether a stand-in answers instead of a driver."""
        return self.driver == STANDIN_DRIVER

    def gpus(self) -> tuple[Gpu, ...]:
        """Return every GPU of the machine that answers, in NVML's order."""
        found = []
        for index in range(int(self._nvml.nvmlDeviceGetCount())):
            try:
                found.append(Gpu(self._nvml, index))
            except SensorError:
                continue  # a lost board must not hide its siblings
        return tuple(found)


class Gpu:
    """One GPU. Every query raises SensorError with a one-word reason."""

    def __init__(self, nvml: ModuleType, index: int) -> None:
        """Read what names the board and find out what it can report."""
        self._nvml = nvml
        self.index = index
        self._handle: object = self._ask(nvml.nvmlDeviceGetHandleByIndex, index)
        self.uuid = str(self._ask(nvml.nvmlDeviceGetUUID, self._handle))
        self.name = str(self._ask(nvml.nvmlDeviceGetName, self._handle))
        self.has_counter = self._maybe(self.energy_mj) is not None
        self.power_field = self._choose_power_field()

    def _ask(self, query: Callable[..., T], *args: object) -> T:
        try:
            return query(*args)
        except self._nvml.NVMLError as error:
            raise SensorError(_reason(error)) from error

    def _maybe(self, query: Callable[..., T], *args: object) -> T | None:
        """Return None where the board does not support a query; lost boards still raise."""
        try:
            return self._ask(query, *args)
        except SensorError as error:
            if error.reason == "gpu_lost":
                raise
            return None

    def energy_mj(self) -> int:
        """Read the energy counter, millijoules since the driver was loaded."""
        return int(self._ask(self._nvml.nvmlDeviceGetTotalEnergyConsumption, self._handle))

    def _choose_power_field(self) -> str | None:
        """Prefer the instant power, then the 1 s average, then the call older drivers have."""
        for field in ("instant", "average", "legacy"):
            try:
                self.power_of(field)
            except SensorError as error:
                if error.reason == "gpu_lost":
                    raise
                continue
            return field
        return None

    def power(self) -> Power:
        """Read the board's power from `power_field`."""
        if self.power_field is None:
            raise SensorError("not_supported")
        return self.power_of(self.power_field)

    @property
    def averaged(self) -> bool:
        """Whether `power_field` is a mean over a second, by NVML's documentation.

        The legacy call is one from Ampere on, but not on GA100 (A100, A30).
        """
        if self.power_field == "legacy":
            architecture = self._maybe(self._nvml.nvmlDeviceGetArchitecture, self._handle)
            recent = architecture is not None and architecture >= self._nvml.NVML_DEVICE_ARCH_AMPERE
            return recent and not GA100.search(self.name)
        return self.power_field == "average"

    def power_of(self, field: str) -> Power:
        """Read the power from a field: instant, average or legacy."""
        nvml = self._nvml
        if field == "legacy":
            milliwatts = self._ask(nvml.nvmlDeviceGetPowerUsage, self._handle)
            return Power(float(milliwatts) / 1e3, None)
        instant, average = nvml.NVML_FI_DEV_POWER_INSTANT, nvml.NVML_FI_DEV_POWER_AVERAGE
        number = instant if field == "instant" else average
        value = self._ask(nvml.nvmlDeviceGetFieldValues, self._handle, [number])[0]
        if value.nvmlReturn != nvml.NVML_SUCCESS:
            raise SensorError(_REASONS.get(value.nvmlReturn, f"nvml_error_{value.nvmlReturn}"))
        return Power(float(value.value.uiVal) / 1e3, int(value.timestamp) or None)

    def power_limit_w(self) -> float | None:
        """Return the enforced power limit in watts."""
        limit = self._maybe(self._nvml.nvmlDeviceGetEnforcedPowerLimit, self._handle)
        return None if limit is None else float(limit) / 1e3

    def limit_chosen(self) -> bool:
        """Whether the enforced power limit is known to be another than the board's default."""
        enforced_w = self.power_limit_w()
        default = self._maybe(self._nvml.nvmlDeviceGetPowerManagementDefaultLimit, self._handle)
        if enforced_w is None or default is None:
            return False
        return abs(enforced_w - float(default) / 1e3) > LIMIT_TOLERANCE_W

    def memory_bytes(self) -> int:
        """Return the board's memory in bytes."""
        return int(self._ask(self._nvml.nvmlDeviceGetMemoryInfo, self._handle).total)

    def mig_enabled(self) -> bool:
        """Whether the board is split into instances (its sensors then cover all of them)."""
        mode = self._maybe(self._nvml.nvmlDeviceGetMigMode, self._handle)
        return mode is not None and bool(mode[0])

    def throttle_bits(self) -> int | None:
        """Return the clocks event reasons set now, as NVML's bits; None where it does not tell."""
        bits = self._maybe(self._nvml.nvmlDeviceGetCurrentClocksEventReasons, self._handle)
        if bits is None:  # drivers before 535 know the older name only
            bits = self._maybe(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons, self._handle)
        return None if bits is None else int(bits)

    def telemetry(self) -> Telemetry:
        """Read clocks, temperature and utilisation."""
        nvml, handle = self._nvml, self._handle
        sm = self._maybe(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM)
        memory = self._maybe(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM)
        heat = self._maybe(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
        rates = self._maybe(nvml.nvmlDeviceGetUtilizationRates, handle)
        return Telemetry(
            sm_clock_mhz=None if sm is None else float(sm),
            memory_clock_mhz=None if memory is None else float(memory),
            temperature_c=None if heat is None else float(heat),
            utilization_pct=None if rates is None else float(rates.gpu),
        )

    def pids(self) -> tuple[int, ...] | None:
        """Return the pids with a context on the board, as NVML counts them (the host's).

        None where it does not tell: a list that is refused is no empty one.
        """
        nvml = self._nvml
        compute = self.compute_pids()
        graphics = self._maybe(nvml.nvmlDeviceGetGraphicsRunningProcesses, self._handle)
        if compute is None or graphics is None:
            return None
        return tuple(sorted({*compute, *(int(process.pid) for process in graphics)}))

    def compute_pids(self) -> tuple[int, ...] | None:
        """Return the pids that compute on the board, a display's apart; None if it is not told."""
        found = self._maybe(self._nvml.nvmlDeviceGetComputeRunningProcesses, self._handle)
        return None if found is None else tuple(sorted({int(process.pid) for process in found}))


def _reason(error: Exception) -> str:
    code = int(getattr(error, "value", 999))
    return _REASONS.get(code, f"nvml_error_{code}")
