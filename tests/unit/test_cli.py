"""The command line: verbs, arguments, errors and exit codes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from types import ModuleType

import pytest

from campaign import cli
from db.errors import ConfigError, Infeasible, StoreUnavailable

ROOT = Path(__file__).parents[2]


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A verb of its own, `try`, that keeps the arguments it was called with."""
    module = ModuleType("a_verb")

    def add_arguments(parser: ArgumentParser) -> None:
        parser.add_argument("--limit", type=int)

    def main(args: Namespace) -> int:
        module.args = args  # type: ignore[attr-defined]
        return 7

    module.add_arguments = add_arguments  # type: ignore[attr-defined]
    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_verb", module)
    monkeypatch.setattr(cli, "VERBS", {**cli.VERBS, "try": ("a_verb", "a test")})
    return module


def raising(module: ModuleType, error: BaseException) -> None:
    def main(args: Namespace) -> int:
        raise error

    module.main = main  # type: ignore[attr-defined]


def test_every_verb_has_a_module() -> None:
    for name, (module, purpose) in cli.VERBS.items():
        assert importlib.util.find_spec(module), name
        assert purpose


def test_a_verb_gets_its_arguments_in_any_order(verb: ModuleType) -> None:
    assert cli.main(["try", "+grid=x", "--json", "word", "--limit", "3", "a.b=[1,2]"]) == 7
    args = verb.args
    assert (args.verb, args.json, args.limit) == ("try", True, 3)
    assert args.overrides == ["+grid=x", "word", "a.b=[1,2]"]


def test_a_folder_of_ones_own_becomes_a_search_path(verb: ModuleType, tmp_path: Path) -> None:
    cli.main(["try", "--conf", str(tmp_path), "a=1"])
    assert verb.args.overrides == [f"hydra.searchpath=['file://{tmp_path}']", "a=1"]
    assert cli.main(["try", "--conf", str(tmp_path / "none")]) == 2


def test_what_the_locale_cannot_read_or_write_is_one_line(
    verb: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(verb, UnicodeEncodeError("utf-8", "\udce2", 0, 1, "surrogates not allowed"))
    assert cli.main(["try"]) == 2
    assert capsys.readouterr().err == (
        "campaign: '\\udce2' cannot be read or written as utf-8: set LC_ALL=C.UTF-8\n"
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("one\ntwo"), 2),
        (StoreUnavailable("one\ntwo"), 2),
        (Infeasible("one\ntwo"), 3),
    ],
)
def test_an_expected_error_is_its_lines_and_its_exit_code(
    verb: ModuleType, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    raising(verb, error)
    assert cli.main(["try"]) == code
    assert capsys.readouterr() == ("", "campaign: one\ncampaign: two\n")


def test_an_interrupt_ends_with_130(verb: ModuleType) -> None:
    raising(verb, KeyboardInterrupt())
    assert cli.main(["try"]) == 130


def test_a_full_disk_is_one_line(verb: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    raising(verb, OSError(28, "No space left on device", "/data/file"))
    assert cli.main(["try"]) == 2
    assert capsys.readouterr().err == "campaign: No space left on device: /data/file\n"


def test_an_error_of_ours_is_not_hidden(verb: ModuleType) -> None:
    raising(verb, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["try"])


def test_no_error_prints_a_password(verb: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    raising(verb, StoreUnavailable("postgresql://u:hunter2@h/db refused, password=hunter2"))
    cli.main(["try"])
    assert "hunter2" not in capsys.readouterr().err


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in cli.VERBS)
    assert cli.main([]) == 2
    assert capsys.readouterr().err == shown


def test_no_file_of_ours_becomes_a_standard_stream_that_was_closed(tmp_path: Path) -> None:
    """As daemons start programs: a lock had the number 2, and the server's log went into it."""
    script = (
        "import os, sys; from campaign import cli; cli.main(['catalog', 'models', 'gpt2']); "
        "lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); os.write(lock, b'%d' % lock); "
        "assert sys.stderr is not None"
    )
    closed = 'exec "$@" <&- >&- 2>&-'
    argv = ["sh", "-c", closed, "sh", sys.executable, "-c", script, str(tmp_path / "lock")]
    assert subprocess.run(argv, cwd=ROOT, check=False).returncode == 0
    assert int((tmp_path / "lock").read_text()) > 2


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m campaign plan +grid=simulated --tasks --json | head -c 1"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=ROOT,
                            capture_output=True, text=True, check=False, timeout=120)  # fmt: skip
    assert (result.stdout, result.stderr, result.returncode) == ("{", "", 0)


@pytest.mark.parametrize(
    ("closed", "code", "said"),
    [
        ("1>&-", 2, "campaign: stdout is closed: send it to a file, or to /dev/null\n"),
        ("2>&-", 0, ""),
        ("1>&- 2>&-", 2, ""),
    ],
)
def test_a_stream_that_is_closed_is_no_traceback_and_takes_nothing_of_another(
    closed: str, code: int, said: str
) -> None:
    """What is for stderr would go to stdout, which is for data, where stderr is closed."""
    words = f"exec {sys.executable} -m campaign plan +grid=smoke --json {closed}"
    done = subprocess.run(["sh", "-c", words], cwd=ROOT, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (code, said)
    assert not done.stdout or json.loads(done.stdout)["campaign"] == "smoke"
    assert bool(done.stdout) == (code == 0)
