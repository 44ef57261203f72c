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

#: An edge whose bracket is wider than this is refused,
WIDTH_LIMIT_NS = 1_000_000
#: and so is one this many times wider than two looks usually are apart (the sampler was
#: interrupted just then), unless it is narrower than the last figure anyway.
USUAL_LOOKS, NARROW_NS = 4, 100_000
#: A counter that does not tick for so long is stuck; one that does is watched for twice as long.
PATIENCE_NS = 2_000_000_000
#: Where no clean edge comes in time, a bracket up to this wide is better than none.
WIDEST_NS = 10_000_000
#: Counters are watched together as long as one look at all of them takes no longer than this.
ROUND_NS = 700_000
#: Distances between clean changes of a counter that make its period known.
LEARN_GAPS = 2

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
    cost_ns: int  # its quickest read
    first: tuple[int, int, int] | None = None  # value, and the bracket of its appearance
    usual_ns: int = WIDTH_LIMIT_NS
    ticks: int = 0
    edge: Edge | None = None  # the first clean change
    last_clean: tuple[Edge, int] | None = None  # the last clean change, and its number
    newest: Edge | None = None
    narrowest: Edge | None = None
    blind_ns: int = 0  # the longest that nobody looked since the last clean change
    gaps: list[Tick] = field(default_factory=list)
    failure: str | None = None

    @property
    def limit_ns(self) -> int:
        """The widest bracket that is accepted."""
        return min(WIDTH_LIMIT_NS, max(NARROW_NS, USUAL_LOOKS * self.usual_ns))

    @property
    def current(self) -> bool:
        """Whether its last change was a clean one."""
        return self.last_clean is not None and self.last_clean[1] == self.ticks

    @property
    def learned(self) -> bool:
        """Whether its period is known."""
        return len(self.gaps) >= LEARN_GAPS

    def changed(self, hi_ns: int, value_mj: int) -> bool:
        """Take note of a new value seen at `hi_ns`; returns whether its bracket is clean."""
        clean = hi_ns - self.lo_ns <= self.limit_ns
        self.ticks += 1
        self.first = self.first or (value_mj, self.lo_ns, hi_ns)
        self.newest = edge = self._edge(hi_ns, value_mj, self.first)
        if self.narrowest is None or edge.half_width_s < self.narrowest.half_width_s:
            self.narrowest = edge
        if clean:
            self._gauge(edge)
            self.last_clean, self.blind_ns = (edge, self.ticks), 0
            self.edge = self.edge or edge
        self.value_mj = value_mj
        return clean

    def _gauge(self, edge: Edge) -> None:
        """Learn the period from two clean changes, unless a tick between may have been missed.

        It would have been missed in a stretch longer than itself.
        """
        if self.last_clean is not None:
            gap = tick_between(*self.last_clean, edge, self.ticks)
            if self.blind_ns < gap.period_ns / 2:
                self.gaps.append(gap)

    def _edge(self, hi_ns: int, value_mj: int, first: tuple[int, int, int]) -> Edge:
        return Edge(
            lo_ns=self.lo_ns, hi_ns=hi_ns, value_mj=value_mj, previous_mj=self.value_mj,
            held_ns=self.held_ns, held_mj=self.held_mj, first_mj=first[0], first_lo_ns=first[1],
            first_hi_ns=first[2],
        )  # fmt: skip

    def why_not(self) -> str:
        """Return the word for why it has no edge."""
        return self.failure or (NO_EDGE if self.ticks else STUCK)


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

    def hold(self, name: str, read: Counter) -> None:
        """Note the value that counter `name` holds now; ticks after this instant count.

        Raises SensorError.
        """
        before_ns = self.now_ns()
        value_mj = read()
        held_ns = self.now_ns()
        self.watches[name] = Watch(read=read, held_ns=held_ns, held_mj=value_mj, lo_ns=before_ns,
                                   value_mj=value_mj, cost_ns=held_ns - before_ns)  # fmt: skip

    def run(self) -> Mapping[str, Edge | str]:
        """Return the first clean edge of every counter held, or the word for why there is none.

        One that is not clean comes back where no clean one came in time.
        """
        self._until(lambda watch: watch.edge is not None)
        return {name: watch.edge or _narrow(watch.narrowest) or watch.why_not()
                for name, watch in self.watches.items()}  # fmt: skip

    def latest(self) -> Mapping[str, Edge | str]:
        """Return the last edge of every counter held, or the word for why there is none.

        Where it is not the counter's last tick, `known` tells how to get there from it.
        """
        self._until(lambda watch: watch.learned or (watch.current and self._together()), every=True)
        found: dict[str, Edge | str] = {}
        for name, watch in self.watches.items():
            clean = watch.last_clean[0] if watch.last_clean else None
            placed = clean if watch.learned or watch.current else _narrow(watch.newest)
            found[name] = watch.failure or placed or watch.why_not()
        return found

    def periods(self) -> Mapping[str, Tick | str]:
        """Return the tick period of each counter held, or the word for why it is not known."""
        self._until(lambda watch: watch.learned)
        return {name: period_of(watch.gaps) if watch.gaps else watch.why_not()
                for name, watch in self.watches.items()}  # fmt: skip

    def known(self) -> Mapping[str, Tick]:
        """Return the periods that were learned by the way."""
        return {n: period_of(w.gaps) for n, w in self.watches.items() if w.learned}

    def _until(self, done: Callable[[Watch], bool], *, every: bool = False) -> None:
        """Watch the counters until each is done or fails, or patience ends.

        All of them, those that are done too if `every`; where that takes too long (many boards,
        slow calls) so many at a time as can be watched closely.
        """
        begun_ns = self.now_ns()
        while True:
            alive = [w for w in self.watches.values() if w.failure is None]
            pending = [w for w in alive if not done(w)]
            if not pending:
                return
            looked = alive if every and self._together() else _crowd(pending)
            ticking = any(w.ticks for w in pending)
            until_ns = begun_ns + (2 if ticking else 1) * self.patience_ns
            while not self._round(looked):
                if self.now_ns() >= until_ns:
                    return

    def _together(self) -> bool:
        return sum(w.cost_ns for w in self.watches.values()) <= ROUND_NS

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
        if blind_ns > WIDTH_LIMIT_NS and not self.interrupted:
            self._slow_down()
        return clean

    def _slow_down(self) -> None:
        """Nap from now on; looks are further apart then."""
        self.interrupted = True
        for watch in self.watches.values():
            watch.usual_ns = WIDTH_LIMIT_NS


def _crowd(watches: Sequence[Watch]) -> list[Watch]:
    """Return as many counters as can be watched closely, one at least."""
    costs_ns = accumulate(w.cost_ns for w in watches)
    return [w for n, (w, cost_ns) in enumerate(zip(watches, costs_ns, strict=True))
            if n == 0 or cost_ns <= ROUND_NS]  # fmt: skip


def _narrow(edge: Edge | None) -> Edge | None:
    return edge if edge is not None and edge.hi_ns - edge.lo_ns <= WIDEST_NS else None
