"""The end of a run: what was measured, as a table for people or JSON for machines."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from campaign.prepare import Campaign
from db.campaigns import outcome_rows, progress, trouble_rows
from db.store import Store


def show_outcome(store: Store, campaign: Campaign, *, as_json: bool) -> bool:
    """Print where the campaign stands; returns whether every task has a result."""
    found = store.retrying(lambda c: progress(c, campaign.id))
    states: Counter[str] = Counter()
    for engine in found.values():
        states.update(engine.states)
    measured = store.retrying(lambda c: outcome_rows(c, campaign.id))
    trouble = store.retrying(lambda c: trouble_rows(c, campaign.id))
    if as_json:
        document = {"campaign": campaign.name, "tasks": dict(states), "measurements": measured,
                    "failed": trouble}  # fmt: skip
        print(json.dumps(document, default=str))
    _print_people(campaign, states, measured, trouble)
    return set(states) <= {"done", "excluded"}


def _print_people(
    campaign: Campaign,
    states: Counter[str],
    measured: list[dict[str, Any]],
    trouble: list[dict[str, Any]],
) -> None:
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 120)
    if measured:
        console.print(_table(measured))
        if any(row["energy_j"] is None for row in measured):
            console.print("~ estimated, not measured; no energy meter here: " + _why(measured))
    for row in trouble:
        console.print(f"{row['state']}: {row['engine']} {row['workload']}: {row['reason']}"
                      f" {row['error'] or ''}", markup=False)  # fmt: skip
    words = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    console.print(f"{campaign.name}: {words}", markup=False)


def _table(measured: list[dict[str, Any]]) -> Table:
    boards = len({row["board"] for row in measured})
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("engine", no_wrap=True)
    table.add_column("workload", no_wrap=True)
    for name in ("J/output token", "tokens/s", "TTFT ms", "ITL ms"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("marks")
    for row in measured:
        table.add_row(
            f"{row['backend']} {row['model'].rpartition('/')[2]}"
            + (f" {row['board']}" if boards > 1 else ""),
            f"{row['input_tokens']}→{row['output_tokens']} x{row['batch_size']}",
            _joules(row),
            _number(row["output_tokens_per_s"]),
            _number(row["ttft_s"], 1e3),
            _number(row["itl_s"], 1e3),
            " ".join(row["marks"]),
        )
    return table


def _joules(row: dict[str, Any]) -> str:
    """Return joules per output token; an estimate is marked, a missing value says so."""
    measured, estimated = row["joules_per_output_token"], row["estimated_joules_per_output_token"]
    if measured is not None:
        width = row["joules_per_output_token_within_session_half_width"]
        simulated = " (simulated)" if row["reality"] == "simulated" else ""
        spread = "" if width is None else f" ± {_number(width)}"
        return f"{_number(measured)}{spread}{simulated}"
    return "none" if estimated is None else f"~{_number(estimated)}"


def _number(value: float | None, scale: float = 1.0) -> str:
    return "none" if value is None else f"{value * scale:.3g}"


def _why(measured: list[dict[str, Any]]) -> str:
    reasons = {r for row in measured if row["energy_j"] is None for r in row["reasons"]}
    return ", ".join(sorted(reasons))
