"""Files that an analysis writes: whole, or not at all. Owns the way there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from db.errors import ConfigError


@contextmanager
def written(path: Path) -> Iterator[TextIO]:
    """Give a stream whose text becomes the file once all of it is there. Raises ConfigError."""
    with _aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
        yield stream


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file of these bytes. Raises ConfigError."""
    with _aside(path) as aside:
        aside.write_bytes(content)


def folder_for(path: Path, option: str) -> Path:
    """Return a folder that files can be written to, made where it is not there. ConfigError."""
    folder = path.expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"{option} {path} cannot be written: {error.strerror}") from error
    return folder


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """Give a file beside a path that takes its name at the end. Raises ConfigError."""
    target = path.expanduser()
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o644)
        aside.replace(target)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        aside.unlink(missing_ok=True)
