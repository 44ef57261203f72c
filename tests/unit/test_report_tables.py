"""Tables of a report, of rows as the named queries answer them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from campaign.report.cells import Cell, Kind
from campaign.report.tables import provenance, spread


def cell(replicates: int, sessions: int, deviation: float) -> Cell:
    row = {
        "replicates": replicates, "sessions": sessions, "joules_per_output_token_sd": deviation,
        "joules_relative_half_width_within": 0.01,
    }  # fmt: skip
    return Cell(row=row, kind=Kind.MEASURED, joules=1.0, interval=None)


def test_a_deviation_is_between_sessions_only_where_each_replicate_had_its_own() -> None:
    """Three replicates of which two shared a session deviate within it as well."""
    own, shared = cell(2, 2, 0.02), cell(3, 2, 0.5)
    table = spread([own, shared])
    assert table is not None
    assert table.rows == [("1", "2.00 %", "1.00 %")]
    assert spread([shared, cell(2, 1, 0.1)]) is None


def test_days_are_those_of_utc_whatever_zone_the_server_tells_them_in() -> None:
    """Half past eight in Tokyo is half past eleven of the day before in UTC."""
    moment = datetime(2026, 11, 2, 8, 30, tzinfo=timezone(timedelta(hours=9)))
    session = {
        "board": "l4", "backend": "vllm", "reality": "real", "meter": "nvml", "software": {},
        "sessions": 1, "hosts": ["h"], "first_started_at": moment,
        "last_started_at": moment + timedelta(hours=1),
    }  # fmt: skip
    (table,) = provenance([session], [])
    assert table.rows[0][-1] == "2026-11-01 to 2026-11-02"
