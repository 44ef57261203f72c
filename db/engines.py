"""An engine as its row of the table has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Row

from db.records import EngineSpec, ModelSpec, Weights


def read_engine(row: Row[Any]) -> EngineSpec:
    """Return the engine of a row that has every column of its table."""
    return EngineSpec(
        model=ModelSpec(
            name=row.model,
            weights=Weights(row.weights),
            architecture=_tuples(row.architecture),
            commit=row.model_commit,
        ),
        backend=row.backend,
        board=row.board,
        board_count=row.board_count,
        version=row.backend_version,
        dtype=row.dtype,
        quantization=row.quantization,
        tensor_parallel=row.tensor_parallel,
        threads=row.threads,
        options=row.options,
        mode=row.mode,
        speculation=row.speculation,
        speculative_tokens=row.speculative_tokens,
        draft=None if row.draft is None else _draft(row.draft),
        power_limit_w=row.power_limit_w,
    )


def _draft(stored: Mapping[str, Any]) -> ModelSpec:
    return ModelSpec(
        name=stored["name"],
        weights=Weights(stored["weights"]),
        architecture=_tuples(stored.get("architecture") or {}),
        commit=stored.get("commit"),
    )


def _tuples(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """Return an architecture with its lists as the tuples they were written from."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in architecture.items()}
