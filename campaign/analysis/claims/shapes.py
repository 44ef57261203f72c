"""What the architecture of a measured engine amounts to, for claims about sizes.

Owns where the architecture is taken from: the row's own, else the catalogue's for that name.
"""

from __future__ import annotations

from functools import cache

from campaign.catalogue.catalog import Catalog, load_catalog
from db.claims import Built, Sizes
from db.errors import ConfigError
from workers.shapes.shape import shape_of


def sizes_of(engine: Built) -> Sizes | None:
    """Return the sizes of an engine's model; None where they cannot be told."""
    architecture = engine.architecture or _catalogued(engine.model)
    shape = shape_of(engine.model, architecture) if architecture else None
    if shape is None:
        return None
    return Sizes(
        parameters=float(shape.parameters),
        layers=shape.layers,
        hidden=shape.hidden,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
    )


@cache
def _catalogued(model: str) -> dict[str, object]:
    try:
        return dict(_catalog().model(model, "random").architecture)
    except ConfigError:
        return {}


@cache
def _catalog() -> Catalog:
    return load_catalog()
