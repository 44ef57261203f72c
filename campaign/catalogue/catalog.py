"""The catalogue: known models and boards by name, from CSV, with a user's own from YAML.

Owns the meaning of the columns, and which of its many names a model is asked for by. A name that
is not found is answered with the nearest ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from os.path import isdir
from pathlib import Path

from campaign.catalogue.ablations import ablated, split
from campaign.catalogue.architecture import architecture, require_family
from campaign.catalogue.dialects import Sizes
from campaign.catalogue.folder import complete, is_folder, plain, read_config, read_folder
from campaign.catalogue.hub import cache_folder, cached_config, is_hub_id
from campaign.catalogue.sheets import Row, read_yaml, rows, section
from campaign.configuration.reader import nearest
from db.errors import ConfigError
from db.records import Board, ModelSpec, Weights
from workers.shapes.shape import Architecture

GIB = 2**30


class Catalog:
    """Models and boards by name."""

    def __init__(self, models: Mapping[str, Row], boards: Mapping[str, Row]) -> None:
        """Index rows by name; aliases and unique last parts of a name are names too."""
        self._rows = models
        self._sheets = boards
        self._boards = {slug: _board(slug, row) for slug, row in boards.items()}
        self._names = _index(models)

    def models(self) -> tuple[str, ...]:
        """Return the full ids of the models, in the catalogue's order."""
        return tuple(self._rows)

    def boards(self) -> tuple[Board, ...]:
        """Return the boards, in the catalogue's order."""
        return tuple(self._boards.values())

    def row(self, model: str) -> Row:
        """Return the columns of a model by its full id."""
        return self._rows[model]

    def sheet(self, board: str) -> Row:
        """Return the columns of a board by its slug."""
        return self._sheets[board]

    def board(self, slug: str) -> Board:
        """Return a board by its slug. Raises ConfigError."""
        if slug.startswith("cpu:"):
            return Board(slug=slug)
        if slug == "here":
            raise ConfigError("board here: is for grids; name a board of `campaign catalog boards`")
        try:
            return self._boards[slug.lower()]
        except KeyError:
            known = (*self._boards, "here")
            raise ConfigError(f"board {slug}: not in the catalogue{nearest(slug, known)}") from None

    def model(self, name: str, weights: str = "auto") -> ModelSpec:
        """Return a model by id, alias, unique last part of an id, folder, or as an ablation.

        An id that is not listed is looked up in the hub's local cache. `weights` is random, real,
        or auto: real for a folder that holds safetensors, else random. The commit of real weights
        from a hub is not resolved here. Raises ConfigError.
        """
        ablation = split(name)
        if ablation is not None:
            return self._ablation(name, *ablation, weights)
        if is_folder(name):
            return read_folder(name, weights)
        spelling, architecture = self._listed(name) or self._cached(name)
        return ModelSpec(
            name=spelling,
            weights=Weights.REAL if weights == "real" else Weights.RANDOM,
            architecture=architecture,
        )

    def _ablation(self, name: str, base: str, size: str, value: int, weights: str) -> ModelSpec:
        if weights == "real":
            message = f"model {name}: an ablation has no real weights; write weights=random"
            raise ConfigError(message)
        found = self.model(base, "random")
        changed = ablated(name, found.architecture, size, value)
        return replace(found, name=f"{found.name}@{size}={value}", architecture=changed)

    def _listed(self, name: str) -> tuple[str, Architecture] | None:
        """Return the full name and the architecture of a model of the catalogue."""
        found = self._names.get(name.lower())
        if found is None:
            return None
        spelling, row = found
        return spelling, _architecture(spelling, self._rows[row])

    def _cached(self, name: str) -> tuple[str, Architecture]:
        """Return a model by what the hub's local cache has of it. Raises ConfigError."""
        near = nearest(name, self._spellings()) or "; see `campaign catalog models`"
        # os.path answers for names that no path can have, too.
        local = isdir(name)  # noqa: PTH112
        hint = f"; a local folder is written ./{name}" if local else ""
        if not is_hub_id(name):
            raise ConfigError(f"model {name}: not in the catalogue{near}{hint}")
        file = cached_config(name)
        if file is None:
            raise ConfigError(
                f"model {name}: not in the catalogue{near}{hint}; nor has {cache_folder()} its "
                f"config.json: `campaign catalog fetch {name}` gets it, catalog_file takes your own"
            )
        return name, complete(read_config(file, f"model {name}"), f"model {name}: {file}")

    def _spellings(self) -> tuple[str, ...]:
        full = tuple(dict.fromkeys(spelling for spelling, _ in self._names.values()))
        return (*full, *(name.rpartition("/")[2] for name in full))


def load_catalog(extra: Path | None = None) -> Catalog:
    """Return the shipped catalogue with a user's own models and boards, which win."""
    models = {str(row["hf_id"]): row for row in rows("models.csv")}
    boards = {str(row["slug"]): row for row in rows("boards.csv")}
    if extra is not None:
        own = read_yaml(extra)
        mine = section(own, "models", extra), section(own, "boards", extra)
        _require_columns("models", mine[0], {"architecture", *next(iter(models.values()))})
        _require_columns("boards", mine[1], next(iter(boards.values())))
        models |= mine[0]
        boards |= {slug.lower(): row for slug, row in mine[1].items()}
    return Catalog(models, boards)


def _require_columns(part: str, mine: Mapping[str, Row], known: Collection[str]) -> None:
    """Raise ConfigError naming every column of a user's own rows that nobody reads."""
    unread = [
        f"catalog_file: {part}.{name}.{column}: no such column{nearest(str(column), known)}"
        for name, row in mine.items()
        for column in row
        if column not in known
    ]
    if unread:
        raise ConfigError("\n".join(unread))


def _index(models: Mapping[str, Row]) -> dict[str, tuple[str, str]]:
    """Return lower-case name -> (spelling, row) for ids, aliases and unique last parts."""
    names = {row.lower(): (row, row) for row in models}
    for row, fields in models.items():
        for alias in str(fields.get("aliases") or "").split(";"):
            spelling = alias.removesuffix(" (text part)").strip()
            if spelling:
                names.setdefault(spelling.lower(), (spelling, row))
    short: dict[str, list[tuple[str, str]]] = {}
    for full, target in names.items():
        short.setdefault(full.rpartition("/")[2], []).append(target)
    unique = {name: found[0] for name, found in short.items() if len(found) == 1}
    return unique | names


def _architecture(name: str, row: Row) -> Architecture:
    where = f"model {name}"
    if "architecture" in row:
        own = f"{where}: its architecture in the catalogue"
        return complete(plain(row["architecture"], own), own)

    def size(column: str, minimum: int = 1) -> int:
        return _whole(row, column, where, minimum)

    sizes = Sizes(
        name=name,
        family=require_family(name, row.get("family")),
        layers=size("layers"),
        hidden=size("hidden_size"),
        intermediate=size("intermediate_size"),
        heads=size("heads"),
        kv_heads=size("kv_heads"),
        head_dim=size("head_dim"),
        vocabulary=size("vocab"),
        max_position=size("max_position"),
        tied=size("tied_embeddings", 0) == 1,
        experts=size("n_experts", 0),
        experts_per_token=size("experts_per_token", 0),
        expert_intermediate=size("moe_intermediate", 0),
        shared_experts=size("n_shared_experts", 0),
        dense_layers=size("dense_layers", 0),
        window=size("sliding_window", 0) or None,
        query_rank=size("q_lora_rank", 0) or None,
    )
    return complete(architecture(sizes), where)


def _whole(row: Row, column: str, where: str, minimum: int = 1) -> int:
    value = row.get(column)
    if value in (None, ""):
        if minimum > 0:
            raise ConfigError(f"{where} lacks {column}")
        return 0
    try:
        number = int(str(value))
    except ValueError:
        number = minimum - 1
    if number < minimum:
        raise ConfigError(f"{where}: {column} is {value!r}, not a whole number from {minimum} up")
    return number


def _board(slug: str, row: Row) -> Board:
    """Return a board; gigabytes of memory are GiB, as it is sold."""

    def number(column: str, scale: float) -> float | None:
        value = row.get(column)
        if value in (None, ""):
            return None
        try:
            found = float(str(value))
        except ValueError:
            found = -1.0
        none = found == 0.0 and column.endswith("_tflops")  # it does not compute in this format
        if not (0 < found < float("inf") or none):
            raise ConfigError(f"board {slug}: {column} is {value!r}, not a number above zero")
        return found * scale

    memory = number("memory_gb", GIB)
    return Board(
        slug=slug,
        nvml_name=str(row["nvml_name"]) if row.get("nvml_name") else None,
        memory_bytes=None if memory is None else int(memory),
        memory_bandwidth_bytes_s=number("mem_bw_gbs", 1e9),
        bf16_flops=number("bf16_dense_tflops", 1e12),
        fp16_flops=number("fp16_dense_tflops", 1e12),
        fp8_flops=number("fp8_dense_tflops", 1e12),
        tdp_w=number("tdp_w", 1),
        idle_w=number("idle_w_approx", 1),
        dtype="bfloat16" if number("bf16_dense_tflops", 1) else "float16",
    )
