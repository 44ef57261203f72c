"""Several grids as one: the blocks of each, with its own axes laid under them.

Pure, on composed configurations. What a grid says beside its axes, such as a protocol, holds for
all blocks: where two grids disagree the command line decides, never one of the grids. Facts about
boards, such as prices, are no disagreement while nobody contradicts them: they are laid together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from itertools import combinations

from campaign.configuration.overrides import written
from campaign.configuration.reader import nearest
from campaign.configuration.redaction import redact
from campaign.configuration.tree import Tree, leaves, put, value_at
from db.errors import ConfigError

#: The parts of a configuration that hold axes.
AXES = ("model", "weights", "board", "engine", "workload")
#: What every grid has of its own.
OWN = ("campaign", "blocks")

#: Facts by the name of a board: what one grid alone says of a board holds in the union.
FACTS = ("cluster.boards", "meter.calibration", "run.price_per_gpu_hour")
#: As many letters has the name of a campaign.
MOST_NAME = 63
#: What says which of its options a group is.
OPTION = {"protocol": "protocol.name", "cluster": "cluster.kind"}


def united(bare: Tree, grids: Mapping[str, Tree], removed: Collection[str]) -> Tree:
    """Return the axes of `bare`, the blocks of every grid, and what the grids say beside them.

    `bare` is the composition of none, `grids` of each alone; all hold the command line. `removed`
    are names of blocks that are left out. A block whose name is taken gets its grid's before it;
    the campaign is called by all the grids' names for it. Raises ConfigError where the grids
    disagree, and for a removed block that there is not.
    """
    blocks: Tree = {}
    given = _blocks(bare)
    known = {name for tree in grids.values() for name in _blocks(tree)}
    unknown = sorted({*removed} - known)
    problems = [f"~blocks.{name}: no such block{nearest(name, known)}" for name in unknown]
    problems += _disagreements(grids)
    called = "-".join(dict.fromkeys(str(tree["campaign"]) for tree in grids.values()))
    if len(called) > MOST_NAME:
        problems.append(f"campaign: {called} is too long a name for the union; add campaign=NAME")
    if problems:
        raise ConfigError("\n".join(problems))
    for grid, tree in grids.items():
        own = dict(_changes(tree, bare))
        found = {name: b for name, b in _blocks(tree).items() if b != given.get(name)}
        for name, block in (found or {grid.replace("/", "_"): {}}).items():
            if name in removed or not isinstance(block, dict):
                continue
            free = name if name not in blocks else f"{grid.replace('/', '_')}_{name}"
            blocks[free] = own | _flat(block)
    rest = {name: block for name, block in given.items() if name not in {*blocks, *removed}}
    axes = {key: deepcopy(bare[key]) for key in AXES}
    beside = deepcopy(next(iter(grids.values())))
    for fact in FACTS:
        put(beside, fact, {k: v for tree in grids.values() for k, v in _facts(tree, fact).items()})
    return beside | axes | {"blocks": blocks | rest, "campaign": called}


def _disagreements(grids: Mapping[str, Tree]) -> list[str]:
    """Return a line for every key beside the axes to which two grids give other values."""
    found: dict[str, str] = {}
    for (one, tree), (other, also) in combinations(grids.items(), 2):
        mine, theirs = _beside(tree), _beside(also)
        for path in dict.fromkeys((*mine, *theirs)):
            group = path.partition(".")[0]
            option = OPTION.get(group, path)
            if mine.get(path) == theirs.get(path) or _is_addition(path, tree, also):
                continue
            whole = mine.get(option) != theirs.get(option)
            key, asked = (group, option) if whole and group in OPTION else (path, path)
            a, b = _written(mine.get(asked)), _written(theirs.get(asked))
            fixes = [f"{key}={text}" for text, there in ((b, asked in theirs), (a, asked in mine))
                     if there]  # fmt: skip
            found.setdefault(key, f"{key}: grid {one} has {a}, grid {other} {b}; one holds for "
                             f"both: add {' or '.join(fixes)}")  # fmt: skip
    return list(found.values())


def _facts(tree: Tree, fact: str) -> Mapping[str, object]:
    found = value_at(tree, fact)
    return found if isinstance(found, Mapping) else {}


def _is_addition(path: str, one: Tree, other: Tree) -> bool:
    """Whether two grids name boards, and one of them a board that the other says nothing of.

    A grid without boards of a cluster takes those that are found: to that, any board is contrary.
    """
    for fact in FACTS:
        mine, theirs = _facts(one, fact), _facts(other, fact)
        if path.startswith(f"{fact}."):
            board = path.removeprefix(f"{fact}.")
            both_name = bool(mine and theirs) or fact != "cluster.boards"
            return both_name and not (board in mine and board in theirs)
    return False


def _beside(tree: Tree) -> Tree:
    """Return what a composition says beside its axes and what is its own, by path."""
    return dict(leaves({k: v for k, v in tree.items() if k not in (*AXES, *OWN)}))


def _written(value: object) -> str:
    """Return a value as the command line has it, without secrets."""
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return redact(value if isinstance(value, str) else json.dumps(value, default=str))


def _blocks(tree: Tree) -> Tree:
    found = tree.get("blocks")
    return found if isinstance(found, dict) else {}


def _changes(tree: Tree, bare: Tree) -> list[tuple[str, object]]:
    """Return the axes of a grid that differ from those without it, by path."""
    axes = {key: tree[key] for key in AXES}
    return [(path, value) for path, value in leaves(axes) if value != value_at(bare, path)]


def _flat(block: Mapping[str, object]) -> Tree:
    """Return a block by dotted paths, the last of two spellings of a path winning."""
    return dict(leaves(block))


Compose = Callable[[list[str]], Tree]


def compose_each(overrides: Collection[str], names: Collection[str], compose: Compose) -> Tree:
    """Return the union of the grids that an override names, `overrides` holding it."""
    rest = [o for o in overrides if not o.startswith(("+grid=", "~blocks."))]
    removed = {o.removeprefix("~blocks.") for o in overrides if o.startswith("~blocks.")}
    grids = {name: compose([f"+grid={written([name])}", *rest]) for name in names}
    return united(compose(rest), grids, removed)
