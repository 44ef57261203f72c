"""The race: every meter on the same boards and loads, idle and beside busy processes.

It owns the processes, the order and the truth. One meter runs at a time (polling at its three rates
together); its boards run side by side, each in a process of its own, at random moments. The truth
is the exact integral over the window that the meter reports or, where it reports none (Zeus,
CodeCarbon, polling), from the return of the call that begins it to the call that ends it.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from tests.benchmarks.boards import Lane, lanes
from tests.nvml.curve import write_config

ROOT = Path(__file__).resolve().parents[2]
CONDITIONS = ("idle", "busy")
BUSY_PROCESSES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many windows of each length a meter gets per board and load, seconds: count.

    The long ones run beside each other, in further processes.
    """

    short: dict[float, int]
    long: dict[float, int]


FULL = Size(short={0.5: 8, 2.0: 3, 6.0: 2}, long={30.0: 1})
QUICK = Size(short={0.5: 2, 2.0: 1}, long={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One window of one meter. `error` is relative, None with the reason where there is no number.

    `width` is the meter's own half-width over the truth, None if it names none.
    """

    meter: str
    condition: str
    lane: Lane
    length_s: float
    error: float | None
    width: float | None
    cpu_s: float
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Jobs of one meter that run at the same time."""

    meter: str
    lanes: Sequence[Lane]
    windows: Sequence[dict[float, int]]


def blocks(size: Size) -> Iterator[tuple[Block, ...]]:
    """The order of the race; what stands together runs at the same time.

    This meter's edges and polls take most of the processor: it gets the most turns.
    """
    with_counter, without = lanes(counter=True), lanes(counter=False)
    both = [size.short, size.long] if size.long else [size.short]
    for windows in both:
        yield (Block(meter="aligned", lanes=with_counter, windows=[windows]),)
        yield (Block(meter="session", lanes=with_counter, windows=[windows]),)
        yield (Block(meter="session", lanes=without, windows=[windows]),)
    for meter in ("zeus", "codecarbon"):
        yield (Block(meter=meter, lanes=[*with_counter, *without], windows=both),)
    # It never asks the counter: one result stands for both.
    yield tuple(Block(meter=f"polling_{hz}", lanes=with_counter, windows=both)
                for hz in (1, 10, 100))  # fmt: skip


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many processes computing."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


class Race:
    """Runs blocks; `folder` holds the library and what the children need."""

    def __init__(self, folder: Path) -> None:
        """Write the boards down, and an nvidia-smi: CodeCarbon asks for one before NVML."""
        self.folder = folder
        smi = folder / "nvidia-smi"
        smi.write_text("#!/bin/sh\nexit 0\n")
        smi.chmod(0o755)
        for lane in [*lanes(counter=True), *lanes(counter=False)]:
            write_config(folder / lane.name, [lane.gpu])
        hidden = ("CODECARBON_", "CUDA_", "NVML_", "ZEUS_")
        self.environ = {k: v for k, v in os.environ.items() if not k.upper().startswith(hidden)}
        self.environ |= {
            "HOME": os.devnull, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(ROOT),
            "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip

    def run(self, block: Block, condition: str) -> list[Trial]:
        """Run one block and compare what it answers with the truth."""
        rng = random.Random(f"{block.meter} {condition}")
        jobs, whose = [], []
        for lane in block.lanes:
            for windows in block.windows:
                order = [length_s for length_s, n in windows.items() for _ in range(n)]
                rng.shuffle(order)
                jobs.append({"standin": str(self.folder / lane.name), "uuid": lane.gpu.uuid,
                             "windows_s": order, "seed": rng.random(),
                             "delay_s": rng.uniform(0.0, 0.5)})  # fmt: skip
                whose.append(lane)
        with (self.folder / f"{block.meter}.log").open("w") as log:
            told = subprocess.run(
                [sys.executable, "-P", "-m", "tests.benchmarks.rivals", block.meter],
                input=json.dumps(jobs), stdout=subprocess.PIPE, stderr=log, text=True, check=True,
                env=self.environ, cwd=self.folder,
            )  # fmt: skip
        answers = json.loads(told.stdout)
        if None in answers:
            raise RuntimeError(f"{block.meter} died: {Path(log.name).read_text()[-2000:]}")
        return [
            _trial(block.meter, condition, lane, found)
            for lane, answer in zip(whose, answers, strict=True)
            for found in answer
        ]


def _trial(meter: str, condition: str, lane: Lane, found: dict) -> Trial:
    if "refused" in found:
        return Trial(meter=meter, condition=condition, lane=lane, length_s=0.0, error=None,
                     width=None, cpu_s=0.0, reason=found["refused"])  # fmt: skip
    truth_j = lane.gpu.energy_j(*found["window_ns"])
    energy_j, half_width_j = found["energy_j"], found["half_width_j"]
    return Trial(
        meter=meter, condition=condition, lane=lane, length_s=found["length_s"],
        error=energy_j / truth_j - 1 if energy_j else None,
        width=half_width_j / truth_j if energy_j and half_width_j is not None else None,
        cpu_s=found["cpu_s"],
        reason=None if energy_j else "unmeasured" if energy_j is None else "0 (unmeasured)",
    )  # fmt: skip


def race(folder: Path, size: Size, conditions: Sequence[str] = CONDITIONS) -> list[Trial]:
    """Run every meter under every condition; says on stderr how far it is."""
    runner, found = Race(folder), []
    for condition in conditions:
        order = list(blocks(size))
        with busy(BUSY_PROCESSES if condition == "busy" else 0), ThreadPoolExecutor() as pool:
            for i, turn in enumerate(order, start=1):
                names = ", ".join(block.meter for block in turn)
                print(f"{condition} {i}/{len(order)}: {names}", file=sys.stderr, flush=True)
                for trials in pool.map(runner.run, turn, repeat(condition)):
                    found += trials
    return found
