"""How right the time to the end is: what it says on the way, against the end that it then has.

    python -m tests.benchmarks.calibration

prints the table of docs/design/eta.md. Real grid, estimates, `schedule()`, corrections and ETA;
only the time is not real. Estimates miss the truth by a factor for all, one for each board, one for
each engine and one for each task, drawn by seed.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from campaign.catalogue.catalog import load_catalog
from campaign.configuration.config import load
from campaign.forecast.hours import Efforts
from campaign.grids.grid import expand
from campaign.running.eta import eta_s
from campaign.running.pace import Estimate
from db.records import EngineSpec
from tests.benchmarks.virtual import Engine, Simulation

#: Eight models on three kinds of boards, 24 lengths and batches each.
MODELS = (
    "meta-llama/Llama-3.1-8B,Qwen/Qwen2.5-7B,Qwen/Qwen2.5-3B,Qwen/Qwen2.5-1.5B,"
    "meta-llama/Llama-3.2-1B,meta-llama/Llama-3.2-3B,mistralai/Mistral-7B-v0.1,google/gemma-7b"
)
CAMPAIGN = (
    "campaign=eta", "cluster=simulated", "engine=simulated", f"model=[{MODELS}]",
    "board=[rtx-a6000,a100-sxm-80gb,h100-sxm-80gb]", "workload.input_tokens=[128,512,2048]",
    "workload.output_tokens=[32,128]", "workload.batch_size=[1,4,16,64]",
)  # fmt: skip
#: Parts of the elapsed time at which the ETA is asked for.
MOMENTS = (0.1, 0.25, 0.5, 0.75)
#: The most that the ETA may be wrong after a tenth, relative to what is then left.
LIMIT = 0.2
SEEDS = range(8)
#: Virtual seconds between two corrections of the driver.
CORRECTED_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """So many boards of each kind, and how the estimates are wrong.

    `constant` multiplies every second. `board`, `engine` and `task` are the largest factors, either
    way, between a board, an engine, a task and its estimate; loads are off as engines are.
    """

    name: str
    boards: int = 4
    constant: float = 1.0
    board: float = 1.0
    engine: float = 1.0
    task: float = 1.05


CASES = (
    Case(name="right"),
    Case(name="all 3 times too short", constant=3.0),
    Case(name="all 3 times too long", constant=1 / 3),
    Case(name="the same, an engine up to 1.25 times off", constant=1 / 3, engine=1.25),
    Case(name="all 3 times too short, an engine up to 1.5 times off", constant=3.0, engine=1.5),
    Case(name="the same, a board 1.5 and a task 1.2 times off", constant=3.0, board=1.5,
         engine=1.5, task=1.2),
    Case(name="the same on one board of each kind", constant=3.0, board=1.5, engine=1.5,
         task=1.2, boards=1),
)  # fmt: skip

Known = list[tuple[EngineSpec, Estimate, list[float]]]


def engines() -> Known:
    """Return the engines of the campaign with their estimates."""
    found = expand(load(CAMPAIGN), load_catalog(), [])
    efforts, made = Efforts(found.boards), []
    by_engine: dict[int, list] = defaultdict(list)
    for task in found.tasks:
        by_engine[id(task.engine)].append(task)
    for tasks in by_engine.values():
        spec, seconds = tasks[0].engine, [efforts.task(task).seconds for task in tasks]
        load_s = efforts.load(spec, tasks[0].protocol).seconds
        estimate = Estimate(
            board=spec.board, task_s=fmean(seconds), load_s=load_s, tasks=len(seconds)
        )
        made.append((spec, estimate, seconds))
    return made


def truth(known: Known, case: Case, seed: int) -> list[Engine]:
    """Return the engines with the seconds that their estimates miss."""
    chance = random.Random(seed)

    def off(most: float) -> float:
        return most ** chance.uniform(-1, 1)

    boards: dict[str, float] = {}
    made = []
    for spec, estimate, tasks_s in known:
        if spec.board not in boards:
            boards[spec.board] = off(case.board)
        factor = case.constant * boards[spec.board]
        own, expected_s = factor * off(case.engine), chance.sample(tasks_s, len(tasks_s))
        made.append(Engine(
            spec=spec, estimate=estimate, load_s=estimate.load_s * factor * off(case.engine),
            tasks_s=[s * own * off(case.task) for s in expected_s], expected_s=expected_s,
        ))  # fmt: skip
    return made


Watch = Callable[[Simulation, float], None]


def played(known: Known, case: Case, seed: int, watch: Watch | None = None) -> float:
    """Play a campaign; returns the virtual seconds that it takes."""
    campaign = truth(known, case, seed)
    nodes = [(f"{kind}/{n}", kind, 1) for kind in kinds(known) for n in range(case.boards)]
    return max(Simulation(campaign, nodes, CORRECTED_S, watch).run().ends_s.values())


def kinds(known: Known) -> list[str]:
    return sorted({spec.board for spec, _, _ in known})


def errors(known: Known, case: Case, seed: int) -> list[float]:
    """Return (ETA - what was left) / what was left, at each of MOMENTS."""
    end_s = played(known, case, seed)
    left = [part * end_s for part in reversed(MOMENTS)]
    found: list[float] = []
    boards = dict.fromkeys(kinds(known), case.boards)

    def watch(play: Simulation, now_s: float) -> None:
        while left and now_s >= left[-1]:
            left.pop()
            eta = eta_s(play.rests(), boards)
            found.append((eta - (end_s - now_s)) / (end_s - now_s))

    played(known, case, seed, watch)
    return found


def calibration(cases: Sequence[Case] = CASES) -> Mapping[Case, Sequence[Sequence[float]]]:
    """Return the errors of every case, a row for each seed."""
    known = engines()
    return {case: [errors(known, case, seed) for seed in SEEDS] for case in cases}


def table(found: Mapping[Case, Sequence[Sequence[float]]]) -> str:
    """Return the calibration as a table of Markdown: the median of all seeds, and the worst."""
    heads = [f"at {part:.0%}" for part in MOMENTS]
    lines = [f"| estimates are | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for case, rows in found.items():
        cells = [
            f"{median(column):+.0%} (worst {max(column, key=abs):+.0%})"
            for column in zip(*rows, strict=True)
        ]
        lines.append(f"| {case.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(calibration()))
