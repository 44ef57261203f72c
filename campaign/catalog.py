"""The catalogue: known models and boards by name, from CSV, with a user's own from YAML.

Owns the meaning of the columns. A name that is not found is answered with the nearest ones.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from campaign.architecture import architecture
from campaign.folder import is_folder, plain, read_folder
from campaign.overrides import CONF
from campaign.reader import nearest
from db.errors import ConfigError
from db.records import Board, ModelSpec, Weights
from workers.shape import Architecture, Shape

Row = Mapping[str, object]

GIB = 2**30


class Catalog:
    """Models and boards by name."""

    def __init__(self, models: Mapping[str, Row], boards: Mapping[str, Row]) -> None:
        """Index rows by name; aliases and unique last parts of a name are names too."""
        self._rows = models
        self._boards = {slug: _board(slug, row) for slug, row in boards.items()}
        self._names = _index(models)

    def models(self) -> tuple[str, ...]:
        """Return the full ids of the models, in the catalogue's order."""
        return tuple(self._rows)

    def boards(self) -> tuple[Board, ...]:
        """Return the boards, in the catalogue's order."""
        return tuple(self._boards.values())

    def board(self, slug: str) -> Board:
        """Return a board by its slug. Raises ConfigError."""
        if slug.startswith("cpu:"):
            return Board(slug=slug)
        try:
            return self._boards[slug.lower()]
        except KeyError:
            known = (*self._boards, "here")
            raise ConfigError(f"board {slug}: not in the catalogue{nearest(slug, known)}") from None

    def model(self, name: str, weights: str = "auto") -> ModelSpec:
        """Return a model by id, alias, unique last part of an id, or folder.

        `weights` is random, real, or auto: real for a folder that holds safetensors, else random.
        The commit of real weights from a hub is not resolved here. Raises ConfigError.
        """
        if is_folder(name):
            return read_folder(name, weights)
        found = self._names.get(name.lower())
        if found is None:
            near = nearest(name, self._spellings()) or "; see conf/catalog/models.csv"
            hint = f"{near}; a local folder is written ./{name}" if Path(name).is_dir() else near
            raise ConfigError(f"model {name}: not in the catalogue{hint}")
        spelling, row = found
        return ModelSpec(
            name=spelling,
            weights=Weights.REAL if weights == "real" else Weights.RANDOM,
            architecture=_architecture(spelling, self._rows[row]),
        )

    def _spellings(self) -> tuple[str, ...]:
        full = tuple(dict.fromkeys(spelling for spelling, _ in self._names.values()))
        return (*full, *(name.rpartition("/")[2] for name in full))


def load_catalog(extra: Path | None = None) -> Catalog:
    """Return the shipped catalogue with a user's own models and boards, which win."""
    models = {str(row["hf_id"]): row for row in _rows("models.csv")}
    boards = {str(row["slug"]): row for row in _rows("boards.csv")}
    if extra is not None:
        own = _read_yaml(extra)
        models |= _section(own, "models", extra)
        boards |= {slug.lower(): row for slug, row in _section(own, "boards", extra).items()}
    return Catalog(models, boards)


def _rows(file: str) -> Iterable[Row]:
    with (CONF / "catalog" / file).open(newline="", encoding="utf-8") as stream:
        yield from csv.DictReader(stream)


def _read_yaml(file: Path) -> dict[str, object]:
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"catalog_file: {file} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"catalog_file: {file} is not YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(content, dict) or set(content) - {"models", "boards"}:
        raise ConfigError(f"catalog_file: {file} must hold `models:` and `boards:`, nothing else")
    return content


def _section(content: Mapping[str, object], name: str, file: Path) -> dict[str, Row]:
    rows = content.get(name) or {}
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise ConfigError(f"catalog_file: {name} of {file} must map each name to its fields")
    return {str(key): row for key, row in rows.items()}


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
    if "architecture" in row:
        return plain(row["architecture"], f"model {name}: its architecture in the catalogue")
    where = f"model {name}"

    def size(column: str, minimum: int = 1) -> int:
        return _whole(row, column, where, minimum)

    return architecture(
        Shape(
            name=name,
            family=str(row.get("family")),
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
        )
    )


def _whole(row: Row, column: str, where: str, minimum: int = 1) -> int:
    value = row.get(column, 0 if minimum == 0 else None)
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
            return float(str(value)) * scale
        except ValueError:
            raise ConfigError(f"board {slug}: {column} is {value!r}, not a number") from None

    memory = number("memory_gb", GIB)
    return Board(
        slug=slug,
        nvml_name=str(row["nvml_name"]) if row.get("nvml_name") else None,
        memory_bytes=None if memory is None else int(memory),
        memory_bandwidth_bytes_s=number("mem_bw_gbs", 1e9),
        bf16_flops=number("bf16_dense_tflops", 1e12),
        fp16_flops=number("fp16_dense_tflops", 1e12),
        tdp_w=number("tdp_w", 1),
        idle_w=number("idle_w_approx", 1),
        dtype="bfloat16" if number("bf16_dense_tflops", 1) else "float16",
    )
