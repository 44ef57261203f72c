"""The search for clean edges: watch energy counters until each one ticks, and bracket the tick.

It owns the busy loop of the sampler and knows neither NVML nor processes; a counter is a function
that returns millijoules. Every failure is a word in the result, never an exception of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from workers.meters.binding import SensorError
from workers.meters.counting import Edge, Tick

Counter = Callable[[], int]

#: An edge whose bracket is wider than this is refused,
WIDTH_LIMIT_NS = 1_000_000
#: and so is one this many times wider than two looks usually are apart (the sampler was
#: interrupted just then), unless it is narrower than the last figure anyway.
USUAL_LOOKS, NARROW_NS = 4, 100_000
#: Wide brackets of one counter tolerated while several are watched in turn, and while it is alone.
TRIES_TOGETHER, TRIES_ALONE = 3, 1000
#: Distances between clean changes of a counter that make its period known.
LEARN_GAPS = 2
#: A distance this much longer than the shortest one missed a tick.
MISSED = 1.25

NO_EDGE = "edge_unresolved"  # it ticked, but never inside a narrow bracket
STUCK = "counter_stuck"  # it never ticked


@dataclass(slots=True)
class Watch:
    """One counter being watched. It starts with the value it holds at the moment of the request."""

    read: Counter
    held_ns: int
    held_mj: int
    lo_ns: int
    value_mj: int
    first: tuple[int, int, int] | None = None  # value, and the bracket of its appearance
    usual_ns: int = WIDTH_LIMIT_NS
    ticks: int = 0
    wide: int = 0
    last_clean: tuple[Edge, int] | None = None  # the last clean change, and its number
    gaps: list[Tick] = field(default_factory=list)
    edge: Edge | None = None
    failure: str | None = None

    @property
    def limit_ns(self) -> int:
        """The widest bracket that is accepted."""
        return min(WIDTH_LIMIT_NS, max(NARROW_NS, USUAL_LOOKS * self.usual_ns))

    def wanted(self, tries: int) -> bool:
        """Whether it is worth looking on for an edge."""
        return self.edge is None and self.failure is None and self.wide < tries

    def unlearned(self, tries: int) -> bool:
        """Whether it is worth looking on for the period.

        A tick that is slept through makes a distance longer: the shortest of a few is the period.
        """
        return len(self.gaps) < LEARN_GAPS and self.failure is None and self.wide < tries

    def changed(self, hi_ns: int, value_mj: int) -> bool:
        """Take note of a new value seen at `hi_ns`; returns whether its bracket is clean."""
        clean = hi_ns - self.lo_ns <= self.limit_ns
        self.ticks += 1
        self.first = self.first or (value_mj, self.lo_ns, hi_ns)
        if clean:
            edge = self._edge(hi_ns, value_mj, self.first)
            if self.last_clean is not None:
                self.gaps.append(_gap(*self.last_clean, edge, self.ticks))
            self.last_clean = (edge, self.ticks)
            self.edge = self.edge or edge
        else:
            self.wide += 1
        self.value_mj = value_mj
        return clean

    def _edge(self, hi_ns: int, value_mj: int, first: tuple[int, int, int]) -> Edge:
        return Edge(
            lo_ns=self.lo_ns, hi_ns=hi_ns, value_mj=value_mj, previous_mj=self.value_mj,
            held_ns=self.held_ns, held_mj=self.held_mj, first_mj=first[0], first_lo_ns=first[1],
            first_hi_ns=first[2],
        )  # fmt: skip


def _gap(before: Edge, before_tick: int, edge: Edge, tick: int) -> Tick:
    """Return the period that two clean changes, so many changes apart, speak for."""
    ticks = tick - before_tick
    error_ns = (before.half_width_s + edge.half_width_s) * 1e9
    return Tick(period_ns=(edge.at_ns - before.at_ns) / ticks, error_ns=error_ns / ticks)


def _period(gaps: Sequence[Tick]) -> Tick:
    """Return the period that distances between ticks speak for; the longer ones missed some."""
    shortest_ns = min(gap.period_ns for gap in gaps)
    single = [gap for gap in gaps if gap.period_ns < MISSED * shortest_ns]
    error_ns = max(gap.error_ns for gap in single)
    spread_ns = max(gap.period_ns for gap in single) - shortest_ns
    return Tick(period_ns=fmean(gap.period_ns for gap in single), error_ns=error_ns + spread_ns / 2,
                jitter_ns=max(0.0, spread_ns - 2 * error_ns))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The clock and the limits of a search for edges."""

    now_ns: Callable[[], int]
    patience_ns: int = 2_000_000_000
    #: Called after a refused edge: nothing happens until the next tick.
    meanwhile: Callable[[], None] = lambda: None
    watches: dict[str, Watch] = field(default_factory=dict)

    def hold(self, name: str, read: Counter) -> None:
        """Note the value that counter `name` holds now; ticks after this instant count.

        Raises SensorError.
        """
        before_ns = self.now_ns()
        value_mj = read()
        self.watches[name] = Watch(read=read, held_ns=self.now_ns(), held_mj=value_mj,
                                   lo_ns=before_ns, value_mj=value_mj)  # fmt: skip

    def run(self) -> Mapping[str, Edge | str]:
        """Return an edge for every counter held, or the word for why there is none.

        All counters are watched in turn; one whose brackets stay wide (many boards, slow calls)
        is then watched alone.
        """
        deadline_ns = self.now_ns() + self.patience_ns
        self._spin(list(self.watches.values()), deadline_ns, TRIES_TOGETHER)
        for watch in self.watches.values():
            self._spin([watch], deadline_ns, TRIES_ALONE)
        return {
            name: watch.edge or watch.failure or (NO_EDGE if watch.ticks else STUCK)
            for name, watch in self.watches.items()
        }

    def _spin(self, watches: Sequence[Watch], deadline_ns: int, tries: int) -> None:
        pending = [w for w in watches if w.wanted(tries)]
        while pending and self.now_ns() < deadline_ns:
            for watch in pending:
                self._look(watch)
            pending = [w for w in pending if w.wanted(tries)]

    def periods(self) -> Mapping[str, Tick | str]:
        """Return the tick period of each counter held, or the word for why it is not known."""
        watches = list(self.watches.values())
        self._learn(watches, TRIES_TOGETHER)
        for watch in watches:
            if watch.unlearned(TRIES_ALONE):
                watch.last_clean = None  # nobody looked while the others were watched
                self._learn([watch], TRIES_ALONE)
        return {
            name: _period(watch.gaps)
            if watch.gaps
            else watch.failure or (NO_EDGE if watch.ticks else STUCK)
            for name, watch in self.watches.items()
        }

    def _learn(self, watches: Sequence[Watch], tries: int) -> None:
        deadline_ns = self.now_ns() + self.patience_ns
        pending = [w for w in watches if w.unlearned(tries)]
        while pending and self.now_ns() < deadline_ns:
            for watch in pending:
                self._look(watch)
            pending = [w for w in pending if w.unlearned(tries)]

    def _look(self, watch: Watch) -> None:
        """Read a counter once: an unchanged value moves the bracket's start, a new one ends it."""
        before_ns = self.now_ns()
        try:
            value_mj = watch.read()
        except SensorError as error:
            watch.failure = error.reason
            return
        if value_mj != watch.value_mj:
            if not watch.changed(self.now_ns(), value_mj):
                self.meanwhile()
        else:
            watch.usual_ns = min(watch.usual_ns, before_ns - watch.lo_ns)
        watch.lo_ns = before_ns
