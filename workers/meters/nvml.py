"""The NVML meter: joules per GPU from the energy counter, with power samples beside it.

It owns the parent's end of the sampler and turns its raw numbers into readings. It never reports
zero or a guess: what was not measured is None with a reason, and `close` raises for nothing that
can happen to a board.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from db.errors import NodeUnfit
from db.readings import GpuEnergy
from db.records import Reality
from workers.meters.child import Child, ChildGone, Message, integer, items, mapping
from workers.meters.curve import Curve, curve_of
from workers.meters.gpureport import Report, gpu_energy, parse_report, unread
from workers.meters.users import Users

log = logging.getLogger("campaign.nvml")

#: Seconds after which a silent sampler counts as dead: a board may hang in the driver.
GREETING_S, OPEN_S, CLOSE_S, PIDS_S = 30.0, 30.0, 30.0, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuInfo:
    """What the sampler found out about one GPU when it started."""

    uuid: str
    index: int
    name: str
    sibling: bool
    counter: bool
    power_field: str | None
    mig: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuWindow:
    """The GPUs of one window; `ended_ns` moves to a tick only when edges are aligned.

    `ticked_ns` is the group's first tick at or after the end asked for, None without a counter.
    `curves` are the courses of the group's energy, of all its GPUs or of none.
    """

    started_ns: int
    ended_ns: int
    gpus: tuple[GpuEnergy, ...]
    reasons: tuple[str, ...] = ()
    ticked_ns: int | None = None
    curves: tuple[Curve, ...] = ()


class NvmlMeter:
    """Meters the GPUs of a group by UUID; the other GPUs of the machine are reported apart.

    `aligned` ends a window at a tick of the counter instead of the moment of the call: exact, but
    up to a tick longer.
    """

    def __init__(
        self, uuids: Sequence[str], *, interval_s: float = 0.1, aligned: bool = False
    ) -> None:
        """Start the sampler. Raises NodeUnfit where NVML or one of the GPUs is not there."""
        self._uuids = tuple(uuids)
        self._interval_s = interval_s
        self._aligned = aligned
        self._opened: Message | None = None
        self._frozen: Users | None = None
        self._child: Child | None = None
        self.reality = Reality.REAL
        self.driver = ""
        self.gpus: tuple[GpuInfo, ...] = ()
        self._start()
        self._before = self._users()

    def choose(self, uuids: Sequence[str]) -> None:
        """Meter another group from the next window on. Raises NodeUnfit if a GPU is not there.

        A meter that was started without a group lists the machine's GPUs for the choice.
        """
        missing = sorted(set(uuids) - {g.uuid for g in self.gpus})
        if missing:
            self.shutdown()
            here = ", ".join(g.uuid for g in self.gpus) or "none"
            raise NodeUnfit(f"GPU {missing[0]} is lost or not on this machine (here: {here})")
        self._uuids = tuple(uuids)
        self.gpus = tuple(replace(g, sibling=g.uuid not in uuids) for g in self.gpus)

    def _start(self) -> Child:
        child = Child("workers.meters.sampler", {"interval_ns": round(self._interval_s * 1e9)})
        try:
            greeting = child.receive(GREETING_S)
        except ChildGone as error:
            message = f"the GPU sampler did not start ({error}): run `campaign doctor`"
            raise NodeUnfit(message) from error
        if "fix" in greeting:
            child.stop()
            raise NodeUnfit(f"NVML is not usable: {greeting['fix']}")
        self.gpus = tuple(_info(found) for found in items(greeting["gpus"]))
        self.driver = str(greeting["driver"])
        self.reality = Reality.SIMULATED if greeting["standin"] else Reality.REAL
        self._child = child
        self.choose(self._uuids)
        return child

    @property
    def why_not(self) -> tuple[str, ...]:
        """Why the group's energy cannot be measured; empty if it can."""
        group = [g for g in self.gpus if not g.sibling]
        blind = any(not g.counter and g.power_field is None for g in group)
        reasons = {"no_gpu": not group, "mig": any(g.mig for g in group), "no_power_sensor": blind}
        return tuple(reason for reason, holds in reasons.items() if holds)

    @property
    def sampler_pid(self) -> int | None:
        """The process id of the sampler; None while there is none."""
        return self._child.pid if self._child else None

    def open(self, *, follow: bool = False) -> int:
        """Start a window; returns the CLOCK_MONOTONIC nanoseconds at which it begins.

        That is the latest start tick of the group's counters, a moment before the return: 0.2 s or
        a tick at most. `follow` reads the group's counters once per tick. It takes a tick as a
        rule, 15 at most, 2 s where a counter stands, and never more than 8 s; so does the end, with
        twice so many ticks while periods are not known.
        """
        try:
            child = self._child or self._start()
            request = {"do": "open", "group": self._uuids, "follow": follow}
            self._opened = child.ask(request, OPEN_S)
        except (ChildGone, NodeUnfit) as error:
            self._lost(error)
            self._opened = None
            return time.monotonic_ns()
        starts = [integer(at) for at in items(self._opened["starts_ns"])]
        return max(starts, default=integer(self._opened["opened_ns"]))

    def _lost(self, error: ChildGone | NodeUnfit) -> None:
        """Go on without the sampler; the next window starts another. What it said is logged."""
        self._child = None
        if said := getattr(error, "said", ""):
            log.warning("the GPU sampler is gone: %s", said)

    def begin_close(self) -> None:
        """Ask for the end edge; `finish_close` waits for it."""
        if self._child is not None:
            try:
                self._child.send({"do": "close", "aligned": self._aligned})
            except ChildGone as gone:
                self._lost(gone)

    def finish_close(self, started_ns: int, ended_ns: int) -> GpuWindow:
        """Report the window `started_ns`..`ended_ns`, after `begin_close`."""
        opened, self._opened = self._opened, None
        closed = self._closed()
        if closed is None or opened is None:
            gpus = tuple(unread(g.uuid, g.index, g.name, "sampler_lost", sibling=g.sibling)
                         for g in self.gpus)  # fmt: skip
            return GpuWindow(started_ns=started_ns, ended_ns=ended_ns, gpus=gpus,
                             reasons=("sampler_lost",))  # fmt: skip
        siblings_mj, reports = closed
        ticks = [at for u in self._uuids if (at := reports[u].end_ns) is not None]
        after = [at for u in self._uuids if (at := _tick_after(reports[u], ended_ns)) is not None]
        if self._aligned:
            ended_ns = max(ended_ns, min(ticks, default=ended_ns))
        siblings = (mapping(opened["siblings_mj"]), siblings_mj)
        gpus = tuple(self._energy(g, reports[g.uuid], (started_ns, ended_ns), siblings)
                     for g in self.gpus)  # fmt: skip
        return GpuWindow(started_ns=started_ns, ended_ns=ended_ns, gpus=gpus,
                         ticked_ns=min(after, default=None),
                         curves=self._curves(gpus, reports))  # fmt: skip

    def _curves(
        self, gpus: Sequence[GpuEnergy], reports: Mapping[str, Report]
    ) -> tuple[Curve, ...]:
        found = [curve_of(reports[gpu.uuid], gpu, interval_s=self._interval_s)
                 for gpu in gpus if not gpu.sibling]  # fmt: skip
        known = tuple(curve for curve in found if curve is not None)
        return known if len(known) == len(found) else ()

    def _closed(self) -> tuple[Message, dict[str, Report]] | None:
        """Return the siblings' counters and the sampler's report of each GPU; None if it is gone.

        A GPU takes a moment per day of its window.
        """
        if self._child is None:
            return None
        try:
            head = self._child.receive(CLOSE_S)
            found = [parse_report(self._child.receive(CLOSE_S))
                     for _ in range(integer(head["gpus"]))]  # fmt: skip
            return mapping(head["siblings_mj"]), {report.uuid: report for report in found}
        except ChildGone as gone:
            self._lost(gone)
            return None

    def _energy(
        self, gpu: GpuInfo, report: Report, window: tuple[int, int],
        siblings: tuple[Message, Message],
    ) -> GpuEnergy:  # fmt: skip
        counted = (siblings[0].get(gpu.uuid), siblings[1].get(gpu.uuid))
        return gpu_energy(
            report, window, index=gpu.index, name=gpu.name, sibling=gpu.sibling,
            power_field=gpu.power_field, mig=gpu.mig, interval_s=self._interval_s,
            unbracketed_mj=counted,
        )  # fmt: skip

    def _users(self) -> Users:
        """Return who uses the group's GPUs, or did in windows since asked."""
        if self._child is None:
            return Users()
        try:
            return Users.parse(self._child.ask({"do": "pids", "group": self._uuids}, PIDS_S))
        except ChildGone as gone:
            self._lost(gone)
            return Users()

    def freeze_processes(self) -> None:
        """Remember the processes on the group's GPUs as the session's own.

        In a container NVML shows the host's pids: they are compared with each other only. A list
        that gained nobody since the meter was started does not show the session's own, and so
        nobody else's for sure. Nothing computes on a stand-in: its list may stay as it is.
        """
        found = self._users()
        shown = bool(found.pids - self._before.pids) or self.reality is Reality.SIMULATED
        self._frozen = found if shown else Users()

    def foreign_processes(self) -> tuple[int, ...] | None:
        """Return the pids not frozen that use the group's GPUs, or did in windows since asked.

        None where that cannot be told: the driver does not list them now, or did not before.
        """
        return () if self._frozen is None else self._users().beside(self._frozen)

    def shutdown(self) -> None:
        """End the sampler; safe to call twice."""
        child, self._child = self._child, None
        if child is not None:
            child.stop()


def _tick_after(report: Report, ended_ns: int) -> int | None:
    """Return a counter's first tick at or after an instant; its clean edge may be a later one."""
    if report.end_ns is None or report.tick_s is None:
        return None
    tick_ns = report.tick_s * 1e9
    ticks = math.floor((report.end_ns - ended_ns) / tick_ns)
    return max(ended_ns, report.end_ns - round(ticks * tick_ns))


def _info(found: object) -> GpuInfo:
    values = mapping(found)
    field = values["power_field"]
    return GpuInfo(
        uuid=str(values["uuid"]), index=integer(values["index"]), name=str(values["name"]),
        sibling=True, counter=bool(values["counter"]),
        power_field=None if field is None else str(field), mig=bool(values["mig"]),
    )  # fmt: skip
