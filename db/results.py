"""Sessions and windows: the facts that were measured, as they were measured.

Everything here runs inside a transaction the caller opened.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from db import tables
from db.readings import Loaded, Window
from db.records import Reality
from db.storable import storable_json, storable_text
from db.store import statements

SQL = statements("results.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The process of a session, so that others on its host can tell whether it still lives."""

    host: str
    boot: str
    pid: int
    pid_started_s: float


def open_session(
    connection: Connection,
    session_id: uuid.UUID,
    *,
    campaign_id: int,
    engine_id: int,
    owner: Owner,
    gpu_uuids: Sequence[str],
    meter: str,
    reality: Reality,
) -> None:
    """Write a session's start; repeating it changes nothing."""
    statement = insert(tables.sessions).values(
        id=session_id,
        campaign_id=campaign_id,
        engine_id=engine_id,
        gpu_uuids=list(gpu_uuids),
        meter=meter,
        reality=str(reality),
        **asdict(owner),
    )
    connection.execute(statement.on_conflict_do_nothing())


def describe_session(
    connection: Connection,
    session_id: uuid.UUID,
    loaded: Loaded,
    windows: Sequence[Window],
    meter: str,
) -> None:
    """Write what the engine says about itself after loading, and the windows up to there."""
    values = {
        "id": session_id,
        "resolved": storable_json(loaded.resolved),
        "software": storable_json(loaded.software),
        "engine_pid": loaded.pid,
        "meter": meter,
    }
    connection.exec_driver_sql(SQL["describe_session"], values)
    write_windows(connection, windows, session_id, None)


def close_session(
    connection: Connection,
    session_id: uuid.UUID,
    outcome: str,
    *,
    error: str | None = None,
    stderr_tail: str | None = None,
) -> None:
    """Write a session's end, once."""
    values = {
        "id": session_id,
        "outcome": outcome,
        "error": storable_text(error),
        "stderr_tail": storable_text(stderr_tail),
    }
    connection.exec_driver_sql(SQL["close_session"], values)


def write_windows(
    connection: Connection,
    windows: Sequence[Window],
    session_id: uuid.UUID,
    attempt_id: int | None,
) -> None:
    """Write windows of a session, or of an attempt, with the GPUs and power traces in them.

    A session's window that is there already stays as it is; an attempt's are written once,
    because the statement that closes it is.
    """
    table = tables.windows
    for window in windows:
        values = {"session_id": session_id, "attempt_id": attempt_id, **_window(window)}
        once = insert(table).on_conflict_do_nothing(
            index_elements=["session_id", "kind", "ordinal"],
            index_where=table.c.attempt_id.is_(None),
        )
        written = connection.execute(once.values(values).returning(table.c.id)).scalar()
        if written is None:
            continue
        for phase in window.phases:
            values = {
                **asdict(phase),
                "phase": str(phase.phase),
                "method": str(phase.method),
                "reasons": list(phase.reasons),
            }
            connection.execute(sa.insert(tables.phases).values(window_id=written, **values))
        for gpu in window.reading.gpus:
            values = asdict(gpu)
            values["gpu_uuid"], values["gpu_index"] = values.pop("uuid"), values.pop("index")
            trace = values.pop("trace")
            values["reasons"] = list(gpu.reasons)
            values["throttle_reasons"] = list(gpu.throttle_reasons)
            connection.execute(sa.insert(tables.gpu_energies).values(window_id=written, **values))
            if trace is not None:
                samples = {name: list(numbers) for name, numbers in trace.items()}
                connection.execute(
                    sa.insert(tables.power_traces).values(
                        window_id=written, gpu_uuid=gpu.uuid, **samples
                    )
                )


def _window(window: Window) -> dict[str, Any]:
    """Return the columns of a window."""
    reading = window.reading
    cpu, estimate = reading.cpu, reading.estimate
    reasons = [*reading.reasons]
    reasons += cpu.reasons if cpu else ()
    reasons += estimate.reasons if estimate else ()
    return {
        "kind": str(window.kind),
        "ordinal": window.ordinal,
        "started_at": datetime.fromtimestamp(reading.started_at, UTC),
        "started_ns": reading.started_ns,
        "duration_s": reading.duration_s,
        "batches": window.batches,
        "requests": window.requests,
        "straddling": window.straddling,
        "running_mean": window.running_mean,
        "input_tokens": window.input_tokens,
        "output_tokens": window.output_tokens,
        "ttft_s": window.ttft_s,
        "itl_s": window.itl_s,
        "e2e_s": window.e2e_s,
        "prefix_cache_hit_tokens": window.prefix_cache_hit_tokens,
        "counters": json.loads(storable_json(window.counters)),
        "latencies": json.loads(storable_json(window.latencies)),
        "reality": str(reading.reality),
        "energy_j": reading.energy_j,
        "energy_method": reading.energy_method,
        "timing_uncertainty_j": reading.timing_uncertainty_j,
        "sensor_accuracy": reading.sensor_accuracy,
        "energy_estimated_j": estimate.energy_estimated_j if estimate else None,
        "estimate_method": estimate.method if estimate else None,
        "cpu_package_j": cpu.package_j if cpu else None,
        "cpu_dram_j": cpu.dram_j if cpu else None,
        "reasons": list(dict.fromkeys(reasons)),
    }
