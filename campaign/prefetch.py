"""The verb `prefetch`: the weights of a plan's engines on this host, before anything is measured.

Real ones are downloaded, random ones drawn, each once, to where a run looks for them. Starts no
engine and writes nothing to a store. A hub's token comes from the environment and is never shown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from campaign.catalog import Catalog, load_catalog
from campaign.commits import hub_models, resolve
from campaign.config import load
from campaign.fit import require_runnable
from campaign.grid import expand
from campaign.here import boards_here
from campaign.hub import cache_folder
from campaign.redaction import redact
from campaign.settings import Settings
from campaign.storeroom import is_there
from campaign.tabular import count_of, say, write_json
from db.campaigns import frozen_commits
from db.embedded import default_folder
from db.errors import CampaignError, ConfigError, EngineFault
from db.place import Place, opened
from db.records import EngineSpec, ModelSpec, Weights
from workers.costs.roofline import weight_bytes
from workers.engines.registry import why_absent
from workers.engines.weights import materialize
from workers.shapes.shape import precision, shape_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Weights that some engine loads; `dtype` is theirs where they are drawn."""

    model: ModelSpec
    dtype: str
    backend: str

    @property
    def key(self) -> tuple[str, ...]:
        """What tells two apart on a disk: real weights are the same in every number format."""
        drawn = self.model.weights is Weights.RANDOM
        return (
            (self.model.name, self.dtype) if drawn else (self.model.name, self.model.commit or "")
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`prefetch` takes overrides only."""


def main(args: argparse.Namespace) -> int:
    """Bring the weights, a line each; returns 4 if any could not be had. Raises Infeasible."""
    settings = load(args.overrides)
    catalog = load_catalog(Path(settings.catalog) if settings.catalog else None)
    here, counts = boards_here(settings, catalog)
    commits, refused = _commits(settings, catalog)
    grid = expand(settings, catalog, here, commits)
    if not grid.tasks:
        require_runnable(grid, counts)
    wanted = _wanted({id(task.engine): task.engine for task in grid.tasks}.values())
    cache = default_folder() / "weights"
    rows = []
    for number, one in enumerate(wanted, 1):
        rows.append(_brought(one, cache, f"[{number}/{len(wanted)}]", refused.get(one.model.name)))
    failed = sum(row["error"] is not None for row in rows)
    brought = sum(row["brought"] is True for row in rows)
    if args.json:
        write_json({"weights": rows, "brought": brought, "failed": failed})
    words = f"weights of {count_of(len(rows) - failed, 'model')} are here, {brought} newly brought"
    say(f"{words}; {failed} could not be had" if failed else words)
    return CampaignError.exit_code if failed else 0


def _commits(settings: Settings, catalog: Catalog) -> tuple[dict[str, str], dict[str, str]]:
    """Return the commits of hub models, and for those without one what the hub said.

    A campaign that is in the store keeps its commits. One store is asked, one hub, no more.
    """
    names = hub_models(settings, catalog)
    place = Place(url=settings.store.url, folder=settings.store.path)
    frozen: Mapping[str, str] = {}
    if names and is_there(place):
        with opened(place) as found:
            frozen = found.store.retrying(lambda c: frozen_commits(c, settings.campaign))
    commits: dict[str, str] = {}
    refused: dict[str, str] = {}
    for name in names:
        try:
            commits |= resolve([name], frozen)
        except ConfigError as error:
            refused[name] = str(error)
    return commits, refused


def _wanted(engines: Iterable[EngineSpec]) -> Sequence[Wanted]:
    """Return what the engines load, drafts included, each once; simulated ones load nothing."""
    found: dict[tuple[str, ...], Wanted] = {}
    for engine in engines:
        for model in (engine.model, engine.draft):
            if model is not None and engine.backend != "simulated":
                one = Wanted(model=model, dtype=engine.dtype, backend=engine.backend)
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
    took = f", {seconds:.1f} s" if brought else ", there already"
    say(f"{place} {error}" if error else f"{place} {_size(held)} in {folder}{took}")
    return {
        "model": one.model.name, "weights": one.model.weights, "commit": one.model.commit,
        "dtype": one.dtype if one.model.weights is Weights.RANDOM else None,
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
    return materialize(one.model, one.dtype, cache)


def _announced(one: Wanted) -> str:
    """Return what is brought unless it is there, and about how much of it."""
    model = one.model
    shape = shape_of(model.name, model.architecture)
    size = f", about {_size(weight_bytes(shape, precision(one.dtype)))}" if shape else ""
    if model.weights is Weights.RANDOM:
        return f"{model.name}: random weights in {one.dtype}{size}"
    if model.folder is not None:
        return f"{model.name}: looking in {model.folder}"
    at = f" at {model.commit[:12]}" if model.commit else ""
    return f"{model.name}: weights of the hub{at}{size}"


def _size(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.3f} GB"
