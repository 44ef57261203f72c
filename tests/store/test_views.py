"""The views, against numbers worked out by hand."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from db.asking import shipped
from db.embedded import EmbeddedPostgres
from db.mending import Selection, void
from db.readings import (
    CpuEnergy,
    EnergyEstimate,
    GpuEnergy,
    Loaded,
    Phase,
    PhaseEnergy,
    PhaseMethod,
    Window,
    WindowKind,
)
from db.records import EngineSpec, Reality, Task, Weights
from db.results import describe_session, write_windows
from db.store import Store
from tests.store.world import ENGINE, MODEL, World, ground, measurement, reading, repeat, task
from workers.student import student

pytestmark = pytest.mark.store

TRAINED = replace(
    ENGINE,
    model=replace(MODEL, weights=Weights.REAL, commit="c0ffee", architecture={}),
    backend="vllm",
)


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store) as found:
        yield found


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


def measured(
    world: World,
    wanted: Task,
    windows: Sequence[Window],
    *,
    session: uuid.UUID | None = None,
    marks: Sequence[str] = (),
) -> uuid.UUID:
    """Measure a task of a campaign in a session; returns the session."""
    campaign = world.campaign(f"for {wanted.key}", [wanted])
    engine = world.engine(wanted.engine)
    session = session or world.session(engine, wanted.reality)
    claim = world.leases.claim(campaign, engine, session)
    assert claim is not None
    world.leases.finish(claim.lease_id, session, measurement(*windows, marks=marks))
    return session


def real(
    energies_j: Sequence[float | None],
    *,
    engine: EngineSpec = TRAINED,
    batch_size: int = 2,
    replicate: int = 0,
    **beyond: Any,
) -> tuple[Task, list[Window]]:
    """A task on a real board, and its repeats: 2 s, `batch_size` requests of 10 tokens each."""
    wanted = task(
        batch_size, output_tokens=10, engine=engine, reality=Reality.REAL, replicate=replicate,
        **beyond,
    )  # fmt: skip
    windows = [
        repeat(
            n,
            reading(energy_j, reality=Reality.REAL, method="nvml_counter"),
            requests=batch_size,
            input_tokens=8 * batch_size,
            output_tokens=10 * batch_size,
        )
        for n, energy_j in enumerate(energies_j)
    ]
    return wanted, windows


def only(world: World, view: str) -> Any:
    (row,) = world.sql(f"select * from {view}")
    return row


# ---- one measurement ---------------------------------------------------------------------------


def test_joules_per_token_and_prompt_and_watt_hours(world: World) -> None:
    measured(world, *real([30.0, 34.0, 32.0]))
    row = only(world, "measurements")
    assert (row.repeats, row.requests, row.duration_s) == (3, 6, 6.0)
    assert (row.input_tokens_total, row.output_tokens_total) == (48, 60)
    assert (row.energy_j, row.energy_method) == (96.0, "nvml_counter")
    assert row.joules_per_output_token == pytest.approx(96.0 / 60)
    assert row.joules_per_prompt == pytest.approx(16.0)
    assert row.energy_wh == pytest.approx(96.0 / 3600)
    assert row.output_tokens_per_s == pytest.approx(10.0)
    assert (row.reality, row.weights, row.model_commit) == ("real", "real", "c0ffee")
    assert (row.board, row.backend, row.reasons, row.marks) == ("rtx-a6000", "vllm", [], [])


def test_the_half_width_is_students(world: World) -> None:
    """1.5, 1.7 and 1.6 J per token: deviation 0.1, n = 3, t(0.975, 2) = 4.303."""
    measured(world, *real([30.0, 34.0, 32.0]))
    found = only(world, "measurements").joules_per_output_token_within_session_half_width
    assert found == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-6)


@pytest.mark.parametrize("repeats", [*range(2, 22), 31, 121])
def test_the_half_width_of_any_number_of_repeats(repeats: int, world: World) -> None:
    energies_j = [20.0 + (n % 2) for n in range(repeats)]
    measured(world, *real(energies_j))
    per_token = [j / 20 for j in energies_j]
    mean = sum(per_token) / repeats
    deviation = math.sqrt(sum((x - mean) ** 2 for x in per_token) / (repeats - 1))
    found = only(world, "measurements").joules_per_output_token_within_session_half_width
    assert found == pytest.approx(student(repeats - 1) * deviation / math.sqrt(repeats), rel=1e-6)


def accurate(energies_j: Sequence[float], **more: Sequence[Any]) -> tuple[Task, list[Window]]:
    """A real task whose windows carry more of the meters' words, one value a window."""
    wanted, windows = real(energies_j)
    said = [dict(zip(more, values, strict=True)) for values in zip(*more.values(), strict=True)]
    return wanted, [
        replace(window, reading=replace(window.reading, **words))
        for window, words in zip(windows, said, strict=True)
    ]


def test_the_half_width_holds_the_timing_of_each_window(world: World) -> None:
    """Equal repeats of 1.5 J per token, each ± 6 J over 20 tokens: 0.3 / √3."""
    measured(world, *accurate([30.0] * 3, timing_uncertainty_j=[6.0] * 3))
    row = only(world, "measurements")
    width = row.joules_per_output_token_within_session_half_width
    assert width == pytest.approx(0.3 / math.sqrt(3))
    assert row.timing_uncertainty_j == pytest.approx(6.0 * math.sqrt(3))


def test_the_accuracy_of_the_sensors_is_weighted_by_joules_and_stays_apart(world: World) -> None:
    measured(world, *accurate([30.0, 90.0], sensor_accuracy=[0.02, 0.06]))
    row = only(world, "measurements")
    assert row.sensor_accuracy == pytest.approx(0.05)
    assert [r.sensor_accuracy for r in world.sql("select * from repeats order by ordinal")] == [
        0.02, 0.06,
    ]  # fmt: skip
    spread = 12.706 * 3.0 / math.sqrt(2) / math.sqrt(2)  # 1.5 and 4.5 J per token
    width = row.joules_per_output_token_within_session_half_width
    assert width == pytest.approx(spread, rel=1e-3)


def test_a_sensor_that_is_not_calibrated_leaves_the_accuracy_unknown(world: World) -> None:
    measured(world, *accurate([30.0, 90.0], sensor_accuracy=[0.02, None]))
    assert only(world, "measurements").sensor_accuracy is None


def test_two_meters_are_compared_window_by_window(world: World) -> None:
    guesses = [EnergyEstimate(energy_estimated_j=j, method="codecarbon 3") for j in (33.0, 36.0)]
    measured(world, *accurate([30.0, 40.0], estimate=guesses))
    found = world.sql(shipped()["meters"].sql)
    assert [(r.repeat, r.energy_j, r.energy_estimated_j) for r in found] == [
        (0, 30.0, 33.0), (1, 40.0, 36.0),
    ]  # fmt: skip
    assert [r.relative_difference for r in found] == [pytest.approx(0.1), pytest.approx(-0.1)]
    assert only(world, "measurements").energy_j == 70.0


def test_one_repeat_has_no_half_width(world: World) -> None:
    measured(world, *real([30.0]))
    row = only(world, "measurements")
    assert row.joules_per_output_token == pytest.approx(1.5)
    assert row.joules_per_output_token_within_session_half_width is None


def test_a_window_without_joules_leaves_none_for_the_row(world: World) -> None:
    """Never a partial sum: 60 J over two of three windows is no energy of the measurement."""
    measured(world, *real([30.0, None, 30.0]))
    row = only(world, "measurements")
    missing = (
        row.energy_j,
        row.energy_method,
        row.joules_per_output_token,
        row.joules_per_prompt,
        row.energy_wh,
        row.energy_net_j,
        row.joules_per_output_token_within_session_half_width,
    )
    assert missing == (None,) * 7
    assert row.reasons == ["no_energy"]
    assert (row.repeats, row.output_tokens_per_s) == (3, 10.0)
    assert world.sql("select * from comparable") == []


def test_a_measurement_that_generated_nothing_has_no_joules_per_token(world: World) -> None:
    guess = EnergyEstimate(energy_estimated_j=40.0, method="codecarbon")
    nothing = {"requests": 0, "output_tokens": 0, "ttft_s": None}
    read = reading(30.0, estimate=guess)
    measured(world, task(1), [repeat(n, read, **nothing) for n in range(2)])
    row = only(world, "measurements")
    assert (row.energy_j, row.energy_estimated_j, row.output_tokens_per_s) == (60.0, 80.0, 0.0)
    per_unit = (
        row.joules_per_output_token,
        row.joules_per_output_token_within_session_half_width,
        row.net_joules_per_output_token,
        row.estimated_joules_per_output_token,
        row.joules_per_prompt,
    )
    assert per_unit == (None,) * 5


def test_the_cpu_is_summed_only_where_every_window_has_it(world: World) -> None:
    whole = CpuEnergy(package_j=5.0, dram_j=1.0, method="rapl")
    part = CpuEnergy(package_j=7.0, reasons=("no_dram_domain",))
    windows = [
        repeat(n, reading(10.0, cpu=cpu, timing_uncertainty_j=t))
        for n, (cpu, t) in enumerate([(whole, 0.3), (part, 0.4)])
    ]
    measured(world, task(1), windows)
    row = only(world, "measurements")
    assert (row.cpu_package_j, row.cpu_dram_j) == (12.0, None)
    assert row.timing_uncertainty_j == pytest.approx(0.5)  # independent: root of 0.3² + 0.4²
    assert row.reasons == ["no_dram_domain"]


def test_an_estimate_stays_an_estimate(world: World) -> None:
    guess = EnergyEstimate(energy_estimated_j=40.0, method="codecarbon", reasons=("modelled",))
    blind = reading(None, reality=Reality.REAL, estimate=guess)
    wanted, _ = real([])
    measured(world, wanted, [repeat(n, blind, output_tokens=20) for n in range(2)])
    row = only(world, "measurements")
    assert (row.energy_j, row.energy_estimated_j, row.estimate_method) == (None, 80.0, "codecarbon")
    assert row.estimated_joules_per_output_token == pytest.approx(2.0)
    assert row.joules_per_output_token is None
    assert row.reasons == ["modelled", "no_energy"]
    assert world.sql("select * from energy_per_output_token") == []


def test_an_estimate_that_one_window_lacks_is_none_of_the_row(world: World) -> None:
    guess = EnergyEstimate(energy_estimated_j=40.0, method="codecarbon")
    measured(world, task(1), [repeat(0, reading(30.0, estimate=guess)), repeat(1, reading(30.0))])
    row = only(world, "measurements")
    assert (row.energy_j, row.energy_estimated_j) == (60.0, None)


def test_latencies_are_weighted_by_requests(world: World) -> None:
    windows = [
        repeat(0, requests=1, ttft_s=0.1, itl_s=0.01, e2e_s=1.0),
        repeat(1, requests=3, ttft_s=0.5, itl_s=0.03, e2e_s=2.0),
    ]
    measured(world, task(1), windows)
    row = only(world, "measurements")
    assert row.ttft_s == pytest.approx((0.1 + 3 * 0.5) / 4)
    assert row.itl_s == pytest.approx((0.01 + 3 * 0.03) / 4)
    assert row.e2e_s == pytest.approx((1.0 + 3 * 2.0) / 4)


@pytest.mark.parametrize("latency", ["ttft_s", "itl_s", "e2e_s"])
def test_a_latency_that_one_window_lacks_is_none_of_the_row(latency: str, world: World) -> None:
    whole = {"ttft_s": 0.1, "itl_s": 0.01, "e2e_s": 1.0}
    measured(world, task(1), [repeat(0, **whole), repeat(1, **whole | {latency: None})])
    row = only(world, "measurements")
    assert [name for name in whole if getattr(row, name) is None] == [latency]


def test_idle_power_of_the_session_is_taken_off_beside_the_gross_value(world: World) -> None:
    """(20 J + 60 J) in (2 s + 2 s) are 20 W; 96 J in 6 s leave no negative rest."""
    wanted, windows = real([60.0, 60.0, 60.0])
    session = measured(world, wanted, windows)
    idle = [
        Window(kind=kind, ordinal=0, reading=reading(energy_j, reality=Reality.REAL))
        for kind, energy_j in [
            (WindowKind.IDLE_EMPTY, 2.0),
            (WindowKind.LOAD, 999.0),
            (WindowKind.IDLE_RESIDENT, 20.0),
            (WindowKind.IDLE_END, 60.0),
        ]
    ]
    loaded = Loaded(resolved={}, software={"vllm": "0.32.0"}, pid=1)
    with world.store.begin() as connection:
        describe_session(connection, session, loaded, idle[:-1], "nvml")
        write_windows(connection, idle[-1:], session, None)
    row = only(world, "measurements")
    assert row.backend_version == "0.32.0"
    assert (row.idle_empty_w, row.idle_resident_w) == (pytest.approx(1.0), pytest.approx(20.0))
    assert row.energy_j == 180.0
    assert row.energy_net_j == pytest.approx(180.0 - 20.0 * 6.0)
    assert row.net_joules_per_output_token == pytest.approx((180.0 - 20.0 * 6.0) / 60)


def test_without_an_idle_window_there_is_no_net_energy(world: World) -> None:
    measured(world, *real([30.0]))
    row = only(world, "measurements")
    assert (row.idle_empty_w, row.idle_resident_w, row.energy_net_j) == (None, None, None)


def test_every_row_says_the_power_limit_that_its_boards_had(world: World) -> None:
    """Also where none was asked for; that of a GPU beside them is not theirs."""
    gpus = (
        GpuEnergy(uuid="GPU-1", index=0, name="NVIDIA RTX A6000", power_limit_w=280.0),
        GpuEnergy(
            uuid="GPU-2", index=1, name="NVIDIA RTX A6000", power_limit_w=300.0, sibling=True
        ),
    )
    measured(world, task(1), [repeat(0, reading(9.0, gpus=gpus))])
    row = only(world, "measurements")
    assert (row.power_limit_w, row.enforced_power_limit_w) == (None, 280.0)
    assert only(world, "evidence").power_limit_w == 280.0


def test_a_row_without_gpus_has_no_power_limit(world: World) -> None:
    measured(world, task(1), [repeat(0)])
    assert only(world, "measurements").enforced_power_limit_w is None


# ---- what counts -------------------------------------------------------------------------------


def test_a_simulated_row_is_never_compared(world: World) -> None:
    trained = replace(TRAINED, backend="simulated")
    measured(world, task(1, engine=trained), [repeat(0)])
    assert only(world, "measurements").reality == "simulated"
    for view in ("comparable", "energy_per_output_token", "energy_per_prompt", "energy_wh"):
        assert world.sql(f"select * from {view}") == []


def test_a_real_task_metered_through_a_stand_in_is_simulated(world: World) -> None:
    wanted, windows = real([30.0, 30.0])
    stood_in = reading(30.0, reality=Reality.SIMULATED, method="nvml_counter")
    measured(world, wanted, [windows[0], repeat(1, stood_in)])
    assert only(world, "measurements").reality == "simulated"
    assert world.sql("select * from comparable") == []


def test_random_weights_are_compared_when_asked_for(world: World) -> None:
    random = replace(TRAINED, model=MODEL)
    measured(world, *real([30.0]))
    measured(world, *real([50.0], engine=random))
    assert only(world, "comparable").weights == "real"
    for asked, expected in [("random", ["random"]), ("real", ["real"]), ("", ["real"])]:
        with world.store.begin() as connection:
            connection.exec_driver_sql(f"set local campaign.weights = '{asked}'")
            found = connection.exec_driver_sql("select weights from comparable")
            assert list(found.scalars()) == expected
    assert len(world.sql("select * from measurements")) == 2


def test_a_voided_result_is_gone_from_every_view_until_measured_again(world: World) -> None:
    wanted, windows = real([30.0])
    measured(world, wanted, windows)
    void(world.store, Selection(keys=[wanted.key]), "the fan was broken")
    for view in ("repeats", "measurements", "comparable", "energy_per_prompt"):
        assert world.sql(f"select * from {view}") == []
    measured(world, *real([40.0]))
    assert only(world, "measurements").energy_j == 40.0
    assert only(world, "repeats").energy_j == 40.0
    assert world.one("select count(*) from windows") == 2


def test_marks_are_shown_and_hide_nothing(world: World) -> None:
    measured(world, *real([30.0]), marks=["short_window", "interval_wide"])
    assert only(world, "comparable").marks == ["short_window", "interval_wide"]


def test_a_row_names_every_campaign_that_asks_for_it(world: World) -> None:
    wanted, windows = real([30.0])
    measured(world, wanted, windows)
    world.campaign("another", [wanted])
    assert only(world, "measurements").campaigns == ["another", f"for {wanted.key}"]


# ---- over replicates ---------------------------------------------------------------------------


def test_replicates_in_sessions_of_their_own_are_averaged(world: World) -> None:
    """3.0 and 2.0 J per token of two sessions: mean 2.5, deviation √0.5."""
    for replicate, energy_j in enumerate([60.0, 40.0]):
        measured(world, *real([energy_j], replicate=replicate))
    row = only(world, "energy_per_output_token")
    assert (row.replicates, row.sessions) == (2, 2)
    assert row.joules_per_output_token == pytest.approx(2.5)
    assert row.between_sessions_sd == pytest.approx(math.sqrt(0.5))
    row = only(world, "energy_per_prompt")
    assert row.joules_per_prompt == pytest.approx(25.0)
    row = only(world, "energy_wh")
    assert row.wh_per_thousand_prompts == pytest.approx(25.0 * 1000 / 3600)
    assert row.wh_per_million_output_tokens == pytest.approx(2.5 * 1e6 / 3600)


def test_replicates_of_one_session_say_nothing_between_sessions(world: World) -> None:
    session = measured(world, *real([60.0]))
    measured(world, *real([40.0], replicate=1), session=session)
    row = only(world, "energy_per_output_token")
    assert (row.replicates, row.sessions, row.between_sessions_sd) == (2, 1, None)


@pytest.mark.parametrize(
    "other",
    [
        replace(TRAINED, options={"enforce_eager": True}),
        replace(TRAINED, threads=4),
        replace(TRAINED, version="0.31.0"),
        replace(TRAINED, model=replace(TRAINED.model, commit="decade")),
        replace(TRAINED, mode="online"),
        replace(TRAINED, speculation="ngram"),
        replace(TRAINED, speculative_tokens=4),
        replace(TRAINED, draft=TRAINED.model),
        replace(TRAINED, power_limit_w=200.0),
    ],
    ids=["options", "threads", "version", "commit", "mode", "speculation", "speculative_tokens",
         "draft", "power_limit_w"],
)  # fmt: skip
def test_configurations_that_differ_are_never_averaged(other: EngineSpec, world: World) -> None:
    measured(world, *real([60.0]))
    measured(world, *real([40.0], engine=other))
    for view, column, values in (
        ("energy_per_output_token", "joules_per_output_token", [2.0, 3.0]),
        ("energy_per_prompt", "joules_per_prompt", [20.0, 30.0]),
        ("energy_wh", "wh_per_thousand_prompts", [20.0 / 3.6, 30.0 / 3.6]),
    ):
        found = world.sql(f"select {column} from {view} order by 1")
        assert [tuple(row) for row in found] == [(pytest.approx(value),) for value in values]


def test_an_average_stands_beside_its_whole_configuration(world: World) -> None:
    engine = replace(
        TRAINED, mode="online", speculation="draft_model", speculative_tokens=4,
        draft=replace(MODEL, name="llama-tiny"), power_limit_w=200.0,
    )  # fmt: skip
    load = {"arrival": "closed", "requests": 64}
    decode = PhaseEnergy(phase=Phase.DECODE, method=PhaseMethod.STEPS, duration_s=1.0, energy_j=5.0)
    for replicate in (0, 1):
        wanted_task, (window,) = real([60.0], engine=engine, replicate=replicate, **load)
        measured(world, wanted_task, [replace(window, phases=(decode,))])
    wanted = {
        "model": "llama-small", "mode": "online", "speculation": "draft_model",
        "speculative_tokens": 4, "draft": "llama-tiny", "power_limit_w": 200.0,
        "workload": "8→10 x2 requests=64 arrival=closed", "arrival": "closed",
        "requests_asked": 64, "rate_rps": None, "decoding": "greedy", "temperature": 1.0,
    }  # fmt: skip
    for view in ("energy_per_output_token", "energy_per_prompt", "energy_wh", "phase_energy"):
        found = [row._mapping for row in world.sql(f"select * from {view}")]
        averaged = [2] if view != "phase_energy" else [0, 1]
        assert [{name: row[name] for name in wanted} for row in found] == [wanted] * len(averaged)
        assert sorted(r.get("replicates", r.get("replicate")) for r in found) == averaged


def test_energy_by_batch_size_is_one_line(world: World) -> None:
    for batch_size, energy_j in [(1, 30.0), (8, 80.0)]:
        measured(world, *real([energy_j], batch_size=batch_size))
    found = world.sql(
        "select batch_size, joules_per_output_token from energy_per_output_token order by 1"
    )
    assert [tuple(row) for row in found] == [(1, 3.0), (8, 1.0)]


# ---- under load --------------------------------------------------------------------------------


def served(**said: Sequence[Any]) -> tuple[Task, list[Window]]:
    """Two repeats of 40 J and 60 J in 2 s each; 20 tokens of 2 requests. `said` is per repeat."""
    wanted, windows = real([40.0, 60.0], arrival="poisson", rate_rps=2.5)
    words = [dict(zip(said, values, strict=True)) for values in zip(*said.values(), strict=True)]
    return wanted, [replace(w, **more) for w, more in zip(windows, words, strict=True)]


def test_serving_tells_rates_percentiles_and_joules_per_request(world: World) -> None:
    latencies = [
        {"ttft_s": {"p50": 0.2, "p99": 1.0}, "tpot_s": {"p90": 0.03}, "e2e_s": {"p50": 2.0}},
        {"ttft_s": {"p50": 0.4, "p99": 3.0}, "tpot_s": {"p90": 0.05}, "e2e_s": {"p50": 4.0}},
    ]
    good = [{"good_requests": 1.0, "drafts": 10.0}, {"good_requests": 2.0, "drafts": 15.0}]
    measured(world, *served(requests=[2, 3], latencies=latencies, counters=good,
                            straddling=[1, 2], running_mean=[3.0, 5.0]))  # fmt: skip
    row = only(world, "serving")
    assert (row.requests, row.straddling, row.running_mean) == (5, 3, 4.0)
    assert (row.requests_per_s, row.goodput_rps) == (5 / 4, 3 / 4)
    assert (row.ttft_p50_s, row.ttft_p99_s) == (pytest.approx(0.3), 2.0)
    assert (row.tpot_p90_s, row.e2e_p50_s) == (pytest.approx(0.04), 3.0)
    assert (row.ttft_p90_s, row.itl_p50_s) == (None, None)
    assert (row.joules_per_request, row.joules_per_output_token) == (20.0, 2.5)
    assert (row.arrival, row.rate_rps) == ("poisson", 2.5)
    assert row.counters == {"good_requests": 3, "drafts": 25}
    measurements = only(world, "measurements")
    assert (measurements.counters, measurements.running_mean) == (row.counters, 4.0)
    assert measurements.latencies["ttft_s"] == {"p50": pytest.approx(0.3), "p99": 2.0}


def test_what_one_repeat_lacks_is_none_of_the_row(world: World) -> None:
    latencies = [{"ttft_s": {"p50": 0.2, "p99": 1.0}}, {"ttft_s": {"p50": math.inf}}]
    counters = [{"drafts": 10.0, "accepted": 3.0}, {"drafts": math.nan}]
    measured(world, *served(latencies=latencies, counters=counters, running_mean=[3.0, None]))
    row = only(world, "serving")
    assert row.counters == {"drafts": None, "accepted": None}
    assert (row.ttft_p50_s, row.ttft_p99_s, row.running_mean) == (None, None, None)
    assert row.goodput_rps is None


def test_without_counters_and_percentiles_there_are_none(world: World) -> None:
    measured(world, *real([30.0]))
    row = only(world, "measurements")
    assert (row.counters, row.latencies, row.straddling) == ({}, {}, 0)


def test_speculation_stands_beside_the_same_without(world: World) -> None:
    looking = replace(TRAINED, speculation="ngram", speculative_tokens=4)
    drafted = {f"vllm:spec_decode_num_{word}_tokens": n for word, n in
               (("draft", 40.0), ("accepted", 10.0))}  # fmt: skip
    for engine, energy_j, counters in [(looking, 20.0, drafted), (TRAINED, 30.0, {})]:
        wanted, (window,) = real([energy_j], engine=engine)
        measured(world, wanted, [replace(window, counters=counters)])
    measured(world, *real([40.0], batch_size=8))
    columns = "speculation, joules_per_output_token, acceptance"
    found = world.sql(f"select {columns} from ({shipped()['speculation'].sql}) q")
    assert [tuple(row) for row in found] == [(None, 1.5, None), ("ngram", 1.0, 0.25)]
