"""The long form of tests/ray/test_cluster.py, `make long`: more points, engines and company."""

from __future__ import annotations

import json

import pytest

from tests.nvml.processes import gone
from tests.ray.nodes import gpus
from tests.ray.test_cluster import OUTCOMES, asked, company, killed, states

pytestmark = [pytest.mark.ray, pytest.mark.store, pytest.mark.nvml, pytest.mark.timeout(900)]

#: In the environment of a node: its first engine hangs with Python's lock in hand.
HANGS = """
import ctypes, os, pathlib
from workers import attempts, session
from workers.engines.simulated import SimulatedEngine

attempts.SLACK_S = session.SLACK_S = 1.0
generate = SimulatedEngine.generate


def hang(self, *args):
    mark = pathlib.Path(os.environ["HANGS_ONCE"])
    if not mark.exists():
        mark.write_text(str(os.getpid()))
        ctypes.PyDLL(None).sleep(3600)
    return generate(self, *args)


SimulatedEngine.generate = hang
"""


@pytest.mark.engines
def test_a_real_engine_is_metered_by_the_board_of_its_node(site, fake_cluster):
    shape = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 128,
             "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 1024, "tie_word_embeddings": True,
             "max_position_embeddings": 512}  # fmt: skip
    (site.folder / "tiny").mkdir()
    (site.folder / "tiny" / "config.json").write_text(json.dumps(shape))
    code, said, err = site.finish(site.start((
        "cluster=ray", f"cluster.address={fake_cluster.address}", "engine=transformers",
        "protocol=quick", "protocol.window_s=0.5", "campaign=real", f"model={site.folder}/tiny",
        "board=rtx-a6000", "workload.input_tokens=16", "workload.output_tokens=8",
        "workload.batch_size=1",
    )))  # fmt: skip
    assert code == 0, err
    [row] = said["measurements"]
    assert (row["board"], row["reality"]) == ("rtx-a6000", "simulated")
    assert row["energy_method"] == "nvml_counter"
    assert row["joules_per_output_token"] * row["output_tokens_per_s"] == pytest.approx(
        150.0, rel=0.01
    )
    assert site.facts("select gpu_uuids from sessions") == [(["GPU-rtx-a6000-0"],)]


def test_sessions_share_a_node_where_that_is_asked_for(site, add):
    company(site, add, "gpu", together=True)


def test_an_actor_killed_anywhere_is_replaced_and_leaves_no_process(site, add, parents):
    points = {"l4": "loaded", "l40s": "claimed", "a10": "in_window", "a40": "measured",
              "a30": "written"}  # fmt: skip
    # At all but the first a lease was in hand: after written that of the next task.
    killed(site, add, parents, points, lost=4)


def test_an_engine_that_hangs_with_pythons_lock_is_ended_at_its_deadline(site, add):
    hangs = site.folder / "hangs"
    hangs.mkdir()
    (hangs / "sitecustomize.py").write_text(HANGS)
    mark = site.folder / "hung"
    add("l40s", gpus("l40s"), python_path=hangs, HANGS_ONCE=str(mark))
    code, said, err = site.finish(site.start(asked(
        site, "board=l40s", "store.task_deadline_s=2", "store.beat_s=0.5",
        "store.lease_s=60",
    )))  # fmt: skip
    assert (code, states(said)) == (0, {"done": 1}), err
    assert gone(int(mark.read_text()))
    assert [row[::2] for row in site.facts(OUTCOMES)] == [("lost", 1), ("ok", 1)]
