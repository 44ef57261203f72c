"""The meters' helper processes end with their parent, whatever becomes of it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nvml.curve import StandinGpu
from tests.nvml.processes import gone
from workers.meters.child import Child, ChildGone
from workers.meters.nvml import NvmlMeter

pytestmark = pytest.mark.nvml

ROOT = Path(__file__).resolve().parents[2]
UUID = "GPU-aaaaaaaa-0000-0000-0000-000000000000"
HOLDERS = {
    "sampler": f"from workers.meters.nvml import NvmlMeter as M; m = M(['{UUID}'])",
    "codecarbon": "from workers.meters.codecarbon import CodeCarbonMeter as M; m = M()",
}
TELL = "import os, sys, json; print(json.dumps([m._child.pid, {extra}]), flush=True); os.read(0, 1)"


def holder(which, extra="None"):
    """Start a process that holds a helper; returns it, the helper's pid and `extra`."""
    code = f"{HOLDERS[which]}\n{TELL.format(extra=extra)}"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)  # fmt: skip
    child, other = json.loads(process.stdout.readline())
    return process, child, other


@pytest.mark.parametrize("which", HOLDERS)
def test_a_helper_goes_when_its_parent_is_killed(standin, which):
    standin(StandinGpu(uuid=UUID))
    process, child, _ = holder(which)
    with process:
        process.kill()
    assert gone(child)


@pytest.mark.parametrize("which", HOLDERS)
def test_a_helper_goes_although_a_forked_sibling_holds_its_pipe(standin, which):
    """An engine forked from the session inherits every pipe and may live on for a while."""
    standin(StandinGpu(uuid=UUID))
    fork = "os.fork() or [os.close(0), os.close(1), __import__('signal').pause()]"
    process, child, sibling = holder(which, fork)
    try:
        with process:
            process.kill()
        assert gone(child)
        os.kill(sibling, 0)  # it is still there, pipe in hand
    finally:
        os.kill(sibling, signal.SIGKILL)


def test_a_helper_inherits_nothing_but_its_pipes(standin, closing, tmp_path):
    standin(StandinGpu(uuid=UUID))
    secret = (tmp_path / "open").open("w")
    os.set_inheritable(secret.fileno(), True)
    with secret:
        meter = closing(NvmlMeter([UUID]))
        held = {fd.readlink() for fd in Path(f"/proc/{meter.sampler_pid}/fd").iterdir()}
    assert held
    assert tmp_path / "open" not in held


def test_a_folder_called_workers_where_the_user_stands_is_not_imported(
    standin, closing, tmp_path, monkeypatch
):
    standin(StandinGpu(uuid=UUID))
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert closing(NvmlMeter([UUID])).gpus


def test_shutdown_ends_the_helper_and_may_be_repeated(standin):
    standin(StandinGpu(uuid=UUID))
    meter = NvmlMeter([UUID])
    pid = meter.sampler_pid
    meter.shutdown()
    meter.shutdown()
    assert gone(pid)


def test_ctrl_c_on_the_terminal_is_the_parents_business(standin, closing):
    standin(StandinGpu(uuid=UUID))
    meter = closing(NvmlMeter([UUID]))
    os.kill(meter.sampler_pid, signal.SIGINT)
    started_ns = meter.open()
    meter.begin_close()
    assert meter.finish_close(started_ns, started_ns + 1).reasons == ()


LONG_BYTES, LINES = 48 * 2**20, 3
TALKER = f"""
import sys, time
from workers.meters.child import Parent
parent = Parent()
requests = parent.requests()
next(requests)
parent.answer({{"text": "x" * {LONG_BYTES}}})
for n in range({LINES}):
    parent.answer({{"n": n}})
next(requests)
"""


def test_an_answer_may_be_long_and_others_follow_it(tmp_path, monkeypatch):
    (tmp_path / "talker.py").write_text(TALKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = Child("talker", {})
    try:
        assert len(child.receive(30.0)["text"]) == LONG_BYTES
        assert [child.receive(30.0) for _ in range(LINES)] == [{"n": n} for n in range(LINES)]
    finally:
        child.stop()


SLOW = """
import os, time
from workers.meters.child import Parent
parent = Parent()
requests = parent.requests()
next(requests)
for piece in ('{', '"a"', ':', '1', '}', chr(10)):
    os.write(parent._out, piece.encode())
    time.sleep(0.5)
next(requests)
"""


def test_a_helper_that_is_slow_is_not_silent(tmp_path, monkeypatch):
    """Its answer takes longer than it may be silent."""
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = Child("slow", {})
    try:
        assert child.receive(2.0) == {"a": 1}
    finally:
        child.stop()


def test_a_helper_that_keeps_silent_is_given_up_and_killed(standin):
    standin(StandinGpu(uuid=UUID))
    child = Child("workers.meters.sampler", {"interval_ns": 10**8})
    child.receive(30.0)
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(ChildGone):
        child.ask({"do": "pids", "group": []}, timeout_s=0.2)
    assert gone(child.pid)
    with pytest.raises(ChildGone):
        child.ask({"do": "pids", "group": []}, timeout_s=0.2)


LOUD = """
import sys
from workers.meters.child import Parent
parent = Parent()
requests = parent.requests()
next(requests)
for _ in range(100_000):
    print("a line of no use to anybody", file=sys.stderr)
parent.answer({"ready": True})
next(requests)
raise OSError("the board went up in smoke")
"""


def test_what_a_helper_said_last_tells_why_it_is_gone_and_nobody_had_to_listen(
    tmp_path, monkeypatch
):
    (tmp_path / "loud.py").write_text(LOUD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = Child("loud", {})
    assert child.receive(30.0) == {"ready": True}
    with pytest.raises(ChildGone, match=r"OSError: the board went up in smoke$") as gone:
        child.ask({}, 30.0)
    assert "Traceback" in gone.value.said
    assert len(gone.value.said) <= 4096
    with pytest.raises(ChildGone, match=r"went up in smoke$"):
        child.send({})
