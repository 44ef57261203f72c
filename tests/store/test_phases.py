"""Energy by phase in the store: what is written, and the view, against numbers worked by hand."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from db.asking import Limits, asked, shipped
from db.embedded import EmbeddedPostgres
from db.mending import Selection, void
from db.readings import Phase, PhaseEnergy, PhaseMethod, Window, WindowKind
from db.records import Reality, Weights
from db.store import Store
from tests.store.world import ENGINE, MODEL, World, ground, measurement, reading, repeat, task

pytestmark = pytest.mark.store

TRAINED = replace(
    ENGINE,
    model=replace(MODEL, weights=Weights.REAL, commit="c0ffee", architecture={}),
    backend="vllm",
)
STEPS, RUN = PhaseMethod


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "phases") as found:
        yield found


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


def phase(
    which: Phase, energy_j: float | None, *, method: PhaseMethod = STEPS, **more: Any
) -> PhaseEnergy:
    values = {"duration_s": 0.5, "timing_uncertainty_j": 0.3, "tokens": 20, **more}
    return PhaseEnergy(phase=which, method=method, energy_j=energy_j, **values)


def measured(world: World, *windows: Window) -> None:
    wanted = task(2, engine=TRAINED, reality=Reality.REAL)
    campaign = world.campaign("phases", [wanted])
    session = world.session(world.engine(TRAINED), Reality.REAL)
    claim = world.leases.claim(campaign, world.engine(TRAINED), session)
    assert claim is not None
    world.leases.finish(claim.lease_id, session, measurement(*windows))


def window(ordinal: int, *phases: PhaseEnergy, energy_j: float = 30.0) -> Window:
    read = reading(energy_j, reality=Reality.REAL, method="nvml_counter")
    return replace(repeat(ordinal, read), phases=phases)


def rows(world: World) -> dict[tuple[str, str], Any]:
    found = world.sql("select * from phase_energy")
    return {(row.phase, row.method): row for row in found}


def test_a_phase_is_summed_over_the_repeats(world: World) -> None:
    for_each = [
        [phase(Phase.PREFILL, 10.0), phase(Phase.DECODE, 20.0, timing_uncertainty_j=0.4)],
        [phase(Phase.PREFILL, 12.0, timing_uncertainty_j=0.4), phase(Phase.DECODE, 18.0)],
    ]
    measured(world, *(window(n, *phases) for n, phases in enumerate(for_each)))
    found = rows(world)
    assert set(found) == {("prefill", "steps"), ("decode", "steps")}
    row = found["prefill", "steps"]
    assert (row.repeats, row.duration_s, row.energy_j, row.tokens) == (2, 1.0, 22.0, 40)
    assert row.joules_per_token == pytest.approx(22.0 / 40)
    assert row.timing_uncertainty_j == pytest.approx(0.5)  # independent: root of 0.3² + 0.4²
    assert (row.reasons, row.reality, row.weights) == ([], "real", "real")
    assert (row.model, row.board, row.energy_method) == ("llama-small", "rtx-a6000", "nvml_counter")
    assert found["decode", "steps"].energy_j == 38.0


def test_methods_stay_apart_and_repeats_share_the_error_of_one_prefill_run(world: World) -> None:
    both = [phase(Phase.PREFILL, 10.0), phase(Phase.PREFILL, 11.0, method=RUN)]
    measured(world, window(0, *both), window(1, *both))
    found = rows(world)
    assert found["prefill", "steps"].energy_j == 20.0
    assert found["prefill", "prefill_run"].energy_j == 22.0
    assert found["prefill", "steps"].timing_uncertainty_j == pytest.approx(0.3 * math.sqrt(2))
    assert found["prefill", "prefill_run"].timing_uncertainty_j == pytest.approx(0.6)


def test_a_repeat_without_the_phase_leaves_none_and_its_reason(world: World) -> None:
    missing = phase(Phase.PREFILL, None, timing_uncertainty_j=None, reasons=("phase_unresolved",))
    measured(world, window(0, phase(Phase.PREFILL, 10.0)), window(1, missing))
    row = rows(world)["prefill", "steps"]
    assert (row.energy_j, row.timing_uncertainty_j, row.joules_per_token) == (None, None, None)
    assert (row.duration_s, row.tokens, row.reasons) == (1.0, 40, ["phase_unresolved"])


def test_a_repeat_of_unknown_timing_leaves_joules_without_uncertainty(world: World) -> None:
    unsure = phase(Phase.PREFILL, 12.0, timing_uncertainty_j=None)
    measured(world, window(0, phase(Phase.PREFILL, 10.0)), window(1, unsure))
    row = rows(world)["prefill", "steps"]
    assert (row.energy_j, row.timing_uncertainty_j) == (22.0, None)


def test_a_phase_that_was_partly_mixed_has_joules_but_none_per_token(world: World) -> None:
    partly = phase(Phase.PREFILL, 10.0, tokens=None, reasons=("phases_mixed",))
    mixed = phase(Phase.MIXED, 5.0, tokens=None)
    never = phase(Phase.DECODE, None, duration_s=0.0, timing_uncertainty_j=None, tokens=None,
                  reasons=("phases_mixed",))  # fmt: skip
    measured(world, window(0, partly, mixed, never))
    found = rows(world)
    row = found["prefill", "steps"]
    assert (row.energy_j, row.joules_per_token, row.reasons) == (10.0, None, ["phases_mixed"])
    assert found["mixed", "steps"].energy_j == 5.0
    assert found["decode", "steps"].energy_j is None


def test_windows_of_the_prefill_run_are_no_repeats(world: World) -> None:
    run = replace(window(1, energy_j=99.0), kind=WindowKind.PREFILL)
    lost = reading(None, reality=Reality.REAL, reasons=("sample_gap",))
    measured(world, window(0, phase(Phase.PREFILL, 10.0)), run,
             replace(run, ordinal=2, reading=lost))  # fmt: skip
    (row,) = world.sql("select * from measurements")
    assert (row.repeats, row.energy_j, row.requests, row.reasons) == (1, 30.0, 1, [])
    assert world.one("select count(*) from repeats") == 1
    assert world.one("select count(*) from windows where kind = 'prefill'") == 2


def test_a_voided_result_shows_no_phases(world: World) -> None:
    measured(world, window(0, phase(Phase.PREFILL, 10.0)))
    (key,) = {row.task_key for row in world.sql("select task_key from phase_energy")}
    void(world.store, Selection(keys=[key]), "the fan was broken")
    assert world.sql("select * from phase_energy") == []
    assert world.one("select count(*) from phases") == 1


def test_the_named_question_lists_prefill_before_mixed_before_decode(world: World) -> None:
    every = [phase(which, 5.0, method=m) for m in PhaseMethod for which in reversed(Phase)]
    measured(world, window(0, *every))
    limits = Limits(statement_s=30.0)
    with asked(shipped()["phases"], world.store.url, None, limits=limits, settings={}) as answer:
        where = [answer.columns.index(name) for name in ("method", "phase")]
        found = [tuple(row[n] for n in where) for row in answer.rows]
    order = ["prefill", "mixed", "decode"]
    assert found == [(m, p) for m in ("prefill_run", "steps") for p in order]


def test_a_phase_is_written_once_with_its_window(world: World) -> None:
    measured(world, window(0, phase(Phase.PREFILL, 10.0, duration_s=0.25, tokens=None,
                                    reasons=("phases_mixed",))))  # fmt: skip
    (row,) = world.sql("select * from phases")
    assert (row.phase, row.method, row.duration_s, row.energy_j) == ("prefill", "steps", 0.25, 10.0)
    assert (row.timing_uncertainty_j, row.tokens, row.reasons) == (0.3, None, ["phases_mixed"])
    assert isinstance(row.window_id, int)
    assert uuid.UUID(str(world.one("select session_id from windows where id = %(id)s",
                                   id=row.window_id)))  # fmt: skip
