"""The label of a node: the real NVML binding against the stand-in, in a process as nodes run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.deploy.conftest import ROOT
from tests.nvml.curve import StandinGpu

pytestmark = pytest.mark.nvml

A6000, A100 = "NVIDIA RTX A6000", "NVIDIA A100-SXM4-80GB"


def gpu(number: int, name: str, **options: object) -> StandinGpu:
    return StandinGpu(uuid=f"GPU-{number:08x}-0000-0000-0000-000000000000", name=name, **options)


def label(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers.label", *arguments],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refusal."""
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("label: ")
    return line


def test_a_node_is_labelled_with_the_exact_product(standin):
    standin(gpu(1, A100), gpu(2, A100))
    done = label()
    assert (done.returncode, done.stdout) == (0, "campaign/board=a100-sxm-80gb\n")
    assert label("--expect", "a100-sxm-80gb").stdout == done.stdout


def test_ray_takes_both_forms(standin, tmp_path):
    from ray._private.label_utils import (
        parse_node_labels_from_yaml_file,
        parse_node_labels_string,
    )

    standin(gpu(1, A6000))
    file = tmp_path / "labels.yaml"
    file.write_text(label("--json").stdout)
    expected = {"campaign/board": "rtx-a6000"}
    assert json.loads(file.read_text()) == expected
    assert parse_node_labels_from_yaml_file(str(file)) == expected
    assert parse_node_labels_string(label().stdout.strip()) == expected


def test_unlike_boards_are_refused_and_those_that_are_visible_are_not(standin):
    standin(gpu(1, A100), gpu(2, A6000))
    assert "a100-sxm-80gb and rtx-a6000" in refused(label())
    first, second = (f"GPU-{n:08x}-0000-0000-0000-000000000000" for n in (1, 2))
    assert label(CUDA_VISIBLE_DEVICES=first).stdout == "campaign/board=a100-sxm-80gb\n"
    assert label(CUDA_VISIBLE_DEVICES=second).stdout == "campaign/board=rtx-a6000\n"
    assert "CUDA_DEVICE_ORDER" in refused(label(CUDA_VISIBLE_DEVICES="0"))


def test_an_unlisted_product_is_refused_until_it_is_named(standin):
    standin(gpu(1, "ACME Accelerator 24GB"))
    assert "ACME Accelerator 24GB is not in the catalogue" in refused(label())
    named = label("--product", "ACME Accelerator 24GB=acme-24gb")
    assert (named.returncode, named.stdout) == (0, "campaign/board=acme-24gb\n")
    wrong = label("--product", "ACME")
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_mig_is_refused_with_the_command_that_ends_it(standin):
    standin(gpu(1, A100), gpu(2, A100, mig=1))
    assert "nvidia-smi -i 1 -mig 0" in refused(label())


def test_other_boards_than_expected_are_refused(standin):
    standin(gpu(1, A6000))
    line = refused(label("--expect", "h100-sxm-80gb"))
    assert line == "label: this node holds rtx-a6000, h100-sxm-80gb is expected"


def test_a_machine_without_gpu_is_no_cpu_board_unasked(standin):
    standin()
    assert "no GPU" in refused(label())
    asked = label("--cpu")
    assert asked.returncode == 0
    assert asked.stdout.startswith("campaign/board=cpu.")
    assert "leaves no GPU" in refused(label(CUDA_VISIBLE_DEVICES="", **one(standin)))


def one(standin) -> dict[str, str]:
    """Put one board behind the stand-in."""
    standin(gpu(1, A100))
    return {}
