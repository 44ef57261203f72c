"""SIGTERM to every process at once, and a terminal that closes: nothing is lost.

`timeout`, Slurm and systemd send the one; the other sends SIGHUP, from the kernel and the shell.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable

import pytest

from tests.crash.site import SMALL, TIMEOUT_S, Site, until

pytestmark = [pytest.mark.crash, pytest.mark.ray, pytest.mark.store]

OUTCOMES = "select outcome, count(*) from attempts group by 1"
CHARGED = "select sum(faults + losses + invalids) from tasks"


def hung_up(site: Site, pid: int) -> None:
    for _ in range(2):
        for process in site.ours():
            process.send_signal(signal.SIGHUP)


def to_the_group(site: Site, pid: int) -> None:
    os.killpg(pid, signal.SIGTERM)


def to_everybody(site: Site, pid: int) -> None:
    for process in site.ours():
        process.send_signal(signal.SIGTERM)


def test_the_task_in_work_is_finished(site: Site) -> None:
    finished(site, to_everybody)


def test_the_task_in_work_is_finished_where_the_terminal_is_gone(site: Site) -> None:
    finished(site, hung_up)


def test_a_terminal_that_closes_ends_a_run_as_sigterm_does(site: Site) -> None:
    shown, terminal = os.openpty()
    run = site.start((*SMALL, "run.grace_s=1"), hold_at="in_window", terminal=terminal)
    os.close(terminal)
    while not (site.holds / "in_window.held").exists():
        if select.select([shown], [], [], 0.1)[0]:
            os.read(shown, 65536)
    os.close(shown)
    assert run.wait(timeout=TIMEOUT_S) == 130
    assert site.facts(OUTCOMES) == [("released", 1)]
    assert site.facts(CHARGED) == [(0,)]
    until(lambda: not site.ours(), "no orphan process")


def test_a_run_that_nobody_listens_to_any_more_goes_on(site: Site) -> None:
    """As where its words go through a pipe to a pager that is left."""
    run = site.start()
    assert run.stdout is not None
    assert run.stderr is not None
    assert "3 left" in run.stderr.readline()
    run.stderr.close()
    said = json.loads(run.stdout.read())
    assert (run.wait(timeout=TIMEOUT_S), said["tasks"]) == (0, {"done": 3})


def finished(site: Site, send: Callable[[Site, int], None]) -> None:
    """Assert that the task in work when `send` strikes is finished, and no other begun."""
    run = site.start((*SMALL, "run.grace_s=600"), hold_at="in_window")
    site.held_pid("in_window")
    send(site, run.pid)
    assert run.stderr is not None
    until(lambda: "once more to give them back" in run.stderr.readline(), "the driver drains")
    site.let_go("in_window")
    code, said, err = site.finish(run)
    assert code == 130, err
    assert said["tasks"] == {"done": 1, "pending": 2}
    assert site.facts(OUTCOMES) == [("ok", 1)]
    assert site.facts(CHARGED) == [(0,)]
    until(lambda: not site.ours(), "no orphan process")


def test_what_outlives_the_grace_is_given_back_free_of_charge(site: Site) -> None:
    run = site.start((*SMALL, "run.grace_s=1"), hold_at="in_window")
    site.held_pid("in_window")
    to_the_group(site, run.pid)
    code, said, err = site.finish(run)
    assert code == 130, err
    assert said["tasks"] == {"pending": 3}
    assert site.facts(OUTCOMES) == [("released", 1)]
    assert site.facts(CHARGED) == [(0,)]
    until(lambda: not site.ours(), "no orphan process")


def test_a_deadline_gives_back_what_is_in_work_and_the_same_command_goes_on(site: Site) -> None:
    # Long enough for a machine that is slow to start; what is held would be held for ever.
    run = site.start((*SMALL, "run.deadline=140", "run.margin_s=20"), hold_at="in_window")
    site.held_pid("in_window")
    code, said, err = site.finish(run)
    assert code == 75, err
    assert said["tasks"] == {"pending": 3}
    assert "no time for what is left: the same command goes on with it" in err
    assert "ends in" in err
    assert site.facts(OUTCOMES) == [("released", 1)]
    assert site.facts(CHARGED) == [(0,)]
    code, said, err = site.finish(site.start())
    assert (code, said["tasks"]) == (0, {"done": 3}), err


def test_nothing_is_loaded_that_would_not_be_finished(site: Site) -> None:
    """Half a real second for one of the engine's: a load alone takes longer than there is."""
    options = ("+engine.options.simulated.pace=0.5", "run.deadline=65", "run.margin_s=60")
    code, said, err = site.finish(site.start((*SMALL, *options)))
    assert code == 75, err
    assert said["tasks"] == {"pending": 3}
    assert site.facts("select count(*) from sessions") == [(0,)]


def test_the_end_of_a_slurm_job_is_a_deadline(site: Site) -> None:
    soon = {"SLURM_JOB_END_TIME": "1700000000"}  # it is over, or the clock is wrong
    code, said, err = site.finish(site.start(SMALL, **soon))
    assert code == 75, err
    assert said["tasks"] == {"pending": 3}
    assert site.facts("select count(*) from sessions") == [(0,)]
