"""What the suites of the meters share: meters that are shut down, and a made powercap tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

#: Microjoules after which a counter of the powercap tree wraps.
RANGE_UJ = 262_143_328_850


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


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """A powercap tree of one package with DRAM."""
    root = tmp_path / "powercap"
    for path, name in {"intel-rapl:0": "package-0", "intel-rapl:0:0": "dram"}.items():
        (root / path).mkdir(parents=True)
        (root / path / "name").write_text(name)
        (root / path / "max_energy_range_uj").write_text(str(RANGE_UJ))
        (root / path / "energy_uj").write_text("1000000")
    return root
