"""What every suite shares: folders other users may enter, the program as a process, markers."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

import hypothesis
import psutil
import pytest

from tests.nvml.curve import StandinGpu, build, write_config

Place = Callable[..., tuple[StandinGpu, ...]]

ROOT = Path(__file__).resolve().parent.parent

#: Folders of tests/ whose name is a marker: `-m "not engines"` leaves a whole suite out.
SUITES = frozenset({"store", "ray", "crash", "nvml", "engines", "browser"})
#: The suites in the order that keeps several workers busy to the end: what measures, what waits
#: long, the others, and last what is over in no time.
FIRST, LAST = ("nvml", "crash", "ray", "chaos", "engines", "docs"), ("unit",)


def pytest_configure() -> None:
    """Hold no example to a time, and let a terminal's signals reach the tests' processes.

    On a busy machine any example may be slow. A suite that was started in the background inherits
    that signals are ignored, and so would they.
    """
    slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("unhurried", deadline=None, suppress_health_check=slow)
    hypothesis.settings.load_profile("unhurried")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the suites, mark each test with its own; skip what needs a GPU where there is none."""
    items.sort(key=_turn)
    without_gpu = pytest.mark.skip(reason="no NVIDIA GPU on this machine")
    gpu = Path("/proc/driver/nvidia/version").exists()
    for item in items:
        for suite in SUITES.intersection(item.path.relative_to(ROOT).parts):
            item.add_marker(suite)
        if not gpu and item.get_closest_marker("gpu"):
            item.add_marker(without_gpu)


def _suite(item: pytest.Item) -> str:
    return item.path.relative_to(ROOT / "tests").parts[0]


def _turn(item: pytest.Item) -> int:
    suite = _suite(item)
    return FIRST.index(suite) if suite in FIRST else len(FIRST) + (suite in LAST)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Give a test of the meters the machine to itself, whatever other workers have to do."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    place = Path(tempfile.gettempdir(), f"campaign-tests-{os.getuid()}")
    alone = _suite(item) == "nvml" or item.get_closest_marker("alone")
    mode = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with (
        place.with_suffix(".door").open("a+") as door,
        place.with_suffix(".machine").open("a+") as machine,
    ):
        # Whoever waits for the machine stands in the door, so that nobody goes in before.
        fcntl.lockf(door, fcntl.LOCK_EX)
        fcntl.lockf(machine, mode)
        fcntl.lockf(door, fcntl.LOCK_UN)
        return (yield)


def end_processes_below(folder: Path) -> None:
    """Kill what a test started in a folder: its path stands in their arguments or working folder.

    The folder's name was drawn for one test, so no process of anyone else can match.
    """
    for process in psutil.process_iter():
        try:
            places = [process.cwd(), *process.cmdline()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if process.pid != os.getpid() and any(str(folder) in place for place in places):
            process.kill()
            process.wait(timeout=30)


@pytest.fixture
def public_tmp() -> Iterator[Path]:
    """A folder that every OS user may enter: as root, Postgres runs as another user.

    pytest's own tmp_path lies below a folder that only its owner may enter.
    """
    folder = Path(tempfile.mkdtemp(prefix="campaign-test-")).resolve()
    folder.chmod(0o755)
    yield folder
    end_processes_below(folder)
    shutil.rmtree(folder)


class Program:
    """The command line as its users meet it: a process, with signals and exit codes."""

    def __init__(self, folder: Path) -> None:
        """Take the folder that stands for the user's working folder and home."""
        self.folder = folder
        self.environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "CAMPAIGN_HOME": str(folder),
            "CAMPAIGN_LOCKS": str(folder / "locks"),
        }
        self.started: list[subprocess.Popen[str]] = []

    def start(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        terminal: int | None = None,
    ) -> subprocess.Popen[str]:
        """Start `campaign ...` in a session of its own, which ends with the test.

        With a `terminal` it is the session's, and the program's standard streams.
        """
        taking = () if terminal is None else ("setsid", "--ctty")  # who closes it hangs up on it
        process = subprocess.Popen(
            [*taking, sys.executable, "-m", "campaign", *arguments],
            cwd=self.folder,
            env=self.environment | dict(environment or {}),
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=subprocess.PIPE if terminal is None else terminal,
            stderr=subprocess.PIPE if terminal is None else terminal,
            text=True,
            start_new_session=terminal is None,
        )
        self.started.append(process)
        return process

    def run(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 240.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run `campaign ...` to its end; the exit code is the caller's to judge."""
        process = self.start(*arguments, environment=environment)
        out, err = process.communicate(timeout=timeout_s)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def end(self) -> None:
        """Kill the process groups that still run and close their pipes."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def program(public_tmp: Path) -> Iterator[Program]:
    """The program, run from a folder of the test's own."""
    made = Program(public_tmp)
    yield made
    made.end()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the stand-in libnvidia-ml.so.1, compiled once."""
    if shutil.which("gcc") is None:
        pytest.skip("the NVML stand-in needs gcc")
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def standin(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A function that puts boards behind the stand-in, for processes started afterwards."""

    def place(*gpus: StandinGpu, **options: object) -> tuple[StandinGpu, ...]:
        config = write_config(tmp_path / "boards", gpus, **options)
        monkeypatch.setenv("NVML_STANDIN", str(config))
        monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
        return gpus

    return place
