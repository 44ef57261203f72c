"""The search for clean edges: watch energy counters until each one ticks, and bracket the tick.

It owns the busy loop of the sampler and knows neither NVML nor processes; a counter is a function
that returns millijoules. Every failure is a word in the result, never an exception of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from workers.meters.binding import SensorError
from workers.meters.counting import Edge, Tick, period_of, tick_between

Counter = Callable[[], int]

#: An edge whose bracket is wider than this is refused, if calls are quick enough for it,
WIDTH_LIMIT_NS = 1_000_000
#: and so is one this many times wider than a call takes, or than two looks usually are apart (the
#: sampler was interrupted just then), unless it is narrower than the last figure anyway.
USUAL_LOOKS, NARROW_NS = 4, 100_000
#: A counter that does not tick for so long is stuck; no search takes more than twice as long.
PATIENCE_NS = 2_000_000_000
#: A counter is given up after so many ticks that were of no use.
USELESS_TICKS = 12
#: Where no clean edge comes in time, a bracket up to this wide is better than none.
WIDEST_NS = 10_000_000
#: Counters are watched together as long as one look at all of them takes no longer than this.
ROUND_NS = 700_000
#: Distances between clean changes of a counter that make its period known.
LEARN_GAPS = 2

NO_EDGE = "edge_unresolved"  # it ticks, but not inside brackets narrow enough
STUCK = "counter_stuck"  # it does not tick, or no more


@dataclass(slots=True)
class Watch:
    """One counter being watched. It starts with the value it holds at the moment of the request."""

    read: Counter
    held_ns: int
    held_mj: int
    lo_ns: int
    value_mj: int
    cost_ns: int  # its quickest read
    known: bool = False  # whether its period was known before
    first: tuple[int, int, int] | None = None  # value, and the bracket of its appearance
    usual_ns: int = WIDEST_NS
    ticks: int = 0
    useless: int = 0  # those of them that nothing was learned from
    edge: Edge | None = None  # the first clean change
    last_clean: tuple[Edge, int] | None = None  # the last clean change, and its number
    newest: Edge | None = None
    narrowest: Edge | None = None
    blind_ns: int = 0  # the longest that nobody looked since the last clean change
    gaps: list[Tick] = field(default_factory=list)
    failure: str | None = None

    @property
    def widest_ns(self) -> int:
        """The widest bracket of an uninterrupted sampler: it takes two calls."""
        return min(WIDEST_NS, max(WIDTH_LIMIT_NS, USUAL_LOOKS * self.cost_ns))

    @property
    def limit_ns(self) -> int:
        """The widest bracket that is accepted."""
        return min(self.widest_ns, max(NARROW_NS, USUAL_LOOKS * self.usual_ns))

    @property
    def current(self) -> bool:
        """Whether its last change was a clean one."""
        return self.last_clean is not None and self.last_clean[1] == self.ticks

    @property
    def learned(self) -> bool:
        """Whether there is no more to learn about its period."""
        return self.known or len(self.gaps) >= LEARN_GAPS

    @property
    def period(self) -> Tick | None:
        """The period learned, if its ticks can be counted by it."""
        period = period_of(self.gaps) if self.gaps else None
        return period if period is not None and period.countable else None

    def changed(self, hi_ns: int, value_mj: int) -> bool:
        """Take note of a new value seen at `hi_ns`; returns whether its bracket is clean."""
        clean = hi_ns - self.lo_ns <= self.limit_ns
        self.ticks += 1
        self.first = self.first or (value_mj, self.lo_ns, hi_ns)
        self.newest = edge = self._edge(hi_ns, value_mj, self.first)
        if self.narrowest is None or edge.half_width_s < self.narrowest.half_width_s:
            self.narrowest = edge
        if not clean or not self._gauge(edge):
            self.useless += 1
        if clean:
            self.last_clean, self.blind_ns = (edge, self.ticks), 0
            self.edge = self.edge or edge
        self.value_mj = value_mj
        return clean

    def _gauge(self, edge: Edge) -> bool:
        """Learn the period from two clean changes, unless a tick between may have been missed.

        It would have been missed in a stretch longer than itself. Returns whether it was not.
        """
        if self.last_clean is None:
            return True
        gap = tick_between(*self.last_clean, edge, self.ticks)
        sure = self.blind_ns < gap.period_ns / 2
        if sure:
            self.gaps.append(gap)
        return sure

    def _edge(self, hi_ns: int, value_mj: int, first: tuple[int, int, int]) -> Edge:
        return Edge(
            lo_ns=self.lo_ns, hi_ns=hi_ns, value_mj=value_mj, previous_mj=self.value_mj,
            held_ns=self.held_ns, held_mj=self.held_mj, first_mj=first[0], first_lo_ns=first[1],
            first_hi_ns=first[2],
        )  # fmt: skip

    def why_not(self) -> str:
        """Return the word for why it has no edge."""
        return self.failure or (NO_EDGE if self.useless or self.gaps else STUCK)


@dataclass(slots=True, kw_only=True)
class Search:
    """The clock and the limits of a search for edges."""

    now_ns: Callable[[], int]
    patience_ns: int = PATIENCE_NS
    #: Called after refused edges: nothing happens until the next tick.
    meanwhile: Callable[[], None] = lambda: None
    #: Called between looks once others wanted the processor: who sleeps is woken in time, who
    #: never does has to wait.
    nap: Callable[[], None] = lambda: None
    watches: dict[str, Watch] = field(default_factory=dict)
    interrupted: bool = False

    def hold(self, name: str, read: Counter, *, known: bool = False) -> None:
        """Note the value that counter `name` holds now; ticks after this instant count.

        `known` is whether its period is. Raises SensorError.
        """
        before_ns = self.now_ns()
        value_mj = read()
        held_ns = self.now_ns()
        self.watches[name] = Watch(read=read, held_ns=held_ns, held_mj=value_mj, lo_ns=before_ns,
                                   value_mj=value_mj, cost_ns=held_ns - before_ns,
                                   known=known)  # fmt: skip

    def run(self) -> Mapping[str, Edge | str]:
        """Return the first clean edge of every counter held, or the word for why there is none.

        One that is not clean comes back where no clean one came in time.
        """
        self._until(lambda watch: watch.edge is not None)
        return {name: watch.edge or _narrow(watch.narrowest) or watch.why_not()
                for name, watch in self.watches.items()}  # fmt: skip

    def latest(self) -> Mapping[str, Edge | str]:
        """Return the last edge of every counter held, or the word for why there is none.

        Where it is not the counter's last tick, its period tells how to get there from it.
        """
        self._until(lambda watch: watch.edge is not None
                    and (watch.learned or (watch.current and self._together())),
                    every=True)  # fmt: skip
        found: dict[str, Edge | str] = {}
        for name, watch in self.watches.items():
            clean = watch.last_clean[0] if watch.last_clean else None
            moves = watch.known or (watch.learned and watch.period is not None)
            placed = clean if moves or watch.current else _narrow(watch.newest)
            found[name] = watch.failure or placed or watch.why_not()
        return found

    def periods(self) -> Mapping[str, Tick | str]:
        """Return the periods that were not known, each or the word for why it still is not."""
        self._until(lambda watch: watch.learned)
        return {n: w.period or w.why_not() for n, w in self.watches.items() if not w.known}

    def by_the_way(self) -> Mapping[str, Tick]:
        """Return the periods that were learned without being asked for."""
        return {n: w.period for n, w in self.watches.items()
                if w.learned and not w.known and w.period is not None}  # fmt: skip

    def _until(self, done: Callable[[Watch], bool], *, every: bool = False) -> None:
        """Watch the counters until each is done, given up or failed, or patience ends.

        All of them, those that are done too if `every`; where that takes too long (many boards,
        slow calls) so many at a time as can be watched closely.
        """
        begun_ns = ticked_ns = self.now_ns()
        while True:
            alive = [w for w in self.watches.values() if w.failure is None]
            pending = [w for w in alive if not done(w) and w.useless < USELESS_TICKS]
            if not pending:
                return
            looked = alive if every and self._together() else _crowd(pending)
            ticked_ns = max([ticked_ns, *(w.newest.hi_ns for w in pending if w.newest)])
            until_ns = min(ticked_ns, begun_ns + self.patience_ns) + self.patience_ns
            happened = False
            while not happened:
                if self.now_ns() >= until_ns:
                    for watch in pending:
                        watch.failure = watch.why_not()
                    return
                happened = self._round(looked)

    def _together(self) -> bool:
        watches = list(self.watches.values())
        return len(_crowd(watches)) == len(watches)

    def _round(self, watches: Sequence[Watch]) -> bool:
        """Look at counters in turn; returns whether any changed or failed."""
        if self.interrupted:
            self.nap()
        found = [self._look(watch) for watch in watches]
        if False in found:
            self.meanwhile()
        return found.count(None) < len(found)

    def _look(self, watch: Watch) -> bool | None:
        """Read a counter once: an unchanged value moves the bracket's start, a new one ends it.

        Returns whether it was a clean one; None where nothing happened.
        """
        before_ns = self.now_ns()
        try:
            value_mj = watch.read()
        except SensorError as error:
            watch.failure = error.reason
            return True
        after_ns = self.now_ns()
        blind_ns = after_ns - watch.lo_ns
        watch.blind_ns = max(watch.blind_ns, blind_ns)
        watch.cost_ns = min(watch.cost_ns, after_ns - before_ns)
        clean = None
        if value_mj != watch.value_mj:
            clean = watch.changed(after_ns, value_mj)
        else:
            watch.usual_ns = min(watch.usual_ns, before_ns - watch.lo_ns)
        watch.lo_ns = before_ns
        if blind_ns > watch.widest_ns and not self.interrupted:
            self._slow_down()
        return clean

    def _slow_down(self) -> None:
        """Nap from now on; looks are further apart then."""
        self.interrupted = True
        for watch in self.watches.values():
            watch.usual_ns = WIDEST_NS


def _crowd(watches: Sequence[Watch]) -> list[Watch]:
    """Return as many counters as can be watched closely, one at least."""
    costs_ns = accumulate(w.cost_ns for w in watches)
    return [w for n, (w, cost_ns) in enumerate(zip(watches, costs_ns, strict=True))
            if n == 0 or cost_ns <= ROUND_NS]  # fmt: skip


def _narrow(edge: Edge | None) -> Edge | None:
    return edge if edge is not None and edge.hi_ns - edge.lo_ns <= WIDEST_NS else None
