"""What the sampler remembers about one GPU: its samples, its counter's period, its failures.

It owns the reads of one board and the notes on them. A query that fails is noted, never raised;
what the notes mean is decided in workers/meters/gpureport.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from workers.meters.binding import Gpu, SensorError, Telemetry
from workers.meters.child import Message
from workers.meters.counting import COUNTABLE, Edge, Tick, advanced, next_look
from workers.meters.edges import NO_EDGE, Search
from workers.meters.powerlog import PowerLog
from workers.meters.prompt import nap
from workers.meters.trajectory import Look

#: A period is measured again, over a longer baseline, once the grid may be off by this part of a
#: tick; that takes no longer than twice so many ticks, and no baseline is longer than ten minutes.
UNCERTAIN, PATIENCE, BASELINE_NS = 0.1, 0.75, 600_000_000_000


@dataclass(slots=True)
class Track:
    """One GPU of the machine; from `samples` on, what belongs to the open window."""

    gpu: Gpu
    sibling: bool = True
    limit_w: float | None = None
    limit_chosen: bool = False
    averaged: bool = False
    tick: Tick | None = None
    anchor: Edge | None = None
    last_mj: int | None = None
    lost: bool = False
    pids: set[int] = field(default_factory=set)
    pids_missed: bool = False
    power: PowerLog = field(init=False)
    looks: list[Look] = field(default_factory=list)
    look_from_ns: int = 0
    look_due_ns: int | None = None
    telemetry: list[Telemetry] = field(default_factory=list)
    throttle: int = 0
    throttle_missed: bool = False
    went_back: bool = False
    start: Edge | str = "no_counter"

    def __post_init__(self) -> None:
        """Start with an empty log."""
        self.power = PowerLog(gpu=self.gpu)

    @property
    def counts(self) -> bool:
        """Whether the energy of the open window comes from the counter."""
        return self.countable and isinstance(self.start, Edge)

    @property
    def unknown(self) -> bool:
        """Whether its counter ticks, and nobody knows yet how often."""
        return self.counts and self.tick is None

    @property
    def polled(self) -> bool:
        """Whether its power is read more often than sampled, for the instants of its updates."""
        has_sensor = self.gpu.power_field is not None and not self.lost
        return has_sensor and not self.sibling and not self.counts

    @property
    def countable(self) -> bool:
        """Whether its counter can still be asked."""
        return self.gpu.has_counter and not self.lost

    def counter(self) -> int:
        """Read the energy counter and notice when it went backwards. Raises SensorError."""
        value_mj = self.gpu.energy_mj()
        if self.last_mj is not None and value_mj < self.last_mj:
            self.went_back = True
        self.last_mj = value_mj
        return value_mj

    def failed(self, error: SensorError) -> str:
        """Note a failed query; returns the word for it."""
        self.lost = self.lost or error.reason == "gpu_lost"
        return error.reason

    def learned(self, period: Tick) -> None:
        """Note the period of a counter; its ticks are counted from the window's start edge."""
        self.tick, self.anchor = period, self.start if isinstance(self.start, Edge) else None

    def saw(self, edge: Edge | str) -> None:
        """Learn the period better from an edge, if the ticks since the anchor are countable."""
        if isinstance(edge, str) or self.tick is None:
            return
        better = self.tick.between(self.anchor, edge) if self.anchor else None
        if better is None or self.anchor is None or edge.at_ns - self.anchor.at_ns > BASELINE_NS:
            self.anchor = edge
        self.tick = better or self.tick

    def refine(self) -> bool:
        """Watch for one tick, before the ticks since the anchor cannot be counted any more.

        Returns whether that took time. Brackets decide the precision, so a long enough baseline is
        reached once and for all.
        """
        if self.tick is None or self.anchor is None or not self.countable:
            return False
        since_ns = time.monotonic_ns() - self.anchor.at_ns
        if self.tick.drift(since_ns) < UNCERTAIN:
            return False
        # Asleep for as much of the tick as is sure not to hold the next one.
        time.sleep(max(0.0, 1 - since_ns / self.tick.period_ns % 1 - 2 * UNCERTAIN)
                   * self.tick.period_ns / 1e9)  # fmt: skip
        search = Search(now_ns=time.monotonic_ns, nap=nap,
                        patience_ns=round(PATIENCE * self.tick.period_ns))  # fmt: skip
        self.hold(search)
        for edge in search.run().values():
            self.saw(edge)
        return True

    def begin(self) -> None:
        """Forget what belonged to an earlier window."""
        self.went_back, self.throttle, self.throttle_missed = False, 0, False
        self.look_due_ns = None
        self.looks.clear()
        self.telemetry.clear()
        self.power.begin()

    def begin_looks(self, *, follow: bool) -> None:
        """Start with the window's start edge; `follow` looks at the counter once per tick."""
        self.look_due_ns = None
        if follow:
            self._plan_look(time.monotonic_ns())

    def _plan_look(self, after_ns: int) -> None:
        """Look next in the first tick that begins after an instant."""
        self.look_due_ns = None
        if self.tick is None or isinstance(self.start, str) or not self.countable:
            return
        self.look_from_ns, self.look_due_ns = next_look(self.start, self.tick, after_ns)

    def look_if_near(self, now_ns: int) -> None:
        """Look at a counter that is followed, if this instant is well inside a tick."""
        if self.look_due_ns is None or now_ns < self.look_from_ns:
            return
        self._try(self.look)
        self._plan_look(now_ns)

    def look(self) -> None:
        """Keep one reading of the counter for its course in the window. Raises SensorError."""
        before_ns = time.monotonic_ns()
        value_mj = self.counter()
        self.looks.append((before_ns, time.monotonic_ns(), value_mj))

    def sample(self, *, slow: bool, is_open: bool) -> None:
        """Take a power sample and look at the counter; `slow` reads the rest of the board too."""
        wanted: list[Callable[[], object]] = [self.read_power, self._throttled]
        if self.gpu.has_counter:
            wanted.append(self.look if is_open and self.look_due_ns is not None else self.counter)
        if slow and not self.sibling:
            wanted.append(self._described)
        if slow and not self.sibling and is_open:
            wanted.append(self._list_users)
        for read in wanted:
            self._try(read)
        if not is_open:
            self.power.forget()

    def read_power(self, *, keep: bool = True) -> bool:
        """Read the power, if the board tells it; returns whether it changed. Raises SensorError."""
        return self.gpu.power_field is not None and self.power.read(keep=keep)

    def poll(self) -> bool:
        """Look whether the sensor has a new value; returns whether it has."""
        return bool(self._try(lambda: self.read_power(keep=False)))

    def _throttled(self) -> None:
        """Note why the clocks are held back, or that it is not told. Raises SensorError."""
        bits = self.gpu.throttle_bits()
        self.throttle_missed = self.throttle_missed or bits is None
        self.throttle |= bits or 0

    def _described(self) -> None:
        self.telemetry.append(self.gpu.telemetry())

    def _try(self, read: Callable[[], object]) -> object:
        """Return what a query returns; None if it fails, or the board is gone."""
        if self.lost:
            return None
        try:
            return read()
        except SensorError as error:
            self.failed(error)
            return None

    def hold(self, search: Search) -> str | None:
        """Enter the counter into a search, or return the word for why there is none."""
        if not self.countable:
            return "gpu_lost" if self.lost else "no_counter"
        try:
            search.hold(self.gpu.uuid, self.counter, known=self.tick is not None)
        except SensorError as error:
            return self.failed(error)
        return None

    def latest(self, edge: Edge | str) -> Edge | str:
        """Move an edge to the counter's last tick: the edges of others may have taken time."""
        if isinstance(edge, str) or self.tick is None:
            return edge
        tick_s, error_s = self.tick.period_ns / 1e9, self.tick.error_ns / 1e9
        until_ns = time.monotonic_ns() + 2 * self.tick.period_ns
        while (asked_ns := time.monotonic_ns()) <= until_ns:
            if self.tick.drift(asked_ns - edge.at_ns) > COUNTABLE:
                break
            try:
                value_mj = self.counter()
            except SensorError as error:
                return self.failed(error)
            found = advanced(edge, time.monotonic_ns(), value_mj, tick_s, asked_ns=asked_ns,
                             error_s=error_s)  # fmt: skip
            if found is not None:
                return found
            nap()
        return NO_EDGE

    def users(self) -> tuple[set[int], bool]:
        """Return the pids on the board since they were asked for last, and whether that is all."""
        self._try(self._list_users)
        seen, known = self.pids, not (self.pids_missed or self.lost)
        self.pids, self.pids_missed = set(), False
        return seen, known

    def _list_users(self) -> None:
        """Note the pids on the board, or that it does not tell them. Raises SensorError."""
        listed = self.gpu.pids()
        self.pids_missed = self.pids_missed or listed is None
        self.pids.update(listed or ())

    def report(self, end: Edge | str) -> Message:
        """Return everything seen in the window that ends with `end`."""
        return {
            "uuid": self.gpu.uuid, "start": _plain(self.start), "end": _plain(end),
            "tick": asdict(self.tick) if self.tick else None, "looks": self.looks,
            "samples": list(self.power.samples), "sensor_period_ns": self.power.period_ns,
            "polled": not self.counts, "averaged": self.averaged,
            "stalest_ns": self.power.stalest_ns, "limit_w": self.limit_w,
            "limit_chosen": self.limit_chosen,
            "telemetry": [asdict(t) for t in self.telemetry], "throttle": self.throttle,
            "throttle_missed": self.throttle_missed, "lost": self.lost,
            "went_back": self.went_back,
        }  # fmt: skip


def _plain(edge: Edge | str) -> object:
    return asdict(edge) if isinstance(edge, Edge) else edge
