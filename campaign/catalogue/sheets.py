"""The files of the catalogue: shipped as CSV, a user's own as YAML.

Owns their reading and nothing of their meaning. CSV is read in milliseconds; YAML only if named.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from campaign.configuration.overrides import CONF
from db.errors import ConfigError

Row = Mapping[str, object]


def ablation_rows() -> Iterable[Row]:
    """Yield the single-value ablations that are listed: base, size, value and their source."""
    return rows("ablations.csv")


def configuration_rows() -> Iterable[Row]:
    """Yield boards with counts that a paper measured on, and what attests each."""
    return rows("configurations.csv")


def rows(file: str) -> Iterable[Row]:
    """Yield the rows of a shipped file, column by column."""
    with (CONF / "catalog" / file).open(newline="", encoding="utf-8") as stream:
        yield from csv.DictReader(stream)


def read_yaml(file: Path) -> dict[str, object]:
    """Return a user's own models and boards. Raises ConfigError for what is neither."""
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


def section(content: Mapping[str, object], name: str, file: Path) -> dict[str, Row]:
    """Return the rows of ``models`` or ``boards`` by name. Raises ConfigError."""
    rows = content.get(name) or {}
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise ConfigError(f"catalog_file: {name} of {file} must map each name to its fields")
    return {str(key): row for key, row in rows.items()}
