"""The stand-in library, compiled once, and boards of a test's own choosing behind it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.nvml.curve import StandinGpu, build, write_config

Place = Callable[..., tuple[StandinGpu, ...]]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the stand-in libnvidia-ml.so.1."""
    if shutil.which("gcc") is None:
        pytest.skip("the NVML stand-in needs gcc")
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def standin(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A function that puts boards behind the stand-in, for processes started afterwards."""

    def place(*gpus: StandinGpu, **options: object) -> tuple[StandinGpu, ...]:
        config = write_config(tmp_path / "boards", gpus, **options)
        monkeypatch.setenv("NVML_STANDIN", str(config))
        monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
        return gpus

    return place


@pytest.fixture
def closing() -> Iterator[Callable[..., object]]:
    """A function that hands a meter through and shuts it down after the test."""
    meters: list[object] = []

    def keep(meter: object) -> object:
        meters.append(meter)
        return meter

    yield keep
    for meter in meters:
        meter.shutdown()  # type: ignore[attr-defined]
