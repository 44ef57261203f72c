"""vLLM's asynchronous engine on a CPU: requests that overlap, tokens as they come, no orphans."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from db.errors import ConfigError, EngineFault, TaskFault
from tests.engines.harness import LIMITS, ROOT, spec_of
from workers.engines.engine import Decoding, Request, alike
from workers.engines.registry import open_engine
from workers.workloads.prompts import Prompts

pytestmark = pytest.mark.engines
BEAMS = Decoding(method="beam", beams=2)
#: Tokens of a step, as a board might have it: vLLM's defaults differ by who uses it.
STEPS = {"LLM_CLASS": 1000, "OPENAI_API_SERVER": 1100}


@pytest.fixture(scope="module")
def online(hosts: dict[str, Any]) -> dict[str, Any]:
    """What one engine under load did, from its load to its end."""
    host, found = hosts["vllm"], {}
    engine = host.open(spec_of("vllm", mode="online"))
    found["early"] = engine.inside("refused", alike([[20, 21]], 2)[0], Decoding())
    engine.inside("batch_defaults", STEPS)
    found["loaded"] = engine.load()
    engine.inside("batch_defaults", None)
    source = Prompts(vocabulary=engine.vocabulary, seed="online")
    engine.generate(alike(source.batch(4, 16), 4))
    lengths = (16, 4, 24, 9)
    requests = [
        Request(prompt=prompt, output_tokens=n)
        for prompt, n in zip(source.batch(4, 40), lengths, strict=True)
    ]
    found["requests"] = requests
    found["overlapping"] = engine.inside("overlapping", requests)
    found["batch"] = engine.generate(requests)
    found["sampled"] = engine.generate(requests, Decoding(method="sample", top_p=0.9))
    found["beams"] = engine.inside("refused", requests[0], BEAMS)
    found["there"] = engine.inside("children")
    found["cut"] = engine.inside("cut", Request(prompt=requests[0].prompt, output_tokens=300))
    found["left"] = engine.inside("children")
    found["alive"] = psutil.pid_exists(found["loaded"].pid)
    return found


def test_each_request_gets_exactly_its_tokens(online: dict[str, Any]) -> None:
    asked = [request.output_tokens for request in online["requests"]]
    told = online["overlapping"]
    assert [sum(count for _, count in heard["tokens"]) for heard in told["heard"]] == asked
    assert told["counters"]["vllm:generation_tokens"] == sum(asked)
    assert told["counters"]["vllm:prompt_tokens"] == 4 * 40


def test_tokens_are_stamped_one_after_another_between_submission_and_end(
    online: dict[str, Any],
) -> None:
    for heard in online["overlapping"]["heard"]:
        stamps = [now_ns for now_ns, _ in heard["tokens"]]
        assert heard["submitted_ns"] < stamps[0]
        assert all(earlier < later for earlier, later in pairwise(stamps))
        assert stamps[-1] <= heard["ended_ns"]
        assert heard["error"] is None


def test_requests_overlap_and_are_counted_together(online: dict[str, Any]) -> None:
    first, *_, last = online["overlapping"]["heard"]
    assert last["tokens"][0][0] < first["ended_ns"]
    told = online["overlapping"]["counters"]
    assert 1.0 < told["engine_steps_running"] / told["engine_steps"] <= 4.0
    # Turns in which the engine only forgets who has ended are no steps.
    assert told["engine_steps"] == told["vllm:iteration_tokens_total_count"]


@pytest.mark.parametrize("how", ["batch", "sampled"])
def test_a_batch_is_handed_over_at_once(online: dict[str, Any], how: str) -> None:
    batch = online[how]
    asked = [(40, request.output_tokens) for request in online["requests"]]
    assert [(r.input_tokens, r.output_tokens) for r in batch.requests] == asked
    assert all(0 < r.ttft_s < r.e2e_s <= batch.duration_s for r in batch.requests)
    assert 1.0 < batch.running_mean <= 4.0
    assert batch.counters["vllm:generation_tokens"] == 53
    assert batch.prefix_cache_hit_tokens == 0


def test_the_process_that_computes_is_told_and_is_another(online: dict[str, Any]) -> None:
    loaded = online["loaded"]
    assert any("EngineCore" in line for line in online["there"])
    assert loaded.resolved["mode"] == "online"
    assert loaded.resolved["threads"] == 1
    assert loaded.resolved["scheduler_config"]["max_num_seqs"] == LIMITS.batch_size
    assert loaded.software["vllm"]


def test_steps_are_as_long_as_those_of_a_server(online: dict[str, Any]) -> None:
    resolved = online["loaded"].resolved
    assert resolved["scheduler_config"]["max_num_batched_tokens"] == STEPS["OPENAI_API_SERVER"]


def test_what_the_engine_cannot_do_now_is_refused_in_one_line(online: dict[str, Any]) -> None:
    kind, permanent, words = online["beams"]
    assert (kind, permanent) == ("unsupported", True)
    assert "beam" in words
    assert online["early"][0] == "engine_error"
    assert "not loaded" in online["early"][2]


def test_a_request_that_is_cut_off_hears_of_it(online: dict[str, Any]) -> None:
    kind, words = online["cut"]
    assert kind == "TaskFault"
    assert "closed" in words


def test_closed_it_leaves_no_process(online: dict[str, Any]) -> None:
    assert not any("EngineCore" in line for line in online["left"])
    assert not online["alive"]


def test_an_engine_without_a_server_is_answered_with_the_one_that_has(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use vllm"):
        open_engine(spec_of("transformers", mode="online"), folder=tmp_path, limits=LIMITS)


# ---- the end of the process that started it --------------------------------------------------

PARENT = """
import multiprocessing, sys, threading
from workers.engines.vllm_executor import mortal

def child(executor, pipe):
    pipe.send(executor.__name__)
    threading.Event().wait()

class Executor: pass

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    started = context.Process(target=child, args=(mortal(Executor), theirs))
    started.start()
    assert ours.recv() == "Executor"
    print(started.pid, flush=True)
    threading.Event().wait()
"""


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def eventually(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    waiting = threading.Event()
    while not holds():
        if time.monotonic() > deadline:
            return False
        waiting.wait(0.05)
    return True


def test_a_tied_child_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    ) as parent:  # fmt: skip
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
    assert eventually(lambda: gone(pid))


def test_an_engine_whose_process_was_killed_fails_what_follows_and_closes(
    hosts: dict[str, Any],
) -> None:
    engine = hosts["vllm"].open(spec_of("vllm", mode="online"))
    pid = engine.load().pid
    request = Request(prompt=tuple(range(20, 60)), output_tokens=300)
    assert engine.inside("killed", request, pid) == [("engine_error", False)] * 2
    assert not any("EngineCore" in line for line in engine.inside("children"))


def test_a_child_that_runs_out_of_memory_is_believed_by_what_it_printed(
    hosts: dict[str, Any], tmp_path: Path
) -> None:
    """vLLM says of it that it failed, and no more: while it loads, and while it computes."""
    short = {"enforce_eager": True, "kv_cache_memory_bytes": 64 << 10}
    engine = hosts["vllm"].open(spec_of("vllm", mode="online", options=short))
    engine.inside("captured", str(tmp_path / "printed"))
    with pytest.raises(EngineFault, match="; there: ValueError: ") as loading:
        engine.load()
    engine = hosts["vllm"].open(spec_of("vllm", mode="online"))
    engine.load()
    engine.inside("greedy")
    with pytest.raises(TaskFault, match=r"; there: .*can't allocate memory") as generating:
        engine.generate(alike([range(20, 60)], 4))
    engine.close()
    assert (loading.value.kind, generating.value.kind) == ("out_of_memory", "out_of_memory")


def test_an_engine_dies_with_a_parent_that_is_killed(hosts: dict[str, Any]) -> None:
    host = hosts["vllm"]
    pid = host.open(spec_of("vllm", mode="online")).load().pid
    assert not gone(pid)
    host._process.kill()
    host.stop()
    assert eventually(lambda: gone(pid))
