"""From what a statement found to one figure, with an interval that says what it contains.

Pure. Between sessions: Student's interval over the figures of the replicates, which ran in sessions
of their own. Within one session: the half-widths of the rows, propagated. Where neither can be told
there is no interval.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, median, stdev

from campaign.analysis.claims.claim import Form, Interval, Over
from db.claims import Found, Source
from workers.student import student

PERCENT = 100.0
OVER: Mapping[Over, Callable[[Iterable[float]], float]] = {
    Over.MEAN: fmean,
    Over.MEDIAN: median,
    Over.LEAST: min,
    Over.MOST: max,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One figure over `points`, from `attempts` in `sessions`; `half_width` is of 95 %.

    `contains` says what the interval holds, or why there is none.
    """

    figure: float
    half_width: float | None
    contains: str
    points: int
    replicates: int
    attempts: tuple[int, ...]
    sessions: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """A point's figure and its half-width within a session."""

    figure: float
    half_width: float | None


def weigh(
    found: Sequence[Found],
    sources: Mapping[int, Source],
    form: Form,
    over: Over,
    interval: Interval = Interval.ROWS,
) -> Evidence:
    """Return the figure that these points amount to; they are of one kin, and at least one."""
    seen = _by_replicate(found, sources, form)
    combine = OVER[over]
    figures = [one.figure for one in _merged(seen.values()).values()]
    attempts = tuple(sorted({attempt for one in found for attempt in one.attempts}))
    half_width, contains = _between(seen, sources, found, over)
    if half_width is None and len(seen) == 1 and interval is Interval.ROWS:
        half_width = _within(next(iter(seen.values())), over)
        if half_width is not None:
            contains = "within one session: timing and repeats"
    return Evidence(
        figure=combine(figures),
        half_width=half_width,
        contains=contains,
        points=len(figures),
        replicates=len(seen),
        attempts=attempts,
        sessions=len({sources[attempt].session for attempt in attempts}),
    )


def _by_replicate(
    found: Sequence[Found], sources: Mapping[int, Source], form: Form
) -> dict[int, dict[str, _Seen]]:
    seen: dict[int, dict[str, list[_Seen]]] = defaultdict(lambda: defaultdict(list))
    for one in found:
        rows = [sources[attempt] for attempt in one.attempts]
        seen[rows[0].replicate][one.point].append(_seen(one, rows, form))
    return {
        replicate: {point: _mean(many) for point, many in points.items()}
        for replicate, points in sorted(seen.items())
    }


def _seen(one: Found, rows: Sequence[Source], form: Form) -> _Seen:
    """Return a point as the claim puts it; errors of rows in a ratio add in squares."""
    widths = [row.relative_half_width for row in rows]
    known = [width for width in widths if width is not None]
    relative = sqrt(sum(w * w for w in known)) if len(known) == len(widths) else None
    width = None if relative is None else abs(one.figure) * relative
    match form:
        case Form.VALUE:
            return _Seen(one.figure, None)
        case Form.SAVING:
            return _Seen(PERCENT * (1 - one.figure), None if width is None else PERCENT * width)
        case Form.EXCESS:
            return _Seen(PERCENT * (one.figure - 1), None if width is None else PERCENT * width)
    return _Seen(one.figure, width)


def _mean(many: Sequence[_Seen]) -> _Seen:
    known = [one.half_width for one in many if one.half_width is not None]
    width = sqrt(sum(w * w for w in known)) / len(many) if len(known) == len(many) else None
    return _Seen(fmean(one.figure for one in many), width)


def _merged(replicates: Iterable[Mapping[str, _Seen]]) -> dict[str, _Seen]:
    points: dict[str, list[_Seen]] = defaultdict(list)
    for replicate in replicates:
        for point, one in replicate.items():
            points[point].append(one)
    return {point: _mean(many) for point, many in points.items()}


def _between(
    seen: Mapping[int, Mapping[str, _Seen]],
    sources: Mapping[int, Source],
    found: Sequence[Found],
    over: Over,
) -> tuple[float | None, str]:
    """Return the half-width over replicates of the points that all have, and what it contains."""
    if len(seen) == 1:
        return None, "no interval: one session"
    common = set.intersection(*(set(points) for points in seen.values()))
    if not common:
        return None, "no interval: no point was measured in every replicate"
    sessions: dict[int, set[str]] = defaultdict(set)
    for one in found:
        for attempt in one.attempts:
            sessions[sources[attempt].replicate].add(sources[attempt].session)
    if sum(map(len, sessions.values())) != len(set.union(*sessions.values())):
        return None, "no interval: replicates share a session"
    figures = [OVER[over](seen[n][point].figure for point in common) for n in seen]
    width = student(len(figures) - 1) * stdev(figures) / sqrt(len(figures))
    every = set().union(*seen.values())
    some = "" if len(common) == len(every) else f", of {len(common)} of {len(every)} points"
    return width, f"between sessions: {len(figures)} replicates{some}"


def _within(points: Mapping[str, _Seen], over: Over) -> float | None:
    widths = [one.half_width for one in points.values()]
    known = [width for width in widths if width is not None]
    if len(known) < len(widths):
        return None
    if over is Over.MEAN:
        return sqrt(sum(w * w for w in known)) / len(known)
    # A quantile moves by no more than the point that moves most; ends by their own point.
    if over is Over.MEDIAN:
        return max(known)
    ends = sorted(points.values(), key=lambda one: one.figure)
    return ends[0 if over is Over.LEAST else -1].half_width
