"""One process per meter and board: opens and closes windows as a user of that meter would.

Run as `python -m tests.benchmarks.rivals METER` with a list of jobs on stdin; the meter's library
is imported once, then each job runs in a fork of its own. It prints a JSON list of trials per job.
It owns the calls of the meters and nothing of the truth. Times are CLOCK_MONOTONIC nanoseconds.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import random
import sys
import threading
import time
import traceback
from multiprocessing.synchronize import Barrier
from typing import Protocol

import psutil

#: Seconds after which jobs that are not ready never will be.
READY_S = 300.0

#: Joules, what the meter itself calls its half-width, and the window that it reports, if it does.
Answer = tuple[float | None, float | None, tuple[int, int] | None]


class Rival(Protocol):
    """A meter of one board."""

    def begin(self) -> None:
        """Start a window."""

    def end(self) -> Answer:
        """End it."""


class Aligned:
    """This meter, from tick to tick of the counter: `campaign meter --seconds`."""

    imports = "workers.meters.nvml"

    def __init__(self, uuid: str) -> None:
        from workers.meters.nvml import NvmlMeter

        self.meter = NvmlMeter([uuid], aligned=True)
        self.started_ns = 0

    def begin(self) -> None:
        self.started_ns = self.meter.open()

    def end(self) -> Answer:
        ended_ns = time.monotonic_ns()
        self.meter.begin_close()
        window = self.meter.finish_close(self.started_ns, ended_ns)
        (gpu,) = window.gpus
        return gpu.energy_j, gpu.timing_uncertainty_j, (window.started_ns, window.ended_ns)


class Session:
    """This meter as a campaign's sessions use it: a window ends at the call."""

    imports = "workers.meters.select"

    def __init__(self, uuid: str) -> None:
        from workers.meters.select import open_meter

        self.meter = open_meter(["nvml"], [uuid])

    def begin(self) -> None:
        self.meter.open()

    def end(self) -> Answer:
        read = self.meter.close()
        return read.energy_j, read.timing_uncertainty_j, (read.started_ns, read.ended_ns)


class Zeus:
    """Zeus with its defaults, but for what waits for PyTorch."""

    imports = "zeus.monitor"

    def __init__(self, uuid: str) -> None:
        from zeus.monitor import ZeusMonitor

        self.monitor = ZeusMonitor(gpu_indices=[0], cpu_indices=[])

    def begin(self) -> None:
        self.monitor.begin_window("window", sync_execution=False)

    def end(self) -> Answer:
        measured = self.monitor.end_window("window", sync_execution=False)
        return measured.gpu_energy[0], None, None


class CodeCarbon:
    """CodeCarbon's tracker, one task a window; the energy of the GPU alone."""

    imports = "codecarbon"

    def __init__(self, uuid: str) -> None:
        from codecarbon import OfflineEmissionsTracker

        self.tracker = OfflineEmissionsTracker(
            gpu_ids=[0], output_methods=[], log_level="critical", allow_multiple_runs=True,
            country_iso_code="USA",
        )  # fmt: skip
        self.count = 0

    def begin(self) -> None:
        self.count += 1
        self.tracker.start_task(f"window {self.count}")

    def end(self) -> Answer:
        data = self.tracker.stop_task(f"window {self.count}")
        return data.gpu_energy * 3.6e6, None, None


class Polling:
    """The power read at a rate by a thread, and once at each end; trapezoid."""

    imports = "pynvml"
    rate_hz = 1.0

    def __init__(self, uuid: str) -> None:
        import pynvml

        pynvml.nvmlInit()
        self.read = pynvml.nvmlDeviceGetPowerUsage
        self.board = pynvml.nvmlDeviceGetHandleByIndex(0)

    def sample(self) -> None:
        self.samples.append((time.monotonic_ns(), self.read(self.board) / 1e3))

    def poll(self) -> None:
        due = time.monotonic()
        while True:
            due += 1 / self.rate_hz
            if self.ended.wait(max(0.0, due - time.monotonic())):
                return
            self.sample()

    def begin(self) -> None:
        self.samples: list[tuple[int, float]] = []
        self.ended = threading.Event()
        self.sample()
        self.thread = threading.Thread(target=self.poll)
        self.thread.start()

    def end(self) -> Answer:
        self.ended.set()
        self.thread.join()
        self.sample()
        pairs = zip(self.samples, self.samples[1:], strict=False)
        return sum((w0 + w1) / 2 * (t1 - t0) / 1e9 for (t0, w0), (t1, w1) in pairs), None, None


class Polling10(Polling):
    """Ten times a second."""

    rate_hz = 10.0


class Polling100(Polling):
    """A hundred times a second."""

    rate_hz = 100.0


RIVALS = {
    "aligned": Aligned, "session": Session, "zeus": Zeus, "codecarbon": CodeCarbon,
    "polling_1": Polling, "polling_10": Polling10, "polling_100": Polling100,
}  # fmt: skip


def cpu_s(helpers: list[psutil.Process]) -> float:
    """User and system seconds of this process and its helpers so far."""
    times = [psutil.Process().cpu_times(), *(h.cpu_times() for h in helpers)]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def window(rival: Rival, length_s: float, helpers: list[psutil.Process]) -> dict[str, object]:
    """Meter one window. The load's time is from the return of `begin` to the call of `end`."""
    before_s = cpu_s(helpers)
    rival.begin()
    start_ns = time.monotonic_ns()
    time.sleep(length_s)
    end_ns = time.monotonic_ns()
    energy_j, half_width_j, reported = rival.end()
    return {
        "length_s": length_s, "energy_j": energy_j, "half_width_j": half_width_j,
        "window_ns": reported or (start_ns, end_ns), "cpu_s": cpu_s(helpers) - before_s,
    }  # fmt: skip


def trials(meter: str, job: dict, ready: Barrier) -> list[dict[str, object]]:
    """Meter the windows of a job, at random moments; a meter that refuses says why.

    The first window begins when every job is ready: getting there takes some of them seconds.
    """
    os.environ["NVML_STANDIN"] = job["standin"]
    rng = random.Random(job["seed"])
    try:
        rival = RIVALS[meter](job["uuid"])
        window(rival, 0.2, [])  # some make themselves ready with the first one
    except Exception as error:  # whatever it refuses with is its answer
        if meter in ("aligned", "session"):
            raise
        ready.wait()
        return [{"refused": f"{type(error).__name__}: {error}"}]
    ready.wait()
    time.sleep(job["delay_s"])
    helpers = psutil.Process().children(recursive=True)
    found = []
    for length_s in job["windows_s"]:
        time.sleep(rng.uniform(0.0, 0.1))
        found.append(window(rival, length_s, helpers))
    return found


def main() -> None:
    meter = sys.argv[1]
    jobs = json.load(sys.stdin)
    answer = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints
    importlib.import_module(RIVALS[meter].imports)
    children = []
    ready = multiprocessing.get_context("fork").Barrier(len(jobs), timeout=READY_S)
    for job in jobs:
        out, into = os.pipe()
        if os.fork() == 0:
            code = 1
            try:
                os.write(into, json.dumps(trials(meter, job, ready)).encode())
                code = 0
            except BaseException:  # noqa: BLE001 - a fork must never return into its parent's code
                ready.abort()
                traceback.print_exc()
            os._exit(code)
        os.close(into)
        children.append(out)
    answers = []
    for out in children:
        with os.fdopen(out, "rb") as file:
            answers.append(json.loads(file.read() or b"null"))
    with os.fdopen(answer, "w") as file:
        json.dump(answers, file)


if __name__ == "__main__":
    main()
