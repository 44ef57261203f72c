"""The long form, `make long`: every death at every point on a site of its own."""

from __future__ import annotations

import os
import signal

import pytest

from tests.crash.site import Site, until
from tests.crash.test_kill import whole
from tests.crash.test_signals import finished, to_the_group
from workers.killpoints import POINTS

pytestmark = [pytest.mark.crash, pytest.mark.ray, pytest.mark.store]


@pytest.mark.parametrize("point", POINTS)
def test_killed_actor_is_replaced_by_the_running_driver(site: Site, point: str) -> None:
    run = site.start(hold_at=point)
    os.kill(site.held_pid(point), signal.SIGKILL)
    code, said, err = site.finish(run)
    assert code == 0, err
    assert said["tasks"] == {"done": 3}
    whole(site)


@pytest.mark.parametrize("point", POINTS)
def test_killed_driver_is_resumed_by_the_same_command(site: Site, point: str) -> None:
    run = site.start(hold_at=point)
    site.held_pid(point)
    run.kill()
    run.communicate()
    code, said, err = site.finish(site.start())
    assert code == 0, err
    assert said["tasks"] == {"done": 3}
    whole(site)


@pytest.mark.parametrize("point", POINTS)
def test_killed_postgres_is_revived_by_the_run_itself(site: Site, point: str) -> None:
    run = site.start(hold_at=point)
    site.held_pid(point)
    os.kill(site.postmaster(), signal.SIGKILL)
    site.let_go(point)
    code, said, err = site.finish(run)
    assert code == 0, err
    assert said["tasks"] == {"done": 3}
    whole(site)


def test_a_task_in_work_is_finished_where_only_the_group_is_told(site: Site) -> None:
    finished(site, to_the_group)


def test_what_was_given_back_at_the_second_interrupt_is_measured_by_the_same_command(
    site: Site,
) -> None:
    run = site.start(hold_at="in_window")
    site.held_pid("in_window")
    run.send_signal(signal.SIGINT)
    assert run.stderr is not None
    until(lambda: "once more to give them back" in run.stderr.readline(), "the driver drains")
    run.send_signal(signal.SIGINT)
    assert site.finish(run)[0] == 130
    code, said, err = site.finish(site.start())
    assert (code, said["tasks"]) == (0, {"done": 3}), err
    whole(site)
