"""The end of a run: what was measured, as a table for people or JSON for machines."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from campaign.running.work import Campaign
from campaign.tabular import print_table, say, write_json
from db.campaigns import outcome_rows, trouble_rows
from db.progress import progress
from db.store import Store

Row = Mapping[str, Any]

#: "J/token" is joules per output token, "tokens/s" output tokens per second.
COLUMNS = ("engine", "workload", "J/token", "tokens/s", "TTFT ms", "ITL ms", "marks")


def show_outcome(store: Store, campaign: Campaign, *, as_json: bool) -> bool:
    """Print where the campaign stands; returns whether every task has a result."""
    states = store.retrying(lambda c: progress(c, campaign.id)).states
    measured = store.retrying(lambda c: outcome_rows(c, campaign.id))
    trouble = store.retrying(lambda c: trouble_rows(c, campaign.id))
    if as_json:
        write_json(
            {
                "campaign": campaign.name,
                "tasks": states,
                "measurements": measured,
                "failed": trouble,
            }
        )
    _say_measured(measured)
    for row in trouble:
        words = (
            f"{row['state']}: {row['engine']} {row['workload']}: {row['reason']}",
            row["error"],
        )
        say(": ".join(word for word in words if word))
    say(f"{campaign.name}: {', '.join(f'{n} {state}' for state, n in sorted(states.items()))}")
    return set(states) <= {"done", "excluded"}


def _say_measured(measured: Sequence[Row]) -> None:
    """Print the table, the marks that all rows share, and what the estimates are."""
    if not measured:
        return
    several = len({row["board"] for row in measured}) > 1
    shared = set.intersection(*(set(row["marks"]) for row in measured))
    lines = [_line(row, shared, with_board=several) for row in measured]
    print_table(COLUMNS, lines, stream=sys.stderr)
    widths = [row["joules_per_output_token_within_session_half_width"] for row in measured]
    if any(width is not None for width in widths):
        say("± is 95 % within one session: timing and repeats, not the sensor, not other sessions")
    if shared:
        say(f"every row is marked {', '.join(sorted(shared))}")
    blind = [row for row in measured if row["energy_j"] is None]
    if blind:
        reasons = sorted({reason for row in blind for reason in row["reasons"]})
        methods = sorted({row["estimate_method"] for row in blind if row["estimate_method"]})
        say(f"~ estimated ({', '.join(methods) or 'by nobody'}), not measured: no energy meter"
            f" here ({', '.join(reasons)})")  # fmt: skip


def _line(row: Row, shared: set[str], *, with_board: bool) -> tuple[object, ...]:
    words = (row["backend"], row["model"].rpartition("/")[2], row["speculation"])
    engine = " ".join(word for word in words if word)
    return (
        f"{engine} {row['board']}" if with_board else engine,
        row["workload"],
        _joules(row),
        _digits(row["output_tokens_per_s"]),
        _digits(row["ttft_s"], 1e3),
        _digits(row["itl_s"], 1e3),
        ", ".join(mark for mark in row["marks"] if mark not in shared),
    )


def _joules(row: Row) -> str:
    """Return joules per output token with its interval; an estimate is marked as one."""
    measured, estimated = row["joules_per_output_token"], row["estimated_joules_per_output_token"]
    if measured is None:
        return "none" if estimated is None else f"~{_digits(estimated)}"
    width = row["joules_per_output_token_within_session_half_width"]
    spread = "" if width is None else f" ± {_digits(width)}"
    return f"{_digits(measured)}{spread}{' simulated' if row['reality'] == 'simulated' else ''}"


def _digits(value: float | None, scale: float = 1.0) -> str:
    """Return three significant digits without an exponent."""
    if value is None:
        return "none"
    scaled = value * scale
    return f"{scaled:.0f}" if abs(scaled) >= 100 else f"{scaled:.3g}"  # noqa: PLR2004
