"""A number out of its range is one that vLLM refuses: ranges, tried on the engine itself.

One process for all: it makes an engine's configuration for each option, and loads an engine where
no configuration tells. Of the declared ranges one per configuration of vLLM's that declares any.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from campaign.catalogue import flags
from tests.engines.harness import ROOT, tiny
from workers.engines.weights import materialize

pytestmark = pytest.mark.engines

PINNED = flags.shipped("vllm")[0]
#: An option of each part that vLLM's configuration is made of.
DECLARED = (
    "block_size", "cpu_offload_gb", "data_parallel_size", "kv_cache_metrics_sample", "max_logprobs",
    "max_loras", "max_num_seqs", "offload_group_size", "prompt_lookup_max",
    "safetensors_prefetch_num_threads", "shutdown_timeout",
)  # fmt: skip
SPECULATIVE = {"method": "ngram", "num_speculative_tokens": 4}
SYNTHETIC = SPECULATIVE | {"rejection_sample_method": "synthetic"}
#: What vLLM refuses by other means than a declaration, or only as it loads: a number, and how.
BY_HAND: dict[str, tuple[float, bool]] = {
    "kv_cache_memory_bytes": (0, True),
    "max_model_len": (0, False),
    "num_gpu_blocks_override": (0, True),
    "synthetic_acceptance_length": (0.5, False),
}
#: Judged by each attention's list of block sizes (tests/unit/test_flags.py): a CPU pads odd ones.
BY_SOURCE = {"block_size"}
PROGRAM = """
import json, os, sys
os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1",
               "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "CRITICAL", "DO_NOT_TRACK": "1"}
folder, asked = sys.argv[1], json.loads(sys.argv[2])
from vllm import LLM
from vllm.engine.arg_utils import EngineArgs
fixed = {"model": folder, "skip_tokenizer_init": True, "enforce_eager": True, "max_num_seqs": 2,
         "max_model_len": 64, "dtype": "bfloat16", "kv_cache_memory_bytes": 8 << 20}
said = {}
for name, given, loads in asked:
    try:
        LLM(**fixed | given) if loads else EngineArgs(**fixed | given).create_engine_config()
        said[name] = None
    except BaseException as error:
        said[name] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(said))
"""


def given(name: str, value: float) -> dict[str, object]:
    """The arguments that ask vLLM for an option, with the part that it belongs to."""
    if name.startswith("synthetic"):
        return {"speculative_config": SYNTHETIC | {name: value}}
    if name.startswith("prompt_lookup"):
        return {"speculative_config": SPECULATIVE | {name: value}}
    return {name: value, "enable_lora": True} if name == "max_loras" else {name: value}


@pytest.fixture(scope="module")
def answers(weights_cache: Path) -> dict[str, str | None]:
    """What vLLM says of a number out of range, by option; None where it takes it."""
    folder = materialize(tiny(), "bfloat16", weights_cache)
    asked: list[tuple[str, dict[str, object], bool]] = [("none", {}, False)]
    table = flags.read("vllm", PINNED)
    for name in DECLARED:
        wrong = next(value for value in (-2, 0) if not table[name].range.takes(value))
        asked.append((name, given(name, wrong), False))
    asked += [(f"{name} by hand", given(name, value), loads)
              for name, (value, loads) in BY_HAND.items()]  # fmt: skip
    program = [sys.executable, "-c", PROGRAM, str(folder), json.dumps(asked)]
    run = subprocess.run(program, cwd=ROOT, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    told: dict[str, str | None] = json.loads(run.stdout.splitlines()[-1])
    return told


def test_what_is_in_range_is_taken(answers: dict[str, str | None]) -> None:
    assert answers["none"] is None


@pytest.mark.parametrize("name", DECLARED)
def test_a_number_out_of_a_declared_range_is_refused_for_that(
    answers: dict[str, str | None], name: str
) -> None:
    said = answers[name]
    assert said is not None
    assert "Input should be" in said
    assert name in said


def test_a_range_by_hand_is_one_that_the_engine_keeps(answers: dict[str, str | None]) -> None:
    assert {n for b, n in flags.undeclared() if b == "vllm"} == BY_HAND.keys() | BY_SOURCE
    assert [name for name in BY_HAND if answers[f"{name} by hand"] is None] == []
