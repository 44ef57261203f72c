"""The order of work against its lower bound, on a virtual clock: every session of the full grid.

Real expansion, real estimates, the real `schedule()` and its corrections; only time is not real.
BENCH_QUICK=1 leaves 10,000 boards out. A missed target fails the run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from campaign.catalogue.catalog import load_catalog
from campaign.configuration.config import load
from campaign.forecast.hours import Efforts
from campaign.grids.grid import expand
from campaign.running.pace import Estimate
from db.records import EngineSpec
from tests.benchmarks.virtual import Engine, Simulation, fleet, truth

pytestmark = pytest.mark.timeout(1200)

#: Makespan over the lower bound.
LIMIT = 1.05
#: Boards of each kind.
FLEETS = (8, 100, 1000)
HUGE = 10_000
QUICK = os.environ.get("BENCH_QUICK", "0") not in ("", "0")
#: Spread of true over estimated seconds (sigma of its logarithm) by board, by engine, by task.
WRONG = (0.4, 0.3, 0.05)
EXACT = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The least seconds on boards of one kind.

    By work, every engine loaded once, over slots; by the longest engine; and by the same work with
    a load for every point, which is what a sweep without sessions does.
    """

    work_s: float
    longest_s: float
    every_s: float


def bounds(engines: Sequence[Engine], boards: int) -> dict[str, Bounds]:
    found = {}
    for board in {engine.spec.board for engine in engines}:
        some = [engine for engine in engines if engine.spec.board == board]
        loads_s = sum(e.spec.board_count * e.load_s * (len(e.tasks_s) - 1) for e in some)
        work_s = sum(engine.board_s for engine in some)
        found[board] = Bounds(
            work_s=work_s / boards,
            longest_s=max(engine.load_s + sum(engine.tasks_s) for engine in some),
            every_s=(work_s + loads_s) / boards,
        )
    return found


@pytest.fixture(scope="module")
def grid() -> list[tuple[EngineSpec, Estimate, list[float]]]:
    found = expand(load(["+grid=full"]), load_catalog(), [])
    efforts, engines = Efforts(found.boards), {}
    for task in found.tasks:
        engines.setdefault(id(task.engine), []).append(task)
    made = []
    for tasks in engines.values():
        spec, seconds = tasks[0].engine, [efforts.task(task).seconds for task in tasks]
        estimate = Estimate(
            board=spec.board, task_s=sum(seconds) / len(seconds), tasks=len(seconds),
            load_s=efforts.load(spec, tasks[0].protocol).seconds,
        )  # fmt: skip
        made.append((spec, estimate, seconds))
    print(f"\n+grid=full: {len(found.tasks)} tasks of {len(made)} engines on "
          f"{len({spec.board for spec, _, _ in made})} kinds of boards")  # fmt: skip
    return made


@pytest.mark.parametrize("spread", [EXACT, WRONG], ids=["estimates exact", "estimates wrong"])
@pytest.mark.parametrize("boards", FLEETS)
def test_makespan_against_the_lower_bound_in_slots(grid, boards: int, spread) -> None:
    missed = [board for board, ratio in played(grid, boards, spread).items() if ratio > LIMIT]
    assert not missed, f"more than {LIMIT} on {', '.join(missed)}"


@pytest.mark.skipif(QUICK, reason="a minute of scheduling")
def test_driver_seconds_at_ten_thousand_boards(grid) -> None:
    played(grid, HUGE, EXACT)


def played(grid, boards: int, spread) -> dict[str, float]:
    """Play the grid on so many boards of each kind; returns makespan over bound by kind."""
    everything = truth(grid, spread)
    nodes = fleet(everything, boards)
    largest = {board: max(b for _, kind, b in nodes if kind == board) for _, board, _ in nodes}
    engines = [e for e in everything if e.spec.board_count <= largest[e.spec.board]]
    least, result = bounds(engines, boards), Simulation(engines, nodes).run()
    print(f"\n{boards} boards of each kind hold {len(engines)} of {len(everything)} engines:")
    print("  hours               ours   by work  longest engine  a load per point, at least")
    ratios = {}
    for board, end_s in sorted(result.ends_s.items()):
        one = least[board]
        ratios[board] = end_s / max(one.work_s, one.longest_s)
        hours = (end_s, one.work_s, one.longest_s, one.every_s)
        print(f"  {board:14}" + "".join(f"{s / 3600:10.2f}" for s in hours))
    worst = max(ratios, key=ratios.__getitem__)
    saved = sum(b.every_s for b in least.values()) / sum(result.ends_s.values())
    tasks = sum(len(engine.tasks_s) for engine in engines)
    print(f"  makespan over the lower bound: {ratios[worst]:.3f} on {worst} (at most {LIMIT:g})")
    print(f"  loading for every point takes at least {saved:.2f} of ours; {result.loads} loads")
    print(f"  driver: {result.driver_s / tasks * 1e6:.0f} us per task, {result.calls} calls, "
          f"{result.driver_s:.1f} s")  # fmt: skip
    return ratios
