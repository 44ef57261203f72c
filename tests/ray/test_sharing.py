"""What sessions that share a node may still say of it."""

from __future__ import annotations

import pytest

from campaign.configuration.config import load
from db.errors import ConfigError
from db.records import Board, EngineSpec, ModelSpec, Weights
from workers.engines.registry import Limits
from workers.rig import RigPlan, open_rig

SPEC = EngineSpec(
    model=ModelSpec(name="any", weights=Weights.RANDOM), backend="transformers", board="cpu:any:1"
)


@pytest.mark.parametrize("shared", [False, True])
def test_the_cpu_of_a_shared_node_is_nobodys(tmp_path, monkeypatch, shared):
    monkeypatch.setenv("CAMPAIGN_LOCKS", str(tmp_path))  # nobody else measures here
    plan = RigPlan(
        limits=Limits(context_tokens=64, batch_size=1), meters=("rapl",), interval_s=0.1,
        calibration={}, gates={}, weights_folder=str(tmp_path), board=Board(slug=SPEC.board),
        shares_node=shared,
    )  # fmt: skip
    meter = open_rig(plan, SPEC, ()).meter
    meter.open()
    reading = meter.close()
    meter.shutdown()
    assert ("shared_node" in reading.cpu.reasons) is shared


def test_isolation_is_node_unless_it_is_said():
    assert load([]).cluster.isolation == "node"
    assert load(["cluster.isolation=gpu"]).cluster.isolation == "gpu"
    assert load(["cluster=simulated", "engine=simulated"]).cluster.isolation == "gpu"
    with pytest.raises(ConfigError, match=r"cluster\.isolation"):
        load(["cluster.isolation=rack"])
