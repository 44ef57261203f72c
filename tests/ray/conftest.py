"""One cluster for the tests of a module: starting Ray is what takes time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ray.nodes import FakeCluster, gpus


@pytest.fixture(scope="module")
def fake_cluster(library: Path) -> Iterator[FakeCluster]:
    """Three nodes: one A6000, four A100, two H100."""
    made = FakeCluster(library)
    made.add("rtx-a6000", gpus("rtx-a6000"))
    made.add("a100-sxm-80gb", gpus("a100-sxm-80gb", 4))
    made.add("h100-sxm-80gb", gpus("h100-sxm-80gb", 2))
    yield made
    made.stop()


@pytest.fixture
def add(fake_cluster: FakeCluster) -> Iterator[Callable[..., object]]:
    """A function that adds nodes for one test."""
    nodes: list[object] = []

    def more(*args: object, **kwargs: object) -> object:
        nodes.append(fake_cluster.add(*args, **kwargs))
        return nodes[-1]

    yield more
    fake_cluster.remove(*nodes)
