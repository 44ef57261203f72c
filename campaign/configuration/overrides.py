"""What the command line says about the configuration: read and checked before anything heavy.

Owns the form of an override and the list of keys and groups there are, so that a misspelling is
answered with the nearest valid names in milliseconds. Never composes anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from campaign.configuration.reader import nearest
from campaign.configuration.settings import (
    BudgetSettings,
    ClusterSettings,
    MeterSettings,
    RunSettings,
    StoreSettings,
)
from db.errors import ConfigError
from db.records import EngineSpec, MeasurementProtocol, Workload
from workers.validity import Gates

#: Shipped configuration, found beside the package: a `conf` in the working folder never counts.
CONF = Path(__file__).resolve().parents[2] / "conf"
SEARCH_PATH = "hydra.searchpath"

ROOT = ("campaign", "owner", "model", "weights", "board", "replicates", "blocks", "catalog_file")
ENGINE = tuple(
    f.name for f in fields(EngineSpec) if f.name not in ("model", "board", "board_count", "draft")
)
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "engine": ENGINE,
    "workload": tuple(f.name for f in fields(Workload)),
    "protocol": tuple(f.name for f in fields(MeasurementProtocol)),
    "meter": tuple(f.name for f in fields(MeterSettings)),
    "store": tuple(f.name for f in fields(StoreSettings)),
    "cluster": tuple(f.name for f in fields(ClusterSettings)),
    "run": tuple(f.name for f in fields(RunSettings)),
    "budget": tuple(f.name for f in fields(BudgetSettings)),
}
GATES = tuple(f.name for f in fields(Gates))
GROUPS = ("grid", "engine", "workload", "protocol", "meter", "store", "cluster")
#: Groups of which several options may be chosen: engines are an axis, meters run side by side.
SEVERAL = ("grid", "engine", "meter")
KEYS = (
    *ROOT,
    *(f"{section}.{name}" for section, names in SECTIONS.items() for name in names),
    *(f"meter.gates.{name}" for name in GATES),
)
#: Mappings that may be set whole: their keys are the user's own, or checked with the values.
OPEN = (
    "engine.options",
    "blocks",
    "cluster.boards",
    "meter.calibration",
    "meter.goodput",
    "run.price_per_gpu_hour",
)

_FORM = re.compile(
    r"(?P<mark>\+{0,2}|~)(?P<key>[A-Za-z_][\w./-]*)(?P<rest>=(?P<value>.*))?", re.DOTALL
)
#: What is quoted already, or the name of an ablation, whose "=" nothing else can read unquoted.
_NAMES = re.compile(
    r"""'[^']*'|"[^"]*"|(?P<ablation>[^\s,:'"\[\]{}()=@]+@[A-Za-z_]+=[^\s,'"\[\]{}()]*)"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """A checked command line.

    `hydra` is what the composition gets, `choices` the options chosen per group, `keys` the
    single keys that were given a value.
    """

    hydra: tuple[str, ...]
    choices: Mapping[str, tuple[str, ...]]
    keys: frozenset[str]
    problems: tuple[str, ...]


def is_override(argument: str) -> bool:
    """Whether an argument has the form of an override."""
    found = _FORM.fullmatch(argument)
    return found is not None and (found["rest"] is not None or found["mark"] == "~")


def folders(arguments: Sequence[str]) -> tuple[Path, ...]:
    """Return where configuration files lie: folders named by the user, then our own."""
    named = [a for a in arguments if a.startswith(f"{SEARCH_PATH}=")]
    paths = [Path(p) for a in named for p in re.findall(r"file://([^\]'\",]+)", a)]
    return (*paths, CONF)


def options(group: str, conf: Sequence[Path]) -> tuple[str, ...]:
    """Return the names a group can be set to; those in a folder of the group have a slash."""
    found = {
        file.relative_to(folder / group).with_suffix("").as_posix()
        for folder in conf
        for file in (folder / group).rglob("*.yaml")
    }
    return tuple(sorted(found))


def parse(arguments: Sequence[str]) -> Overrides:
    """Check every override and bring it into the form the composition expects."""
    conf = folders(arguments)
    hydra: list[str] = []
    choices: dict[str, tuple[str, ...]] = {}
    keys: list[str] = []
    problems: list[str] = []
    for argument in arguments:
        found = _FORM.fullmatch(argument)
        if found is None or not is_override(argument):
            problems.append(_unreadable(argument, conf))
            continue
        key, value = found["key"], _quoted(found["value"] or "")
        if key == SEARCH_PATH:
            hydra.append(argument)
        elif found["mark"] == "~":
            hydra.append(argument)
            if not key.startswith("blocks."):
                problems.append(f"{argument}: only blocks of a grid can be removed: ~blocks.NAME")
        elif key in GROUPS:
            problems += _check_choice(key, value, conf)
            problems += [f"{key}: given twice; keep one"] if key in choices else []
            choices[key] = _names(value)
            chosen = written(choices[key], listed=value.startswith("["))
            hydra.append(f"+{key}={chosen}" if key == "grid" else f"{key}={chosen}")
        else:
            problems += _check_key(key)
            problems += [f"{key}: given twice; keep one"] if key in keys else []
            keys.append(key)
            hydra.append(f"++{key}={value}" if _is_open(key) else f"{key}={value}")
    if "engine" in choices and "engine.backend" in keys:
        problems.append("engine.backend: clashes with engine=...; keep one of the two")
    return Overrides(hydra=tuple(hydra), choices=choices, keys=frozenset(keys),
                     problems=tuple(problems))  # fmt: skip


def _quoted(value: str) -> str:
    """Return a value with the names of ablations in quotes, alone and in lists and mappings."""
    return _NAMES.sub(lambda m: f"'{m[0]}'" if m["ablation"] else m[0], value)


def refuse(given: Overrides) -> None:
    """Raise ConfigError with a line per problem, if there are any."""
    if given.problems:
        raise ConfigError("\n".join(given.problems))


def written(names: Sequence[str], *, listed: bool = False) -> str:
    """Return names of options as the composition reads them: in quotes, `2026` and `on` too."""
    quoted = ["'{}'".format(name.replace("'", "\\'")) for name in names]
    return f"[{','.join(quoted)}]" if listed else quoted[0]


def _names(value: str) -> tuple[str, ...]:
    listed = value.strip()
    listed = listed[1:-1] if listed.startswith("[") and listed.endswith("]") else listed
    return tuple(name.strip().strip("'\"") for name in listed.split(","))


def _check_choice(group: str, value: str, conf: Sequence[Path]) -> list[str]:
    if value.startswith("{"):
        return [f"{group}: {value} is the name of no option; write {group}.KEY=VALUE for each key"]
    names = _names(value)
    known = options(group, conf)
    if len(names) > 1 and (group not in SEVERAL or not value.startswith("[")):
        fix = f"{group}=[{','.join(names)}]" if group in SEVERAL else f"{group}={names[0]}"
        return [f"{group}: {value!r} names several options; write {fix}"]
    return [
        f"{group}={name}: no such {group}{nearest(name, known)}"
        for name in names
        if name not in known
    ]


def _is_open(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in OPEN)


def _check_key(key: str) -> list[str]:
    if key in KEYS or _is_open(key):
        return []
    return [f"{key}: no such key{nearest(key, (*KEYS, *GROUPS))}"]


def _unreadable(argument: str, conf: Sequence[Path]) -> str:
    fix = "write key=value, for example workload.batch_size=[1,8]"
    if argument in options("grid", conf):
        fix = f"for the grid of that name write +grid={argument}"
    return f"{argument!r}: is no override; {fix}"
