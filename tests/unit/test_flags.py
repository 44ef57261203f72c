"""Options are checked against a table at plan time; no engine is imported for it."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from campaign.catalogue import flags
from db.records import Scalar
from workers.engines.vllm_arguments import FIXED, SPECULATIVE

ROOT = Path(__file__).resolve().parents[2]
PINNED = flags.shipped("vllm")[0]


def only(backend: str, options: dict[str, Scalar], version: str | None = None) -> str:
    found = flags.problems(backend, version, options)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("vllm", {"enable_prefix_caching": True, "max_num_batched_tokens": 2048}),
        ("vllm", {"gpu_memory_utilization": 0.9, "cpu_offload_gb": 1, "kv_cache_dtype": "fp8"}),
        ("vllm", {"max_num_seqs": None, "enforce_eager": False, "attention_backend": "FLASHINFER"}),
        ("vllm", {"rejection_sample_method": "synthetic", "synthetic_acceptance_length": 2.5}),
        ("vllm", {"max_lora_rank": 16}),
        ("transformers", {"attn_implementation": "sdpa", "torch_compile": True}),
        ("transformers", {"cache_implementation": "static"}),
        ("simulated", {"pace": 0.5, "oom_above_batch": 4, "fail_load": "out_of_memory"}),
        ("simulated", {"pace": 1}),
    ],
)
def test_options_of_the_right_name_and_type_are_no_problem(
    backend: str, options: dict[str, Scalar]
) -> None:
    assert flags.problems(backend, None, options) == []


@pytest.mark.parametrize(
    ("backend", "wrong", "near"),
    [
        ("vllm", "enable_prefix_cachin", "enable_prefix_caching"),
        ("vllm", "max_num_seq", "max_num_seqs"),
        ("transformers", "attention_implementation", "attn_implementation"),
        ("simulated", "pase", "pace"),
    ],
)
def test_a_misspelt_option_is_answered_with_the_nearest(
    backend: str, wrong: str, near: str
) -> None:
    line = only(backend, {wrong: 1})
    assert line.startswith(f"engine.options.{backend}.{wrong}: not an option of {backend}")
    assert near in line
    assert (PINNED in line) == (backend == "vllm")


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("max_num_seqs", "many", "int"),
        ("max_num_seqs", True, "int"),
        ("max_num_seqs", 1.5, "int"),
        ("enforce_eager", 1, "bool"),
        ("enforce_eager", "true", "bool"),
        ("gpu_memory_utilization", "0.9", "float"),
        ("kv_cache_dtype", "fp7", "fp8_e5m2"),
        ("max_lora_rank", 7, "one of 1, 8"),
        ("compilation_config", "{}", "a structure"),
    ],
)
def test_a_value_of_the_wrong_type_is_answered_with_what_is_expected(
    option: str, value: Scalar, expected: str
) -> None:
    line = only("vllm", {option: value})
    assert line.startswith(f"engine.options.vllm.{option}={value!r}: expected ")
    assert expected in line


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("max_num_seqs", -4, "at least 1"),
        ("max_num_seqs", 0, "at least 1"),
        ("gpu_memory_utilization", 7, "above 0 and at most 1"),
        ("gpu_memory_utilization", -1, "above 0 and at most 1"),
        ("gpu_memory_utilization", 0.0, "above 0 and at most 1"),
        ("gpu_memory_utilization", float("nan"), "above 0 and at most 1"),
        ("block_size", 17, "a multiple of 16"),
        ("block_size", -8, "above 0 and a multiple of 16"),
        ("watermark", 1.0, "below 1"),
        ("max_model_len", -1, "at least 1"),
    ],
)
def test_a_number_out_of_range_is_answered_with_the_range(
    option: str, value: Scalar, expected: str
) -> None:
    line = only("vllm", {option: value})
    assert line.startswith(f"engine.options.vllm.{option}={value!r}: expected ")
    assert expected in line


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("gpu_memory_utilization", 1),
        ("block_size", 32),
        ("max_num_seqs", 1),
        ("max_num_seqs", None),
    ],
)
def test_a_number_at_the_edge_of_its_range_is_no_problem(option: str, value: Scalar) -> None:
    assert flags.problems("vllm", None, {option: value}) == []


def test_the_range_that_an_engine_declares_is_that_of_its_version() -> None:
    """Without a table of the version only what holds for every version is known."""
    assert flags.problems("vllm", "0.0.1", {"max_num_seqs": 0}) == []
    assert "a multiple of 16" in only("vllm", {"block_size": 17}, "0.0.1")


def test_a_cache_that_transformers_has_not_is_answered_with_those_it_has() -> None:
    line = only("transformers", {"cache_implementation": "statc"})
    assert '"dynamic"' not in line
    assert all(name in line for name in ("dynamic", "static", "offloaded"))


def test_every_range_by_hand_is_of_a_number_has_its_reason_and_is_not_declared() -> None:
    with (flags.FOLDER / "bounds.csv").open(encoding="utf-8", newline="") as file:
        reasons = {(row["backend"], row["name"]): row["why"] for row in csv.DictReader(file)}
    assert reasons.keys() == flags.undeclared().keys()
    assert all(reasons.values())
    for (backend, name), by_hand in flags.undeclared().items():
        option = flags.read(backend, PINNED if backend == "vllm" else "")[name]
        assert {"int", "float"} & set(option.types)
        outside = [value for value in (-16, -1, 0, 1, 17) if not by_hand.takes(value)]
        assert any(option.range.takes(value) for value in outside), f"{name} is declared"


def test_attention_on_gpus_and_cpus_computes_blocks_of_multiples_of_16() -> None:
    """The source of the range of `block_size`: what each kernel of the installed vLLM takes."""
    found = find_spec("vllm")
    if found is None or found.origin is None:
        pytest.skip("vllm is not installed")
    folder = Path(found.origin).parent / "v1" / "attention" / "backends"
    form = re.compile(r"def get_supported_kernel_block_sizes\(.*?\).*?:\n(.*?)\n\n", re.DOTALL)
    names = ("flash_attn", "flashinfer", "triton_attn", "flex_attention", "cpu_attn", "mla/cpu_mla",
             "mla/flashmla", "mla/flashattn_mla", "mla/triton_mla", "mla/cutlass_mla")  # fmt: skip
    for name in names:
        body = form.search((folder / f"{name}.py").read_text(encoding="utf-8"))
        assert body is not None, name
        sizes = [int(size) for part in re.findall(r"return \[(.*?)\]", body[1])
                 for size in re.findall(r"\d+", part)]  # fmt: skip
        assert all(size % 16 == 0 for size in sizes), name
        assert sizes or "block_size" in body[1], name


@pytest.mark.parametrize("option", sorted(FIXED))
def test_what_follows_from_the_engine_cannot_be_set(option: str) -> None:
    line = only("vllm", {option: "x"})
    assert f"{option}: cannot be set; it follows from {FIXED[option]}" in line


def test_every_problem_is_named_at_once() -> None:
    found = flags.problems("vllm", None, {"modle": "x", "model": "x", "max_num_seqs": "x"})
    assert len(found) == 3


def test_a_version_without_a_table_is_said_to_be_unchecked() -> None:
    options = {"no_such_option": 1, "dtype": "float16"}
    found = flags.problems("vllm", "0.0.1", options)
    assert found == ["engine.options.vllm.dtype: cannot be set; it follows from engine.dtype"]
    told = flags.unchecked("vllm", "0.0.1")
    assert told is not None
    assert "0.0.1" in told
    assert PINNED in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("backend", "version"),
    [("vllm", None), ("vllm", PINNED), ("transformers", "5.16.0"), ("simulated", None)],
)
def test_what_is_checked_is_not_said_to_be_unchecked(backend: str, version: str | None) -> None:
    assert flags.unchecked(backend, version) is None
    assert len(flags.problems(backend, version, {"no_such_option": 1})) == 1


def test_options_of_speculation_are_options() -> None:
    assert set(SPECULATIVE) <= flags.read("vllm", PINNED).keys()


def test_no_engine_is_imported_for_it() -> None:
    code = (
        "import sys; from campaign.catalogue.flags import problems;"
        "problems('vllm', None, {'x': 1}); problems('transformers', None, {'x': 1});"
        "sys.exit(bool({'torch', 'vllm', 'transformers', 'ray', 'sqlalchemy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_tables_say_what_the_installed_engines_take() -> None:
    pytest.importorskip("vllm")
    code = (
        "import sys, json; sys.path[:0] = ['.', 'deploy']; from flags import tables;"
        "print('\\n' + json.dumps(tables()))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    import json

    for name, content in json.loads(run.stdout.splitlines()[-1]).items():
        shipped = ROOT / "conf" / "flags" / name
        assert shipped.exists(), f"run python deploy/flags.py: {name} is new"
        assert shipped.read_text(encoding="utf-8") == content, "run python deploy/flags.py"
