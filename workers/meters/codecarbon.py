"""CodeCarbon's estimate of a window, computed in a process of its own.

It owns both ends: the meter in the session's process, and the child that imports codecarbon (it
takes seconds, and starts threads). What it returns is modelled, never measured: an EnergyEstimate.
The child writes no file, opens no connection and reads no user's CodeCarbon configuration.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Sequence

from db.readings import EnergyEstimate
from workers.meters.binding import Library, NvmlUnavailable
from workers.meters.child import Child, ChildGone, Message, Parent, items

#: The import reads large tables and probes the hardware; a busy machine takes its time.
READY_S, ANSWER_S = 120.0, 30.0
JOULES_PER_KWH = 3.6e6


def why_not() -> tuple[str, ...]:
    """Why there can be no estimate; empty if there can. Does not import codecarbon."""
    return () if importlib.util.find_spec("codecarbon") else ("codecarbon_missing",)


class CodeCarbonMeter:
    """Estimates what the board group draws: its GPUs, or CPU and memory of a machine without.

    The boundary is that of the measured energy, so that both can be compared on one window.
    """

    def __init__(self, gpu_uuids: Sequence[str] = ()) -> None:
        """Start the child, which makes itself ready while the caller goes on."""
        environ = {k: v for k, v in os.environ.items() if not k.upper().startswith("CODECARBON_")}
        environ |= {"HOME": os.devnull, "CUDA_VISIBLE_DEVICES": ",".join(gpu_uuids)}
        self._settings: Message = {"gpu_uuids": list(gpu_uuids)}
        self._environ = environ
        self._child: Child | None = None
        self._ready = False
        self._method = "codecarbon"
        if not why_not():
            self._child = Child(__name__, self._settings, environ=environ)

    def open(self) -> None:
        """Start a window; the first call waits for the child to be ready."""
        try:
            if self._child is not None and not self._ready:
                self._method = str(self._child.receive(READY_S)["method"])
                self._ready = True
            if self._child is not None:
                self._child.ask({"do": "open"}, ANSWER_S)
        except ChildGone:
            self._child = None

    def close(self) -> EnergyEstimate:
        """End the window and report it; None with a reason where there is no estimate."""
        try:
            answer = self._child.ask({"do": "close"}, ANSWER_S) if self._child else None
        except ChildGone:
            answer, self._child = None, None
        if answer is None:
            return EnergyEstimate(energy_estimated_j=None, method=self._method,
                                  reasons=why_not() or ("codecarbon_gone",))  # fmt: skip
        energy_j = float(str(answer["energy_j"]))
        reason = answer["reason"]
        return EnergyEstimate(
            energy_estimated_j=energy_j if reason is None else None,
            method=self._method, reasons=() if reason is None else (str(reason),),
        )  # fmt: skip

    def shutdown(self) -> None:
        """End the child; safe to call twice."""
        child, self._child = self._child, None
        if child is not None:
            child.stop()


class _Tracker:
    """The child's tracker: one CodeCarbon task per window."""

    def __init__(self, gpu_uuids: list[str]) -> None:
        from codecarbon import OfflineEmissionsTracker

        self._gpu_uuids = gpu_uuids
        indices = _indices(gpu_uuids)
        self._missing = len(indices) < len(gpu_uuids)
        self._count = 0
        # Forcing the carbon intensity keeps the country out of it: joules need none.
        self._tracker = OfflineEmissionsTracker(
            gpu_ids=indices if gpu_uuids else None, output_methods=[], log_level="critical",
            allow_multiple_runs=True, tracking_mode="machine", measure_power_secs=3600,
            force_carbon_intensity_g_co2e_kwh=0.0,
        )  # fmt: skip
        self.open()  # the first task probes the hardware, which takes seconds
        self._last = self._stop()

    def open(self) -> None:
        self._count += 1
        self._tracker.start_task(f"window-{self._count}")

    def _stop(self) -> dict[str, float]:
        data = self._tracker.stop_task(f"window-{self._count}")
        keys = ("cpu_energy", "ram_energy", "gpu_energy", "cpu_power", "ram_power")
        return {key: float(getattr(data, key)) for key in keys}

    def close(self) -> Message:
        """Return the window's joules, of the GPUs alone if the group has some."""
        data = self._stop()
        parts = ["gpu_energy"] if self._gpu_uuids else ["cpu_energy", "ram_energy"]
        silent = [p for p in parts if data[p] <= 0.0 or (p == "gpu_energy" and self._missing)]
        reason = f"codecarbon_no_{silent[0]}" if silent else None
        return {"energy_j": sum(data[p] for p in parts) * JOULES_PER_KWH, "reason": reason}

    @property
    def method(self) -> str:
        """Say what the estimate is made of."""
        version = importlib.metadata.version("codecarbon")
        if self._gpu_uuids:
            return f"codecarbon {version}: {len(self._gpu_uuids)} gpu nvml"
        parts = []
        for hardware in getattr(self._tracker, "_hardware", ()):
            mode, tdp_w = getattr(hardware, "_mode", None), getattr(hardware, "_tdp", None)
            if mode == "cpu_load":
                parts.append(f"cpu load x {tdp_w:g} W")
            elif mode is not None:
                parts.append(f"cpu {mode}")
        parts.append(f"ram {self._last['ram_power']:g} W")
        return f"codecarbon {version}: {', '.join(parts)}"


def _indices(gpu_uuids: list[str]) -> list[int]:
    """Return NVML's indices of the GPUs: CodeCarbon 3.3 strips the G of a UUID and finds none."""
    try:
        with Library() as library:
            return [gpu.index for gpu in library.gpus() if gpu.uuid in gpu_uuids]
    except NvmlUnavailable:
        return []


def main() -> None:
    """Serve one parent until it goes."""
    parent = Parent()
    requests = parent.requests()
    settings = next((r for r in requests if r is not None), None)
    if settings is None:
        return
    tracker = _Tracker([str(uuid) for uuid in items(settings["gpu_uuids"])])
    parent.answer({"method": tracker.method})
    for request in requests:
        if request is None:
            continue
        if request["do"] == "open":
            tracker.open()
            parent.answer({})
        else:
            parent.answer(tracker.close())


if __name__ == "__main__":
    main()
