"""The locks of boards in a folder that every user of a host writes to, and that cleaners visit."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.errors import NodeUnfit
from workers import boardlock
from workers.boardlock import BoardLock, lock_folder


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of locks, made under the umask of deploy/slurm/campaign.sbatch."""
    monkeypatch.setenv("CAMPAIGN_LOCKS", str(tmp_path / "locks"))
    before = os.umask(0o077)
    try:
        yield lock_folder()
    finally:
        os.umask(before)


def file_of(locks: Path) -> Path:
    """The file of the only board that was ever locked there; nothing else was left behind."""
    (file,) = locks.iterdir()
    return file


def is_free(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def test_every_user_can_open_what_one_with_a_closed_umask_made(locks: Path) -> None:
    assert BoardLock(["GPU-a"]).acquire()
    assert stat.S_IMODE(locks.stat().st_mode) == 0o1777
    assert stat.S_IMODE(file_of(locks).stat().st_mode) == 0o666


def test_users_with_other_temporary_folders_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CAMPAIGN_LOCKS", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert lock_folder() == Path("/tmp/campaign-locks")


# ---- cleaners ----------------------------------------------------------------------------------


def test_a_file_that_goes_while_it_is_locked_is_made_anew(
    locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = boardlock._opened

    def cleaned(path: Path) -> int:
        monkeypatch.undo()  # once
        descriptor = opened(path)
        path.unlink()
        return descriptor

    monkeypatch.setattr(boardlock, "_opened", cleaned)
    ours, theirs = BoardLock(["GPU-a"], locks), BoardLock(["GPU-a"], locks)
    assert ours.acquire()
    assert not theirs.acquire()
    ours.release()
    assert theirs.acquire()


def test_a_file_that_is_locked_again_is_new(locks: Path) -> None:
    lock = BoardLock(["GPU-a"])
    assert lock.acquire()
    lock.release()
    os.utime(file_of(locks), (0, 0))
    assert lock.acquire()
    assert file_of(locks).stat().st_mtime > 0


def test_the_folder_is_locked_with_its_boards_and_by_several(locks: Path) -> None:
    ours, theirs = BoardLock(["GPU-a"]), BoardLock(["GPU-b"])
    assert ours.acquire()
    assert theirs.acquire()
    ours.release()
    assert not is_free(locks)
    theirs.release()
    assert is_free(locks)


@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="needs systemd-tmpfiles")
def test_systemd_takes_no_lock_away_that_is_held(locks: Path, tmp_path: Path) -> None:
    lock = BoardLock(["GPU-a"])
    assert lock.acquire()
    rules = tmp_path / "old.conf"
    rules.write_text(f"d {tmp_path} - - - 1us\nx {rules}\n")
    clean = ["systemd-tmpfiles", "--clean", str(rules)]
    subprocess.run(clean, check=True, capture_output=True)
    assert file_of(locks).exists()
    lock.release()
    subprocess.run(clean, check=True, capture_output=True)
    assert not locks.exists()


# ---- what somebody else put there ----------------------------------------------------------------


def test_a_link_is_not_followed_and_the_refusal_defeats_no_lock(
    locks: Path, tmp_path: Path
) -> None:
    lock, mine = BoardLock(["GPU-a"]), tmp_path / "mine"
    mine.touch()
    lock._path("GPU-a").symlink_to(mine)
    with pytest.raises(NodeUnfit, match="every user of this host is to reach the same one"):
        lock.acquire()
    assert is_free(mine)
    assert is_free(locks)


def test_the_mode_of_a_file_that_was_there_stays(locks: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(0o600)
    lock = BoardLock(["GPU-a"])
    os.link(secret, lock._path("GPU-a"))
    assert lock.acquire()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_a_pipe_is_not_waited_for(locks: Path) -> None:
    ours, theirs = BoardLock(["GPU-a"], locks), BoardLock(["GPU-a"], locks)
    os.mkfifo(ours._path("GPU-a"))
    assert ours.acquire()
    assert not theirs.acquire()


def test_who_makes_the_file_first_makes_it_for_both(
    locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def late(draft: str, path: Path) -> None:
        path.write_text("theirs")
        link(draft, path)

    monkeypatch.setattr(boardlock.os, "link", late)
    assert BoardLock(["GPU-a"]).acquire()
    assert file_of(locks).read_text() == "theirs"
