"""How long requests are: all alike, drawn like a classical task's, or a trace's own.

Owns the words of `Workload.lengths`. What is longer than a workload's most is left out and
counted, never clipped. The lengths follow from the workload alone, so that every engine, repeat
and kind of arrival is asked for the same; prompts are drawn elsewhere.
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from typing import Protocol

from db.errors import ConfigError
from db.records import Workload
from workers.workloads.arrivals import Recorded
from workers.workloads.lognormal import fitted
from workers.workloads.tracefiles import CATALOG, is_trace, listed

FIXED = "fixed"
NO_TIMES = "lengths that are drawn have no times to replay; name a trace"
#: Prompt tokens and tokens to generate.
Pair = tuple[int, int]

#: Examples of one round of draws, each from another of as many equal shares of the distribution:
#: the number that arXiv:2504.17674 samples, with the published moments in every round.
ROUND = 1024
#: A most that leaves less than this share of a task's examples is a mistake.
FEWEST = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLengths:
    """Prompt lengths of a classical task, and how much it generates; all in tokens."""

    name: str
    data_set: str
    input_mean: float
    input_std: float
    input_max: int
    output_tokens: int


class Lengths(Protocol):
    """Lengths of the requests of a workload."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many were left out so far, by reason."""

    def drawn(self) -> Iterator[Pair]:
        """Yield lengths without end, the same ones at every call."""

    def recorded(self) -> Recorded:
        """Return when the requests came, where that was recorded. Raises ConfigError."""


@cache
def tasks() -> Mapping[str, TaskLengths]:
    """Return the classical tasks by name."""
    with (CATALOG / "tasks.csv").open(newline="", encoding="utf-8") as stream:
        return {
            row["name"]: TaskLengths(
                name=row["name"],
                data_set=row["data_set"],
                input_mean=float(row["input_mean"]),
                input_std=float(row["input_std"]),
                input_max=int(row["input_max"]),
                output_tokens=int(row["output_tokens"]),
            )
            for row in csv.DictReader(stream)
        }


def names() -> tuple[str, ...]:
    """Return the words that `Workload.lengths` may be, beside a file's path."""
    return (FIXED, *tasks(), *listed())


def problem(workload: Workload) -> str | None:
    """Return what contradicts itself in a workload's lengths, in a line; None if nothing does."""
    lengths = workload.lengths
    task = tasks().get(lengths)
    if lengths != FIXED and task is None and not is_trace(lengths):
        return f"lengths={lengths} is none of {', '.join(names())}, nor a file written ./like/this"
    if workload.arrival == "trace" and not is_trace(lengths):
        return f"arrival=trace needs the times of a trace, and lengths={lengths} has none"
    if task is not None and workload.output_tokens < task.output_tokens:
        return (f"output_tokens={workload.output_tokens} leaves out every request: {lengths} "
                f"generates {task.output_tokens}")  # fmt: skip
    return None


def means(workload: Workload) -> tuple[float, float] | None:
    """Return the mean prompt and output tokens as published, for estimates; None if nobody did.

    What the workload's most would leave out is not taken off.
    """
    task = tasks().get(workload.lengths)
    if workload.lengths == FIXED:
        return float(workload.input_tokens), float(workload.output_tokens)
    if task is not None:
        return task.input_mean, float(task.output_tokens)
    trace = listed().get(workload.lengths.partition("@")[0])
    if trace is None or trace.input_mean is None or trace.output_mean is None:
        return None
    return trace.input_mean, trace.output_mean


class Fixed:
    """Every request alike."""

    def __init__(self, workload: Workload) -> None:
        self.dropped: Mapping[str, int] = {}
        self._pair = (workload.input_tokens, workload.output_tokens)

    def drawn(self) -> Iterator[Pair]:
        """Yield the one pair of lengths without end."""
        return repeat(self._pair)

    def recorded(self) -> Recorded:
        """Raise ConfigError: lengths alone have no times."""
        raise ConfigError(NO_TIMES)


class Drawn:
    """A classical task: prompts from a lognormal distribution with the published moments."""

    def __init__(self, workload: Workload) -> None:
        """Fit the task's distribution. Raises ConfigError where hardly any prompt is left."""
        task = tasks()[workload.lengths]
        self.dropped = Counter(over_input_tokens=0)
        self._task = task
        self._most = workload.input_tokens
        self._lognormal = fitted(task.input_mean, task.input_std, task.input_max)
        share = self._lognormal.share(self._most)
        if share < FEWEST:
            raise ConfigError(
                f"input_tokens={self._most} leaves {share:.2%} of {task.name}: its prompts have "
                f"{task.input_mean:.0f} tokens in the mean"
            )

    def drawn(self) -> Iterator[Pair]:
        """Yield lengths without end, in rounds whose order is random."""
        chance = random.Random(f"lengths/{self._task.name}")  # noqa: S311 - a workload
        shares = list(range(ROUND))
        while True:
            chance.shuffle(shares)
            for share in shares:
                drawn = (share + chance.uniform(0.01, 0.99)) / ROUND
                tokens = max(1, round(self._lognormal.at(drawn)))
                if tokens > self._most:
                    self.dropped["over_input_tokens"] += 1
                else:
                    yield tokens, self._task.output_tokens

    def recorded(self) -> Recorded:
        """Raise ConfigError: lengths alone have no times."""
        raise ConfigError(NO_TIMES)
