"""`campaign meter` as a newcomer meets it: a process, its streams, its signals, its exit code."""

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.nvml.curve import StandinGpu

pytestmark = pytest.mark.nvml

ROOT = Path(__file__).resolve().parents[2]
A, B, C = (f"GPU-{letter * 8}-0000-0000-0000-000000000000" for letter in "abc")
SQUARE = {"curve": "square", "low_w": 90.0, "high_w": 640.0, "period_s": 0.137, "duty": 0.3}
KEYS = ["started_at", "ended_at", "duration_s", "command_started_at", "command_ended_at", "gpus",
        "cpu", "reasons"]  # fmt: skip
GPU_KEYS = ["index", "uuid", "name", "energy_j", "uncertainty_j", "sensor_accuracy", "method",
            "counter_j", "integrated_j", "ratio", "mean_w", "max_w", "samples", "power_field",
            "reality", "reasons"]  # fmt: skip
#: The same program with a powercap tree of the test's own.
WITH_POWERCAP = (
    "import sys; from pathlib import Path; from workers.meters import rapl; "
    "rapl.POWERCAP = Path(sys.argv.pop(1)); from campaign.cli import main; sys.exit(main())"
)
#: Says that it is ready, and which interrupt it gets; ends with code 9 at the end of stdin.
#: It waits for interrupts: a handler hears of one that comes just before read(2) only after it.
COUNTER = (
    "import itertools, signal, sys, threading, time\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n"
    "def tell():\n"
    "    for count in itertools.count(1):\n"
    "        signal.sigwait({signal.SIGINT}); print('interrupt', count, flush=True)\n"
    "threading.Thread(target=tell, daemon=True).start()\n"
    "print('ready', flush=True)\n"
    "sys.stdin.read()\n"
    "time.sleep(1.0)\n"  # the time in which one that is passed on as well would come
    "sys.exit(9)\n"
)


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def start():
    """A function that starts the program in a process group of its own, which ends with the test.

    Its first words are options of Popen.
    """
    started = []

    def begin(*words, powercap=None, **options):
        how = ["-c", WITH_POWERCAP, str(powercap)] if powercap else ["-m", "campaign"]
        environ = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, *how, "meter", *map(str, words)]
        process = subprocess.Popen(command, text=True, env=environ, process_group=0,
                                   **{**pipes, **options})  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def meter(start):
    """A function that runs the program to its end: exit code, stdout, stderr."""

    def run(*words, stdin="", **options):
        process = start(*words, **options)
        out, err = process.communicate(stdin, timeout=120)
        return process.returncode, out, err

    return run


@pytest.fixture
def read(meter):
    """A function that runs the program with --json and returns the object; the code must be 0."""

    def run(*words, **options):
        code, out, err = meter("--json", *words, **options)
        assert code == 0, err
        return json.loads(out)

    return run


def exact_j(gpu, started_at, ended_at):
    """Joules of a board between two Unix times."""
    unix_s = time.time() - time.monotonic()
    return gpu.energy_to_j(ended_at - unix_s) - gpu.energy_to_j(started_at - unix_s)


def off_ticks_s(gpu, at):
    """How far a Unix time is from the nearest tick of a board's counter."""
    ticks = (at - time.time() + time.monotonic() - gpu.tick_phase_s) / gpu.tick_s
    return abs(ticks - round(ticks)) * gpu.tick_s


def until_reads(stream, word):
    """Read lines up to one that holds a word; returns them."""
    lines = []
    for line in stream:
        lines.append(line)
        if word in line:
            return lines
    raise AssertionError(f"{word} never came: {lines}")


# ---- energy ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("curve", "tick_s"), [("constant", 0.1), ("square", 0.02), ("ramp", 0.1), ("burst", 0.02)]
)
def test_the_energy_is_the_commands_own(standin, read, curve, tick_s):
    (gpu,) = standin(StandinGpu(uuid=A, **{**SQUARE, "curve": curve}, tick_s=tick_s))
    for seconds in ("0.7", "0.03"):
        found = read("--", "sleep", seconds)
        (board,) = found["gpus"]
        truth_j = exact_j(gpu, found["command_started_at"], found["command_ended_at"])
        assert board["method"] == "counter"
        assert abs(board["energy_j"] - truth_j) <= 1.5 * board["uncertainty_j"] + 0.01
        assert board["uncertainty_j"] <= 2 * tick_s * gpu.limit_w


def test_a_steady_board_is_within_a_thousandth(standin, read):
    (gpu,) = standin(StandinGpu(uuid=A))
    found = read("--", "sleep", "1")
    truth_j = exact_j(gpu, found["command_started_at"], found["command_ended_at"])
    (board,) = found["gpus"]
    assert board["energy_j"] == pytest.approx(truth_j, rel=1e-3)
    assert board["mean_w"] == pytest.approx(300.0, rel=1e-3)


@pytest.mark.parametrize("tick_s", [0.02, 0.1])
def test_the_window_goes_from_a_tick_before_the_command_to_a_tick_after(standin, read, tick_s):
    (gpu,) = standin(StandinGpu(uuid=A, tick_s=tick_s))
    found = read("--", "sleep", "0.3")
    order = [found[k] for k in
             ("started_at", "command_started_at", "command_ended_at", "ended_at")]  # fmt: skip
    assert order == sorted(order)
    assert order[1] - order[0] <= tick_s
    assert order[3] - order[2] <= tick_s
    assert found["duration_s"] == pytest.approx(order[3] - order[0], abs=2e-6)
    assert off_ticks_s(gpu, order[0]) < 1e-3
    assert off_ticks_s(gpu, order[3]) < 1e-3


@pytest.mark.parametrize("curve", ["constant", "square", "burst"])
def test_seconds_are_metered_from_tick_to_tick(standin, read, curve):
    (gpu,) = standin(StandinGpu(uuid=A, **{**SQUARE, "curve": curve}))
    found = read("--seconds", "0.611")  # no whole number of ticks
    (board,) = found["gpus"]
    assert found["ended_at"] - found["started_at"] >= 0.611
    assert off_ticks_s(gpu, found["started_at"]) < 1e-3
    assert off_ticks_s(gpu, found["ended_at"]) < 1e-3
    truth_j = exact_j(gpu, found["started_at"], found["ended_at"])
    assert board["energy_j"] == pytest.approx(truth_j, rel=2e-3)
    assert (found["command_started_at"], found["command_ended_at"]) == (None, None)


def test_boards_whose_ticks_differ_are_each_within_their_uncertainty(standin, read):
    gpus = standin(*(StandinGpu(uuid=u, **SQUARE, tick_phase_s=0.00137 + 0.0061 * i)
                     for i, u in enumerate((A, B, C))))  # fmt: skip
    for words in (["--", "sleep", "0.5"], ["--seconds", "0.5"]):
        found = read(*words)
        start = found["command_started_at"] or found["started_at"]
        end = found["command_ended_at"] or found["ended_at"]
        for gpu, board in zip(gpus, found["gpus"], strict=True):
            truth_j = exact_j(gpu, start, end)
            # A half-width is one of 95 %: now and then both edges are at their worst.
            assert abs(board["energy_j"] - truth_j) <= 1.5 * board["uncertainty_j"] + 0.01


# ---- what is printed ---------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("--", "sleep", "0.5"), ("--seconds", "0.5")])
def test_json_holds_exactly_what_is_promised(standin, read, words):
    standin(StandinGpu(uuid=A), StandinGpu(uuid=B, counter=0, name="NVIDIA A100"))
    found = read(*words)
    assert list(found) == KEYS
    assert [list(board) for board in found["gpus"]] == [GPU_KEYS, GPU_KEYS]
    one, other = found["gpus"]
    assert (one["index"], one["uuid"], one["name"]) == (0, A, "NVIDIA H100 80GB HBM3")
    assert (one["method"], one["counter_j"]) == ("counter", one["energy_j"])
    assert one["ratio"] == pytest.approx(one["counter_j"] / one["integrated_j"])
    assert (other["method"], other["integrated_j"]) == ("integrated", other["energy_j"])
    assert (other["counter_j"], other["ratio"], other["reasons"]) == (None, None, ["no_counter"])
    for board in found["gpus"]:
        assert (board["reality"], board["power_field"]) == ("simulated", "instant")
        assert board["sensor_accuracy"] is None
        assert board["max_w"] == pytest.approx(300.0)
        assert board["samples"] >= 3
    started_at = found["command_started_at"] or found["started_at"]
    assert abs(started_at - time.time()) < 60
    assert round(started_at, 6) == started_at


def test_the_table_goes_to_people_and_stdout_stays_the_commands(standin, meter):
    standin(StandinGpu(uuid=A), StandinGpu(uuid=B))
    code, out, err = meter("--", "echo", "mine")
    assert (code, out) == (0, "mine\n")
    title, head, *rest = err.splitlines()
    assert re.fullmatch(r"echo mine: \d\.\d{3} s, exit code 0 *", title)
    assert head.split() == ["GPU", "name", "energy", "J", "±", "J", "mean", "W", "max", "W", "by"]
    assert [line.split()[0] for line in rest[1:4]] == ["0", "1", "sum"]
    assert "simulated" in rest[-1]
    assert all(len(line) <= 80 for line in err.splitlines())


def test_one_line_of_json_follows_all_that_a_command_prints(standin, meter):
    standin(StandinGpu(uuid=A))
    lines = 300_000
    words = ("--json", "--", sys.executable, "-c", f"for i in range({lines}): print('line', i)")
    code, out, err = meter(*words)
    printed = out.splitlines()
    assert (code, err, len(printed)) == (0, "", lines + 1)
    assert printed[:-1] == [f"line {i}" for i in range(lines)]
    assert json.loads(printed[-1])["gpus"][0]["energy_j"] > 0


def test_stdin_stderr_and_arguments_reach_the_command_untouched(standin, meter):
    standin(StandinGpu(uuid=A))
    code = "import sys; print(sys.argv[1:]); sys.stderr.write(sys.stdin.read())"
    given = ["--json", "--", "--seconds", "password=x", "", "two words", "*", "\N{SNOWMAN}"]
    ended, out, err = meter("--", sys.executable, "-c", code, *given, stdin="to read")
    assert (ended, out) == (0, f"{given}\n")
    assert err.startswith("to read")


def test_a_command_finds_files_and_pipes_as_any_shell_leaves_them(standin, meter):
    """Python ignores SIGPIPE for itself; a command that inherits that never ends."""
    standin(StandinGpu(uuid=A))
    code, out, _ = meter("--", "bash", "-c", "yes | head -n 1; echo ${PIPESTATUS[0]}")
    assert (code, out) == (0, f"y\n{128 + signal.SIGPIPE}\n")


def test_a_descriptor_that_the_user_opened_is_the_commands_and_ours_are_not(
    standin, start, tmp_path
):
    standin(StandinGpu(uuid=A))
    with (tmp_path / "log").open("w") as log:
        number = log.fileno()
        code = f"import os; os.write({number}, b'x'); print(*os.listdir('/proc/self/fd'))"
        process = start("--", sys.executable, "-c", code, pass_fds=[number])
        out, _ = process.communicate(timeout=60)
    assert (tmp_path / "log").read_text() == "x"
    theirs = {"0", "1", "2", str(number)}
    assert len(set(out.split()) - theirs) == 1  # that of the listing itself


def test_the_trace_holds_the_samples_of_the_window(standin, meter, tmp_path):
    standin(StandinGpu(uuid=A, low_w=220.0), StandinGpu(uuid=B, low_w=330.0))
    path = tmp_path / "trace.csv"
    words = ("--json", "--interval", "0.05", "--trace", path, "--", "sleep", "0.6")
    code, out, _ = meter(*words)
    found = json.loads(out)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert code == 0
    assert list(rows[0]) == ["unix_s", "gpu_index", "uuid", "power_w"]
    for board, watts in zip(found["gpus"], (220.0, 330.0), strict=True):
        mine = [row for row in rows if row["uuid"] == board["uuid"]]
        times = [float(row["unix_s"]) for row in mine]
        assert len(mine) >= 9
        assert len(mine) >= board["samples"] > 0  # looks at a sensor that saw nothing new count not
        assert times == sorted(times)
        assert found["command_started_at"] <= times[0]
        assert times[-1] <= found["command_ended_at"]
        assert {row["gpu_index"] for row in mine} == {str(board["index"])}
        assert {round(float(row["power_w"])) for row in mine} == {watts}


def test_neither_ray_nor_a_store_nor_an_engine_nor_the_binding_is_loaded(standin, meter, tmp_path):
    standin(StandinGpu(uuid=A))
    code = (
        "import sys; sys.argv = ['campaign', 'meter', '--json', '--', 'true']\n"
        "from campaign.cli import main; code = main()\n"
        "heavy = {'ray', 'sqlalchemy', 'psycopg', 'torch', 'vllm', 'transformers', 'pynvml',"
        " 'hydra', 'omegaconf', 'codecarbon', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[] 0"


# ---- exit codes and signals --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "exit 255"), 255),
        (("sh", "-c", "kill -KILL $$"), 137),
        (("sh", "-c", "kill -TERM $$"), 143),
        (("sh", "-c", "kill -SEGV $$"), 139),
    ],
)
def test_the_exit_code_is_the_commands(standin, meter, command, code):
    standin(StandinGpu(uuid=A))
    ended, out, err = meter("--json", "--", *command)
    assert (ended, err) == (code, "")
    assert json.loads(out)["gpus"][0]["energy_j"] > 0


@pytest.fixture
def terminal(standin):
    """A function that runs the program on a terminal and returns its code and what is seen there.

    `steps` are words to wait for, each with the keys typed then.
    """
    pids = []

    def run(*words, steps):
        pid, screen = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            os.execv(sys.executable, [sys.executable, "-m", "campaign", "meter", *words])
        pids.append(pid)
        shown, steps = "", list(steps)
        while True:
            try:
                shown += os.read(screen, 4096).decode()
            except OSError:  # the terminal is gone with its last process
                break
            while steps and steps[0][0] in shown:
                os.write(screen, steps.pop(0)[1])
        os.close(screen)
        _, status = os.waitpid(pids.pop(), 0)
        return os.waitstatus_to_exitcode(status), shown

    yield run
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_ctrl_c_ends_the_command_and_what_was_measured_is_printed(standin, terminal):
    standin(StandinGpu(uuid=A))
    code, shown = terminal("--", "sh", "-c", "echo ready; exec sleep 60",
                           steps=[("ready", b"\x03")])  # fmt: skip
    assert code == 128 + signal.SIGINT
    assert "exit code 130" in shown
    assert re.search(r"0 +NVIDIA H100 80GB HBM3 +\d", shown)


def test_a_command_that_handles_ctrl_c_gets_each_one_once_and_is_waited_for(standin, terminal):
    standin(StandinGpu(uuid=A))
    code, shown = terminal("--", sys.executable, "-c", COUNTER, steps=[
        ("ready", b"\x03"), ("interrupt 1", b"\x03"), ("interrupt 2", b"\x04"),
    ])  # fmt: skip
    assert code == 9
    assert "interrupt 3" not in shown
    assert "exit code 9" in shown


def test_ctrl_c_ends_the_seconds_and_what_was_measured_is_printed(standin, start):
    (gpu,) = standin(StandinGpu(uuid=A))
    process = start("--json", "--seconds", "600")
    until_metering(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    found = json.loads(out)
    assert (process.returncode, err) == (130, "")
    truth_j = exact_j(gpu, found["started_at"], found["ended_at"])
    assert found["gpus"][0]["energy_j"] == pytest.approx(truth_j, rel=1e-2)


def until_metering(process, deadline_s=60.0):
    """Wait until the program holds its signals, which it does from the window's start on.

    It then blocks SIGCHLD and not, as for the moment of starting a process, all signals.
    """
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        status = Path(f"/proc/{process.pid}/status").read_text()
        blocked = int(re.search(r"SigBlk:\s*(\w+)", status)[1], 16)
        if blocked >> (signal.SIGCHLD - 1) & 1 and not blocked >> (signal.SIGUSR1 - 1) & 1:
            return
        time.sleep(0.005)
    raise AssertionError("it never began")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_meter_alone_is_passed_on(standin, start, number):
    standin(StandinGpu(uuid=A))
    process = start("--json", "--", "sh", "-c", "echo ready; exec sleep 60")
    until_reads(process.stdout, "ready")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, "")
    assert json.loads(out)["gpus"][0]["energy_j"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_signal_to_the_whole_group_costs_no_measurement(standin, start, number):
    """As a batch system or `timeout` sends it: the sampler is in the group as well."""
    standin(StandinGpu(uuid=A))
    process = start("--json", "--", "sh", "-c", "echo ready; exec sleep 60")
    until_reads(process.stdout, "ready")
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=60)
    (board,) = json.loads(out)["gpus"]
    assert (process.returncode, err) == (128 + number, "")
    assert (board["method"], board["energy_j"] > 0) == ("counter", True)


def test_a_command_inherits_which_signals_are_ignored_and_none_is_blocked(standin, start):
    standin(StandinGpu(uuid=A))
    process = start("--", "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status")
    out, _ = process.communicate(timeout=60)
    blocked, ignored = (int(line.split()[1], 16) for line in out.splitlines())
    assert (blocked, ignored & (1 << 31) - 1) == (0, 0)  # beyond are the C library's own


def test_a_sampler_that_dies_costs_the_energy_and_not_the_command(standin, meter):
    standin(StandinGpu(uuid=A))
    code = (
        "import os; me, parent = os.getpid(), os.getppid()\n"
        "children = open(f'/proc/{parent}/task/{parent}/children').read().split()\n"
        "[os.kill(int(pid), 9) for pid in children if int(pid) != me]\n"
        "exit(5)"
    )
    code, out, _ = meter("--json", "--", sys.executable, "-c", code)
    found = json.loads(out)
    assert (code, found["reasons"][0]) == (5, "sampler_lost")
    assert (found["gpus"][0]["energy_j"], found["gpus"][0]["reasons"]) == (None, ["sampler_lost"])


# ---- which GPUs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "visible", "found", "reasons", "reasons_of_first"),
    [
        ((), None, [0, 1, 2], [], []),
        ((), "2,0", [0, 2], [], []),
        ((), "1,9", [1], ["cuda_visible_devices_cut"], []),
        ((), "GPU-c", [2], [], []),
        (("--gpus", "1"), None, [1], [], []),
        (("--gpus", "GPU-c,0"), None, [0, 2], [], []),
        (("--gpus", B), "1", [1], [], []),
        (("--gpus", "0"), "1,2", [0], [], ["not_in_cuda_visible_devices"]),
        (("--gpus", "0"), "", [0], [], ["not_in_cuda_visible_devices"]),
        (("--gpus", "0"), "MIG-1", [0], [], ["not_in_cuda_visible_devices"]),
    ],
)
def test_only_the_chosen_gpus_are_reported(
    standin, read, words, visible, found, reasons, reasons_of_first
):
    standin(*(StandinGpu(uuid=u) for u in (A, B, C)))
    env = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    seen = read(*words, "--", "sleep", "0.4", env=env)
    assert [board["index"] for board in seen["gpus"]] == found
    assert [board["uuid"] for board in seen["gpus"]] == [(A, B, C)[i] for i in found]
    assert seen["reasons"][: len(reasons)] == reasons
    assert seen["gpus"][0]["reasons"] == reasons_of_first


def test_a_choice_says_where_cuda_may_count_otherwise(standin, read):
    standin(StandinGpu(uuid=A, name="NVIDIA A100"), StandinGpu(uuid=B))
    env = {"CUDA_VISIBLE_DEVICES": "0"}
    assert "cuda_order_assumed_pci" in read("--", "true", env=env)["reasons"]
    env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    assert "cuda_order_assumed_pci" not in read("--", "true", env=env)["reasons"]


def test_a_split_board_among_others_is_null_with_its_reason(standin, read):
    standin(StandinGpu(uuid=A, mig=1), StandinGpu(uuid=B))
    split, whole = read("--", "sleep", "0.3")["gpus"]
    assert (split["energy_j"], split["method"], split["reasons"]) == (None, None, ["mig"])
    assert whole["energy_j"] > 0


def test_a_board_lost_meanwhile_is_null_and_the_command_goes_on(standin, meter):
    lost = time.monotonic() + 3.0
    standin(StandinGpu(uuid=A, lost_at=lost), StandinGpu(uuid=B))
    wait = f"import time; time.sleep(max(0, {lost} + 0.3 - time.monotonic())); exit(4)"
    code, out, _ = meter("--json", "--", sys.executable, "-c", wait)
    gone, there = json.loads(out)["gpus"]
    assert (code, gone["energy_j"], gone["reasons"]) == (4, None, ["gpu_lost"])
    assert there["energy_j"] > 0


# ---- the CPU -----------------------------------------------------------------------------------


def grow(powercap, package_uj, dram_uj):
    """The command that lets the counters move, as an hour of work would."""
    zones = {"intel-rapl:0": package_uj, "intel-rapl:0:0": dram_uj}
    return "sh", "-c", "; ".join(f"echo {v} > {powercap}/{z}/energy_uj" for z, v in zones.items())


def test_the_cpu_is_metered_beside_the_gpus(standin, read, powercap):
    standin(StandinGpu(uuid=A))
    found = read("--", *grow(powercap, 3_500_000, 1_250_000), powercap=powercap)
    assert found["cpu"] == {"package_j": 2.5, "dram_j": 0.25, "method": "rapl", "reasons": []}
    assert found["reasons"] == []
    assert found["gpus"][0]["energy_j"] > 0


@pytest.mark.parametrize(
    ("boards", "env", "reason", "words"),
    [
        (None, {"LD_LIBRARY_PATH": ""}, "no_nvml", r"no libnvidia-ml\.so\.1: install"),
        ([], {}, "no_gpu", "NVML lists none"),
        ([{"uuid": A}], {"CUDA_VISIBLE_DEVICES": "-1"}, "cuda_hides_all_gpus", "'-1' hides them"),
    ],
)
def test_without_a_gpu_the_cpu_is_metered_and_the_lack_is_said_at_once(
    standin, meter, powercap, boards, env, reason, words
):
    standin(*(StandinGpu(**board) for board in boards or []))
    command = grow(powercap, 3_000_000, 2_000_000)
    code, out, err = meter("--json", "--", *command, powercap=powercap, env=env)
    found = json.loads(out)
    assert (code, found["gpus"], found["reasons"]) == (0, [], [reason])
    assert (found["cpu"]["package_j"], found["cpu"]["dram_j"]) == (2.0, 1.0)
    assert re.search(words, err)
    assert err.count("\n") == 1
    code, out, err = meter("--", *grow(powercap, 5_000_000, 2_000_000), powercap=powercap, env=env)
    assert re.search(words, err)
    assert re.search(r"CPU +packages +2\.0+ ", err)


def test_a_cpu_that_nobody_may_read_is_null_with_the_fix(standin, meter, powercap):
    standin(StandinGpu(uuid=A))
    (powercap / "intel-rapl:0" / "energy_uj").write_text("?")
    code, out, err = meter("--json", "--", "true", powercap=powercap)
    cpu = json.loads(out)["cpu"]
    assert (code, cpu["package_j"], cpu["method"]) == (0, None, None)
    assert cpu["reasons"] == ["rapl_unreadable"]
    assert "chmod" in err


def test_a_machine_without_the_counters_has_no_cpu_and_says_why(standin, read, tmp_path):
    standin(StandinGpu(uuid=A))
    found = read("--", "true", powercap=tmp_path / "none")
    assert (found["cpu"], found["reasons"]) == (None, ["rapl_absent"])


def test_seconds_of_the_cpu_alone(standin, start, powercap):
    standin()
    process = start("--json", "--seconds", "1", powercap=powercap)
    until_metering(process)
    (powercap / "intel-rapl:0" / "energy_uj").write_text("2000000")
    found = json.loads(process.communicate(timeout=60)[0])
    assert (process.returncode, found["cpu"]["package_j"]) == (0, 1.0)
    assert found["duration_s"] >= 1.0


# ---- bad input ---------------------------------------------------------------------------------

RAN = "the command ran"
DO = ("--", "echo", RAN)


@pytest.mark.parametrize(
    ("boards", "options", "words", "env", "said"),
    [
        (None, {}, DO, {"LD_LIBRARY_PATH": ""}, r"no libnvidia-ml\.so\.1: install the NVIDIA"),
        (None, {}, ("--gpus", "0", *DO), {"LD_LIBRARY_PATH": ""}, r"no libnvidia-ml\.so\.1"),
        ([A], {"init_error": 4}, DO, {}, "may not open /dev/nvidia"),
        ([A], {"init_error": 9}, DO, {}, "driver is not loaded"),
        ([], {}, DO, {}, "NVML lists none"),
        ([A], {}, DO, {"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES='' hides them all"),
        ([A], {}, DO, {"CUDA_VISIBLE_DEVICES": "5"}, "hides them all"),
        ([A], {}, DO, {"CUDA_VISIBLE_DEVICES": f"MIG-{A}/1/0"}, "MIG instance"),
        ([A], {}, ("--gpus", "MIG-1", *DO), {}, "MIG instance"),
        ([A], {"mig": 1}, DO, {}, "split by MIG"),
        ([A], {"mig": 1}, ("--gpus", "0", *DO), {}, "split by MIG"),
        ([A], {"counter": 0, "instant": 0, "average": 0, "legacy": 0}, DO, {}, "neither energy"),
    ],
)
def test_what_cannot_be_metered_is_refused_before_the_command_runs(
    standin, meter, tmp_path, boards, options, words, env, said
):
    start_error = {k: options.pop(k) for k in ["init_error"] if k in options}
    standin(*(StandinGpu(uuid=u, **options) for u in boards or []), **start_error)
    code, out, err = meter(*words, env=env, powercap=tmp_path / "none")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert re.search(said, err)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "give a command after --"),
        (("--",), 2, "no command after --"),
        (("echo", RAN), 2, "'echo' stands before --"),
        (("python", "-c", "x"), 2, "-c: no such option.*a command goes after --"),
        (("campaign=x", *DO), 2, "'campaign=x' stands before --"),
        (("--conf", ".", *DO), 2, "--conf: no such option"),
        (("--seconds", "1", *DO), 2, "not both"),
        (("--seconds", "0"), 2, "--seconds 0: it must be above zero"),
        (("--seconds", "-1"), 2, "--seconds -1: it must be above zero"),
        (("--seconds", "nan"), 2, "--seconds nan: it must be above zero"),
        (("--seconds", "inf"), 2, "--seconds inf: it must be above zero"),
        (("--seconds", "soon"), 2, "invalid float value: 'soon'"),
        (("--interval", "0", *DO), 2, "--interval 0: it must be above zero"),
        (("--interval", "-0.1", *DO), 2, "--interval -0.1: it must be above zero"),
        (("--gpus", "1", *DO), 2, f"no GPU 1 on this machine .here: 0 .{A}"),
        (("--gpus", "GPU-b", *DO), 2, "no GPU GPU-b on this machine"),
        (("--gpus", "", *DO), 2, "a name is empty"),
        (("--trace", "/nowhere/x.csv", *DO), 2, "--trace /nowhere/x.csv: No such file"),
        (("--", "no-such-command"), 127, "no-such-command: no such command"),
        (("--", "./no-such-command"), 127, "no such command"),
        (("--", ""), 127, "no such command"),
        (("--", "/"), 126, "/: not executable"),
    ],
)
def test_bad_input_is_one_line_and_nothing_runs(standin, meter, words, code, said):
    standin(StandinGpu(uuid=A))
    ended, out, err = meter(*words)
    assert (ended, out, err.count("\n")) == (code, "", 1)
    assert re.search(said, err)


@pytest.mark.parametrize(
    ("text", "mode", "code"),
    [("#!/bin/sh\n", 0o644, 126), ("no interpreter", 0o755, 126), ("#!/none/sh\n", 0o755, 127)],
)
def test_a_file_that_cannot_be_executed_is_named(standin, meter, tmp_path, text, mode, code):
    standin(StandinGpu(uuid=A))
    path = tmp_path / "script"
    path.write_text(text)
    path.chmod(mode)
    ended, out, err = meter("--", path)
    assert (ended, out, err.count("\n")) == (code, "", 1)
    assert str(path) in err


def test_seconds_in_which_nothing_was_measured_are_a_failure(standin, meter):
    lost = time.monotonic() + 2.5
    standin(StandinGpu(uuid=A, lost_at=lost))
    code, out, _ = meter("--json", "--seconds", "3")
    assert (code, json.loads(out)["gpus"][0]["reasons"]) == (3, ["gpu_lost"])


def test_help_says_the_exit_codes(meter):
    code, out, err = meter("--help")
    assert (code, err) == (0, "")
    assert all(word in out for word in ("126", "127", "128+n", "130", "-- CMD", "--trace"))
