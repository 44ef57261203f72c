"""Real vLLM under load: windows, counters and latencies agree with what its engine counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("vllm")
    done = subprocess.run(
        [sys.executable, "-m", "tests.engines.loading", str(tmp_path_factory.mktemp("weights"))],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_tokens_by_their_time_stamps_are_those_the_engine_counted(found: dict[str, Any]) -> None:
    """But for the step that is under way at an edge: four requests, a prompt of each."""
    for load in found.values():
        for window in load["windows"]:
            counters = window["counters"]
            assert window["output_tokens"] == pytest.approx(
                counters["vllm:generation_tokens"], abs=8
            )
            assert window["input_tokens"] == pytest.approx(
                counters["vllm:prompt_tokens"], abs=4 * 64
            )


def test_clients_keep_the_engine_full_and_a_calm_rate_does_not(found: dict[str, Any]) -> None:
    for window in found["closed"]["windows"]:
        # A client that is late misses a step; three clients would never reach three.
        assert 3.0 < window["running_mean"] <= 4.0
        assert 4 <= window["straddling"] <= 8
    for window in found["list"]["windows"]:
        assert window["running_mean"] < 4.0


def test_a_list_is_answered_whole(found: dict[str, Any]) -> None:
    for window in found["list"]["windows"]:
        assert (window["requests"], window["straddling"]) == (10, 0)
        assert (window["input_tokens"], window["output_tokens"]) == (640, 160)


def test_latencies_are_ordered(found: dict[str, Any]) -> None:
    for load in found.values():
        for window in load["windows"]:
            latencies = window["latencies"]
            assert 0 < latencies["tpot_s"]["p50"] <= latencies["tpot_s"]["p99"]
            assert latencies["ttft_s"]["p99"] < latencies["e2e_s"]["p99"]
            parts = latencies["ttft_s"]["mean"] + 15 * latencies["tpot_s"]["mean"]
            assert latencies["e2e_s"]["mean"] == pytest.approx(parts, rel=0.01)


def test_nothing_was_preempted_or_cached(found: dict[str, Any]) -> None:
    for load in found.values():
        assert "preempted" not in load["marks"]
        assert all(w["counters"]["vllm:prefix_cache_hits"] == 0 for w in load["windows"])
