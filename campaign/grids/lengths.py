"""Lengths by name: a file becomes the name that says what it holds; a wrong name is a problem.

What a trace needs that is not fetched yet is left to those who read it: planning works without.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from campaign.configuration.axes import WHOLE
from campaign.configuration.points import workloads
from campaign.configuration.settings import Axes, Settings
from db.errors import ConfigError
from workers.workloads.lengths import FIXED, problem
from workers.workloads.tracefiles import adopt, file_of, is_file, listed, resolve, traces_folder


def resolved(settings: Settings, problems: list[str]) -> Settings:
    """Return the settings with resolved lengths; adds a line to `problems` for each that is wrong.

    A trace without a published checksum that is not here keeps its name.
    """
    names: dict[str, str] = {}
    readable: set[str] = set()
    for lengths in dict.fromkeys(n for axes in settings.blocks.values() for n in axes.lengths):
        names[lengths] = lengths
        try:
            if is_file(lengths) or _is_here(lengths):
                names[lengths] = resolve(lengths)
                readable.add(lengths)
        except ConfigError as error:
            problems.append(str(error))
    blocks = {}
    for name, axes in settings.blocks.items():
        blocks[name] = replace(axes, lengths=tuple(names[n] for n in axes.lengths))
        if set(axes.lengths) != {FIXED} or "trace" in axes.arrival:
            found = dict.fromkeys(map(problem, workloads(blocks[name])))
            where = "workload" if name == WHOLE else f"blocks.{name}.workload"
            problems += [f"{where}: {line}" for line in found if line is not None]
            problems += [f"{where}: {line}" for line in _too_long(axes, readable)]
    return replace(settings, blocks=blocks)


def keep_traces(settings: Settings) -> None:
    """Keep a copy of every file that a campaign takes its lengths from. Raises ConfigError."""
    files = {n for axes in settings.blocks.values() for n in axes.lengths if is_file(n)}
    for file in sorted(files):
        adopt(Path(file).expanduser(), traces_folder())


def _too_long(axes: Axes, readable: Collection[str]) -> Iterator[str]:
    """Yield a line for each most that leaves out every request of a trace that can be read."""
    from workers.workloads.traces import without_any

    for lengths in (n for n in axes.lengths if n in readable):
        file = file_of(lengths, traces_folder())
        mosts = {(w.input_tokens, w.output_tokens) for w in workloads(axes)}
        for inputs, outputs in without_any(file, mosts) if file is not None else ():
            yield (f"input_tokens={inputs} and output_tokens={outputs} leave out every request "
                   f"of {lengths}")  # fmt: skip


def absent_traces() -> dict[str, str]:
    """Return the listed traces that are not fetched, with what to do."""
    return {
        name: f"the trace {name} is not here: `campaign fetch {name}` brings it"
        for name in listed()
        if not _is_here(name)
    }


def _is_here(lengths: str) -> bool:
    known = listed().get(lengths)
    return known is None or (traces_folder() / known.file).is_file()
