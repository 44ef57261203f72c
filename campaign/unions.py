"""Several grids as one: the blocks of each, with its own axes laid under them.

Pure, on composed configurations. What a grid says outside of its axes is left to the composition.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy

from campaign.tree import Tree, leaves, value_at

#: The parts of a configuration that hold axes.
AXES = ("model", "weights", "board", "engine", "workload")


def united(joint: Tree, bare: Tree, grids: Mapping[str, Tree], removed: Collection[str]) -> Tree:
    """Return `joint` with the axes of `bare` and the blocks of every grid.

    `joint` is the composition of all grids, `bare` of none, `grids` of each alone. `removed` are
    names of blocks that are left out. A block whose name is taken gets its grid's before it.
    """
    blocks: Tree = {}
    for grid, tree in grids.items():
        own = dict(_changes(tree, bare))
        found = tree.get("blocks")
        parts = found if isinstance(found, dict) and found else {grid.replace("/", "_"): {}}
        for name, block in parts.items():
            if name in removed or not isinstance(block, dict):
                continue
            free = name if name not in blocks else f"{grid.replace('/', '_')}_{name}"
            blocks[free] = own | _flat(block)
    return joint | {key: deepcopy(bare[key]) for key in AXES} | {"blocks": blocks}


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
    grids = {name: compose([f"+grid={name}", *rest]) for name in names}
    return united(compose(list(overrides)), compose(rest), grids, removed)
