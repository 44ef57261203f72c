"""What still fits before the end of a run, corrected by what was measured, and how it is said."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from campaign.catalogue.catalog import load_catalog
from campaign.configuration.config import load
from campaign.forecast.hours import Efforts
from campaign.running.interrupts import Interrupts
from campaign.running.live import Snapshot
from campaign.running.timebox import Timebox
from campaign.running.work import Work
from db.errors import ConfigError
from db.leases import LeasePolicy
from db.presence import Presence
from db.records import EngineSpec, MeasurementProtocol, Reality, Task, Workload
from workers.deadline import SLURM_END, Deadline, Timekeeper, moment, slurm_end
from workers.engines.limits import Limits
from workers.rig import RigPlan

NOW = 1_800_000_000.0
CATALOG = load_catalog()
ENGINE = EngineSpec(
    model=CATALOG.model("meta-llama/Llama-3.1-8B"), backend="vllm", board="rtx-a6000",
    dtype="bfloat16",
)  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


# ---- how it is written -------------------------------------------------------------------------


def test_a_deadline_is_a_time_or_seconds_from_now() -> None:
    assert moment(90.0, NOW) == NOW + 90
    later = datetime.fromtimestamp(NOW, UTC) + timedelta(hours=1)
    assert moment(later.isoformat(), NOW) == NOW + 3600
    there = later.astimezone(timezone(timedelta(hours=-7)))
    assert moment(there.isoformat(), NOW) == NOW + 3600
    local = later.astimezone().replace(tzinfo=None)
    assert moment(local.isoformat(), NOW) == NOW + 3600


@pytest.mark.parametrize("deadline", ["tomorrow", "18:00", "2026-13-01T00:00", ""])
def test_what_is_no_time_is_answered_with_the_form(deadline: str) -> None:
    with pytest.raises(ConfigError, match=r"run\.deadline: .* is no time; write run\.deadline="):
        moment(deadline, NOW)


def test_a_deadline_that_is_past_is_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match=r"run\.deadline: '?2020-01-01T00:00:00'? is past"):
        load(["run.deadline=2020-01-01T00:00:00"])
    with pytest.raises(ConfigError, match=r"run\.deadline: 0 is out of range"):
        load(["run.deadline=0"])
    with pytest.raises(ConfigError, match=r"run\.deadline: 'noon' is no time"):
        load(["run.deadline=noon"])


def test_the_command_line_takes_both_forms() -> None:
    assert load(["run.deadline=3600"]).run.deadline == 3600
    assert load(["run.deadline=2999-11-30T18:00+01:00"]).run.deadline == "2999-11-30T18:00+01:00"
    assert load([]).run.deadline is None


@pytest.mark.parametrize(
    ("said", "end"), [("1800000100", 1_800_000_100.0), ("", None), ("0", None), ("soon", None)]
)
def test_slurm_says_when_its_job_ends(said: str, end: float | None) -> None:
    assert slurm_end({SLURM_END: said}) == end
    assert slurm_end({}) is None


# ---- what fits ---------------------------------------------------------------------------------


def test_without_a_deadline_everything_fits() -> None:
    assert Timekeeper(None).fitting() is None


def test_only_what_will_be_finished_in_time_is_claimed() -> None:
    clock = Clock()
    keeper = Timekeeper(
        Deadline(ends_at=NOW + 100, margin_s=20, tasks_s={"short": 30, "long": 81}), clock
    )
    assert keeper.fitting() == ["short"]
    clock.now += 50
    assert keeper.fitting() == ["short"]
    clock.now += 0.5
    assert keeper.fitting() == []
    clock.now = NOW - 1
    assert keeper.fitting() is None


def test_tasks_that_take_longer_than_estimated_are_told_by_those_that_did() -> None:
    keeper = Timekeeper(
        Deadline(ends_at=NOW + 100, margin_s=0, tasks_s={"a": 30, "b": 40}), Clock()
    )
    assert keeper.fitting() is None
    keeper.took("a", 90.0)
    assert keeper.slowness == 3.0
    assert keeper.fitting() == ["a"]
    keeper.took("a", 30.0)
    keeper.took("a", 30.0)
    assert keeper.slowness == 1.0
    keeper.took("a task of another run", 1e6)
    assert keeper.slowness == 1.0


def test_nothing_that_is_known_is_nothing_that_fits() -> None:
    assert Timekeeper(Deadline(ends_at=NOW + 100, margin_s=0), Clock()).fitting() == []


def work(**options: object) -> Work:
    engine = ENGINE if not options else EngineSpec(
        model=ENGINE.model, backend="simulated", board=ENGINE.board, dtype="bfloat16",
        options=options,  # type: ignore[arg-type]
    )  # fmt: skip
    rig = RigPlan(
        limits=Limits(context_tokens=1, batch_size=1), meters=(), interval_s=1, calibration={},
        gates={}, weights_folder="", board=CATALOG.board("rtx-a6000"),
    )  # fmt: skip
    return Work(engine=engine, rig=rig, tasks=1, task_s=10, load_s=50)


def tasks(engine: EngineSpec = ENGINE) -> list[Task]:
    protocol = MeasurementProtocol(
        name="p", window_s=10, repeats=3, repeats_max=3, interval_target=1, warmup_max=0,
        warmup_agree=1, warmup_tolerance=1, idle_s=0,
    )  # fmt: skip
    return [
        Task(key=f"v1:{out}", engine=engine, protocol=protocol, reality=Reality.REAL, replicate=0,
             workload=Workload(input_tokens=8, output_tokens=out, batch_size=1))
        for out in (8, 4096)
    ]  # fmt: skip


def timebox(clock: Clock, *overrides: str, **environment: str) -> Timebox:
    return Timebox(load(overrides).run, environment, clock)


def test_the_earlier_of_two_ends_counts() -> None:
    clock = Clock()
    assert timebox(clock).ends_at is None
    assert timebox(clock).left_s is None
    assert not timebox(clock).over
    slurm = {SLURM_END: str(int(NOW) + 500)}
    assert timebox(clock, "run.deadline=900", **slurm).left_s == 500
    assert timebox(clock, "run.deadline=300", **slurm).left_s == 300


def test_an_end_that_passes_while_a_run_is_prepared_is_the_end_and_no_mistake() -> None:
    clock = Clock()
    clock.now = datetime(2999, 11, 30, 18, 0, 1, tzinfo=UTC).timestamp()
    assert timebox(clock, "run.deadline=2999-11-30T18:00+00:00").over


def test_an_engine_that_only_just_loads_is_not_loaded() -> None:
    clock = Clock()
    box = timebox(clock, "run.deadline=200", "run.margin_s=60")
    deadline = box.deadline(work(), tasks())
    assert deadline is not None
    short_s, long_s = deadline.tasks_s.values()
    assert 30 <= short_s < long_s
    assert box.admits(work(), deadline)
    clock.now += 140 - 50 - short_s - 1
    assert box.admits(work(), deadline)
    clock.now += 2
    assert not box.admits(work(), deadline)
    assert not box.over
    clock.now = NOW + 200 - 30
    assert box.over


def test_what_one_session_learned_the_next_one_knows() -> None:
    box = timebox(Clock(), "run.deadline=200")
    box.learn(ENGINE, None)
    box.learn(ENGINE, 4.0)
    deadline = box.deadline(work(), tasks())
    assert deadline is not None
    assert deadline.slowness == 4.0
    assert not box.admits(work(), deadline)


def test_what_a_load_took_the_next_one_is_expected_to_take() -> None:
    box = timebox(Clock(), "run.deadline=200", "run.margin_s=0")
    deadline = box.deadline(work(), tasks())
    assert box.admits(work(), deadline)
    expected_s = Efforts({}).loading_s(ENGINE)
    box.learn(ENGINE, None, 3 * expected_s)
    assert not box.admits(work(), deadline)
    box.learn(replace(ENGINE, backend="transformers"), None, 3 * expected_s)
    box.learn(ENGINE, 1.0, None)
    assert not box.admits(work(), deadline)
    box.learn(ENGINE, 1.0, expected_s)
    assert box.admits(work(), deadline)


def test_an_engine_that_compiles_takes_longer_to_load() -> None:
    eager = replace(ENGINE, options={"enforce_eager": True})
    graphs = replace(ENGINE, options={"enforce_eager": False})
    assert Efforts({}).loading_s(eager) < Efforts({}).loading_s(graphs)


def test_simulated_boards_take_as_long_as_they_are_told() -> None:
    box = timebox(Clock(), "run.deadline=61", "run.margin_s=60")
    assert box.admits(work(pace=0.0), box.deadline(work(pace=0.0), tasks()))
    assert not box.admits(work(pace=1), box.deadline(work(pace=1), tasks()))


def test_people_see_when_the_run_ends() -> None:
    snapshot = Snapshot(
        campaign="c", done=1, failed=0, left=2, measuring=(), energy_j=None,
        energy_estimated_j=None, reality="real", eta_s=10, ends_s=3723,
    )  # fmt: skip
    assert "ETA 0:10, ends in 1:02:03" in snapshot.words


# ---- signals -----------------------------------------------------------------------------------


def test_the_first_signal_asks_and_the_second_presses() -> None:
    hurry = threading.Event()
    interrupts = Interrupts(grace_s=3600.0, hurry=hurry)
    with interrupts.listening():
        assert not interrupts.asked
        signal.raise_signal(signal.SIGINT)
        assert (interrupts.asked, interrupts.pressed, hurry.is_set()) == (True, False, True)
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.pressed


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_what_takes_the_machine_or_the_terminal_presses_by_itself_once_its_grace_is_over(
    ending: signal.Signals,
) -> None:
    interrupts = Interrupts(grace_s=0.0, hurry=threading.Event())
    with interrupts.listening():
        signal.raise_signal(ending)
    assert interrupts.pressed


def test_a_terminal_that_closes_asks_once_however_often_it_says_so() -> None:
    """The kernel sends SIGHUP, and the shell."""
    interrupts = Interrupts(grace_s=3600.0, hurry=threading.Event())
    with interrupts.listening():
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert (interrupts.asked, interrupts.pressed) == (True, False)
        signal.raise_signal(signal.SIGTERM)
    assert interrupts.pressed


def test_under_nohup_sighup_stays_ignored() -> None:
    interrupts = Interrupts(grace_s=0.0, hurry=threading.Event())
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts.listening():
            signal.raise_signal(signal.SIGHUP)
        assert not interrupts.asked
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_handlers_of_others_are_theirs_again() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts(grace_s=1.0, hurry=threading.Event()).listening():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


# ---- who may take leases back ------------------------------------------------------------------


def test_nothing_is_reaped_until_the_store_has_answered_for_one_lease() -> None:
    clock = Clock()
    presence = Presence(LeasePolicy(lease_s=90, beat_s=15), clock)
    for second in range(100):
        clock.now = NOW + second
        assert presence.lasts() == (second >= 90)


def test_a_gap_starts_the_lease_anew() -> None:
    """Leases that were 90 s long expired while nobody could beat."""
    clock = Clock()
    presence = Presence(LeasePolicy(lease_s=90, beat_s=15), clock)
    for second in [*range(0, 120, 30), 120 + 270]:
        clock.now = NOW + second
        lasts = presence.lasts()
    assert not lasts
    for second in range(390, 480, 30):
        clock.now = NOW + second
        assert not presence.lasts()
    clock.now = NOW + 480
    assert presence.lasts()


def test_a_short_gap_is_none() -> None:
    """Whoever could not beat for so short a time still holds the lease."""
    clock = Clock()
    presence = Presence(LeasePolicy(lease_s=90, beat_s=15), clock)
    for second in range(0, 112, 37):
        clock.now = NOW + second
        lasts = presence.lasts()
    assert lasts
