"""Bad input through the command line: one clear line, exit code 2, nothing started.

Most of it is given to the entry point in this process, as a process of its own takes a second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from campaign.cli import main

Said = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[2]

SECRETS = [
    ["plan", "store.url=postgresql://u:hunter2@h/db"],
    ["plan", "--url=postgresql://u:hunter2@h/db"],
    ["plan", "--password", "hunter2"],
    ["run", "store.password=hunter2"],
    ["query", "select 1", "store.reader_url=postgresql://u:hunter2@h/db"],
    ["postgresql://u:hunter2@h/db"],
]

BAD = [
    (["runn"], "'runn' is no verb; did you mean run?"),
    (["plan", "+grid=quikstart"], "grid=quikstart: no such grid; did you mean quickstart?"),
    (["plan", "grid=whole"], "grid=whole: no such grid"),
    (["plan", "+grid=energy_considerations/length"], "did you mean energy_considerations/lengths"),
    (["plan", "+grid=[smoke,quikstart]"], "grid=quikstart: no such grid; did you mean quickstart?"),
    (["plan", "+grid=smoke,quickstart"], "write grid=[smoke,quickstart]"),
    (["plan", "run.max_hours=3"], "run.max_hours: no such key"),
    (["plan", "workload={batch_size:3,requests:4}"], "write workload.KEY=VALUE for each key"),
    (["plan", "engine.options.vllm.enforce_eagr=true"], "did you mean enforce_eager?"),
    (["plan", "engine.options.vllm.max_num_seqs=many"], "expected int"),
    (["plan", "engine.options.vllm.max_num_seqs=0"], "max_num_seqs=0: expected at least 1"),
    (["plan", "engine.options.vlm.max_num_seqs=4"], "engine.options.vlm: no such key; did you"),
    (["plan", "engine.options=3"], "engine.options: 3 is not a mapping; write engine.options.KEY"),
    (["plan", "engine.quantization=FP8"], "'FP8' is not known; did you mean fp8?"),
    (["plan", "engine.quantization=banana"], "'banana' is not known; known: auto_awq, "),
    (["plan", "engine.version=banana"], "engine.version: banana is no release; write for example"),
    (["plan", "engine.threads=10000"], "engine.threads: 10000 is out of range; it must be at most"),
    (["plan", "engine.speculation=ngram", "engine.speculative_tokens=100000"], "at most 256"),
    (["plan", "workload.arrival=poisson", "workload.rate_rps=1e99"], "it must be at most 1e+06"),
    (["plan", "run.price_per_gpu_hour.h100=3"], "run.price_per_gpu_hour.h100: no such board; did"),
    (["plan", "cluster.boards.banana=3"], "cluster.boards.banana: no such board; known: a10, "),
    (["plan", "cluster.boards={l4: 8}"], "cluster.boards: has no use with cluster=local, which"),
    (["plan", "meter.calibration.l44=0.03"], "meter.calibration.l44: no such board; did"),
    (["plan", "protocol.interval_target=2"],
     "2 is no part of one; for 2 % write protocol.interval_target=0.02"),
    (["plan", "protocol.warmup_tolerance=5"], "for 5 % write protocol.warmup_tolerance=0.05"),
    (["plan", "meter.gates.batch_reached=90"], "90 is more than all of a batch, which would void"),
    (["plan", "engine.version=0.32"], "0.32 is no text; quote it: \"engine.version='0.32'\""),
    (["plan", "board=nope"], "board nope: not in the catalogue; known: a10, "),
    (["plan", "+grid=banana"], "grid=banana: no such grid; known: energy_considerations, "),
    (["plan", "budget.gpu_hour=3"], "did you mean budget.gpu_hours"),
    (["plan", "workload.arrival=possion"], "'possion' is not known; did you mean poisson?"),
    (["plan", "workload.arrival=poisson"], "workload.rate_rps: is needed by"),
    (["plan", "workload.beams=4"], "workload.beams: has no use with workload.decoding=greedy"),
    (["plan", "engine.mode=serving"], "engine.mode: 'serving' is not known"),
    (["plan", "engine.draft=gpt2"], "engine.draft: no such key"),
    (["plan", "workload.lengths=./nowhere.csv"], "nowhere.csv"),
    (["plan", "engine.speculation=n-gram", "engine.speculative_tokens=4"],
     "engine.speculation: 'n-gram' is no model and not known; did you mean ngram?"),
    (["plan", "+gird=quickstart"], "gird: no such key; did you mean grid"),
    (["plan", "protocol=quik"], "protocol=quik: no such protocol; did you mean quick?"),
    (["plan", "workload.batchsize=3"], "no such key; did you mean workload.batch_size"),
    (["plan", "+workload.size=3"], "workload.size: no such key; did you mean workload.batch_size"),
    (["plan", "workload.input_tokens=-1"], "-1 is out of range; it must be at least 1"),
    (["plan", "workload.output_tokens=0"], "0 is out of range; it must be at least 1"),
    (["plan", "workload.batch_size=abc"], "'abc' is not a whole number; write a number such as"),
    (["plan", "workload.batch_size=true"], "True is not a whole number"),
    (["plan", "workload.batch_size=1.5"], "1.5 is not a whole number"),
    (["plan", "workload.batch_size=99999999999"], "it must be at most 2147483647"),
    (["plan", "workload.batch_size=[]"], "is an empty list, so the grid is empty"),
    (["plan", "workload.batch_size=1,8"], "for an axis write workload.batch_size=[1,8]"),
    (["plan", "workload.batch_size=[1,8"], "workload.batch_size: '[1,8' cannot be read"),
    (["plan", "workload.batch_size=1", "workload.batch_size=2"], "given twice; keep one"),
    (["plan", "engine=vllm", "engine.backend=vllm"], "clashes with engine=...; keep one"),
    (["plan", "engine.backend=vlm"], "engine.backend: 'vlm' is not known; did you mean vllm?"),
    (["plan", "protocol.window_s=-3"], "-3 is out of range; it must be above zero and finite"),
    (["plan", "protocol.window_s=inf"], "inf is out of range"),
    (["plan", "protocol.repeats=5", "protocol.repeats_max=3"], "3 is below protocol.repeats=5"),
    (["plan", "model=./nowhere"], "model ./nowhere: no such folder"),
    (["plan", "model=Qwen/Qwen2.5-0.6B"], "did you mean Qwen/Qwen2.5-0.5B"),
    (["plan", "board=h100"], "board h100: not in the catalogue; did you mean h100-"),
    (["plan", "catalog_file=/no/such.yaml"], "catalog_file: /no/such.yaml cannot be read"),
    (["plan", "store=postgres"], "store.url: is required; write store.url=postgresql+psycopg://"),
    (["plan", "store.url=mysql://h/db"], "store.url: is no Postgres URL"),
    (["plan", "store.url=postgresql://h/db", "store.path=/x"], "clashes with store.url"),
    (["plan", "campaign=a b"], "campaign: 'a b' is no name"),
    (["plan", "quickstart"], "for the grid of that name write +grid=quickstart"),
    (["plan", "~workload.batch_size"], "only blocks of a grid can be removed"),
    (["plan", "hydra.run.dir=/tmp"], "hydra.run.dir: no such key"),
    (["plan", "model=${oc.env:NO_SUCH_VARIABLE}"], "'NO_SUCH_VARIABLE' not found"),
    (["plan", "--jsn"], "plan: --jsn: no such option; did you mean --json"),
    (["plan", "--conf", "/no/such"], "--conf /no/such: no such folder"),
    (["run", "+grid=smoke", "meter=[nvml,codecarbon]"], "meter: nvml needs a GPU, and cpu:"),
    (["plan", "cluster=ray"], "`here` needs cluster.boards"),
    (["run", "+grid=quikstart"], "did you mean quickstart?"),
    (["run", "workload.batch_size=-1"], "it must be at least 1"),
]  # fmt: skip


def campaign(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(home), "XDG_DATA_HOME": str(home / "data")}
    return subprocess.run(
        [sys.executable, "-m", "campaign", *arguments], cwd=ROOT, env=environment,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Said:
    """A function that gives the program its words here: what it says, and its exit code."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def say(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = main(arguments)
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, printed.out, printed.err)

    return say


def test_a_process_of_its_own_ends_with_the_line_and_its_code(tmp_path: Path) -> None:
    arguments, says = BAD[0]
    result = campaign(*arguments, home=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert says in line


@pytest.mark.parametrize(("arguments", "says"), BAD, ids=lambda value: " ".join(value)[:60])
def test_bad_input_is_one_clear_line(
    arguments: list[str], says: str, tmp_path: Path, said: Said
) -> None:
    result = said(*arguments)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("campaign: ")
    assert says in line
    assert not list(tmp_path.iterdir()), "something was started"


@pytest.mark.parametrize("arguments", SECRETS, ids=lambda value: value[0][:12])
def test_a_password_is_refused_and_shown_nowhere(
    arguments: list[str], tmp_path: Path, said: Said
) -> None:
    result = said(*arguments)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "put it in a file named by PGPASSFILE" in line
    assert "hunter2" not in result.stdout + result.stderr
    assert not list(tmp_path.iterdir())


def test_what_is_wrong_is_listed_at_once_each_on_its_line(tmp_path: Path) -> None:
    result = campaign("plan", "workload.batch_size=-1", "engine.dtype=bf16", home=tmp_path)
    assert [line.split(":")[1].strip() for line in result.stderr.splitlines()] == [
        "engine.dtype", "workload.batch_size"
    ]  # fmt: skip


def test_a_broken_model_folder_is_one_line(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": ')
    result = campaign("plan", f"model={model}", home=tmp_path)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "config.json is not JSON" in line


def test_a_broken_grid_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "broken.yaml").write_text(
        "# @package _global_\nworkload: {batch_size: [1\n"
    )
    result = campaign("plan", "--conf", str(tmp_path), "+grid=broken", home=tmp_path)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "broken.yaml" in line


HEAD = "# @package _global_\n"
FILES = [
    ("grid", "latin", HEAD + "owner: Zo\xeb\n", "latin.yaml: cannot be read: 'utf-8' codec can't"),
    ("grid", "itself", HEAD + "workload: {batch_size: &a [*a]}\n", "a list or mapping holds itse"),
    ("grid", "word", "3\n", "word.yaml: holds no `KEY: VALUE`"),
    ("protocol", "list", "- 3\n", "list.yaml: holds no `KEY: VALUE`"),
    ("grid", "option", HEAD + "protocol: quick\n",
     "choose an option in the file's `defaults: [override /protocol: quick]`"),
]  # fmt: skip


@pytest.mark.parametrize(("group", "name", "content", "says"), FILES, ids=lambda v: v[:8])
def test_a_file_of_ones_own_that_cannot_be_used_is_one_line(
    group: str, name: str, content: str, says: str, tmp_path: Path, said: Said
) -> None:
    (tmp_path / group).mkdir()
    (tmp_path / group / f"{name}.yaml").write_text(content, encoding="latin-1")
    result = said("plan", "--conf", str(tmp_path), f"{'+' * (group == 'grid')}{group}={name}")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert says in line


@pytest.mark.parametrize("name", ["2026", "1e3", "nan", "true", "null", "été", "it's"])
def test_a_grid_may_be_called_by_what_reads_as_a_number_or_a_flag(
    name: str, tmp_path: Path, said: Said
) -> None:
    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / f"{name}.yaml").write_text(f"{HEAD}model: gpt2\n")
    for asked in (name, f"[{name},smoke]"):
        words = ("plan", "--json", "--conf", str(tmp_path), f"+grid={asked}", "protocol=quick")
        assert said(*words, "campaign=mine").returncode == 0


def test_a_user_without_an_account_plans_and_is_told_of_a_home_that_there_is_not(
    monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    """As containers run them: a number without a name, without HOME."""
    for variable in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    plan = said("plan", "--config", "+grid=smoke")
    assert plan.returncode == 0
    away = said("import", "~/rows.csv", "--source", "lab")
    assert (away.returncode, away.stderr.count("\n")) == (2, 1)
    assert "user id 54321 has no home folder: set HOME" in away.stderr


def test_an_option_is_chosen_in_the_defaults_of_a_grid(tmp_path: Path, said: Said) -> None:
    (tmp_path / "grid").mkdir()
    defaults = "defaults: [override /protocol: quick, override /engine: transformers]\n"
    (tmp_path / "grid" / "mine.yaml").write_text(f"{HEAD}{defaults}")
    plan = json.loads(said("plan", "--json", "--conf", str(tmp_path), "+grid=mine").stdout)
    assert (plan["protocol"], plan["backends"]) == ("quick", ["transformers"])


def test_a_folder_whose_path_the_composition_cannot_read_is_refused(
    tmp_path: Path, said: Said
) -> None:
    (tmp_path / "a,b").mkdir()
    result = said("plan", "--conf", str(tmp_path / "a,b"))
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "a path with , cannot be searched; rename the folder" in result.stderr


def test_our_files_are_read_as_utf8_whatever_the_locale(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    config = '{"model_type": "llama", "note": "→"}'
    (folder / "config.json").write_text(config, encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from db.store import FOLDER, statements;"
        "from campaign.catalogue.folder import read_config;"
        "from campaign.catalogue.catalog import load_catalog;"
        "[statements(f.name) for f in FOLDER.glob('*.sql')]; load_catalog();"
        "print(ascii(read_config(Path(sys.argv[1]), 'm')['note']))"
    )
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "config.json")],
        cwd=ROOT, env={**os.environ, **ascii_only}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "'\\u2192'", done.stderr
