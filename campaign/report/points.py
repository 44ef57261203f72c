"""The rows that charts draw: cells as plain numbers and words, and how they are grouped.

Owns the names of a point's fields, which the charts and the page's script read, and the default
choice of what stands in a line. Never draws.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from campaign.report.cells import PHASES, UNKNOWN, Cell, Kind

Point = dict[str, object]

#: So many lines, or points, can be told apart on paper; beyond, they are drawn as medians.
MOST_LINES, MOST_POINTS = 40, 1500
#: Colours there are; what is beyond them shares a grey one.
MOST_SERIES = 7
#: So many lengths stand for themselves on an axis.
MOST_LENGTHS = 12
#: Significant digits of a number on the page.
DIGITS = 5

#: What makes a line of the batch chart, and a point of the latency chart: finest first.
WORKLOAD = ("in", "out", "load", "decoding")
ENGINE = ("model", "board", "engine", "precision", "variant", "tp")
LINES = (
    (*ENGINE, *WORKLOAD, "kind", "protocol"),
    (*ENGINE, "kind"),
    ("model", "board", "engine", "kind"),
)
POINTS = (("i",), (*ENGINE, "batch", "kind"), ("model", "board", "engine", "batch", "kind"),
          ("model", "board", "engine", "kind"))  # fmt: skip


def points(cells: Iterable[Cell]) -> list[Point]:
    """Return the points of cells, in their order; `i` counts them."""
    listed = list(cells)
    named = _protocols(listed)
    return [_point(number, cell) | {"protocol": named[cell.row["protocol_id"]]}
            for number, cell in enumerate(listed)]  # fmt: skip


def _protocols(cells: Iterable[Cell]) -> dict[int, str]:
    """Return what each protocol is called: where several have one name, with their number."""
    named = {cell.row["protocol_id"]: cell.row["protocol"] for cell in cells}
    often = Counter(named.values())
    return {number: name if often[name] == 1 else f"{name} {number}"
            for number, name in named.items()}  # fmt: skip


def bin_lengths(own: Sequence[Point], imported: Sequence[Point]) -> None:
    """Add to each point the groups of its lengths: those that own points have decide for all."""
    for name in ("in", "out"):
        lengths = {point[name] for point in own or imported}
        kept = lengths if len(lengths) <= MOST_LENGTHS else set()
        for point in (*own, *imported):
            point[f"{name}_bin"] = point[name] if point[name] in kept else _power(point[name])


def _power(tokens: object) -> int | None:
    """Return the power of two at or below a length."""
    return 1 << (tokens.bit_length() - 1) if isinstance(tokens, int) else None


def _point(number: int, cell: Cell) -> Point:
    row = cell.row
    return {
        "i": number,
        "kind": str(cell.kind),
        "model": cell.model,
        "board": cell.board,
        "engine": cell.engine,
        "precision": cell.precision,
        "variant": cell.variant,
        "decoding": cell.decoding,
        "load": _load(cell),
        "tp": row["tensor_parallel"],
        "in": row["input_tokens"],
        "out": row["output_tokens"],
        "batch": row["batch_size"],
        **_energy(cell),
        **_phases(cell),
        "ttft": short(row["ttft_s"]),
        "itl": short(row["itl_s"]),
        "tps": short(row["output_tokens_per_s"]),
        "n": row["replicates"],
        "sessions": row["sessions"],
        "method": row["energy_method"] or row["estimate_method"],
        "words": "; ".join(cell.words),
        "workload": row["workload"],
        "e": row["engine_id"],
        "p": row["protocol_id"],
        "v": row["backend_version"],
        "source": "",
    }


def _energy(cell: Cell) -> Point:
    """Return joules per output token with their interval, and both spreads relative to them.

    `within` is of one session, as `between` is; the interval is of the mean over replicates.
    """
    deviation = cell.row["joules_per_output_token_sd"]
    within = cell.row["joules_relative_half_width_within"]
    apart = cell.row["sessions"] == cell.row["replicates"] > 1
    return {
        "j": short(cell.joules),
        "hw": None if cell.interval is None else short(cell.interval.half_width),
        "basis": None if cell.interval is None else str(cell.interval.basis),
        "net": None if cell.kind is Kind.NONE else short(cell.row["net_joules_per_output_token"]),
        "within": short(within) if within and cell.joules else None,
        "between": short(deviation / cell.joules) if deviation and cell.joules and apart else None,
    }


def _phases(cell: Cell) -> Point:
    """Return joules per token of prefill and decode, and the share of each phase."""
    prefill, mixed, decode = (cell.phases.get(phase, UNKNOWN) for phase in PHASES)
    return {
        "pf_share": short(prefill.share),
        "mx_share": short(mixed.share),
        "de_share": short(decode.share),
        "pf": short(prefill.joules_per_token),
        "de": short(decode.joules_per_token),
    }


def _load(cell: Cell) -> str:
    """Return what a workload asks for beside its sizes and decoding, in words."""
    row = cell.row
    rate = "" if row["rate_rps"] is None else f" {row['rate_rps']:g}/s"
    words = [f"{row['arrival']}{rate}"]
    words += [f"{row['lengths']} lengths"] if row["lengths"] != "fixed" else []
    words += [f"{row['requests_asked']} requests"] if row["requests_asked"] else []
    words += [f"prefix {row['prefix_tokens']}"] if row["prefix_tokens"] else []
    return ", ".join(words)


def short(value: float | None) -> float | None:
    """Return a number with the digits that the page carries."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")


def grouped(points: Sequence[Point], by: str) -> list[Point]:
    """Return points with what the charts group by: `series`, `line`, `point`.

    `by` names the field that gives the colour. The page's script does the same for what is
    filtered there.
    """
    names = Counter(str(point[by]) for point in points)
    kept = [name for name, _ in names.most_common(MOST_SERIES)]
    others = f"… {len(names) - len(kept)} others"
    lines = _level(points, LINES, MOST_LINES)
    dots = _level(points, POINTS, MOST_POINTS)
    return [
        point
        | {"series": point[by] if str(point[by]) in kept else others}
        | {"line": _joined(point, lines), "point": _joined(point, dots)}
        for point in points
    ]


def _level(
    points: Sequence[Point], levels: Sequence[tuple[str, ...]], most: int
) -> tuple[str, ...]:
    """Return the finest grouping with few enough groups; the series where none is."""
    for level in levels:
        if len({_joined(point, level) for point in points}) <= most:
            return level
    return ()


def _joined(point: Point, names: Sequence[str]) -> str:
    return "|".join(str(point[name]) for name in names)


def spanned(values: Iterable[float | None]) -> bool:
    """Whether positive values span a decade or more, so that a logarithmic axis is due."""
    known = [value for value in values if value is not None and value > 0]
    return bool(known) and max(known) >= 10 * min(known)
