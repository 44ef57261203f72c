"""The runs of a factorial grid: from a campaign's rows, or from a CSV of one's own.

Owns which fields of a measurement are factors. Runs of two realities, protocols or versions are
never put together.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

from campaign.analysis.factorial.design import Level, Run
from db.errors import ConfigError

#: Fields of the view `measurements` that a grid may vary; options are factors by their own names.
FIELDS = ("model", "weights", "backend", "dtype", "quantization", "tensor_parallel", "threads",
          "mode", "speculation", "speculative_tokens", "draft", "power_limit_w", "board",
          "board_count", "input_tokens", "output_tokens", "batch_size", "requests_asked", "lengths",
          "prefix_tokens", "arrival", "rate_rps", "decoding", "beams", "temperature",
          "top_p")  # fmt: skip
#: A field that always changes with another says nothing of its own.
FOLLOWS = {"mode": "arrival", "speculative_tokens": "speculation", "draft": "speculation",
           "board_count": "tensor_parallel"}  # fmt: skip
#: No factors: what differs in one of these, within each value of the field behind it, is refused.
SAME = {"protocol": None, "protocol_id": None, "model_commit": "model",
        "backend_version": "backend"}  # fmt: skip
RESPONSES = ("joules_per_output_token", "joules_per_prompt", "net_joules_per_output_token",
             "e2e_s", "ttft_s", "itl_s")  # fmt: skip
#: Columns of a file that are no factors.
BESIDE = ("replicate", "session")


def stored_runs(rows: Iterable[Mapping[str, Any]], response: str) -> list[Run]:
    """Return the rows of the view `measurements` that have the response, as runs.

    They hold the fields that have to be the same, too, until `alike` has looked at them.
    """
    runs = []
    for row in rows:
        if not has(row, response):
            continue
        levels: dict[str, Level] = {name: row[name] for name in (*FIELDS, *SAME)}
        levels |= row["options"]
        runs.append(
            Run(
                levels=levels,
                response=float(row[response]),
                replicate=row["replicate"],
                session=str(row["session_id"]),
            )
        )
    names = dict.fromkeys(name for run in runs for name in run.levels)
    filled = [{name: run.levels.get(name) for name in names} for run in runs]
    kept = [name for name in names if not _follows(name, filled)]
    return [
        Run(levels={name: levels[name] for name in kept}, response=run.response,
            replicate=run.replicate, session=run.session)
        for run, levels in zip(runs, filled, strict=True)
    ]  # fmt: skip


def has(row: Mapping[str, Any], response: str) -> bool:
    """Whether a row of the view `measurements` has the response."""
    return row[response] is not None and row[response] > 0


def alike(runs: Sequence[Run]) -> list[Run]:
    """Return runs without the fields that have to be the same. ConfigError where they are not."""
    for name, leader in SAME.items():
        for of in dict.fromkeys(run.levels[leader] if leader else None for run in runs):
            same = (run for run in runs if leader is None or run.levels[leader] == of)
            levels = sorted({str(run.levels[name]) for run in same})
            if len(levels) > 1:
                whose = f" of {of}" if leader else ""
                raise ConfigError(
                    f"interactions: runs of {name} {' and '.join(levels)}{whose} are not put "
                    f"together: keep one with --only {name}={levels[0]}"
                )
    return [
        replace(run, levels={name: level for name, level in run.levels.items() if name not in SAME})
        for run in runs
    ]


def _follows(name: str, runs: Sequence[Mapping[str, Level]]) -> bool:
    """Whether a field says no more than the one it follows."""
    leader = FOLLOWS.get(name)
    pairs = {(run[leader], run[name]) for run in runs} if leader else set()
    return leader is not None and len(pairs) == len({run[leader] for run in runs})


def read_runs(file: Path, response: str) -> list[Run]:
    """Return the rows of a CSV: every column is a factor but the response, replicate and session.

    Raises ConfigError with the line of a bad row.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            lines = csv.DictReader(stream)
            names = lines.fieldnames or []
            if response not in names:
                have = ", ".join(names) or "nothing"
                raise ConfigError(f"{file}: no column {response} (--response); there is {have}")
            return [_run(file, lines.line_num, line, response) for line in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{file}: cannot be read as CSV: {error}") from error


def _run(file: Path, number: int, line: Mapping[str | None, Any], response: str) -> Run:
    where = f"{file}, line {number}"
    if None in line or None in line.values():
        raise ConfigError(f"{where}: another number of cells than the header has")
    value = _number(line[response])
    if value is None or not isfinite(value) or value <= 0:
        raise ConfigError(f"{where}: {response} {line[response]!r} is no number above zero")
    replicate = _number(line.get("replicate") or "0")
    if replicate is None or not replicate.is_integer():
        raise ConfigError(f"{where}: replicate {line['replicate']!r} is no whole number")
    return Run(
        levels={
            str(name): _level(cell)
            for name, cell in line.items()
            if name not in (response, *BESIDE)
        },
        response=value,
        replicate=int(replicate),
        session=line.get("session") or "",
    )


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _level(cell: str) -> Level:
    """Return a cell as a level: nothing, a switch, a number or a word."""
    word = cell.strip()
    if word.lower() in ("", "null", "none"):
        return None
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    number = _number(word)
    return word if number is None or not isfinite(number) else number


def only(runs: Sequence[Run], asked: Sequence[str]) -> list[Run]:
    """Return the runs at the levels asked for: ``factor=level,level``. Raises ConfigError."""
    for text in asked:
        name, _, wanted = text.partition("=")
        levels = {str(_level(word)) for word in wanted.split(",")} if wanted else set()
        known = {str(level) for run in runs for level in [run.levels.get(name)]}
        if not levels or not any(name in run.levels for run in runs):
            raise ConfigError(f"--only {text}: write FACTOR=LEVEL,LEVEL of a factor there is")
        told = {str(_level(level)) for level in known}
        if levels - told:
            raise ConfigError(f"--only {text}: {name} has the levels {', '.join(sorted(known))}")
        runs = [run for run in runs if str(_level(str(run.levels.get(name)))) in levels]
    return list(runs)
