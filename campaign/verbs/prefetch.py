"""The verb `prefetch`: the weights of a plan's engines on this host, before anything is measured.

Real ones are downloaded, random ones drawn, each once, to where a run looks for them. Starts no
engine and writes nothing to a store. A hub's token comes from the environment and is never shown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from campaign.catalogue.catalog import Catalog, load_catalog
from campaign.catalogue.hub import cache_folder
from campaign.cluster.here import boards_here
from campaign.configuration.config import load
from campaign.configuration.redaction import redact
from campaign.configuration.settings import Settings
from campaign.grids.commits import Commits, hub_models, resolve
from campaign.grids.fit import require_runnable
from campaign.grids.grid import expand
from campaign.storeroom import is_there
from campaign.tabular import count_of, say, write_json
from db.campaigns import frozen_commits
from db.embedded import default_folder
from db.errors import CampaignError, EngineFault
from db.place import Place, opened
from db.records import EngineSpec, ModelSpec, Weights
from workers.costs.roofline import weight_bytes
from workers.engines.quantize import FORM_BYTES, form_of
from workers.engines.registry import why_absent
from workers.engines.weights import materialize
from workers.shapes.shape import precision, shape_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Weights that some engine loads.

    Where they are drawn, `dtype` is theirs, and `form` how they are quantized, if they are.
    """

    model: ModelSpec
    dtype: str
    form: str | None
    backend: str

    @property
    def key(self) -> tuple[str | None, ...]:
        """What tells two apart on a disk: real weights are the same in every number format."""
        if self.model.weights is Weights.RANDOM:
            return self.model.name, self.dtype, self.form
        return self.model.name, self.model.commit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`prefetch` takes overrides only."""


def main(args: argparse.Namespace) -> int:
    """Bring the weights, a line each; returns 4 if any could not be had. Raises Infeasible."""
    settings = load(args.overrides)
    catalog = load_catalog(Path(settings.catalog) if settings.catalog else None)
    here, counts = boards_here(settings, catalog)
    commits = _commits(settings, catalog)
    grid = expand(settings, catalog, here, commits.known)
    if not grid.tasks:
        require_runnable(grid, counts)
    wanted = _wanted({id(task.engine): task.engine for task in grid.tasks}.values())
    cache = default_folder() / "weights"
    rows = []
    for number, one in enumerate(wanted, 1):
        refused = commits.lost.get(one.model.name)
        rows.append(_brought(one, cache, f"[{number}/{len(wanted)}]", refused))
    failed = sum(row["error"] is not None for row in rows)
    brought = sum(row["brought"] is True for row in rows)
    if args.json:
        write_json({"weights": rows, "brought": brought, "failed": failed})
    words = f"weights of {count_of(len(rows) - failed, 'model')} are here, {brought} newly brought"
    say(f"{words}; {failed} could not be had" if failed else words)
    return CampaignError.exit_code if failed else 0


def _commits(settings: Settings, catalog: Catalog) -> Commits:
    """Return the commits of hub models; one store is asked, one hub, no more.

    A campaign that is in the store keeps its commits.
    """
    names = hub_models(settings, catalog)
    place = Place(url=settings.store.url, folder=settings.store.path)
    frozen: Mapping[str, str] = {}
    if names and is_there(place):
        with opened(place) as found:
            frozen = found.store.retrying(lambda c: frozen_commits(c, settings.campaign))
    return resolve(names, frozen)


def _wanted(engines: Iterable[EngineSpec]) -> Sequence[Wanted]:
    """Return what the engines load, drafts included, each once; simulated ones load nothing."""
    found: dict[tuple[str | None, ...], Wanted] = {}
    for engine in engines:
        for model, form in ((engine.model, form_of(engine.quantization)), (engine.draft, None)):
            if model is not None and engine.backend != "simulated":
                one = Wanted(model=model, dtype=engine.dtype, form=form, backend=engine.backend)
                found.setdefault(one.key, one)
    return list(found.values())


def _brought(one: Wanted, cache: Path, place: str, refused: str | None) -> dict[str, object]:
    """Bring one model's weights unless they are there; `refused` is what the hub said before."""
    say(f"{place} {_announced(one)}")
    before = _files(cache) | _files(cache_folder() / f"models--{one.model.name.replace('/', '--')}")
    started_s, folder, error = time.monotonic(), None, refused
    if error is None:
        try:
            folder = _folder(one, cache)
        except EngineFault as fault:
            error = str(fault)
    seconds = time.monotonic() - started_s
    files = set() if folder is None else _files(folder)
    held = sum(file.stat().st_size for file in files)
    brought = one.model.folder is None and not files <= before
    error = None if error is None else redact(error)
    drawn = one.model.weights is Weights.RANDOM
    took = f", {seconds:.1f} s" if brought else ", there already"
    say(f"{place} {error}" if error else f"{place} {_size(held)} in {folder}{took}")
    return {
        "model": one.model.name, "weights": one.model.weights, "commit": one.model.commit,
        "dtype": one.dtype if drawn else None, "quantization": one.form if drawn else None,
        "folder": None if folder is None else str(folder), "bytes": held or None,
        "brought": brought, "seconds": round(seconds, 3), "error": error,
    }  # fmt: skip


def _files(folder: Path) -> set[Path]:
    """Return every file below a folder, by its whole path."""
    return {file for file in folder.absolute().rglob("*") if file.is_file()}


def _folder(one: Wanted, cache: Path) -> Path:
    """Return the folder of one model's weights, which are in it by then. Raises EngineFault."""
    absent = why_absent(one.backend) if one.model.weights is Weights.RANDOM else None
    if absent is not None:
        raise EngineFault("unsupported", f"{one.model.name}: {absent}", permanent=True)
    return materialize(one.model, one.dtype, cache, one.form)


def _announced(one: Wanted) -> str:
    """Return what is brought unless it is there, and about how much of it."""
    model = one.model
    shape = shape_of(model.name, model.architecture)
    drawn = model.weights is Weights.RANDOM
    numbers = precision(one.dtype)
    if drawn and one.form is not None:
        numbers = replace(numbers, weight_bytes=FORM_BYTES[one.form])
    size = f", about {_size(weight_bytes(shape, numbers))}" if shape else ""
    if drawn:
        form = f", quantized as {one.form}" if one.form else ""
        return f"{model.name}: random weights in {one.dtype}{form}{size}"
    if model.folder is not None:
        return f"{model.name}: looking in {model.folder}"
    at = f" at {model.commit[:12]}" if model.commit else ""
    return f"{model.name}: weights of the hub{at}{size}"


def _size(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.3f} GB"
