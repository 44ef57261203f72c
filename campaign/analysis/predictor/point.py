"""A row of evidence as a point: a build on a board group with a load, every gap filled and named.

Owns what is taken where a row says nothing, and the words that say so. Reads what ran, never what
was measured: neither power nor latency nor duration may help to tell the energy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from campaign.analysis.columns import CATALOGUE_MODEL
from campaign.analysis.predictor.build import Build, Builds, Given
from campaign.catalogue.catalog import Catalog
from db.errors import ConfigError
from db.records import Board
from workers.shapes.shape import QUANTIZED

#: Prompt tokens where a row has none; the missing length is a feature of its own.
ASSUMED_INPUT = 1000.0
#: Formats of weights by the names that leaderboards give them, as vLLM calls what reads them.
SPELLINGS: Mapping[str, str | None] = {
    "none": None,
    "fp4": "mxfp4",
    "nvfp4": "mxfp4",
    "int4": "awq",
    "int8": "experts_int8",
}
#: The option of vLLM that keeps it from CUDA graphs.
EAGER = "enforce_eager"
Cells = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What one row ran. Lengths in tokens, `batch` in requests computed together, means.

    `eager` is a vLLM that its options keep from CUDA graphs. `gaps` are the columns that were
    filled, with what.
    """

    model: str
    build: Build
    board: Board
    sheet: Mapping[str, object]
    gpus: int
    tensor_parallel: int
    expert_parallel: int
    data_parallel: int
    dtype: str
    quantization: str | None
    backend: str
    version: str | None
    eager: bool
    batch: float
    input_tokens: float
    output_tokens: float
    input_known: bool
    gaps: tuple[str, ...]

    @property
    def mixture(self) -> bool:
        """Whether the model has experts."""
        return self.build.routed > 0


class Points:
    """Turns rows into points, of one catalogue."""

    def __init__(self, catalog: Catalog) -> None:
        """Remember the catalogue."""
        self._catalog = catalog
        self._builds = Builds(catalog)

    def of(self, row: Cells, where: str) -> Point:
        """Return the point of a row. Raises ConfigError, which begins with `where`."""
        try:
            return self._of(row)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error

    def _of(self, row: Cells) -> Point:
        gaps: list[str] = []
        board = self._catalog.board(_word(row, "board") or "")
        if board.is_cpu or board.tdp_w is None or board.memory_bandwidth_bytes_s is None:
            raise ConfigError(f"board {board.slug}: the catalogue has no data sheet of it, which "
                              "the features are read from")  # fmt: skip
        model = _word(row, "model") or ""
        build = self._builds.of(model, _word(row, CATALOGUE_MODEL), _given(row))
        gpus = _count(row, "gpus", None) or _count(row, "tensor_parallel", 1) or 1
        dtype, quantization = _numbers(row, board, gaps)
        batch = _first(row, ("mean_batch", "batch_size"))
        if batch is None:
            raise ConfigError("no batch: give mean_batch or batch_size")
        output = _first(row, ("mean_output_tokens", "output_tokens"))
        if output is None:
            raise ConfigError("no length of answers: give mean_output_tokens or output_tokens")
        prompt = _number(row, "input_tokens")
        if prompt is None:
            gaps.append(f"input_tokens: {ASSUMED_INPUT:g}")
        replicas = _count(row, "data_parallel", 1) or 1
        return Point(
            model=model, build=build, board=board, sheet=self._catalog.sheet(board.slug),
            gpus=gpus, tensor_parallel=max(1, gpus // replicas),
            expert_parallel=_count(row, "expert_parallel", 1) or 1, data_parallel=replicas,
            dtype=dtype, quantization=quantization,
            backend=_word(row, "backend") or "vllm", version=_word(row, "backend_version"),
            eager=flags_of(row.get("options")).get(EAGER) is True,
            batch=batch, input_tokens=prompt or ASSUMED_INPUT, output_tokens=output,
            input_known=prompt is not None, gaps=tuple(gaps),
        )  # fmt: skip


def flags_of(options: object) -> Mapping[str, object]:
    """Return the engine's flags of a row's JSON; none where it says none, or is none."""
    try:
        flags = json.loads(options) if isinstance(options, str) and options else {}
    except ValueError:
        return {}  # of a row that was imported before anybody looked
    return flags if isinstance(flags, dict) else {}


def energy_j(row: Cells) -> float | None:
    """Return the joules per output token that a row measured; None where it has none."""
    each, request, whole = (
        _number(row, name)
        for name in ("energy_j_per_output_token", "energy_j_per_request", "energy_j")
    )
    if each is not None:
        return each
    tokens = _first(row, ("mean_output_tokens", "output_tokens"))
    if tokens is None:
        return None
    if request is not None:
        return request / tokens
    requests = _number(row, "requests")
    return whole / requests / tokens if whole is not None and requests is not None else None


def _numbers(row: Cells, board: Board, gaps: list[str]) -> tuple[str, str | None]:
    """Return number format and quantization; a format that is a quantization counts as one."""
    dtype, quantization = _word(row, "dtype"), _word(row, "quantization")
    if dtype in QUANTIZED and quantization is None:
        dtype, quantization = None, dtype
    quantization = SPELLINGS.get((quantization or "").lower(), quantization)
    if quantization is not None and quantization not in QUANTIZED:
        gaps.append(f"bytes of {quantization} weights: those of the number format")
    if dtype is None or dtype == "auto":
        gaps.append(f"dtype: {board.dtype}")
        dtype = board.dtype
    return dtype, quantization


def _given(row: Cells) -> Given:
    """Return what a row says of its model; an empty architecture says nothing."""
    word = (_word(row, "architecture") or "").lower()
    total, active = _number(row, "total_params_b"), _number(row, "active_params_b")
    return Given(
        total=None if total is None else total * 1e9,
        active=None if active is None else active * 1e9,
        mixture=("moe" in word or "mixture" in word) if word else None,
    )


def _first(row: Cells, names: tuple[str, ...]) -> float | None:
    return next((value for name in names if (value := _number(row, name)) is not None), None)


def _count(row: Cells, name: str, default: int | None) -> int | None:
    value = _number(row, name)
    return default if value is None else max(1, round(value))


def _number(row: Cells, name: str) -> float | None:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value) if value > 0 else None


def _word(row: Cells, name: str) -> str | None:
    value = row.get(name)
    return value if isinstance(value, str) and value else None
