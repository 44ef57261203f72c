"""Power traces for drawing: long ones thinned without losing their extremes.

Owns the thinning and the names of the windows. Never smooths: what is drawn was sampled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from campaign.report.points import Point
from db.records import Reality

Row = Mapping[str, Any]

#: Slices of a trace; the least and the largest sample of each are drawn.
SLICES = 250


def trace_rows(rows: Iterable[Row]) -> list[Point]:
    """Return the samples of the windows, a row a sample; of real ones alone where there are any."""
    found = list(rows)
    real = [row for row in found if row["reality"] == Reality.REAL]
    return [point for row in real or found for point in _samples(row)]


def _samples(row: Row) -> Iterator[Point]:
    kind = "measured" if row["reality"] == "real" else row["reality"]
    name = f"{row['board']}, {row['model']}, {row['workload']}"
    if kind != "measured":
        name = f"{name} ({kind})"
    for seconds, watts in thinned(row["offsets_s"], row["watts"]):
        yield {
            "s": round(seconds, 4), "w": round(watts, 2), "kind": kind, "series": name,
            "gpu": f"{row['attempt_id']} {row['gpu_index']}", "limit": row["power_limit_w"],
        }  # fmt: skip


def thinned(seconds: Sequence[float], watts: Sequence[float]) -> list[tuple[float, float]]:
    """Return the samples, or of each equal slice its least and its largest, in their order."""
    samples = list(zip(seconds, watts, strict=True))
    if len(samples) <= 2 * SLICES:
        return samples
    kept = []
    for number in range(SLICES):
        begin, end = (len(samples) * edge // SLICES for edge in (number, number + 1))
        slice_ = samples[begin:end]
        kept += sorted({min(slice_, key=_watts), max(slice_, key=_watts)})
    return kept


def _watts(sample: tuple[float, float]) -> float:
    return sample[1]
