"""One cluster for the tests of a module: starting Ray is what takes time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.crash.site import Site
from tests.ray.nodes import FakeCluster, gpus

#: In the environment of a node: its engines start processes, as real ones do.
PARENTS = """
import os, pathlib, subprocess
from workers.engines.simulated import SimulatedEngine

load = SimulatedEngine.load


def start(self):
    child = subprocess.Popen(["sleep", "3600"])
    (pathlib.Path(os.environ["CHILDREN"]) / str(child.pid)).touch()
    return load(self)


SimulatedEngine.load = start
"""


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


@pytest.fixture
def site(program: Program, fake_cluster: FakeCluster) -> Iterator[Site]:
    """A site whose runs go to the cluster."""
    made = Site(program)
    made.command = (f"cluster.address={fake_cluster.address}",)
    yield made
    for process in made.ours():
        process.kill()


@pytest.fixture
def parents(site: Site) -> dict[str, object]:
    """The environment of a node whose engines start processes, whose pids come up in a folder."""
    (site.folder / "parents").mkdir()
    (site.folder / "parents" / "sitecustomize.py").write_text(PARENTS)
    (site.folder / "children").mkdir()
    return {"python_path": site.folder / "parents", "CHILDREN": str(site.folder / "children")}
