"""Rows that others measured, as points of their own kind, and where they come from.

Owns what an imported row is called on the page. They are drawn when the reader asks for them and
enter no finding, fit or comparison; what a row does not say stays unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from campaign.analysis.predictor.point import energy_j
from campaign.report.cells import TIMES, Kind
from campaign.report.points import Point, short
from campaign.report.sections import Section
from campaign.report.tables import Table

Row = Mapping[str, Any]
ASKED = "campaign query report_external"


def imported_points(rows: Sequence[Row], first: int) -> list[Point]:
    """Return a point an imported row, counted on from `first`."""
    return [_point(number, row) for number, row in enumerate(rows, first)]


def imported(rows: Sequence[Row]) -> list[Section]:
    """Return the section that says whose rows they are, where there are any."""
    by_source: dict[str, list[Row]] = {}
    for row in rows:
        by_source.setdefault(row["source"], []).append(row)
    if not by_source:
        return []
    table = Table(
        title="Whose rows they are", command=ASKED,
        rows=[_line(source, some) for source, some in by_source.items()],
        columns=("source", "there they are", "rows", "with joules", "models", "boards"),
        numbers=frozenset(range(2, 6)),
        note="campaign query external_against_own sets those of like work beside our own.",
    )  # fmt: skip
    return [Section(
        id="imported", title="Imported rows", tables=[table],
        lead="Measured by others and imported. Charts and the list below show them, as squares, "
             "when the filter Values asks for external ones; no finding, fit or table of ours "
             "counts them.",
    )]  # fmt: skip


def _line(source: str, rows: Sequence[Row]) -> tuple[str, ...]:
    with_joules = sum(energy_j(row) is not None for row in rows)
    return (
        source, ", ".join(sorted({row["origin_reality"] for row in rows})), f"{len(rows):,}",
        f"{with_joules:,}", f"{len({row['model'] for row in rows}):,}",
        f"{len({row['board'] for row in rows}):,}",
    )  # fmt: skip


def _point(number: int, row: Row) -> Point:
    joules = energy_j(row)
    width = row["energy_j_per_output_token_half_width"]
    gpus, out = row["gpus"] or 1, row["mean_output_tokens"] or row["output_tokens"]
    return {
        "i": number, "kind": str(Kind.EXTERNAL if joules else Kind.NONE),
        "model": row["model"] if row["weights"] != "random" else f"{row['model']} (random weights)",
        "board": row["board"] if gpus == 1 else f"{gpus} {TIMES} {row['board']}",
        "engine": _words(row["backend"], row["backend_version"]),
        "precision": _words(row["dtype"], row["quantization"]),
        "variant": _parallel(row), "decoding": "", "load": "", "protocol": row["protocol"] or "",
        "tp": row["tensor_parallel"], "in": _whole(row["input_tokens"]), "out": _whole(out),
        "batch": row["mean_batch"] or row["batch_size"],
        "j": short(joules), "hw": short(width) if joules else None,
        "basis": "as imported" if width and joules else None,
        **dict.fromkeys(("net", "within", "between", "pf_share", "mx_share", "de_share", "pf",
                         "de")),
        "ttft": short(_seconds(row["ttft_ms"])), "itl": short(_seconds(row["itl_ms"])),
        "tps": short(_rate(row, out)), "n": 1, "sessions": 1, "method": row["energy_method"],
        "words": "; ".join((row["reasons"] or "").split(";")), "workload": row["workload"] or "",
        "e": None, "p": row["row_id"], "v": row["backend_version"],
        "source": _source(row),
    }  # fmt: skip


def _source(row: Row) -> str:
    """Return whose row it is; what was not measured there says so."""
    reality = row["origin_reality"]
    return f"{row['source']}{f', {reality} there' if reality == 'simulated' else ''}"


def _parallel(row: Row) -> str:
    names = {"expert parallel": row["expert_parallel"], "data parallel": row["data_parallel"]}
    return " ".join(f"{name} {count}" for name, count in names.items() if count and count > 1)


def _words(*parts: str | None) -> str:
    return " ".join(part for part in parts if part)


def _whole(length: float | None) -> int | None:
    return None if length is None else max(1, round(length))


def _seconds(millis: float | None) -> float | None:
    return None if millis is None else millis / 1000


def _rate(row: Row, out: float | None) -> float | None:
    """Return output tokens per second, of what was metered."""
    requests, seconds = row["requests"], row["duration_s"]
    return requests * out / seconds if requests and seconds and out else None
