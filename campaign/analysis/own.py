"""What the store does not say of its own rows in so many words: a model's kind and parameters.

Owns their derivation from the architecture that was measured. Never looks a model up by its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from workers.shapes.shape import shape_of

Row = dict[str, Any]

BILLION = 1e9


def described(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the rows of the view `evidence`, each with what its model's architecture says."""
    known: dict[str, Row] = {}
    for row in rows:
        config = row["config"]
        if config is None:
            yield row
            continue
        name = f"{row['model']} {sorted(config.items())}"
        if name not in known:
            known[name] = _parameters(row["model"], config)
        yield row | known[name]


def _parameters(model: str, config: Mapping[str, object]) -> Row:
    shape = shape_of(model, config)
    if shape is None:
        return {}
    return {
        "architecture": "moe" if shape.experts else "dense",
        "total_params_b": shape.parameters / BILLION,
        "active_params_b": shape.active_parameters / BILLION,
    }
