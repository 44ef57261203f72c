"""Sessions and windows: the facts that were measured, as they were measured.

Everything here runs inside a transaction the caller opened.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from db import tables
from db.readings import GpuEnergy, Loaded, PhaseEnergy, PowerTrace, Window
from db.records import Reality
from db.storable import storable_json, storable_text
from db.store import statements

SQL = statements("results.sql")
#: What the database or the statement itself gives to a row.
GIVEN = ("id", "session_id", "attempt_id", "window_id")
#: The part of a statement that writes windows; their columns are those of the tables.
WINDOWS = SQL["windows"].format_map({
    table.name: ", ".join(column.name for column in table.columns if column.name not in GIVEN)
    for table in (tables.windows, tables.phases, tables.gpu_energies, tables.power_traces)
})  # fmt: skip

#: The fields of a record that becomes a row, and what reads them all.
READERS = {
    kind: (names := [field.name for field in fields(kind)], attrgetter(*names))
    for kind in (PhaseEnergy, GpuEnergy, PowerTrace)
}


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


def last_words(
    connection: Connection, session_id: uuid.UUID, error: str | None, stderr_tail: str | None
) -> None:
    """Write what is known of a session that died; nothing of what it said itself is replaced."""
    values = {
        "id": session_id,
        "error": storable_text(error),
        "stderr_tail": storable_text(stderr_tail),
    }
    connection.exec_driver_sql(SQL["last_words"], values)


def with_windows(statement: str) -> str:
    """Return a statement that writes windows as well, where it has a comment that says so.

    It takes the parameters of `windows_values` besides its own.
    """
    return statement.replace("/* windows */", WINDOWS)


def windows_values(windows: Sequence[Window], session_id: uuid.UUID) -> dict[str, object]:
    """Return the parameters of `with_windows`."""
    return {
        "windows": storable_json([_window(window) for window in windows]),
        "session_id": session_id,
    }


def write_windows(
    connection: Connection,
    windows: Sequence[Window],
    session_id: uuid.UUID,
    attempt_id: int | None,
) -> None:
    """Write windows of a session, or of an attempt, with the GPUs and power traces in them."""
    values = {"attempt_id": attempt_id, **windows_values(windows, session_id)}
    connection.exec_driver_sql(with_windows(SQL["write_windows"]), values)


def _window(window: Window) -> dict[str, Any]:
    """Return the columns of a window, and its rows in other tables."""
    reading = window.reading
    cpu, estimate = reading.cpu, reading.estimate
    reasons = [*reading.reasons]
    reasons += cpu.reasons if cpu else ()
    reasons += estimate.reasons if estimate else ()
    return {
        "kind": str(window.kind),
        "ordinal": window.ordinal,
        "started_at": datetime.fromtimestamp(reading.started_at, UTC).isoformat(),
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
        "counters": window.counters,
        "latencies": window.latencies,
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
        "phases": [_fields(phase) for phase in window.phases],
        "gpus": [_gpu(gpu) for gpu in reading.gpus],
        "traces": [
            {"gpu_uuid": gpu.uuid, **_fields(gpu.trace)} for gpu in reading.gpus if gpu.trace
        ],
    }


def _gpu(gpu: GpuEnergy) -> dict[str, Any]:
    """Return the columns of a GPU in a window."""
    values = _fields(gpu)
    values.pop("trace", None)
    values["gpu_uuid"], values["gpu_index"] = values.pop("uuid"), values.pop("index")
    return values


def _fields(record: PhaseEnergy | GpuEnergy | PowerTrace) -> dict[str, Any]:
    """Return the fields of a record as they are; those that are None need no words."""
    names, values = READERS[type(record)]
    return {name: value for name, value in zip(names, values(record), strict=True)
            if value is not None}  # fmt: skip
