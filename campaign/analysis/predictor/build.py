"""How a model is built, in the numbers that its cost depends on, and where they come from.

From the catalogue where it knows the model or one that differs only in its training; else from
the parameters that a row gives, on the frame of the nearest catalogued model. Pure; says which.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import log

from campaign.catalogue.catalog import Catalog
from db.errors import ConfigError
from workers.shapes.shape import Shape, shape_of

#: Words of a name that say how a model was trained or is stored, not how it is built.
_TRAINING = re.compile(
    r"-(instruct|it|chat|base|pt|hf|thinking|reasoning|fp8|fp8-dynamic|bf16|awq|gptq|\d{4})$"
)
#: A model whose tokens meet a smaller share of its parameters is a mixture.
DENSE = 0.9
#: A mixture's experts hold at most so much of it.
_MOST_EXPERTS = 0.98
#: A token chooses a smaller share of experts than of parameters: the others it always meets.
_MOST_CHOSEN = 0.8
#: The output matrix has at most so much of what a token is multiplied with.
_MOST_HEAD = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A model's sizes; parameters are counts. `frame` tells attention, layers and widths.

    `resident` are read in every step, `routed` are those of all experts together, `active` those
    a token is multiplied with, the output matrix left out; `chosen` is the share of a layer's
    experts that one token chooses. `origin` says where the sizes are from.
    """

    frame: Shape
    family: str
    origin: str
    resident: float
    routed: float
    active: float
    chosen: float = 0.0

    @property
    def total(self) -> float:
        """All parameters that an engine reads when every expert is reached."""
        return self.resident + self.routed

    @property
    def mixtures(self) -> int:
        """How many layers have experts."""
        return sum(group.count for group in self.frame.groups if group.experts)


def build_of(shape: Shape, family: str, origin: str) -> Build:
    """Return the build of a shape."""
    routed = sum(
        float(g.count * g.experts * (g.expert_parameters + g.expert_vectors))
        for g in shape.groups
        if g.experts
    )
    return Build(
        frame=shape,
        family=family,
        origin=origin,
        resident=shape.parameters_read(10**9) - routed,
        routed=routed,
        active=float(shape.matrix_parameters),
        chosen=shape.experts_per_token / shape.experts if shape.experts else 0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a row itself says of a model: parameters in counts, whether it has experts."""

    total: float | None = None
    active: float | None = None
    mixture: bool | None = None

    @property
    def mixture_of(self) -> float | None:
        """The parameters a token is multiplied with, of a mixture of experts; None if dense."""
        if self.active is None or self.total is None or self.mixture is False:
            return None
        return self.active if self.mixture or self.active < DENSE * self.total else None


class Builds:
    """The builds of a catalogue's models, by name or by size; each is made once."""

    def __init__(self, catalog: Catalog) -> None:
        """Remember the catalogue; nothing is read yet."""
        self._catalog = catalog
        self._made: dict[str, Build | None] = {}

    def of(self, model: str, catalogued: str | None, given: Given) -> Build:
        """Return the build of a model, from the catalogue or else of what a row gives.

        Raises ConfigError for a model that neither describes.
        """
        found = self._named(catalogued) if catalogued else None
        alike = found or self._alike(model)
        if alike is not None:
            return alike
        if given.total is None:
            raise ConfigError(
                f"model {model}: not in the catalogue, and the row has no total_params_b: give it, "
                "and active_params_b of a mixture"
            )
        return self._sized(model, given.total, given.mixture_of)

    def _named(self, name: str) -> Build | None:
        if name not in self._made:
            self._made[name] = self._build(name)
        return self._made[name]

    def _build(self, name: str) -> Build | None:
        spec = self._catalog.model(name, "random")
        shape = shape_of(spec.name, spec.architecture)
        if shape is None:
            return None
        return build_of(shape, self._family(name, shape), f"catalogue: {name}")

    def _family(self, name: str, shape: Shape) -> str:
        """Return the catalogue's family of a model; that of its config.json where it has none."""
        plain = name.partition("@")[0]
        for row in self._catalog.models():
            if plain in self._spellings(row):
                return str(self._catalog.row(row).get("family") or shape.family)
        return shape.family

    def _spellings(self, row: str) -> tuple[str, ...]:
        """Return every name of a catalogued model."""
        aliases = str(self._catalog.row(row).get("aliases") or "").split(";")
        return (row, *(alias.removesuffix(" (text part)").strip() for alias in aliases if alias))

    def _alike(self, model: str) -> Build | None:
        """Return the build of a catalogued model whose name differs in its training alone."""
        name = self._stems.get(stem(model))
        found = None if name is None else self._named(name)
        return None if found is None else replace(found, origin=f"catalogue: {name}, built alike")

    @cached_property
    def _stems(self) -> dict[str, str]:
        rows = reversed(self._catalog.models())
        return {stem(name): row for row in rows for name in self._spellings(row)}

    @cached_property
    def _all(self) -> Sequence[Build]:
        """Every model of the catalogue with grouped attention, as most are built today."""
        builds = [build for name in self._catalog.models() if (build := self._named(name))]
        return [b for b in builds if b.frame.kv_heads < b.frame.heads and not _latent(b.frame)]

    def _sized(self, model: str, total: float, mixture_of: float | None) -> Build:
        """Return a build of so many parameters on the frame of the nearest one."""
        mixture, active = mixture_of is not None, mixture_of or total

        def far(build: Build) -> float:
            whole, each = log(build.total / total), log(build.active / active)
            return abs(whole) + abs(each) + abs(whole - each)

        frame = min((one for one in self._all if bool(one.frame.experts) == mixture), key=far)
        head = min(float(frame.frame.head_parameters), _MOST_HEAD * active)
        chosen = min(frame.chosen, _MOST_CHOSEN * active / total)
        routed = min((total - active) / (1 - chosen), _MOST_EXPERTS * total)
        return replace(
            frame,
            family=family_of(model, mixture=mixture),
            origin=f"the file's parameters, on the frame of {frame.frame.name}",
            resident=total - routed,
            routed=routed,
            active=active - head,
            chosen=chosen if mixture else 0.0,
        )


def _latent(shape: Shape) -> bool:
    """Whether attention is decoded over latents, as one family's is."""
    return any(group.pair_macs != group.decode_pair_macs for group in shape.groups)


def stem(model: str) -> str:
    """Return what a name says of how a model is built: its last part, without its training."""
    name = model.rpartition("/")[2].lower()
    while (shorter := _TRAINING.sub("", name)) != name:
        name = shorter
    return name


def family_of(model: str, *, mixture: bool) -> str:
    """Return the family that a name begins with, mixtures apart."""
    first = re.split(r"[-_ ]", model.rpartition("/")[2].lower())[0]
    return f"{first}-moe" if mixture else first
