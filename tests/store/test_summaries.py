"""The kept sums of repeats are those of the view sums, whatever is written, and by whomever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from db import schema, tables
from db.embedded import EmbeddedPostgres
from db.readings import CpuEnergy
from db.records import Reality
from db.store import Store
from tests.store.world import World, ground, measurement, reading, repeat, task

pytestmark = pytest.mark.store

DIFFERENT = """
(select * from sums except select * from summaries)
 union all (select * from summaries except select * from sums)
"""


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "summaries") as found:
        yield found


@pytest.fixture
def world(store: Store) -> World:
    """Two finished tasks: one with all there is, one without joules."""
    found = World(store, [task(1), task(2)])
    session = found.session()
    told = {"latencies": {"ttft_s": {"p50": 0.25}, "none": None}, "counters": {"drafts": 8.0}}
    cpu = CpuEnergy(package_j=5.0, dram_j=1.0, method="rapl")
    for windows in (
        [repeat(n, reading(10.0 + n, timing_uncertainty_j=0.1, cpu=cpu), **told) for n in (0, 1)],
        [repeat(0, reading(None))],
    ):
        claim = found.claim(session)
        found.leases.finish(claim.lease_id, session, measurement(*windows))
    return found


def test_a_finished_task_is_summed_at_once(world: World) -> None:
    assert world.sql(DIFFERENT) == []
    kept = world.sql("select * from summaries order by attempt_id")
    assert [(row.repeats, row.energy_j, row.cpu_dram_j) for row in kept] == [
        (2, 21.0, 2.0), (1, None, None),
    ]  # fmt: skip
    assert kept[0].latencies == {"ttft_s": {"p50": 0.25}}
    assert kept[0].counters == {"drafts": 16.0}
    assert kept[1].reasons == ["no_energy"]


def test_a_window_that_is_changed_by_hand_changes_the_sum(world: World) -> None:
    world.sql("update windows set energy_j = 2 * energy_j where energy_j is not null")
    assert world.sql(DIFFERENT) == []
    assert world.one("select max(energy_j) from measurements") == 42.0


def test_what_was_measured_before_is_summed_by_the_upgrade(world: World, store: Store) -> None:
    world.sql("delete from summaries")
    assert world.sql("select * from measurements") == []
    schema.upgrade(store)
    assert world.sql(DIFFERENT) == []
    assert len(world.sql("select * from measurements")) == 2


def test_the_table_has_the_columns_of_the_view(world: World, store: Store) -> None:
    with store.begin() as connection:
        names = list(connection.exec_driver_sql("select * from sums").keys())
    assert names == [column.name for column in tables.summaries.columns]


def test_a_simulated_window_makes_the_row_simulated(world: World) -> None:
    assert world.sql("select 1 from measurements where reality <> %(r)s", r=Reality.SIMULATED) == []
