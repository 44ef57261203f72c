"""From a composed configuration to `Settings`: types, ranges and contradictions.

Notes every problem and raises once. Knows nothing of files, Hydra or the catalogue.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Mapping

from campaign.axes import read_blocks
from campaign.overrides import GATES, ROOT, SECTIONS
from campaign.reader import UNKNOWN, Reader
from campaign.settings import (
    Axes,
    BudgetSettings,
    ClusterSettings,
    MeterSettings,
    RunSettings,
    Settings,
    StoreSettings,
)
from campaign.tree import Tree
from db.errors import ConfigError
from db.readings import PhaseMethod
from db.records import MeasurementProtocol, Reality

CLUSTERS = ("local", "ray", "simulated")
METERS = ("auto", "nvml", "rapl", "codecarbon")
ENERGY = ("measured", "any")
PHASES = ("none", *PhaseMethod, "both")
MAX_POINTS = 250_000
SIMULATED = "simulated"


def validate(
    tree: Tree, *, pinned: frozenset[str], given: frozenset[str], resolved: str
) -> Settings:
    """Return the settings of a composed configuration.

    `pinned` are the paths the command line decides, by value or by group; `given` are those it
    gives a value itself. Raises ConfigError with a line per problem.
    """
    read = Reader(tree)
    read.keys("", (*ROOT, *SECTIONS))
    for section, names in SECTIONS.items():
        read.keys(section, names)
    cluster = _cluster(read)
    blocks = read_blocks(read, tree, pinned)
    _check_simulation(read, blocks, cluster)
    settings = Settings(
        campaign=_campaign(read),
        owner=read.optional_text("owner", read.at("owner")) or getpass.getuser(),
        blocks=blocks,
        protocol=_protocol(read, given),
        store=_store(read),
        cluster=cluster,
        meter=_meter(read),
        run=_run(read),
        budget=_budget(read),
        replicates=read.whole("replicates", read.at("replicates")),
        reality=Reality.SIMULATED if cluster.kind == SIMULATED else Reality.REAL,
        catalog=read.optional_text("catalog_file", read.at("catalog_file")),
        resolved=resolved,
    )
    if read.problems:
        raise ConfigError("\n".join(read.problems))
    points = sum(axes.points for axes in blocks.values()) * settings.replicates
    if points > MAX_POINTS:
        raise ConfigError(f"the grid has {points} points, more than {MAX_POINTS}; narrow an axis")
    return settings


def _campaign(read: Reader) -> str:
    name = read.text("campaign", read.at("campaign"))
    if name != UNKNOWN and not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,62}", name):
        read.note("campaign", f"{name!r} is no name; use letters, digits, '-', '_' and '.'")
    return name


def _check_simulation(read: Reader, blocks: Mapping[str, Axes], cluster: ClusterSettings) -> None:
    """Note engines that the kind of cluster cannot run: claimed boards compute nothing."""
    backends = {b for axes in blocks.values() for b in axes.backend} - {UNKNOWN}
    real = ", ".join(sorted(backends - {SIMULATED}))
    if cluster.kind == SIMULATED and real:
        read.note("cluster=simulated", f"its boards cannot run {real}; add engine=simulated")
    elif cluster.kind != SIMULATED and SIMULATED in backends:
        read.note("engine.backend", "simulated runs on claimed boards only; add cluster=simulated")


def _protocol(read: Reader, given: frozenset[str]) -> MeasurementProtocol:
    def number(name: str) -> float:
        return read.number(f"protocol.{name}", read.at(f"protocol.{name}"))

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
        interval_target=number("interval_target"),
        warmup_max=warmup_max,
        warmup_agree=agree,
        warmup_tolerance=number("warmup_tolerance"),
        idle_s=read.number("protocol.idle_s", read.at("protocol.idle_s"), zero=True),
        energy=read.choice("protocol.energy", read.at("protocol.energy"), ENERGY),
        phases=read.choice("protocol.phases", read.at("protocol.phases"), PHASES),
    )


def _store(read: Reader) -> StoreSettings:
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


def _cluster(read: Reader) -> ClusterSettings:
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
        creation_deadline_s=read.number(
            "cluster.creation_deadline_s", read.at("cluster.creation_deadline_s")
        ),
        board_wait_s=read.number(
            "cluster.board_wait_s", read.at("cluster.board_wait_s"), zero=True
        ),
    )


def _meter(read: Reader) -> MeterSettings:
    read.keys("meter.gates", GATES)
    gates = read.mapping("meter.gates")
    return MeterSettings(
        names=read.axis("meter.names", lambda path, value: read.choice(path, value, METERS)),
        interval_s=read.number("meter.interval_s", read.at("meter.interval_s")),
        calibration={
            board: _relative(read, f"meter.calibration.{board}", accuracy)
            for board, accuracy in read.mapping("meter.calibration").items()
        },
        gates={name: read.number(f"meter.gates.{name}", gates[name], zero=True) for name in gates},
    )


def _relative(read: Reader, path: str, value: object) -> float:
    if type(value) in (int, float) and float(str(value)) >= 1:
        read.note(path, f"{value} is no relative accuracy; for 3 % write {path}=0.03")
    return read.number(path, value)


def _run(read: Reader) -> RunSettings:
    return RunSettings(
        seed=read.whole("run.seed", read.at("run.seed"), 0),
        price_per_gpu_hour={
            slug: read.number(f"run.price_per_gpu_hour.{slug}", price, zero=True)
            for slug, price in read.mapping("run.price_per_gpu_hour").items()
        },
        carbon_intensity_g_per_kwh=_bound(read, "run.carbon_intensity_g_per_kwh", zero=True),
        boards_per_node=read.whole("run.boards_per_node", read.at("run.boards_per_node")),
    )


def _budget(read: Reader) -> BudgetSettings:
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
