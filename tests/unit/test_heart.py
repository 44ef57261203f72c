"""The heart of a session: no error ends it, and none keeps a late attempt from its end."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

from db.errors import StoreUnavailable
from db.leases import LeasePolicy
from db.records import Outcome
from workers import heart
from workers.allowance import Limit
from workers.heart import Heart
from workers.spool import Ended, Spool, read

#: Seconds to wait for what comes at once on an idle machine.
PATIENCE_S = 60.0
ATTEMPT = Ended(
    task_id=1, key="late", lease_id=uuid.uuid4(), session_id=uuid.uuid4(), outcome=Outcome.FAULTED
)


def at_most(seconds: float) -> Limit:
    """The limit of an attempt of one batch."""
    return Limit(whole_s=seconds, still_s=seconds)


class Troubled:
    """Leases whose statements raise what they are given, one after the other."""

    policy = LeasePolicy(beat_s=0.01)

    def __init__(self, beats: Sequence[Exception] = (), closing: Exception | None = None) -> None:
        self._beats, self._closing = iter(beats), closing
        self.beaten = threading.Event()

    def hasty(self) -> Troubled:
        return self

    def beat(self, lease_id: uuid.UUID) -> None:
        for error in self._beats:
            raise error
        self.beaten.set()

    def give_back(self, *_: object, **__: object) -> None:
        if self._closing is not None:
            raise self._closing


class Full(Spool):
    """A spool on a full disk."""

    def keep(self, ended: Ended) -> Path:
        raise OSError(28, "No space left on device")


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when the process group would be killed."""
    made = threading.Event()

    def kill(group: int, number: int) -> None:
        assert (group, number) == (os.getpgrp(), signal.SIGKILL)
        made.set()

    monkeypatch.setattr(heart.os, "killpg", kill)
    return made


def test_no_error_of_a_beat_ends_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    leases = Troubled(
        [RuntimeError("the pool is exhausted"), StoreUnavailable("away"), MemoryError()]
    )
    with Heart(leases) as beats, beats.beating(ATTEMPT, at_most(PATIENCE_S)) as watch:
        assert leases.beaten.wait(PATIENCE_S)
        assert not watch.lost.is_set()
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "beat_failed task=late RuntimeError('the pool is exhausted')",
        "beat_missed task=late away",
        "beat_failed task=late MemoryError()",
    ]


def test_the_deadline_is_kept_after_a_beat_that_failed(killed: threading.Event) -> None:
    leases = Troubled([RuntimeError("once")])
    with Heart(leases) as beats, beats.beating(ATTEMPT, at_most(0.1)):
        assert killed.wait(PATIENCE_S)


def test_a_batch_that_hangs_ends_a_long_attempt_and_batches_that_end_do_not(
    killed: threading.Event,
) -> None:
    limit = Limit(whole_s=PATIENCE_S, still_s=3.0)
    with Heart(Troubled()) as beats, beats.beating(ATTEMPT, limit) as watch:
        ends_s = time.monotonic() + 1.5 * limit.still_s
        while time.monotonic() < ends_s:
            watch.check()
            assert not killed.wait(0.05)
        assert killed.wait(PATIENCE_S / 2)
        assert watch.over == "no batch of the attempt ended for 3 s"


@pytest.mark.parametrize("error", [None, StoreUnavailable("away"), RuntimeError("a defect")])
def test_a_late_attempt_is_closed_or_kept_and_its_processes_are_ended(
    killed: threading.Event, tmp_path: Path, error: Exception | None
) -> None:
    spool = Spool(tmp_path)
    with Heart(Troubled(closing=error), spool) as beats, beats.beating(ATTEMPT, at_most(0.0)):
        assert killed.wait(PATIENCE_S)
    kept = [read(path) for path in spool.files()]
    assert [(one.key, one.kind) for one in kept] == ([("late", "deadline")] if error else [])


def test_nothing_keeps_a_late_process_from_its_end(
    killed: threading.Event, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leases = Troubled(closing=RuntimeError("a defect"))
    with Heart(leases, Full(tmp_path)) as beats, beats.beating(ATTEMPT, at_most(0.0)):
        assert killed.wait(PATIENCE_S)
    said = [record.getMessage() for record in caplog.records]
    assert any("not_spooled" in line and "No space left" in line for line in said)
