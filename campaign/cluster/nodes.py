"""The nodes of Ray: joining or starting it, who is there, what each node says of itself.

Owns every question about nodes that is put to Ray, and the translation of its answers. Starts no
session; what Ray calls an accelerator is never taken for a board.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from typing import Any

from campaign.cluster.roster import Node
from db.errors import CampaignError, ConfigError, NodeUnfit
from workers.node import look
from workers.products import BOARD_LABEL

#: Sessions exchange a few kilobytes; Ray's default would take a third of the memory.
OBJECT_STORE_BYTES = 96 * 2**20
QUIET: Mapping[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
#: Seconds within which the head of a cluster takes a connection.
ANSWER_S = 10.0
#: How to say where a cluster is.
FORM = "write cluster.address=HOST:6379, that of the head, or auto on one of its nodes"
#: Seconds between two looks at whether a node has gone.
LOOK_S = 0.25
#: Why Ray calls a node dead: asked to go (SIGTERM, an autoscaler), with and without a notice.
LEFT = (1, 3, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalBoards:
    """What this host offers: boards by slug, whether they are GPUs to Ray, and CPU threads."""

    counts: Mapping[str, int]
    gpus: int
    threads: int


@contextmanager
def joined(address: str) -> Iterator[None]:
    """Join a running cluster while the block runs. Raises ConfigError where there is none.

    Threads of Ray's print on stdout what happens to nodes; stdout is for data, so until the end
    of the block all that is printed goes to stderr.
    """
    import ray
    from ray.exceptions import AuthenticationError

    _require_listener(address)
    with redirect_stdout(sys.stderr):
        try:
            ray.init(address=address, **QUIET)
        except (ConnectionError, ValueError, RuntimeError, AuthenticationError) as error:
            raise no_cluster(address, error) from error
        try:
            yield
        finally:
            leave()


def no_cluster(address: str, error: Exception) -> ConfigError:
    """Return Ray's refusal to join a cluster; its own words name an option we do not have."""
    words = " ".join(str(error).split())[:200]
    if "any running Ray instance" in words:
        words = f"none runs on this host; start one (docs/cluster.md), or {FORM}"
    elif "authentication token" in words:
        words = f"{words.partition('. ')[0]}; name its file in RAY_AUTH_TOKEN_PATH"
    elif "Failed to connect" in words:
        words += (
            "; if it asks for a token: RAY_AUTH_MODE=token, and its file in RAY_AUTH_TOKEN_PATH"
        )
    return ConfigError(f"no Ray cluster at cluster.address={address}: {words}")


def _require_listener(address: str) -> None:
    """Raise ConfigError at once for what Ray would try to reach for minutes."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdecimal() or "/" in host:
        raise ConfigError(f"cluster.address: {address!r} is no address; {FORM}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no Ray cluster at cluster.address={address}: {error}; {FORM}"
        ) from error


def start(local: LocalBoards) -> None:
    """Start a Ray of our own that offers this host's boards. Raises NodeUnfit."""
    import ray

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DISABLE_DOCKER_CPU_WARNING", "1")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")  # a busy machine is slow
    # A worker per thread started in advance would be work beside the first measurement, for nobody,
    # and an engine that makes way for everybody else would be measured waiting.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        ray.init(
            address="local",
            num_cpus=max(local.threads, sum(local.counts.values())),
            num_gpus=local.gpus,
            resources={resource(slug): count for slug, count in local.counts.items()},
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **QUIET,
        )
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        message = f"Ray did not start on this machine: {words} (logs: /tmp/ray/session_latest)"
        raise NodeUnfit(message) from error


class RayDied(CampaignError):
    """The Ray of a run is gone: what it ran has ended, and it runs nothing more."""


def require_alive() -> None:
    """Raise RayDied if the node of a Ray of our own, a process that is our child, has ended."""
    import psutil

    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.name() == "raylet" and child.status() != psutil.STATUS_ZOMBIE:
                return
    raise RayDied("Ray has died on this machine (logs: /tmp/ray/session_latest)")


def leave() -> None:
    """Leave Ray; one of our own ends with it. Safe where none was joined."""
    import ray

    ray.shutdown()


def resource(slug: str) -> str:
    """Return the resource that stands for a kind of board in a Ray of our own."""
    return f"board:{slug}"


def nodes() -> list[Node]:
    """Return the living nodes, as Ray lists them."""
    import ray

    return [_node(row) for row in ray.nodes() if row["Alive"]]


def _node(row: Mapping[str, Any]) -> Node:
    address, node_id = row.get("NodeManagerAddress", ""), row["NodeID"]
    return Node(
        id=node_id,
        name=f"{row.get('NodeName') or address} ({node_id[:8]})",
        label=row.get("Labels", {}).get(BOARD_LABEL),
        gpus=int(row["Resources"].get("GPU", 0)),
        cpus=int(row["Resources"].get("CPU", 0)),
    )


def described(found: Sequence[Node], slugs: Mapping[str, str], deadline_s: float) -> list[Node]:
    """Return nodes with their own accounts, all asked at once; one that keeps silent says why.

    `slugs` maps exact NVML names to slugs of the catalogue. Nodes that offer this project nothing
    are not asked.
    """
    import ray

    asked = {node.id: _ask(node, slugs) for node in found if node.label or node.gpus}
    answered, _ = ray.wait(list(asked.values()), num_returns=len(asked) or 1, timeout=deadline_s) \
        if asked else ([], [])  # fmt: skip
    silence = f"it did not answer within {deadline_s:g} s"
    return [
        _answer(node, asked[node.id]) if asked.get(node.id) in answered
        else replace(node, silence=silence)
        for node in found
    ]  # fmt: skip


def _ask(node: Node, slugs: Mapping[str, str]) -> Any:  # noqa: ANN401 - a reference of Ray's
    import ray

    task = ray.remote(look).options(num_cpus=0, max_retries=0, scheduling_strategy=on(node.id))
    return task.remote(slugs)


def _answer(node: Node, ref: object) -> Node:
    import ray
    from ray.exceptions import RayError

    try:
        return replace(node, facts=ray.get(ref))
    except (RayError, ImportError) as error:
        words = " ".join(str(error).split())[-200:]
        return replace(node, silence=f"it cannot say what it holds: {words}")


def on(node: str) -> Any:  # noqa: ANN401 - a strategy of Ray's
    """Return the strategy that puts an actor or a task on one node, and nowhere else."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def draining() -> frozenset[str]:
    """Return the nodes that are about to go: preempted, or released by an autoscaler.

    Ray (2.60) tells its own libraries only, in this way. Of a release that has another one no
    notice comes: a node that goes is then met when it has gone.
    """
    try:
        from ray._private.state import state
    except ImportError:
        return frozenset()
    asked = getattr(state, "get_draining_nodes", None)
    return frozenset(asked()) if asked else frozenset()


def departed(node: str, patience_s: float) -> bool:
    """Whether a node went on purpose: preempted, released, or asked to by SIGTERM.

    Ray may take `patience_s` to learn that a node has gone whose processes have.
    """
    import ray

    ends_s = time.monotonic() + patience_s
    while True:
        row = next((row for row in ray.nodes() if row["NodeID"] == node), None)
        if row is not None and not row["Alive"]:
            return row.get("DeathReason") in LEFT
        if row is None or time.monotonic() > ends_s:
            return False
        time.sleep(LOOK_S)
