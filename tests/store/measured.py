"""Finished measurements, inserted by the hundred: what analyses and queries are tried on."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from db import tables
from db.campaigns import create_campaign, enqueue
from db.identity import engine_digest, task_key
from db.records import EngineSpec, MeasurementProtocol, Reality, Task, Workload
from db.store import Store
from tests.store.world import PROTOCOL

GPU = "GPU-1"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A finished measurement: joules of each repeat (2 s, one batch), and what was metered beside.

    `phases` are joules of prefill and decode of each repeat. Replicates are sessions of their own.
    """

    engine: EngineSpec
    workload: Workload
    energies_j: Sequence[float | None]
    replicate: int = 0
    reality: Reality = Reality.REAL
    duration_s: float = 2.0
    e2e_s: float = 1.0
    host_j: float | None = None
    phases: tuple[float, float] | None = None
    marks: Sequence[str] = ()
    windows: dict[str, Any] = field(default_factory=dict)
    protocol: MeasurementProtocol = PROTOCOL

    @property
    def task(self) -> Task:
        digest = engine_digest(self.engine)
        return Task(
            key=task_key(digest, self.workload, self.protocol, self.reality, self.replicate),
            engine=self.engine,
            workload=self.workload,
            protocol=self.protocol,
            reality=self.reality,
            replicate=self.replicate,
        )


def insert(store: Store, campaign: str, rows: Sequence[Row]) -> None:
    """Make a campaign whose tasks are these rows, all of them done."""
    with store.begin() as connection:
        campaign_id = create_campaign(connection, campaign, "me", "a: 1")
        wanted = [row.task for row in rows]
        enqueue(connection, campaign_id, wanted)
        found = connection.execute(sa.select(tables.tasks.c["key", "id", "engine_id"])).all()
        ids = {key: (task_id, engine_id) for key, task_id, engine_id in found}
        sessions: dict[tuple[int, int, str], uuid.UUID] = {}
        attempts, windows, phases, gpus = [], [], [], []
        for row, task in zip(rows, wanted, strict=True):
            task_id, engine_id = ids[task.key]
            of = (engine_id, row.replicate, str(row.reality))
            session = sessions.setdefault(of, uuid.uuid4())
            attempts.append(_attempt(row, task_id, session))
            for ordinal, energy_j in enumerate(row.energies_j):
                place = task_id, ordinal
                windows.append((place, _window(row, session, ordinal, energy_j)))
                gpus += [(place, _gpu(energy_j))] if energy_j is not None else []
                phases += [(place, one) for one in _phases(row)]
        _write(connection, campaign_id, sessions, attempts, windows, phases, gpus)


def _write(connection, campaign_id, sessions, attempts, windows, phases, gpus) -> None:
    connection.execute(
        sa.insert(tables.sessions),
        [_session(campaign_id, session, *of) for of, session in sessions.items()],
    )
    idle = ("idle_empty", "load", "idle_resident", "idle_end")
    connection.execute(
        sa.insert(tables.windows),
        [_idle(session, kind, of[2]) for of, session in sessions.items() for kind in idle],
    )
    written = connection.execute(
        sa.insert(tables.attempts).returning(tables.attempts.c["task_id", "id"]), attempts
    )
    attempt_of = {row[0]: row[1] for row in written}
    connection.exec_driver_sql(
        "update tasks t set state = 'done', attempts = 1, lease_id = a.lease_id "
        "from attempts a where a.task_id = t.id and a.outcome = 'ok' and t.state = 'pending'"
    )
    values = [{**window, "attempt_id": attempt_of[place[0]]} for place, window in windows]
    connection.execute(sa.insert(tables.windows), values)
    table = tables.windows
    query = sa.select(table.c["attempt_id", "ordinal", "id"]).where(table.c.attempt_id.is_not(None))
    window_of = {(row[0], row[1]): row[2] for row in connection.execute(query)}
    for into, given in ((tables.gpu_energies, gpus), (tables.phases, phases)):
        if given:
            connection.execute(
                sa.insert(into),
                [
                    {**one, "window_id": window_of[attempt_of[place[0]], place[1]]}
                    for place, one in given
                ],
            )


def _session(campaign_id: int, session: uuid.UUID, engine_id: int, replicate: int, reality: str):
    return {
        "id": session, "campaign_id": campaign_id, "engine_id": engine_id, "host": "h",
        "boot": "boot", "pid": 1, "pid_started_s": 1.0, "gpu_uuids": [GPU], "meter": "nvml",
        "reality": reality, "software": {"vllm": "0.32.0", "transformers": "5.0"},
        "ended_at": NOW, "outcome": "ended",
    }  # fmt: skip


def _attempt(row: Row, task_id: int, session: uuid.UUID):
    return {
        "task_id": task_id, "number": 1, "lease_id": uuid.uuid4(), "session_id": session,
        "closed_at": NOW, "outcome": "ok", "marks": list(row.marks), "warmup_batches": 2,
    }  # fmt: skip


def _idle(session: uuid.UUID, kind: str, reality: str):
    return {
        "session_id": session, "attempt_id": None, "kind": kind, "ordinal": 0,
        "started_at": NOW, "started_ns": 0, "duration_s": 2.0, "batches": 0,
        "requests": 0, "input_tokens": 0, "output_tokens": 0, "reality": reality, "energy_j": 4.0,
        "energy_method": "nvml_counter",
    }  # fmt: skip


def _window(row: Row, session: uuid.UUID, ordinal: int, energy_j: float | None):
    work = row.workload
    requests = work.requests or work.batch_size
    host_j = None if row.host_j is None else row.host_j / len(row.energies_j)
    return {
        "session_id": session, "kind": "repeat", "ordinal": ordinal, "started_at": NOW,
        "started_ns": 0, "duration_s": row.duration_s, "batches": 1, "requests": requests,
        "running_mean": float(work.batch_size), "input_tokens": requests * work.input_tokens,
        "output_tokens": requests * work.output_tokens, "ttft_s": 0.1, "itl_s": 0.01,
        "e2e_s": row.e2e_s, "counters": {}, "latencies": {}, "reality": str(row.reality),
        "energy_j": energy_j, "energy_method": None if energy_j is None else "nvml_counter",
        "timing_uncertainty_j": None if energy_j is None else 0.0,
        "cpu_package_j": None if host_j is None else 0.8 * host_j,
        "cpu_dram_j": None if host_j is None else 0.2 * host_j,
        "reasons": ["no_energy"] if energy_j is None else [], **row.windows,
    }  # fmt: skip


def _gpu(energy_j: float):
    return {
        "gpu_uuid": GPU, "gpu_index": 0, "name": "GPU", "sibling": False, "energy_j": energy_j,
        "method": "counter", "counter_j": energy_j, "integrated_j": energy_j * 1.01,
        "ratio": 1 / 1.01, "mean_w": energy_j / 2, "max_w": energy_j, "samples": 20,
        "power_limit_w": 300.0, "temperature_c": 60.0,
    }  # fmt: skip


def _phases(row: Row):
    if row.phases is None:
        return
    for phase, energy_j in zip(("prefill", "decode"), row.phases, strict=True):
        yield {
            "phase": phase, "method": "steps", "duration_s": 1.0, "energy_j": energy_j,
            "timing_uncertainty_j": 0.0, "tokens": 8,
        }  # fmt: skip
