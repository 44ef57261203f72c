"""Lengths by name: a file becomes the name that says what it holds; a wrong name is a problem.

What a trace needs that is not fetched yet is left to those who read it: planning works without.
"""

from __future__ import annotations

from dataclasses import replace

from campaign.axes import WHOLE
from campaign.points import workloads
from campaign.settings import Settings
from db.errors import ConfigError
from workers.lengths import FIXED, problem
from workers.tracefiles import is_file, listed, resolve, traces_folder


def resolved(settings: Settings, problems: list[str]) -> Settings:
    """Return the settings with resolved lengths; adds a line to `problems` for each that is wrong.

    A trace without a published checksum that is not here keeps its name.
    """
    names: dict[str, str] = {}
    for lengths in dict.fromkeys(n for axes in settings.blocks.values() for n in axes.lengths):
        names[lengths] = lengths
        try:
            if is_file(lengths) or _is_here(lengths):
                names[lengths] = resolve(lengths)
        except ConfigError as error:
            problems.append(str(error))
    blocks = {}
    for name, axes in settings.blocks.items():
        blocks[name] = replace(axes, lengths=tuple(names[n] for n in axes.lengths))
        if set(axes.lengths) != {FIXED} or "trace" in axes.arrival:
            found = dict.fromkeys(map(problem, workloads(blocks[name])))
            where = "workload" if name == WHOLE else f"blocks.{name}.workload"
            problems += [f"{where}: {line}" for line in found if line is not None]
    return replace(settings, blocks=blocks)


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
