"""A cluster of several nodes on this machine, each with boards of its own behind the stand-in."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from campaign.catalogue.catalog import load_catalog
from tests.nvml.curve import StandinGpu, write_config

ROOT = Path(__file__).resolve().parents[2]
CATALOG = load_catalog()

#: Seconds a node gets to start on a busy machine, and what makes Ray wait as long; no worker is
#: started before it is asked for.
START_S = 180
STARTS = 3
PATIENCE = {
    "RAY_raylet_start_wait_time_s": str(START_S),
    "RAY_agent_register_timeout_ms": str(START_S * 1000),
    "RAY_health_check_initial_delay_ms": "20000",
    "RAY_prestart_worker_first_driver": "0",
}


def gpus(slug: str, count: int = 1, uuid: str = "", **changes: Any) -> tuple[StandinGpu, ...]:
    """Return boards of a product of the catalogue; their UUIDs begin with its slug."""
    board = CATALOG.board(slug)
    gpu = StandinGpu(
        name=board.nvml_name, memory_mib=board.memory_bytes >> 20, limit_w=board.tdp_w,
        low_w=board.tdp_w / 2, high_w=board.tdp_w / 2,
    )  # fmt: skip
    return tuple(replace(gpu, uuid=f"GPU-{uuid or slug}-{n}", **changes) for n in range(count))


class FakeCluster:
    """Ray with a head that measures nothing, to which nodes are added and taken away."""

    def __init__(self, library: Path) -> None:
        """Start the head; `library` is the folder of the stand-in."""
        os.environ |= PATIENCE  # Ray reads some of it when it is imported
        from ray.cluster_utils import Cluster

        self._library = library
        self._folder = Path(tempfile.mkdtemp(prefix="campaign-nodes-"))
        self._folder.chmod(0o755)
        head = {"num_cpus": 0, "include_dashboard": False, "env_vars": {
            "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}}  # fmt: skip
        self._cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        self.address: str = self._cluster.address

    def add(
        self,
        label: str | None,
        boards: Sequence[StandinGpu] = (),
        *,
        python_path: Path | None = None,
        **environment: str,
    ) -> Any:
        """Add a node that claims a label and holds boards; returns Ray's node."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        folder.chmod(0o755)
        paths = [str(python_path)] if python_path else []
        asked = {
            "num_cpus": 4,
            "num_gpus": len(boards),
            "labels": {"campaign/board": label} if label else {},
            "env_vars": {
                "PYTHONPATH": os.pathsep.join((*paths, str(ROOT))),
                "LD_LIBRARY_PATH": str(self._library),
                "NVML_STANDIN": str(write_config(folder / "boards", boards)),
                "CAMPAIGN_LOCKS": str(folder / "locks"),
                "CAMPAIGN_HOME": str(folder),
                **environment,
            },
        }
        return patiently(lambda: self._listed(self._cluster.add_node(wait=False, **asked)))

    def _listed(self, node: Any) -> Any:
        """Return a node once the cluster lists it; one that died at its start is taken away."""
        ends_s = time.monotonic() + START_S
        while True:
            try:
                self._cluster._wait_for_node(node, timeout=2)
            except TimeoutError:
                if is_alive(node) and time.monotonic() < ends_s:
                    continue
                self._cluster.remove_node(node, allow_graceful=False)
                raise
            return node

    def remove(self, *nodes: Any) -> None:
        """Take nodes away that are still there."""
        for node in nodes:
            if node in self._cluster.worker_nodes:
                self._cluster.remove_node(node, allow_graceful=True)  # known to be gone at once

    def stop(self) -> None:
        """End everything."""
        self._cluster.shutdown()


def patiently(start: Callable[[], Any]) -> Any:
    """Start a node; a busy machine may need longer than the half minute that Ray grants."""
    for _ in range(STARTS - 1):
        with suppress(Exception):  # Ray raises nothing narrower
            return start()
    return start()


def raylet(node: Any) -> psutil.Process:
    """Return the process that is the node, as far as the others are concerned."""
    [info] = node.all_processes["raylet"]
    return psutil.Process(info.process.pid)


def is_alive(node: Any) -> bool:
    """Whether a node's raylet lives; Ray ends one whose agents are slow to start."""
    try:
        return raylet(node).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def sigterm(node: Any) -> None:
    """Ask a node to go, as a batch system and a cloud do."""
    raylet(node).send_signal(signal.SIGTERM)
