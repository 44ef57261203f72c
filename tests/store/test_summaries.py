"""The kept sums are those of the views `sums` and `phase_sums`, whatever is written by whomever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from db import schema, tables
from db.asking import shipped
from db.embedded import EmbeddedPostgres
from db.readings import CpuEnergy, GpuEnergy, Phase, PhaseEnergy, PhaseMethod
from db.records import Reality
from db.store import Store
from tests.store.world import World, ground, measurement, reading, repeat, task

pytestmark = pytest.mark.store

PHASES = (
    PhaseEnergy(phase=Phase.PREFILL, method=PhaseMethod.STEPS, duration_s=0.5, energy_j=4.0,
                timing_uncertainty_j=0.1, tokens=20),
    PhaseEnergy(phase=Phase.DECODE, method=PhaseMethod.STEPS, duration_s=0.5, energy_j=None,
                reasons=("phases_mixed", "phase_unresolved")),
)  # fmt: skip

#: A done task needs its accepted attempt.
NOTHING_DONE = "update tasks set state = 'pending', lease_id = null where state = 'done'"
COPIES = {"summaries": "sums", "phase_summaries": "phase_sums"}


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "summaries") as found:
        yield found


def differences(world: World) -> list[object]:
    """Return the rows that a view has and its copy has not, or the other way round."""
    return [
        row
        for kept, view in COPIES.items()
        for one, other in ((kept, view), (view, kept))
        for row in world.sql(f"select * from {one} except select * from {other}")
    ]


@pytest.fixture
def world(store: Store) -> World:
    """Two finished tasks: one with all there is, one without joules."""
    found = World(store, [task(1), task(2)])
    session = found.session()
    told = {"latencies": {"ttft_s": {"p50": 0.25}, "none": None}, "counters": {"drafts": 8.0}}
    cpu = CpuEnergy(package_j=5.0, dram_j=1.0, method="rapl")
    for windows in (
        [repeat(n, reading(10.0 + n, timing_uncertainty_j=0.1, cpu=cpu), **told, phases=PHASES)
         for n in (0, 1)],
        [repeat(0, reading(None))],
    ):  # fmt: skip
        claim = found.claim(session)
        found.leases.finish(claim.lease_id, session, measurement(*windows))
    return found


def test_a_finished_task_is_summed_at_once(world: World) -> None:
    assert differences(world) == []
    kept = world.sql("select * from summaries order by attempt_id")
    assert [(row.repeats, row.energy_j, row.cpu_dram_j) for row in kept] == [
        (2, 21.0, 2.0), (1, None, None),
    ]  # fmt: skip
    assert kept[0].latencies == {"ttft_s": {"p50": 0.25}}
    assert kept[0].counters == {"drafts": 16.0}
    assert kept[1].reasons == ["no_energy"]
    phases = world.sql("select * from phase_summaries order by phase")
    assert [(row.phase, row.repeats, row.energy_j, row.reasons) for row in phases] == [
        ("decode", 2, None, ["phase_unresolved", "phases_mixed"]), ("prefill", 2, 8.0, []),
    ]  # fmt: skip


def test_a_window_that_is_changed_by_hand_changes_the_sum(world: World) -> None:
    world.sql("update windows set energy_j = 2 * energy_j where energy_j is not null")
    assert differences(world) == []
    assert world.one("select max(energy_j) from measurements") == 42.0
    world.sql("update phases set energy_j = 2 * energy_j where energy_j is not null")
    assert differences(world) == []
    assert world.one("select max(energy_j) from phase_energy") == 16.0


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        ("update attempts set voided_at = now(), void_reason = 'x' where id = {a}", 1),
        ("update attempts set outcome = 'superseded' where id = {a}", 1),
        ("update attempts set marks = '{{aliased}}' where id = {a}", 2),
        ("update tasks set batch_size = 64, replicate = 7, reality = 'real'", 2),
        ("""update tasks set workload = '{{"requests": 9}}', input_tokens = 9""", 2),
        ("""update sessions set software = '{{"simulated": "7.7"}}'""", 2),
        ("update attempts set session_id = {other} where id = {a}", 2),
    ],
)  # fmt: skip
def test_the_copy_follows_at_once_whatever_is_changed(
    change: str, counted: int, world: World
) -> None:
    first = world.one("select min(id) from attempts where outcome = 'ok'")
    before = world.sql("select * from summaries order by attempt_id")
    world.sql(NOTHING_DONE)
    world.sql(change.format(a=first, other=f"'{world.session()}'"))
    assert world.sql("select * from summaries order by attempt_id") != before
    assert differences(world) == []
    assert len(world.sql("select * from measurements")) == counted


def test_a_result_counts_again_when_its_void_is_taken_back(world: World) -> None:
    world.sql(NOTHING_DONE)
    for void, counted in (("now()", 0), ("null", 2)):
        reason = "null" if void == "null" else "'x'"
        world.sql(f"update attempts set voided_at = {void}, void_reason = {reason}")
        assert differences(world) == []
        assert len(world.sql("select * from measurements")) == counted


def test_a_question_that_asks_for_sums_alone_reads_nothing_else(world: World) -> None:
    """What makes a question about a million windows quick: the other tables are not joined."""
    read = world.sql(
        "explain (costs off) select engine_id, protocol_id, workload, backend_version, reality,"
        " avg(joules_per_output_token) from measurements group by 1, 2, 3, 4, 5"
    )
    assert [row[0].strip() for row in read if "Scan" in row[0]] == ["->  Seq Scan on summaries m"]


def gpu(uuid: str, max_w: float, *, sibling: bool = False) -> GpuEnergy:
    return GpuEnergy(uuid=uuid, index=0, name="A6000", sibling=sibling, energy_j=5.0,
                     method="counter", mean_w=50.0, max_w=max_w, samples=9, power_limit_w=300.0,
                     temperature_c=max_w / 2)  # fmt: skip


def test_power_limits_are_those_of_the_own_gpus_in_accepted_repeats(store: Store) -> None:
    world = World(store, [task(1), task(2)])
    session = world.session()
    for watts in (100.0, 140.0):
        claim = world.claim(session)
        read = reading(gpus=(gpu("GPU-1", watts), gpu("GPU-2", 500.0, sibling=True)))
        world.leases.finish(claim.lease_id, session, measurement(repeat(0, read), repeat(1, read)))

    def reported() -> list[tuple[object, ...]]:
        rows = world.sql(shipped()["report_power_limits"].sql)
        return [(r.gpus, r.windows, r.temperature_min_c, r.max_w) for r in rows]

    assert reported() == [(1, 4, 50.0, 140.0)]
    world.sql(NOTHING_DONE)
    world.sql("update attempts set voided_at = now(), void_reason = 'x' where id = "
              "(select max(id) from attempts)")  # fmt: skip
    assert reported() == [(1, 2, 50.0, 100.0)]


def test_the_first_measurements_are_found_without_sorting_the_others(store: Store) -> None:
    with store.begin() as connection:
        for setting in ("enable_seqscan", "enable_sort"):  # as dear as on a large store
            connection.exec_driver_sql(f"set local {setting} = off")
        for name in ("measurements", "meters"):
            plan = connection.exec_driver_sql(f"explain {shipped()[name].first(2).sql}").scalars()
            assert any("Index Scan using summaries_measured_at_idx" in line for line in plan)


def test_what_was_measured_before_is_summed_by_the_upgrade(world: World, store: Store) -> None:
    for kept in COPIES:
        world.sql(f"delete from {kept}")
    assert world.sql("select * from measurements") == []
    schema.upgrade(store)
    assert differences(world) == []
    assert len(world.sql("select * from measurements")) == 2


def test_the_tables_have_the_columns_of_the_views(world: World, store: Store) -> None:
    for kept, view in COPIES.items():
        with store.begin() as connection:
            names = list(connection.exec_driver_sql(f"select * from {view}").keys())
        assert names == [column.name for column in tables.metadata.tables[kept].columns]


def test_a_simulated_window_makes_the_row_simulated(world: World) -> None:
    assert world.sql("select 1 from measurements where reality <> %(r)s", r=Reality.SIMULATED) == []
