"""A configuration before it has types: mappings of mappings, addressed by dotted paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

Tree = dict[str, object]


def leaves(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield every value that is no mapping, with its dotted path; keys may be dotted already."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def value_at(tree: Mapping[str, object], path: str) -> object:
    """Return the value at a path; None where there is none."""
    node: object = tree
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def put(tree: Tree, path: str, value: object) -> None:
    """Set the value at a path; mappings on the way are made, anything else is replaced."""
    *parents, last = path.split(".")
    for part in parents:
        child = tree.get(part)
        if not isinstance(child, dict):
            child = tree[part] = {}
        tree = child
    tree[last] = value


def covers(paths: frozenset[str], path: str) -> bool:
    """Whether a path or one of its parents is among the paths."""
    parts = path.split(".")
    return any(".".join(parts[:n]) in paths for n in range(1, len(parts) + 1))
