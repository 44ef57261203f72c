"""SIGKILL of the driver, the actor or Postgres at every named point; the same command completes.

The points are visited one after the other; tests/crash/long_kill.py has a site for each.
"""

from __future__ import annotations

import os
import signal

import pytest

from tests.crash.site import SMALL, Site, until
from workers.killpoints import POINTS

pytestmark = [pytest.mark.crash, pytest.mark.ray, pytest.mark.store]

ACCEPTED = """
select t.id, count(a.id) from tasks t
  left join attempts a on a.task_id = t.id and a.outcome = 'ok' and a.voided_at is null
 group by t.id
"""
LEFTOVERS = """
select (select count(*) from attempts where outcome is null)
     + (select count(*) from sessions where outcome is null)
     + (select count(*) from tasks where state <> 'done')
"""


def whole(site: Site) -> None:
    """Assert that every task has exactly one accepted result and nothing is left over."""
    assert sorted(count for _, count in site.facts(ACCEPTED)) == [1, 1, 1]
    assert site.facts(LEFTOVERS) == [(0,)]
    until(lambda: not site.ours(), "no orphan process")


#: A task may be lost at every point in turn.
LOSING = (*SMALL, "store.max_lost=10")
TOLL = "select outcome, count(*) from attempts group by 1 order by 1"


def test_killed_actor_is_replaced_by_the_running_driver(site: Site) -> None:
    run = site.start(LOSING, hold_at=",".join(POINTS))
    for point in POINTS:
        os.kill(site.held_pid(point), signal.SIGKILL)
    code, said, err = site.finish(run)
    assert code == 0, err
    assert said["tasks"] == {"done": 3}
    # claimed, in_window, measured, and after written the next
    assert site.facts(TOLL) == [("lost", 4), ("ok", 3)]
    whole(site)


def test_killed_driver_is_resumed_by_the_same_command(site: Site) -> None:
    points = ("loaded", "measured", "written")  # no lease, a lease, a result and the next lease
    for point in points:
        run = site.start(LOSING, hold_at=",".join(points))
        site.held_pid(point)
        run.kill()
        run.communicate()
    code, said, err = site.finish(site.start(LOSING))
    assert code == 0, err
    assert said["tasks"] == {"done": 3}
    assert site.facts(TOLL) == [("lost", 2), ("ok", 3)]
    whole(site)


def test_killed_postgres_is_revived_by_the_run_itself(site: Site) -> None:
    run = site.start(hold_at=",".join(POINTS))
    for point in POINTS:
        site.held_pid(point)
        os.kill(site.postmaster(), signal.SIGKILL)
        site.let_go(point)
    code, said, err = site.finish(run)
    assert code == 0, err
    assert said["tasks"] == {"done": 3}
    assert site.facts(TOLL) == [("ok", 3)]
    whole(site)


def test_running_again_measures_nothing_twice_and_says_where_the_grid_was_edited(
    site: Site,
) -> None:
    code, _, err = site.finish(site.start())
    assert code == 0, err
    attempts = "select id, closed_at from attempts order by id"
    before = site.facts(attempts)
    code, said, err = site.finish(site.start())
    assert code == 0, err
    assert "3 already measured" in err
    assert said["tasks"] == {"done": 3}
    assert site.facts(attempts) == before
    edited = [word for word in SMALL if "batch_size" not in word]
    code, said, err = site.finish(site.start([*edited, "workload.batch_size=[4,8]"]))
    assert code == 0, err
    assert (
        "the grid was edited: 1 task added, 2 no longer in it, 2 of them measured and kept" in err
    )
    assert said["tasks"] == {"done": 2}
    assert site.facts("select state, count(*) from tasks group by 1") == [("done", 4)]
    assert site.facts(attempts)[:3] == before


def test_first_interrupt_finishes_the_task_and_the_second_command_the_rest(site: Site) -> None:
    run = site.start(hold_at="in_window")
    site.held_pid("in_window")
    run.send_signal(signal.SIGINT)
    assert run.stderr is not None
    until(lambda: "once more to give them back" in run.stderr.readline(), "the driver drains")
    site.let_go("in_window")
    code, said, err = site.finish(run)
    assert code == 130, err
    assert said["tasks"] == {"done": 1, "pending": 2}
    code, said, err = site.finish(site.start())
    assert (code, said["tasks"]) == (0, {"done": 3}), err
    whole(site)


def test_second_interrupt_gives_the_task_back_free_of_charge(site: Site) -> None:
    run = site.start(hold_at="in_window")
    site.held_pid("in_window")
    run.send_signal(signal.SIGINT)
    assert run.stderr is not None
    until(lambda: "once more to give them back" in run.stderr.readline(), "the driver drains")
    run.send_signal(signal.SIGINT)
    code, said, err = site.finish(run)
    assert code == 130, err
    assert said["tasks"] == {"pending": 3}
    assert site.facts("select outcome, count(*) from attempts group by 1") == [("released", 1)]
    assert site.facts("select sum(faults + losses + invalids) from tasks") == [(0,)]
    until(lambda: not site.ours(), "no orphan process")


def test_two_drivers_of_one_campaign_share_the_work(site: Site) -> None:
    runs = [site.start(), site.start()]
    for run in runs:
        code, said, err = site.finish(run)
        assert code == 0, err
        assert said["tasks"] == {"done": 3}
    whole(site)


def test_engine_that_hangs_is_killed_at_its_deadline_and_replaced(site: Site) -> None:
    run = site.start((*SMALL, "store.task_deadline_s=5", "store.beat_s=0.5"), hold_at="in_window")
    site.held_pid("in_window")
    code, said, err = site.finish(run)
    assert code == 0, err
    assert said["tasks"] == {"done": 3}
    tried = site.facts("select outcome, kind, count(*) from attempts group by 1, 2 order by 1, 2")
    assert tried == [("faulted", "deadline", 1), ("ok", None, 3)]
    whole(site)


def test_a_killed_local_ray_ends_the_run_and_the_same_command_goes_on(site: Site) -> None:
    run = site.start(hold_at="in_window")
    site.held_pid("in_window")
    (raylet,) = (process for process in site.ours() if process.name() == "raylet")
    raylet.kill()
    code, said, err = site.finish(run)
    assert code == 75, err
    assert "quarantined" not in said["tasks"]
    code, said, err = site.finish(site.start())
    assert (code, said["tasks"]) == (0, {"done": 3}), err
