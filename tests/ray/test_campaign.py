"""Whole campaigns through the command line: real engines, real Ray, real Postgres."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.nvml.curve import StandinGpu, build, write_config

TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1024,
    "tie_word_embeddings": True,
    "max_position_embeddings": 512,
}


@pytest.fixture
def model(public_tmp: Path) -> str:
    """A folder with the shape of a tiny model, without weights."""
    folder = public_tmp / "tiny-llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY))
    return f"model={folder}"


def overrides(model: str, *more: str) -> tuple[str, ...]:
    return (
        "run", "--json", "protocol=quick", "campaign=tiny", model, "protocol.window_s=0.5",
        "workload.input_tokens=16", "workload.output_tokens=8", *more,
    )  # fmt: skip


@pytest.mark.engines
def test_two_real_engines_on_the_cpu_and_the_same_command_again(program, model):
    command = overrides(model, "engine.backend=[vllm,transformers]", "workload.batch_size=[1,2]")
    first = program.run(*command, timeout_s=290)
    assert first.returncode == 0, first.stderr
    rows = json.loads(first.stdout)["measurements"]
    assert sorted((r["backend"], r["batch_size"]) for r in rows) == [
        ("transformers", 1), ("transformers", 2), ("vllm", 1), ("vllm", 2),
    ]  # fmt: skip
    for row in rows:
        assert (row["reality"], row["weights"], row["repeats"]) == ("real", "random", 3)
        assert row["output_tokens_per_s"] > 0
        assert row["ttft_s"] > 0
        assert row["itl_s"] > 0
        if row["energy_j"] is None:  # no meter on this machine: an estimate, and the reason
            assert row["reasons"]
            assert "no_energy" in row["marks"]
            assert row["energy_estimated_j"] > 0
    again = program.run(*command)
    assert again.returncode == 0, again.stderr
    assert "4 already measured" in again.stderr
    assert json.loads(again.stdout)["measurements"] == rows


@pytest.mark.engines
@pytest.mark.nvml
def test_a_board_behind_nvml_is_found_and_metered(program, model, public_tmp):
    library = build(public_tmp)
    gpu = StandinGpu(low_w=300.0, high_w=300.0, limit_w=400.0, default_limit_w=700.0)
    environment = {
        "NVML_STANDIN": str(write_config(public_tmp / "boards", [gpu])),
        "LD_LIBRARY_PATH": str(library),
    }
    command = overrides(model, "engine.backend=transformers", "workload.batch_size=1")
    done = program.run(*command, environment=environment)
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)["measurements"]
    assert (row["board"], row["reality"]) == ("h100-sxm-80gb", "simulated")
    assert row["energy_method"] == "nvml_counter"
    assert "limit_not_default" in row["marks"]
    seconds_per_token = 1 / row["output_tokens_per_s"]
    assert row["joules_per_output_token"] == pytest.approx(300.0 * seconds_per_token, rel=0.01)


def test_a_grid_for_boards_that_are_not_here_names_both_and_starts_nothing(program):
    refused = program.run("run", "+grid=smoke", "board=h100-sxm-80gb")
    assert refused.returncode == 3
    [line] = refused.stderr.strip().splitlines()
    assert "h100-sxm-80gb" in line
    assert "here: " in line
    assert not (program.folder / "store").exists()


def test_failed_points_end_in_exit_code_four_and_are_named(program):
    command = (
        "run", "--json", "cluster=simulated", "engine=simulated", "protocol=quick",
        "campaign=failing", "board=rtx-a6000", "model=meta-llama/Llama-3.1-8B",
        "+engine.options.simulated.fail_load=missing_weights", "workload.batch_size=1",
        "workload.input_tokens=8", "workload.output_tokens=8",
    )  # fmt: skip
    failed = program.run(*command)
    assert failed.returncode == 4, failed.stderr
    said = json.loads(failed.stdout)
    assert said["tasks"] == {"quarantined": 1}
    assert said["failed"][0]["reason"] == "engine:missing_weights"
