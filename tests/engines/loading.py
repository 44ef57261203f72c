"""One real engine under several loads, measured as a task is: prints what was found, as JSON."""

from __future__ import annotations

import json
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from db.leases import Claim
from db.readings import Measurement
from db.records import MeasurementProtocol, Reality, Workload
from tests.engines.harness import spec_of
from tests.unit.scripted import Stopwatch
from workers.clock import MonotonicClock
from workers.engines.registry import Limits, open_engine
from workers.protocol import measure
from workers.rig import Rig
from workers.validity import Gates

PROTOCOL = MeasurementProtocol(
    name="test", window_s=1.0, repeats=2, repeats_max=2, interval_target=1.0, warmup_max=4,
    warmup_agree=2, warmup_tolerance=0.2, idle_s=0.1, phases="both",
)  # fmt: skip
CLOSED = Workload(input_tokens=64, output_tokens=16, batch_size=4, arrival="closed")
WORKLOADS = {
    "closed": CLOSED,
    "poisson": replace(CLOSED, arrival="poisson", rate_rps=10.0),
    "list": replace(CLOSED, arrival="constant", rate_rps=20.0, requests=10),
}


def told(done: Measurement) -> dict[str, Any]:
    return {
        "marks": done.marks,
        "windows": [
            {
                "requests": w.requests, "input_tokens": w.input_tokens,
                "output_tokens": w.output_tokens, "straddling": w.straddling,
                "running_mean": w.running_mean, "counters": dict(w.counters),
                "latencies": {name: dict(found) for name, found in w.latencies.items()},
            }
            for w in done.windows
        ],
    }  # fmt: skip


def main(cache: Path) -> None:
    options = {"enforce_eager": True, "enable_prefix_caching": False}
    spec = spec_of("vllm", mode="online", options=options)
    engine = open_engine(spec, folder=cache, limits=Limits(context_tokens=128, batch_size=4))
    engine.prepare()
    engine.load()
    rig = Rig(
        engine=engine, meter=Stopwatch(), clock=MonotonicClock(), prefix_caching=False,
        gates=Gates(short_window_s=0.0), places=4,
    )  # fmt: skip
    found = {}
    try:
        for name, workload in WORKLOADS.items():
            claim = Claim(
                task_id=1, key="v1:x", lease_id=uuid.uuid4(), workload=workload, protocol=PROTOCOL,
                reality=Reality.SIMULATED, replicate=0,
            )  # fmt: skip
            found[name] = told(measure(rig, claim, lambda: None))
    finally:
        engine.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
