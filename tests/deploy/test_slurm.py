"""The scripts for Slurm, run with stand-ins for Slurm's commands.

`ray` stands in as well: the real one would stop every Ray of this user at the end. Its arguments
are read by Ray's own parsers, and it runs the entry point on the first node as Ray does.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from campaign.configuration.config import load
from tests.deploy.conftest import DEPLOY, ROOT
from tests.nvml.curve import StandinGpu, write_config

pytestmark = pytest.mark.nvml

SCRIPT = DEPLOY / "slurm" / "campaign.sbatch"
STORE = "postgresql+psycopg://campaign_worker@db.example/campaign?sslmode=verify-full"
OVERRIDES = ("+grid=quickstart", "campaign=mine", "board=[h100-sxm-80gb,a100-sxm-80gb]")
H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"

PYTHON = f'#!/bin/bash\nexec {sys.executable} "$@"\n'
#: Every node of the allocation, one after another: the first with the driver comes last.
SRUN = """#!/bin/bash
printf '%s\\n' "$@" >"$NOTES/srun"
while [[ $1 == --* ]]; do shift; done
for node in $NODES; do
    SLURM_NODEID=$node NVML_STANDIN=$BOARDS/$node "$@" || worst=$?
done
exit "${worst:-0}"
"""
#: The script's patience: over once the driver has had the first notice.
SLEEP = '#!/bin/bash\nread -r -n 1 _ <"$NOTICED"\n'
SQUEUE = "#!/bin/bash\necho 2026-11-22T03:04:05\n"
RAY = f"""#!{sys.executable}
import json, os, subprocess, sys
from pathlib import Path
from ray.scripts.symmetric_run import curate_and_validate_ray_start_args
from ray.scripts.scripts import start

verb, given = sys.argv[1], sys.argv[2:]
assert verb == "symmetric-run", verb
at = given.index("--")
options = curate_and_validate_ray_start_args(given[:at])
address = given[given.index("--address") + 1]
first = os.environ["SLURM_NODEID"] == "0"
role = ["--head", "--port=6379"] if first else ["--address", address, "--block"]
parsed = start.make_context("start", [*role, *options]).params
token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
note = {{
    "address": address,
    "labels": parsed["labels"],
    "dashboard_host": parsed["dashboard_host"],
    "mode": os.environ["RAY_AUTH_MODE"],
    "token": token.read_text(),
    "token_mode": token.stat().st_mode & 0o777,
}}
Path(os.environ["NOTES"], "ray-" + os.environ["SLURM_NODEID"]).write_text(json.dumps(note))
if first:
    sys.exit(subprocess.run(given[at + 1 :]).returncode)
"""
#: A driver: it says that it runs, and waits for as many signals as it is told to.
CAMPAIGN = f"""#!{sys.executable}
import json, os, signal, sys
from pathlib import Path

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
note = {{"argv": sys.argv[1:], "ends": os.environ["SLURM_JOB_END_TIME"], "pid": os.getpid()}}
Path(os.environ["NOTES"], "driver").write_text(json.dumps(note))
with open(os.environ["STARTED"], "w") as pipe:
    pipe.write("started")
for _ in range(int(os.environ["SIGNALS"])):
    signal.sigwait([signal.SIGTERM])
    pipe = os.open(os.environ["NOTICED"], os.O_RDWR)  # kept: nobody waits for a reader
    os.write(pipe, b"noticed")
sys.exit(int(os.environ["ENDS_WITH"]))
"""


class Allocation:
    """An allocation as the script finds it; `run` submits."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.notes, self.jobs, boards = folder / "notes", folder / "jobs", folder / "boards"
        binaries, venv = folder / "bin", folder / "root" / ".venv" / "bin"
        for made in (self.notes, self.jobs, boards, binaries, venv):
            made.mkdir(parents=True)
        (folder / "root" / "deploy").symlink_to(DEPLOY)
        programs = {
            binaries / "srun": SRUN, binaries / "squeue": SQUEUE, binaries / "sleep": SLEEP,
            venv / "python": PYTHON, venv / "ray": RAY, venv / "campaign": CAMPAIGN,
        }  # fmt: skip
        for path, text in programs.items():
            path.write_text(text)
            path.chmod(0o755)
        self.started, noticed = folder / "started", folder / "noticed"
        os.mkfifo(self.started)
        os.mkfifo(noticed)
        self.boards = boards
        self.hold(0, H100)
        self.environment = {
            "PATH": f"{binaries}:/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT),
            "LD_LIBRARY_PATH": str(library), "NVML_STANDIN": str(boards / "0"),
            "BOARDS": str(boards), "NOTES": str(self.notes), "STARTED": str(self.started),
            "NOTICED": str(noticed),
            "NODES": "0", "SIGNALS": "0", "ENDS_WITH": "0", "CAMPAIGN_JOBS": str(self.jobs),
            "CAMPAIGN_HEAD_IP": "10.0.0.1", "CAMPAIGN_STORE_URL": STORE,
            "SLURM_SUBMIT_DIR": str(folder / "root"), "SLURM_JOB_ID": "17", "TZ": "UTC",
            "SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "8", "SLURM_CPUS_ON_NODE": "64",
            "SLURM_JOB_END_TIME": "1795316645",
        }  # fmt: skip
        self.jobs_started: list[subprocess.Popen[str]] = []

    def hold(self, node: int, *names: str) -> None:
        """Put boards into a node."""
        gpus = [
            StandinGpu(name=name, uuid=f"GPU-{n:08x}-0000-0000-0000-000000000000")
            for n, name in enumerate(names)
        ]
        write_config(self.boards / str(node), gpus)

    def submit(self, **environment: str | None) -> subprocess.Popen[str]:
        given = {k: v for k, v in (self.environment | environment).items() if v is not None}
        job = subprocess.Popen(
            ["bash", str(SCRIPT), *OVERRIDES], env=given, start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.jobs_started.append(job)
        return job

    def run(self, **environment: str | None) -> subprocess.CompletedProcess[str]:
        """Run a job whose driver ends by itself."""
        reader = os.open(self.started, os.O_RDONLY | os.O_NONBLOCK)  # the driver need not wait
        try:
            job = self.submit(**environment)
            out, err = job.communicate(timeout=120)
        finally:
            os.close(reader)
        return subprocess.CompletedProcess(job.args, job.returncode, out, err)

    def wait_for_driver(self) -> None:
        """Return once the driver runs: it writes into the pipe."""
        assert self.started.read_text() == "started"

    def note(self, name: str) -> Mapping[str, Any]:
        return json.loads((self.notes / name).read_text())


@pytest.fixture
def allocation(tmp_path: Path, library: Path) -> Iterator[Allocation]:
    made = Allocation(tmp_path, library)
    yield made
    for job in made.jobs_started:
        with suppress(ProcessLookupError):  # also what outlived the script
            os.killpg(job.pid, signal.SIGKILL)
        job.communicate()


def test_a_job_runs_the_campaign_on_labelled_nodes_and_ends_as_it_does(allocation):
    allocation.hold(1, H100)
    done = allocation.run(NODES="1 0", ENDS_WITH="4")
    assert done.returncode == 4, done.stderr
    nodes = [allocation.note("ray-0"), allocation.note("ray-1")]
    for node in nodes:
        assert node["labels"] == "campaign/board=h100-sxm-80gb"
        assert node["address"] == "10.0.0.1:6379"
        assert (node["mode"], node["dashboard_host"]) == ("token", "127.0.0.1")
    assert nodes[0]["token"] == nodes[1]["token"]
    assert len(nodes[0]["token"]) == 64
    assert nodes[0]["token_mode"] == stat.S_IRUSR | stat.S_IWUSR
    assert list(allocation.jobs.iterdir()) == []  # no token is left behind
    step = (allocation.notes / "srun").read_text().split()
    assert {"--cpus-per-task=64", "--cpu-bind=none", "--kill-on-bad-exit=0"} <= set(step)


def test_the_driver_gets_a_configuration_that_is_valid_and_the_walltime(allocation):
    assert allocation.run().returncode == 0
    driver = allocation.note("driver")
    assert driver["ends"] == "1795316645"
    verb, *overrides = driver["argv"]
    assert (verb, tuple(overrides[:3])) == ("run", OVERRIDES)
    settings = load(overrides)
    assert settings.store.url == STORE
    assert (settings.cluster.kind, settings.cluster.address) == ("ray", "10.0.0.1:6379")
    assert settings.cluster.boards == {"h100-sxm-80gb": 16}
    assert settings.campaign == "mine"


def test_an_older_slurm_is_asked_for_the_walltime(allocation):
    assert allocation.run(SLURM_JOB_END_TIME=None).returncode == 0
    ends = datetime.fromisoformat("2026-11-22T03:04:05+00:00").timestamp()
    assert allocation.note("driver")["ends"] == f"{ends:.0f}"


def test_slurms_notice_drains_the_driver(allocation):
    job = allocation.submit(SIGNALS="1", ENDS_WITH="130")
    allocation.wait_for_driver()
    job.send_signal(signal.SIGTERM)  # to the batch script alone: --signal=B:TERM
    assert job.wait(timeout=60) == 130


def test_what_is_not_finished_by_then_is_given_back(allocation):
    job = allocation.submit(SIGNALS="2", ENDS_WITH="130")
    allocation.wait_for_driver()
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=60) == 130


def test_the_notice_comes_before_the_drain_is_over(allocation):
    text = SCRIPT.read_text()
    notice_s = int(text.split("--signal=B:TERM@")[1].split()[0])
    drain_s = int(text.split("CAMPAIGN_DRAIN_S:-")[1].split("}")[0])
    assert 0 < drain_s < notice_s


def test_a_node_with_other_boards_takes_no_part(allocation):
    allocation.hold(1, A100)
    done = allocation.run(NODES="1 0")
    assert done.returncode == 0, done.stderr
    assert "label: this node holds a100-sxm-80gb, h100-sxm-80gb is expected" in done.stderr
    assert not (allocation.notes / "ray-1").exists()
    assert (allocation.notes / "driver").exists()


def refusal(done: subprocess.CompletedProcess[str], notes: Path) -> str:
    assert not (notes / "srun").exists()
    (line,) = done.stderr.splitlines()
    return line


def test_a_first_node_with_unlike_boards_ends_the_job(allocation):
    allocation.hold(0, H100, A100)
    done = allocation.run()
    assert done.returncode == 3
    assert "a100-sxm-80gb and h100-sxm-80gb" in refusal(done, allocation.notes)


@pytest.mark.parametrize("missing", ["CAMPAIGN_STORE_URL", "SLURM_GPUS_ON_NODE"])
def test_what_the_job_needs_is_asked_for(allocation, missing):
    done = allocation.run(**{missing: None})
    assert done.returncode != 0
    assert missing in refusal(done, allocation.notes)
