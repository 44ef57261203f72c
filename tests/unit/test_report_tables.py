"""Tables of a report, of rows as the named queries answer them."""

from __future__ import annotations

from campaign.report.cells import Cell, Kind
from campaign.report.tables import spread


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
