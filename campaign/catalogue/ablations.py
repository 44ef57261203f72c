"""An ablation: a model with one size changed, by name, such as ``google/gemma-7b@layers=42``.

Owns how such a name is read, and what must follow the size that changed. Its weights are random:
there are no others.
"""

from __future__ import annotations

import re

from campaign.configuration.reader import nearest
from db.errors import ConfigError
from db.records import Scalar
from workers.shapes.families import NAMES, Config
from workers.shapes.shape import Architecture
from workers.shapes.stack import impossible

#: What may change, by the catalogue's columns, and our name for it.
SIZES = {
    "layers": "layers",
    "hidden_size": "hidden",
    "intermediate_size": "intermediate",
    "heads": "heads",
    "kv_heads": "kv_heads",
}
_NAME = re.compile(r"(?P<base>.+)@(?P<size>[A-Za-z_]+)=(?P<value>[^@=]*)")


def split(name: str) -> tuple[str, str, int] | None:
    """Return the base of an ablation, the size that changes and its value; None for a plain name.

    Raises ConfigError for a size that cannot be changed, and for a value that is none.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    size, value = found["size"], found["value"]
    if size not in SIZES:
        raise ConfigError(f"model {name}: {size} cannot be changed{nearest(size, SIZES)}")
    if not value.isascii() or not value.isdecimal() or int(value) < 1:
        raise ConfigError(f"model {name}: {value!r} is not a whole number from 1 up")
    return found["base"], size, int(value)


def base_of(name: str) -> str:
    """Return the model that a name is a form of: the base of an ablation, else the name itself."""
    found = _NAME.fullmatch(name)
    return name if found is None else found["base"]


def ablated(name: str, architecture: Architecture, size: str, value: int) -> Architecture:
    """Return an architecture with one size changed, and what cannot but follow it.

    The size of a head stays where the family states it, else it follows from the hidden size; as
    many key-value heads as heads stay as many. Raises ConfigError where the sizes do not agree.
    """
    fields = dict(architecture)
    key = _key(architecture, SIZES[size])
    if key is None:
        why = f"its family ({architecture.get('model_type')}) does not state it"
        raise ConfigError(f"model {name}: {size} cannot be changed: {why}")
    before, fields[key] = fields[key], value
    if size == "layers":
        _follow_layers(name, fields, before, value)
    kv = _key(fields, "kv_heads")
    if size == "heads" and kv is not None and fields[kv] == before:
        fields[kv] = value
    embedding = _key(fields, "embedding")
    if size == "hidden_size" and embedding is not None and fields[embedding] == before:
        fields[embedding] = value
    if odd := impossible(Config(fields)):
        raise ConfigError(f"model {name}: {odd}")
    return fields


def _key(architecture: Architecture, size: str) -> str | None:
    """Return the name that an architecture has for a size; None if it states none."""
    return next((key for key in NAMES[size] if isinstance(architecture.get(key), int)), None)


def _follow_layers(
    name: str, fields: dict[str, Scalar | tuple[Scalar, ...]], before: object, value: int
) -> None:
    """Cut the lists that say something of each layer; they do not say what more would be."""
    for key, listed in fields.items():
        if isinstance(listed, tuple) and len(listed) == before:
            if value > len(listed):
                raise ConfigError(f"model {name}: {key} names {before} layers and no more")
            fields[key] = listed[:value]
