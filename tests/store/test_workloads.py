"""A workload as the store keeps it: every field comes back, in claims, views and words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from db.asking import shipped
from db.embedded import EmbeddedPostgres
from db.errors import ConfigError
from db.records import ARRIVALS, DECODINGS, ONLINE, Workload
from db.store import Store
from db.workloads import beyond_sizes
from tests.store.scenarios import Holder
from tests.store.world import World, ground, measurement, task

pytestmark = pytest.mark.store

#: Every field beyond the sizes, with a value that is not its default.
BEYOND: dict[str, Any] = {
    "requests": 64, "lengths": "alpaca", "prefix_tokens": 4, "arrival": "poisson",
    "rate_rps": 2.5, "decoding": "sample", "beams": 4, "temperature": 0.7, "top_p": 0.9,
}  # fmt: skip
DEFAULTS = {f.name: f.default for f in fields(Workload) if f.default is not MISSING}
#: Columns of the views that are called otherwise: there, `requests` are those that were finished.
COLUMNS = {"requests": "requests_asked"}

sizes = st.integers(1, 2**31 - 1)
numbers = st.floats(0.001, 1e6)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
workloads = st.builds(
    Workload,
    input_tokens=sizes,
    output_tokens=sizes,
    batch_size=sizes,
    requests=st.none() | sizes,
    lengths=st.just("fixed") | names,
    prefix_tokens=st.integers(0, 2**31 - 1),
    arrival=st.sampled_from(ARRIVALS),
    rate_rps=st.none() | numbers,
    decoding=st.sampled_from(DECODINGS),
    beams=st.integers(1, 2**31 - 1),
    temperature=numbers,
    top_p=numbers,
)


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store) as found:
        yield found


def claimed(world: World) -> Workload:
    return world.claim(world.session()).workload


# ---- kept and given back -----------------------------------------------------------------------


# Without shrinking: an example costs a store.
@settings(max_examples=40, phases=[Phase.generate])
@given(st.lists(workloads, min_size=1, max_size=4, unique=True))
def test_any_workload_comes_back_as_it_was(store: Store, asked: list[Workload]) -> None:
    tasks = [replace(task(1), key=f"v1:{n}", workload=work) for n, work in enumerate(asked)]
    world = World(store, tasks)
    assert [claimed(world) for _ in asked] == asked
    told = world.sql("select workload from configurations order by task_id")
    assert [row.workload for row in told] == [work.label for work in asked]


def test_only_what_was_chosen_is_kept(store: Store) -> None:
    world = World(store, [task(1), task(1, arrival="closed", top_p=1.0)])
    kept = world.sql("select workload from tasks order by ordinal")
    assert [row.workload for row in kept] == [{}, {"arrival": "closed"}]


def test_every_field_beyond_the_sizes_is_kept() -> None:
    assert set(BEYOND) == set(DEFAULTS)
    assert set(DEFAULTS) == {f.name for f in fields(Workload)[3:]}


@pytest.mark.parametrize("name", BEYOND)
def test_a_field_alone_comes_back_in_the_claim_in_its_column_and_in_words(
    name: str, store: Store
) -> None:
    wanted = task(2, **{name: BEYOND[name]})
    world = World(store, [wanted])
    assert claimed(world) == wanted.workload
    (row,) = world.sql("select * from configurations")
    columns = {field: getattr(row, COLUMNS.get(field, field)) for field in DEFAULTS}
    assert columns == {**DEFAULTS, name: BEYOND[name]}
    assert row.workload == f"8→8 x2 {name}={BEYOND[name]}" == wanted.workload.label


def test_equal_workloads_of_different_objects_are_both_kept(store: Store) -> None:
    first, second = task(1, **BEYOND), task(1, replicate=1, **BEYOND)
    assert first.workload is not second.workload
    world = World(store, [first, second, task(2)])
    assert [claimed(world) for _ in range(3)] == [first.workload, first.workload, task(2).workload]


def test_a_field_that_a_newer_program_asks_for_is_never_measured_without_it(store: Store) -> None:
    world = World(store, [task(1)])
    world.sql("""update tasks set workload = '{"tempo": 3}'""")
    with pytest.raises(ConfigError, match=r"asks for tempo, which this program does not know"):
        world.claim(world.session())
    assert world.sql("select state, attempts from tasks") == [("pending", 0)]


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        beyond_sizes(Workload(input_tokens=1, output_tokens=1, batch_size=1, rate_rps=float("nan")))


# ---- in the views ------------------------------------------------------------------------------


def measured(world: World) -> None:
    held = Holder(world)
    world.leases.finish(held.lease, held.session, measurement())


@pytest.mark.parametrize("question", ["throughput", "energy_by_batch_size", "replicates_spread"])
@pytest.mark.parametrize("name", BEYOND)
def test_workloads_that_differ_are_never_averaged(name: str, question: str, store: Store) -> None:
    beyond = {name: BEYOND[name]}
    tasks = [task(1, replicate=n, **more) for more in ({}, beyond) for n in (0, 1)]
    world = World(store, tasks)
    for _ in tasks:
        measured(world)
    column = COLUMNS.get(name, name)
    found = world.sql(f"select {column}, replicates from ({shipped()[question].sql}) q")
    assert {tuple(row) for row in found} == {(DEFAULTS[name], 2), (BEYOND[name], 2)}


@pytest.mark.parametrize("arrival", ARRIVALS)
def test_serving_is_where_requests_arrive_while_others_are_computed(
    arrival: str, store: Store
) -> None:
    world = World(store, [task(1, arrival=arrival)])
    measured(world)
    found = [row.arrival for row in world.sql("select arrival from serving")]
    assert found == ([arrival] if arrival in ONLINE else [])


def test_decodings_of_the_same_sizes_stand_together(store: Store) -> None:
    tasks = [task(1), task(1, decoding="beam", beams=4), task(2)]
    world = World(store, tasks)
    for _ in tasks:
        measured(world)
    found = world.sql(f"select decoding, beams, batch_size from ({shipped()['decoding'].sql}) q")
    assert found == [("beam", 4, 1), ("greedy", 1, 1)]
