"""The verb `doctor`: every lack has a fix, and looking changes and loads nothing."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from campaign.cli import main
from campaign.verbs import doctor
from db.place import Place

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "vllm", "ray", "transformers", "codecarbon")

Printed = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGN_HOME", str(tmp_path / "home"))


def findings(capsys: Printed, *words: str) -> dict[str, dict[str, object]]:
    """Run the verb; returns its findings by subject."""
    main(["doctor", "--json", *words])
    document = json.loads(capsys.readouterr().out)
    return {finding["subject"]: finding for finding in document["findings"]}


def test_everything_that_is_looked_at_is_ok_or_has_its_fix(capsys: Printed) -> None:
    found = findings(capsys)
    assert {
        "board", "threads", "nvml", "rapl", "codecarbon", "engine vllm", "engine transformers",
        "ray", "store", "postgres programs", "disk of the store", "disk of the weights",
    } <= set(found)  # fmt: skip
    assert [name for name, one in found.items() if not one["ok"] and not one["fix"]] == []


def test_the_exit_code_says_whether_anything_can_be_measured(capsys: Printed) -> None:
    code = main(["doctor", "--json"])
    assert code == (0 if json.loads(capsys.readouterr().out)["can_measure"] else 3)


def test_without_an_engine_nothing_can_be_measured(
    capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "LIBRARIES", {"none": ("no_such_library", "pip install it")})
    assert main(["doctor"]) == 3
    told = capsys.readouterr().err
    assert "missing  engine none: no_such_library is not installed" in told
    assert "fix: pip install it" in told
    assert told.splitlines()[-1].startswith("nothing can be measured here")


def test_people_read_one_line_a_finding_on_stderr(capsys: Printed) -> None:
    main(["doctor"])
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert all(line.startswith(("ok ", "missing ", "         fix: ")) for line in lines[:-1])
    assert "can be measured here" in lines[-1]


def test_a_store_that_is_not_there_is_not_made(public_tmp: Path, capsys: Printed) -> None:
    found = findings(capsys, f"store.path={public_tmp / 'store'}")
    assert found["store"]["ok"] is True
    assert "the first run makes it" in str(found["store"]["detail"])
    assert list(public_tmp.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="Postgres runs as another user for root alone")
def test_a_folder_that_postgres_could_not_enter_is_a_finding(
    public_tmp: Path, capsys: Printed
) -> None:
    (public_tmp / "closed").mkdir(mode=0o700)
    found = findings(capsys, f"store.path={public_tmp / 'closed' / 'store'}")
    assert found["store"]["ok"] is False
    assert "cannot enter" in str(found["store"]["detail"])
    assert "chmod o+x" in str(found["store"]["fix"])


def test_a_folder_that_cannot_be_looked_into_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", _denied)
    for found in doctor.look_at_disk(Place(folder=str(tmp_path / "store"))):
        assert found.ok is False
        assert found.detail.endswith("Permission denied")
        assert found.fix is not None


def _denied(_: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_folder_that_cannot_be_written_is_a_finding(tmp_path: Path, capsys: Printed) -> None:
    (tmp_path / "file").touch()
    found = findings(capsys, f"store.path={tmp_path / 'file' / 'store'}")
    assert found["store"]["ok"] is False
    assert "is no folder to write in" in str(found["store"]["detail"])


def test_a_server_that_does_not_answer_is_a_finding_and_exit_3(
    tmp_path: Path, capsys: Printed
) -> None:
    url = f"postgresql+psycopg://me@/d?host={tmp_path}"
    assert main(["doctor", "--json", f"store.url='{url}'"]) == 3
    document = json.loads(capsys.readouterr().out)
    (store,) = (one for one in document["findings"] if one["subject"] == "store")
    assert store["ok"] is False
    assert "does not answer" in store["detail"]
    assert store["fix"]


def test_a_full_disk_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "STORE_BYTES", 1 << 62)
    store, weights = doctor.look_at_disk(Place(folder=str(tmp_path / "store")))
    assert (store.ok, weights.ok) == (False, True)
    assert store.fix is not None


def test_looking_loads_nothing_heavy() -> None:
    script = (
        "import sys; from campaign.cli import main; main(['doctor']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout == "[]\n"


@pytest.mark.parametrize(
    ("words", "said"), [(["gpu"], "takes no words"), (["store.pth=/x"], "store.pth")]
)
def test_a_bad_word_is_one_line_and_exit_2(words: list[str], said: str, capsys: Printed) -> None:
    assert main(["doctor", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
