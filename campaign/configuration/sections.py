"""From sections of a composed configuration to the settings of each: protocol, store, cluster, ...

Notes every problem with the reader and goes on. Knows nothing of the grid, files or Hydra.
"""

from __future__ import annotations

import time

from campaign.configuration.overrides import GATES
from campaign.configuration.reader import Reader
from campaign.configuration.settings import (
    BudgetSettings,
    ClusterSettings,
    MeterSettings,
    RunSettings,
    StoreSettings,
)
from db.errors import ConfigError
from db.readings import PhaseMethod
from db.records import MeasurementProtocol
from workers.deadline import refuse_past
from workers.workloads.latency import GOODPUT

CLUSTERS = ("local", "ray", "simulated")
ISOLATIONS = ("node", "gpu")
METERS = ("auto", "nvml", "rapl", "codecarbon")
ENERGY = ("measured", "any")
PHASES = ("none", *PhaseMethod, "both")
SIMULATED = "simulated"


def protocol(read: Reader, given: frozenset[str]) -> MeasurementProtocol:
    """Read how a task is measured; `given` are the paths with a value of their own."""

    def number(name: str) -> float:
        return read.number(f"protocol.{name}", read.at(f"protocol.{name}"))

    def relative(name: str) -> float:
        return _relative(read, f"protocol.{name}", read.at(f"protocol.{name}"))

    def whole(name: str, minimum: int = 1) -> int:
        return read.whole(f"protocol.{name}", read.at(f"protocol.{name}"), minimum)

    repeats, repeats_max = whole("repeats"), whole("repeats_max")
    if repeats > repeats_max and "protocol.repeats_max" not in given:
        repeats_max = repeats  # asking for more repeats raises the cap that was not asked for
    if repeats > repeats_max:
        read.note("protocol.repeats_max", f"{repeats_max} is below protocol.repeats={repeats}")
    warmup_max, agree = whole("warmup_max", 0), whole("warmup_agree")
    return MeasurementProtocol(
        name=read.text("protocol.name", read.at("protocol.name")),
        window_s=number("window_s"),
        repeats=repeats,
        repeats_max=repeats_max,
        interval_target=relative("interval_target"),
        warmup_max=warmup_max,
        warmup_agree=agree,
        warmup_tolerance=relative("warmup_tolerance"),
        idle_s=read.number("protocol.idle_s", read.at("protocol.idle_s"), zero=True),
        energy=read.choice("protocol.energy", read.at("protocol.energy"), ENERGY),
        phases=read.choice("protocol.phases", read.at("protocol.phases"), PHASES),
    )


def store(read: Reader) -> StoreSettings:
    """Read where results are kept, and how leases behave."""

    def number(name: str) -> float:
        return read.number(f"store.{name}", read.at(f"store.{name}"))

    def whole(name: str) -> int:
        return read.whole(f"store.{name}", read.at(f"store.{name}"))

    url, path = _url(read, "store.url"), read.optional_text("store.path", read.at("store.path"))
    if url and path:
        read.note("store.path", "is for the embedded store and clashes with store.url; keep one")
    lease_s, beat_s = number("lease_s"), number("beat_s")
    if lease_s < 2 * beat_s:
        read.note("store.beat_s", f"{beat_s:g} is more than half of store.lease_s={lease_s:g}")
    return StoreSettings(
        url=url,
        reader_url=_url(read, "store.reader_url"),
        path=path,
        lease_s=lease_s,
        beat_s=beat_s,
        task_deadline_s=number("task_deadline_s"),
        max_faults=whole("max_faults"),
        max_lost=whole("max_lost"),
        max_invalid=whole("max_invalid"),
        retry_delay_s=read.number("store.retry_delay_s", read.at("store.retry_delay_s"), zero=True),
        patience_s=read.number("store.patience_s", read.at("store.patience_s"), zero=True),
    )


def _url(read: Reader, path: str) -> str | None:
    form = f"{path}=postgresql+psycopg://user@host/database"
    url = read.at(path)
    if url is None:
        return None
    if url == "":
        read.note(path, f"is required; write {form}")
    elif not str(url).startswith(("postgresql://", "postgresql+psycopg://")):
        read.note(path, f"is no Postgres URL; write {form}")
    return str(url)


def cluster(read: Reader) -> ClusterSettings:
    """Read which boards there are."""
    kind = read.choice("cluster.kind", read.at("cluster.kind"), CLUSTERS)
    boards = {
        slug: read.whole(f"cluster.boards.{slug}", count)
        for slug, count in read.mapping("cluster.boards").items()
    }
    if kind == SIMULATED and not boards:
        read.note("cluster.boards", "is empty; write cluster.boards.rtx-a6000=1")
    return ClusterSettings(
        kind=kind,
        address=read.optional_text("cluster.address", read.at("cluster.address")),
        boards=boards,
        isolation=read.choice("cluster.isolation", read.at("cluster.isolation"), ISOLATIONS),
        creation_deadline_s=read.number(
            "cluster.creation_deadline_s", read.at("cluster.creation_deadline_s")
        ),
        board_wait_s=read.number(
            "cluster.board_wait_s", read.at("cluster.board_wait_s"), zero=True
        ),
        empty_wait_s=read.number(
            "cluster.empty_wait_s", read.at("cluster.empty_wait_s"), zero=True
        ),
    )


def meter(read: Reader) -> MeterSettings:
    """Read which meters run, and the gates' thresholds."""
    read.keys("meter.gates", GATES)
    read.keys("meter.goodput", GOODPUT)
    gates, goodput = read.mapping("meter.gates"), read.mapping("meter.goodput")
    part = gates.get("batch_reached")
    if isinstance(part, int | float) and part > 1:
        read.note("meter.gates.batch_reached", f"{part} is more than all of a batch, which would "
                  "void every row; for 90 % write meter.gates.batch_reached=0.9")  # fmt: skip
    return MeterSettings(
        names=read.axis("meter.names", lambda path, value: read.choice(path, value, METERS)),
        interval_s=read.number("meter.interval_s", read.at("meter.interval_s")),
        calibration={
            board: _relative(read, f"meter.calibration.{board}", accuracy)
            for board, accuracy in read.mapping("meter.calibration").items()
        },
        gates={name: read.number(f"meter.gates.{name}", gates[name], zero=True) for name in gates},
        goodput={
            name: read.number(f"meter.goodput.{name}", limit_ms)
            for name, limit_ms in goodput.items()
            if limit_ms is not None
        },
    )


def _relative(read: Reader, path: str, value: object) -> float:
    """Return a part of one: a percentage would be another thing by a factor of hundred."""
    if type(value) in (int, float) and 1 <= (percent := float(str(value))) < float("inf"):
        fix = f"for {percent:g} % write {path}={percent / 100:g}"
        read.note(path, f"{value} is no part of one; {fix}")
    return read.number(path, value)


def run(read: Reader) -> RunSettings:
    """Read how a run is ordered, when it ends, and what its boards cost."""
    return RunSettings(
        seed=read.whole("run.seed", read.at("run.seed"), 0),
        price_per_gpu_hour={
            slug: read.number(f"run.price_per_gpu_hour.{slug}", price, zero=True)
            for slug, price in read.mapping("run.price_per_gpu_hour").items()
        },
        carbon_intensity_g_per_kwh=_bound(read, "run.carbon_intensity_g_per_kwh", zero=True),
        boards_per_node=read.whole("run.boards_per_node", read.at("run.boards_per_node")),
        deadline=_deadline(read),
        margin_s=read.number("run.margin_s", read.at("run.margin_s"), zero=True),
        grace_s=read.number("run.grace_s", read.at("run.grace_s"), zero=True),
    )


def _deadline(read: Reader) -> str | float | None:
    """Return the end of the run as it was written, once it is known to be one."""
    value = read.at("run.deadline")
    if value is None:
        return None
    deadline = value if isinstance(value, str) else read.number("run.deadline", value)
    try:
        refuse_past(deadline, time.time())
    except ConfigError as error:
        read.note("run.deadline", str(error).partition(": ")[2])
    return deadline


def budget(read: Reader) -> BudgetSettings:
    """Read the most that a plan may take."""
    if read.at("budget.price") is not None and not read.mapping("run.price_per_gpu_hour"):
        read.note("budget.price", "needs prices; write run.price_per_gpu_hour.h100-sxm-80gb=3")
    return BudgetSettings(
        hours=_bound(read, "budget.hours"),
        gpu_hours=_bound(read, "budget.gpu_hours"),
        kwh=_bound(read, "budget.kwh"),
        price=_bound(read, "budget.price"),
    )


def _bound(read: Reader, path: str, *, zero: bool = False) -> float | None:
    value = read.at(path)
    return None if value is None else read.number(path, value, zero=zero)
