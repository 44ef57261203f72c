"""The spool's files: whole or not there, theirs alone to read, and nothing else taken for one."""

from __future__ import annotations

import json
import os
import stat
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from db.errors import ConfigError
from db.readings import (
    CpuEnergy,
    EnergyEstimate,
    GpuEnergy,
    Measurement,
    Phase,
    PhaseEnergy,
    PhaseMethod,
    PowerTrace,
    Reading,
    Window,
    WindowKind,
)
from db.records import Outcome, Reality
from workers import spool
from workers.spool import MAX_BYTES, Ended, Spool, read

GPU = GpuEnergy(
    uuid="GPU-a", index=0, name="NVIDIA H100", energy_j=1 / 3, method="counter", samples=7,
    trace=PowerTrace(offsets_s=(0.0, 0.1), watts=(1e-300, 700.25)), reasons=("aliased",),
)  # fmt: skip
READING = Reading(
    started_ns=2**60, ended_ns=2**60 + 3, started_at=1.7e9, reality=Reality.REAL,
    energy_j=0.1 + 0.2, energy_method="nvml_counter", gpus=(GPU,),
    cpu=CpuEnergy(package_j=3.0, method="rapl"),
    estimate=EnergyEstimate(energy_estimated_j=None, method="m", reasons=("x",)),
)  # fmt: skip
PHASE = PhaseEnergy(phase=Phase.DECODE, method=PhaseMethod.STEPS, duration_s=1, energy_j=2.5)
WINDOW = Window(
    kind=WindowKind.REPEAT, ordinal=0, reading=READING, phases=(PHASE,),
    counters={"steps": 3.0, "odd": float("inf")}, latencies={"ttft_s": {"p50": 0.1}},
)  # fmt: skip
ENDED = Ended(
    task_id=7, key="v1:abc", lease_id=uuid.UUID(int=1), session_id=uuid.UUID(int=2),
    outcome=Outcome.OK, measurement=Measurement(windows=(WINDOW,), warmup_batches=2),
    error="Traceback\n\udcff\0", store="in /a",
)  # fmt: skip


def kept(folder: Path, ended: Ended = ENDED) -> Path:
    return Spool(folder / "spool").keep(ended)


def test_what_was_measured_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    assert read(kept(tmp_path)) == ENDED


def test_a_file_is_for_its_owner_alone_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = kept(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [*path.parent.iterdir()] == [path]


def test_kept_twice_is_kept_once(tmp_path: Path) -> None:
    again = replace(ENDED, outcome=Outcome.FAULTED, kind="deadline")
    assert kept(tmp_path) == kept(tmp_path, again)
    assert read(kept(tmp_path, again)) == again


def test_it_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut between the two leaves the whole file or none."""
    done: list[str] = []
    sync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def renamed(path: Path, to: Path) -> Path:
        done.append("rename")
        return rename(path, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    kept(tmp_path)
    assert done == ["file", "rename", "folder"]


def test_a_disk_that_is_full_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        kept(tmp_path)
    assert [*(tmp_path / "spool").iterdir()] == []


def test_a_truncated_file_is_never_read_at_any_length(tmp_path: Path) -> None:
    path = kept(tmp_path)
    whole = path.read_bytes()
    for length in {*range(0, len(whole), 97), len(whole) - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match="no whole JSON document"):
            read(path)


def test_a_digit_that_changed_is_noticed(tmp_path: Path) -> None:
    path = kept(tmp_path)
    text = path.read_text()
    assert text.count("700.25") == 1
    path.write_text(text.replace("700.25", "700.26"))
    with pytest.raises(ConfigError, match="was changed or damaged"):
        read(path)


def forged(tmp_path: Path, attempt: object) -> Path:
    """A file whose checksum is right: whoever wrote it knew how."""
    body = json.dumps(attempt, sort_keys=True)
    whole = {"format": spool.FORMAT, "sha256": spool._digest(body), "attempt": attempt}
    path = tmp_path / "forged.json"
    path.write_text(json.dumps(whole))
    return path


def honest(tmp_path: Path) -> dict[str, object]:
    found = json.loads(kept(tmp_path).read_text())["attempt"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lease_id": "x"}, "attempt.lease_id: 'x' is no UUID"),
        ({"task_id": "7; drop table tasks"}, "attempt.task_id: '7; drop table tasks' is no int"),
        ({"task_id": True}, "is no int"),
        ({"outcome": "won"}, "attempt.outcome: 'won' is no Outcome"),
        ({"measurement": []}, "attempt.measurement"),
        ({"measurement": {"windows": [{"kind": "repeat"}], "warmup_batches": 1}}, "missing"),
        ({"measurement": {"windows": {}, "warmup_batches": 1}}, "attempt.measurement.windows"),
        ({"surprise": 1}, "attempt.surprise: is no field of it"),
        ({"permanent": "yes"}, "attempt.permanent: 'yes' is no bool"),
    ],
)
def test_a_forged_file_is_answered_in_one_line(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    path = forged(tmp_path, honest(tmp_path) | change)
    with pytest.raises(ConfigError) as refused:
        read(path)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["[]", "7", "null", '"attempt"', "{}", "[" * 100_000, "\0\0"])
def test_no_other_json_is_taken_for_an_attempt(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ConfigError):
        read(path)


def test_a_later_form_is_left_to_a_later_program(tmp_path: Path) -> None:
    path = kept(tmp_path)
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(ConfigError, match="has format 99, this program reads 1"):
        read(path)


def test_a_link_a_pipe_and_a_giant_are_not_opened(tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(kept(tmp_path))
    with pytest.raises(OSError, match="symbolic links"):
        read(link)
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError):
        read(pipe)
    giant = tmp_path / "giant.json"
    with giant.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ConfigError, match="larger than 256 MB"):
        read(giant)


def test_drafts_and_other_files_are_not_attempts(tmp_path: Path) -> None:
    path = kept(tmp_path)
    (path.parent / f".{path.name}").write_text("")
    (path.parent / "README").write_text("")
    assert Spool(path.parent).files() == [path]
    assert Spool(tmp_path / "nowhere").files() == []
