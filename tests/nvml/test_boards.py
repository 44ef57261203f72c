"""What a machine holds: found through NVML in a process that sees the stand-in, else the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nvml.curve import StandinGpu
from workers.boards import cpu_board, slugify

pytestmark = pytest.mark.nvml

ROOT = Path(__file__).resolve().parents[2]
A, B = "GPU-aaaaaaaa-0000-0000-0000-000000000000", "GPU-abababab-0000-0000-0000-000000000000"
A6000 = "NVIDIA RTX A6000"


def ask(expression, **environ):
    """Evaluate an expression of workers.boards in a process of its own; errors come as text."""
    code = f"""
import dataclasses, json, os
os.environ.update({environ!r})
from db.errors import NodeUnfit
from db.records import Board
from workers.boards import *
from workers.group import *
try:
    found = {expression}
except NodeUnfit as error:
    found = f"NodeUnfit: {{error}}"
print(json.dumps(found, default=dataclasses.asdict))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True,
                          text=True)  # fmt: skip
    return json.loads(done.stdout)


def test_gpus_are_found_by_exact_product(standin):
    standin(StandinGpu(uuid=A), StandinGpu(uuid=B, name=A6000, memory_mib=49140, limit_w=300.0,
                                           counter=0, mig=-1))  # fmt: skip
    table = {"NVIDIA H100 80GB HBM3": "h100-sxm-80gb"}
    h100, a6000 = ask(f"discover({table!r})")
    assert (h100["slug"], h100["uuid"], h100["index"]) == ("h100-sxm-80gb", A, 0)
    assert (h100["memory_bytes"], h100["power_limit_w"]) == (81559 << 20, 700.0)
    assert (h100["has_counter"], h100["power_field"], h100["mig"]) == (True, "instant", False)
    assert (a6000["slug"], a6000["index"]) == ("nvidia-rtx-a6000", 1)
    assert (a6000["has_counter"], a6000["mig"]) == (False, False)


def test_a_mig_board_says_so(standin):
    standin(StandinGpu(uuid=A, mig=1))
    assert ask("discover()")[0]["mig"] is True
    assert "nvidia-smi -i 0 -mig 0" in json.dumps(ask("diagnose()"))


def test_a_machine_without_gpu_is_a_cpu_board(standin):
    standin()
    (board,) = ask("discover()")
    assert board["slug"].startswith("cpu:")
    assert board["uuid"] is None
    assert board["slug"].endswith(f":{board['threads']}")


@pytest.mark.parametrize(
    ("cpuinfo", "slug"),
    [
        ("model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz\n",
         "cpu:intel-xeon-platinum-8481c-cpu-2.70ghz:"),
        ("processor : 0\nmodel name : AMD EPYC 9B14\nmodel name : other\n", "cpu:amd-epyc-9b14:"),
    ],
)  # fmt: skip
def test_a_cpu_is_named_after_its_model(tmp_path, cpuinfo, slug):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert cpu_board(tmp_path / "cpuinfo").slug.startswith(slug)
    assert cpu_board(tmp_path / "nothing").slug.startswith("cpu:")


def test_a_name_becomes_a_slug():
    assert slugify("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    assert slugify("  Tesla V100-SXM2-16GB ") == "tesla-v100-sxm2-16gb"


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("", []),
        ("0", [A]),
        ("1,0", [B, A]),
        (f"{B}", [B]),
        (f"{A},{B}", [A, B]),
        ("GPU-ab", [B]),
    ],
)
def test_visible_devices_name_uuids(standin, visible, expected):
    standin(StandinGpu(uuid=A), StandinGpu(uuid=B))
    assert ask(f"uuids_of({visible!r})") == expected


@pytest.mark.parametrize(
    ("visible", "words"),
    [
        ("2", "2 names 0 of the 2 GPUs"),
        ("-1", "-1 names 0"),
        ("GPU-a", "GPU-a names 2"),
        ("MIG-0000", "MIG instance"),
        ("first", "first names 0"),
    ],
)
def test_visible_devices_that_name_no_one_board_are_refused(standin, visible, words):
    standin(StandinGpu(uuid=A), StandinGpu(uuid=B))
    answer = ask(f"uuids_of({visible!r})")
    assert answer.startswith("NodeUnfit")
    assert words in answer


def test_indices_on_a_machine_of_unlike_gpus_need_the_pci_order(standin):
    standin(StandinGpu(uuid=A), StandinGpu(uuid=B, name=A6000))
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in ask("uuids_of('1')")
    assert ask("uuids_of('1')", CUDA_DEVICE_ORDER="PCI_BUS_ID") == [B]


@pytest.mark.parametrize(
    ("options", "ok", "words"),
    [
        ({}, True, "driver 0.0.standin, 1 GPU"),
        ({"init_error": 9}, False, "not loaded"),
        ({"init_error": 4}, False, "/dev/nvidia"),
    ],
)
def test_the_diagnosis_names_nvml_and_its_fix(standin, options, ok, words):
    standin(StandinGpu(uuid=A, counter=0), **options)
    findings = {f["subject"]: f for f in ask("diagnose()")}
    assert findings["nvml"]["ok"] is ok
    assert words in f"{findings['nvml']['detail']} {findings['nvml']['fix']}"
    assert {"rapl", "codecarbon"} <= set(findings)
    if ok:
        assert "no energy counter" in findings["gpu 0"]["detail"]


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has NVML")
def test_a_machine_without_nvml_gets_the_fix(tmp_path):
    findings = {f["subject"]: f for f in ask("diagnose()", LD_LIBRARY_PATH=str(tmp_path))}
    assert findings["nvml"]["detail"] == "library_missing"
    assert "install the NVIDIA driver" in findings["nvml"]["fix"]


def test_nothing_heavy_is_imported_to_name_the_boards():
    loaded = ask("[m for m in ('torch', 'vllm', 'ray', 'pynvml', 'codecarbon', 'sqlalchemy') "
                 "if m in __import__('sys').modules]")  # fmt: skip
    assert loaded == []


def verified(given, count, limit=None):
    board = "Board(slug='h100-sxm-80gb', nvml_name='NVIDIA H100 80GB HBM3')"
    return ask(f"verify({given!r}, {board}, {count}, {limit})")


def test_a_session_is_only_given_boards_of_the_product_its_tasks_name(standin):
    standin(StandinGpu(uuid="GPU-1"), StandinGpu(uuid="GPU-2", name="NVIDIA A100-SXM4-80GB"))
    assert verified(("GPU-1",), 1) is None
    for given, count in ((("GPU-2",), 1), (("GPU-1", "GPU-2"), 2), ((), 1), (("GPU-9",), 1)):
        assert "h100-sxm-80gb is asked for" in verified(given, count)


def test_a_declared_power_limit_is_the_enforced_one_or_the_node_is_unfit(standin):
    standin(StandinGpu(uuid="GPU-1", limit_w=350.0), StandinGpu(uuid="GPU-2", limit_w=700.0))
    assert verified(("GPU-1",), 1, limit=350.0) is None
    assert verified(("GPU-1",), 1, limit=350.4) is None  # of rounding
    assert verified(("GPU-1", "GPU-2"), 2) is None  # nothing is declared
    for given in (("GPU-1", "GPU-2"), ("GPU-2",)):
        said = verified(given, len(given), limit=350.0)
        assert "power_limit_w=350 is asked for, GPU-2 enforces 700 W: nvidia-smi -i 1" in said


def test_half_the_memory_is_another_product(standin):
    board = "Board(slug='h100-sxm-80gb', nvml_name='NVIDIA H100 80GB HBM3', memory_bytes=80 << 30)"
    standin(StandinGpu(uuid="GPU-1"), StandinGpu(uuid="GPU-2", memory_mib=40 << 10))
    assert ask(f"verify(('GPU-1',), {board}, 1)") is None
    said = ask(f"verify(('GPU-2',), {board}, 1)")
    assert "a h100-sxm-80gb is sold with 80 GiB, GPU-2 has 40" in said


def test_a_board_is_empty_once_nobody_computes_on_it(standin):
    standin(StandinGpu(uuid=A), StandinGpu(uuid=B, processes=((4242, 1 << 30, 0.0, 0.0),)))
    assert ask(f"wait_until_empty(({A!r},), 0)") is None
    assert ask("wait_until_empty((), 0)") is None
    assert f"in use after 0 s of waiting: {B} by pid 4242" in ask(f"wait_until_empty(({B!r},), 0)")


def test_a_board_cut_into_instances_is_not_measured(standin):
    standin(StandinGpu(uuid="GPU-1", mig=1))
    assert "MIG is on" in verified(("GPU-1",), 1)


@pytest.mark.parametrize(
    ("name", "architecture", "fields", "averaged"),
    [
        ("Tesla V100-SXM2-32GB", 5, {"instant": 0, "average": 0}, False),
        ("NVIDIA A100-SXM4-80GB", 7, {"instant": 0, "average": 0}, False),
        ("NVIDIA A30", 7, {"instant": 0, "average": 0}, False),
        ("NVIDIA RTX A3000 Laptop GPU", 7, {"instant": 0, "average": 0}, True),
        ("NVIDIA H100 80GB HBM3", 9, {"instant": 0, "average": 0}, True),
        ("NVIDIA H100 80GB HBM3", 9, {"instant": 0}, True),
        ("NVIDIA H100 80GB HBM3", 9, {}, False),
    ],
)
def test_which_power_is_a_mean_over_a_second(standin, name, architecture, fields, averaged):
    standin(StandinGpu(uuid=A, name=name, architecture=architecture, **fields))
    code = (
        "from workers.meters.binding import Library\n"
        "with Library() as library:\n"
        "    print([gpu.averaged for gpu in library.gpus()])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True,
                          text=True)  # fmt: skip
    assert done.stdout.strip() == f"[{averaged}]"
