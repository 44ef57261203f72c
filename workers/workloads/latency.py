"""What one request under load went through, and the field's latencies of many.

Owns the definitions; they are those of ``vllm bench serve``. TTFT: arrival to first token. TPOT: of
one request, the time from its first to its last token over the tokens after the first. ITL: every
gap between two deliveries of tokens, of all requests together. E2E: arrival to last token. A
request arrives when it should, not when the generator came round to sending it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from db.readings import RequestTiming

PERCENTILES = (50, 90, 95, 99)
#: The deadlines of goodput by their names in ``vllm bench serve --goodput``, where they are in
#: milliseconds, and the latency that each bounds.
GOODPUT = {"ttft": "ttft_s", "tpot": "tpot_s", "e2el": "e2e_s"}
#: Where a window's latencies keep the deadlines that its good requests met.
DEADLINES = "deadlines_ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """What a request must meet to count as good, in seconds; None asks for nothing."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    @property
    def any(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.asked_ms)

    @property
    def asked_ms(self) -> dict[str, float]:
        """Those there are, in milliseconds, by their names in GOODPUT."""
        found = ((name, getattr(self, latency)) for name, latency in GOODPUT.items())
        return {name: round(limit_s * 1e3, 6) for name, limit_s in found if limit_s is not None}


NO_DEADLINES = Deadlines()


def deadlines_of(goodput_ms: Mapping[str, float]) -> Deadlines:
    """Return the deadlines of a configuration: milliseconds by their names in GOODPUT."""
    return Deadlines(**{GOODPUT[name]: limit_ms / 1e3 for name, limit_ms in goodput_ms.items()})


class Course:
    """One request from its arrival to its end, by CLOCK_MONOTONIC nanoseconds.

    A `Listener`: the engine's thread appends, others read what ended or copy what did not.
    """

    def __init__(
        self, *, due_ns: int, sent_ns: int, input_tokens: int, output_tokens: int,
        told: Callable[[Course], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """Say when it should have been sent and when it was, what it asks, who hears its end."""
        self.due_ns = due_ns
        self.sent_ns = sent_ns
        self.input_tokens = input_tokens
        self.asked_tokens = output_tokens
        self._told = told
        self.stamps: list[tuple[int, int]] = []
        self.ended_ns: int | None = None
        self.error: BaseException | None = None

    def tokens(self, now_ns: int, count: int) -> None:
        """Keep when so many tokens came."""
        if count:
            self.stamps.append((now_ns, count))

    def ended(self, now_ns: int, error: BaseException | None) -> None:
        """Keep when and how it ended."""
        self.error = error
        self.ended_ns = now_ns
        self._told(self)

    @property
    def last_ns(self) -> int:
        """When it was last heard of: its end, else its last token, else its sending."""
        if self.ended_ns is not None:
            return self.ended_ns
        return self.stamps[-1][0] if self.stamps else self.sent_ns

    @property
    def late_s(self) -> float:
        """Seconds from when it should have been sent to when it was."""
        return (self.sent_ns - self.due_ns) / 1e9

    @property
    def gaps_s(self) -> list[float]:
        """Seconds between deliveries of tokens."""
        return [(later - earlier) / 1e9 for (earlier, _), (later, _) in pairwise(self.stamps)]

    def tokens_in(self, started_ns: int, ended_ns: int) -> int:
        """Return the tokens that came in [start, end)."""
        return sum(count for at_ns, count in tuple(self.stamps) if started_ns <= at_ns < ended_ns)

    def prompt_in(self, started_ns: int, ended_ns: int) -> int:
        """Return the prompt's tokens if the first answer to them came in [start, end)."""
        first = self.stamps[:1]
        return self.input_tokens if first and started_ns <= first[0][0] < ended_ns else 0

    def ended_in(self, started_ns: int, ended_ns: int) -> bool:
        """Whether it ended in [start, end)."""
        return self.ended_ns is not None and started_ns <= self.ended_ns < ended_ns

    def straddles(self, started_ns: int, ended_ns: int) -> bool:
        """Whether an edge of the window lies between its sending and its end."""
        last_ns = math.inf if self.ended_ns is None else self.ended_ns
        return any(self.sent_ns < edge_ns <= last_ns for edge_ns in (started_ns, ended_ns))

    def timing(self) -> RequestTiming:
        """Return its tokens and latencies; only of a request that ended."""
        last_ns = self.stamps[-1][0] if self.stamps else (self.ended_ns or self.due_ns)
        first_s = (self.stamps[0][0] - self.due_ns) / 1e9 if self.stamps else None
        return RequestTiming(
            input_tokens=self.input_tokens,
            output_tokens=sum(count for _, count in self.stamps),
            ttft_s=first_s,
            e2e_s=(last_ns - self.due_ns) / 1e9,
        )


def latencies(courses: Iterable[Course]) -> dict[str, dict[str, float]]:
    """Return mean and percentiles of each latency, in seconds; what nobody had is left out.

    `late_s` is no latency of the engine: it is how late the generator sent.
    """
    courses = tuple(courses)
    timings = [course.timing() for course in courses]
    found = {
        "ttft_s": [t.ttft_s for t in timings if t.ttft_s is not None],
        "tpot_s": [t.itl_s for t in timings if t.itl_s is not None],
        "itl_s": [gap for course in courses for gap in course.gaps_s],
        "e2e_s": [t.e2e_s for t in timings],
        "late_s": [course.late_s for course in courses],
    }
    return {name: summary(values) for name, values in found.items() if values}


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the mean and the percentiles, linear between neighbours as NumPy's."""
    ordered = sorted(values)
    return {
        "mean": statistics.fmean(ordered),
        **{f"p{share}": percentile(ordered, share) for share in PERCENTILES},
    }


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile (0 to 100) of values in order, at least one."""
    place = (len(ordered) - 1) * share / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def good(timings: Iterable[RequestTiming], deadlines: Deadlines) -> int:
    """Return how many requests met every deadline; goodput is this over the window's seconds.

    A request with a single token has no TPOT, and meets any.
    """
    asked: Mapping[str, float | None] = {
        "ttft_s": deadlines.ttft_s, "itl_s": deadlines.tpot_s, "e2e_s": deadlines.e2e_s,
    }  # fmt: skip
    limits = {name: limit for name, limit in asked.items() if limit is not None}

    def meets(timing: RequestTiming) -> bool:
        found = ((getattr(timing, name), limit) for name, limit in limits.items())
        return all(value is None or value <= limit for value, limit in found)

    return sum(map(meets, timings))
