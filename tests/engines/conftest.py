from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.harness import Host, SimulatedHost


@pytest.fixture(scope="session")
def weights_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="session")
def hosts(weights_cache: Path) -> Iterator[dict[str, Any]]:
    """One host per backend; its process starts when it is first asked."""
    found: dict[str, Any] = {
        "vllm": Host(weights_cache),
        "transformers": Host(weights_cache),
        "simulated": SimulatedHost(),
    }
    yield found
    for host in found.values():
        host.stop()
