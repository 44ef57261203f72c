"""Which nodes may measure: the judgement on labels and on what NVML finds, without a cluster."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from campaign.catalogue.catalog import load_catalog
from campaign.cluster.nodes import no_cluster
from campaign.cluster.roster import Node, judge
from workers.boards import FoundBoard
from workers.node import NodeFacts
from workers.products import catalog_slugs, label_value, slug_of_label

SLUGS = [board.slug for board in load_catalog().boards()]
CPU = "cpu:intel-xeon-platinum-8481c-cpu-2.70ghz:48"


def facts(*slugs: str, **changes) -> NodeFacts:
    boards = tuple(FoundBoard(slug=slug, name=slug, uuid=f"GPU-{n}") for n, slug in
                   enumerate(slugs))  # fmt: skip
    return replace(NodeFacts(host="h", boot="b", boards=boards, is_standin=False), **changes)


def node(label: str | None, gpus: int = 1, **changes) -> Node:
    return replace(Node(id="1", name="n1", label=label, gpus=gpus, cpus=8), **changes)


@pytest.mark.parametrize(
    ("label", "gpus", "found", "board", "words"),
    [
        ("l4", 2, ("l4", "l4"), "l4", None),
        ("l4", 1, ("l4", "t4"), "l4", None),  # a Ray node for each kind of an unlike host
        ("l4", 2, ("l4", "t4"), None, "labelled 2 x l4, holds l4 and t4: refused"),
        ("l4", 1, ("t4",), None, "labelled l4, holds t4: refused"),
        ("l4", 1, (CPU,), None, f"labelled l4, holds {CPU}: refused"),  # its driver is not loaded
        ("l4", 2, ("l4",), None, "labelled 2 x l4, holds l4"),
        ("l5", 1, ("l4",), None, "labelled l5, no board of the catalogue"),
        (None, 1, ("l4",), None, "no label campaign/board"),
        (None, 0, (), None, None),
        (label_value(CPU), 0, (CPU,), CPU, None),
    ],
)
def test_a_node_measures_only_on_what_it_claims_and_holds(label, gpus, found, board, words):
    roster = judge([node(label, gpus, facts=facts(*found) if found else None)], SLUGS)
    [judged] = roster.nodes
    assert judged.board == board
    assert (judged.why_not is None) if words is None else words in judged.why_not
    assert roster.counts == ({board: max(gpus, 1)} if board else {})


def test_a_node_that_is_silent_or_cut_into_instances_is_refused():
    mig = facts("l4", boards=(FoundBoard(slug="l4", name="l4", uuid="GPU-0", mig=True),))
    roster = judge([node("l4", silence="it did not answer"), node("l4", facts=mig)], SLUGS)
    assert [judged.why_not for judged in roster.refused] == [
        "labelled l4: it did not answer", "MIG is on: the sensors of a l4 cover all its instances",
    ]  # fmt: skip


def test_a_stand_in_among_drivers_is_refused_and_alone_it_is_simulated():
    real, standin = node("l4", facts=facts("l4")), node("t4", facts=facts("t4", is_standin=True))
    assert judge([real, standin], SLUGS).counts == {"l4": 1}
    assert judge([standin], SLUGS).is_standin


def test_a_backend_is_absent_where_no_node_can_load_it():
    some, none = {"vllm": "not here", "transformers": "nor this"}, {"vllm": "nor here"}
    nodes = [node("l4", facts=facts("l4", absent=absent)) for absent in (some, none)]
    assert judge(nodes, SLUGS).absent == {"vllm": "not here"}


def test_every_slug_survives_its_label():
    assert {slug_of_label(label_value(slug), [*SLUGS, CPU]) for slug in (*SLUGS, CPU)} == {
        *SLUGS, CPU,
    }  # fmt: skip
    assert set(catalog_slugs().values()) <= set(SLUGS)


def test_a_host_without_a_cluster_is_told_how_to_name_one() -> None:
    """Ray's own words name an option that the program does not have."""
    words = ("Could not find any running Ray instance. Please specify the one to connect to by "
             "setting `--address` flag or `RAY_ADDRESS` environment variable.")  # fmt: skip
    said = str(no_cluster("auto", ConnectionError(words)))
    assert "none runs on this host; start one" in said
    assert "write cluster.address=HOST:6379" in said
    assert "--address" not in said


def test_who_has_no_token_of_a_cluster_is_told_where_it_goes() -> None:
    said = str(no_cluster("auto", ConnectionError("Failed to connect to Ray cluster at h:6379")))
    assert "at h:6379; if it asks for a token: RAY_AUTH_MODE=token" in said
    assert "RAY_AUTH_TOKEN_PATH" in said


def test_who_asks_for_a_token_and_has_none_is_told_so_in_a_line(tmp_path: Path) -> None:
    """Ray looks for it before it asks who listens there."""
    environ = {name: value for name, value in os.environ.items() if "RAY_AUTH" not in name}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "campaign", "doctor", "--cluster", "cluster=ray",
             f"cluster.address={address}"],
            env=environ | {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path)},
            check=False, timeout=100, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 2
    assert "no authentication token was found; name its file in RAY_AUTH_TOKEN_PATH" in done.stderr
    assert done.stderr.count("\n") == 1
