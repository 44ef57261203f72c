"""Writing and reading the facts: enqueueing, sessions, windows, progress, joules."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy.engine import Connection

from db.campaigns import (
    create_campaign,
    done_keys,
    engine_id,
    enqueue,
    frozen_commits,
    protocol_id,
    read_protocol,
    write_exclusions,
)
from db.embedded import EmbeddedPostgres
from db.grids import Enrolled, remember
from db.identity import engine_digest
from db.progress import Left, Progress, is_claimable, joules, progress
from db.readings import GpuEnergy, Loaded, PowerTrace, Window, WindowKind
from db.records import EngineSpec, Exclusion, ModelSpec, Reality, Task, Weights, Workload
from db.results import close_session, describe_session, last_words, write_windows
from db.storable import storable_json, storable_text
from db.store import Store
from tests.store.interleaving import losing, stage
from tests.store.scenarios import FIRST, SECOND, Holder
from tests.store.world import ENGINE, PROTOCOL, World, ground, measurement, reading, repeat, task

pytestmark = pytest.mark.store

HOSTILE = "a\tb\nc\\.\r\\N'\"; drop table tasks; -- %s %(x)s {} \N{SNOWMAN}"


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store) as found:
        yield found


@pytest.fixture
def world(store: Store) -> World:
    return World(store, [FIRST, SECOND])


def asks_for(world: World, campaign: int) -> list[str]:
    text = """select t.key from campaign_tasks c join tasks t on t.id = c.task_id
               where c.campaign_id = %(id)s order by t.ordinal"""
    return [row.key for row in world.sql(text, id=campaign)]


# ---- enqueueing --------------------------------------------------------------------------------


def test_the_same_tasks_twice_are_the_same_tasks(world: World) -> None:
    before = world.sql("select * from tasks order by id")
    with world.store.begin() as connection:
        again = create_campaign(connection, "proof", "me", "a: 2")
        assert enqueue(connection, again, [FIRST, SECOND]) == 0
    assert again == world.campaign_id
    assert world.sql("select * from tasks order by id") == before
    assert world.one("select config from campaigns") == "a: 2"


def test_one_task_asked_for_twice_is_one_task(store: Store) -> None:
    world = World(store)
    with store.begin() as connection:
        assert enqueue(connection, world.campaign_id, [FIRST, SECOND, FIRST]) == 2
    assert asks_for(world, world.campaign_id) == [FIRST.key, SECOND.key]


def test_a_task_measured_for_one_campaign_is_done_for_the_other(world: World) -> None:
    Holder(world).finish(world.leases)
    with world.store.begin() as connection:
        other = create_campaign(connection, "other", "you", "")
        assert enqueue(connection, other, [FIRST, task(64)]) == 1
        found = progress(connection, other)
        assert done_keys(connection, [FIRST.key, SECOND.key, "v1:unknown"]) == {FIRST.key}
    assert dict(found.states) == {"done": 1, "pending": 1}
    assert world.one("select campaigns from measurements") == ["other", "proof"]


def test_an_edited_campaign_drops_tasks_and_keeps_their_results(world: World) -> None:
    done = Holder(world)
    done.finish(world.leases)
    with world.store.begin() as connection:
        assert enqueue(connection, world.campaign_id, [SECOND, task(64)]) == 1
    assert set(asks_for(world, world.campaign_id)) == {SECOND.key, task(64).key}
    assert world.counted() == [(FIRST.key, 10.0)]
    assert world.one("select campaigns from measurements") == []
    with world.store.begin() as connection:  # and takes them back, measured
        assert enqueue(connection, world.campaign_id, [FIRST]) == 0
        assert progress(connection, world.campaign_id) == Progress(states={"done": 1}, left={})


def test_a_dropped_task_is_no_longer_claimed(world: World) -> None:
    world.campaign("proof", [SECOND])
    assert Holder(world).claim.key == SECOND.key
    assert world.nothing_to_claim()


def test_twenty_thousand_tasks_are_enqueued_at_once(store: Store) -> None:
    world = World(store)
    copies = [replace(ENGINE, model=replace(ENGINE.model)) for _ in range(4)]  # equal, not same
    tasks = [
        replace(FIRST, key=f"v1:{n}", engine=copies[n % 4], replicate=n) for n in range(20_000)
    ]
    with store.begin() as connection:
        assert enqueue(connection, world.campaign_id, tasks) == 20_000
        assert enqueue(connection, world.campaign_id, tasks) == 0
        assert len(done_keys(connection, [t.key for t in tasks])) == 0
    assert world.one("select count(*) from engines") == 1
    assert asks_for(world, world.campaign_id) == [t.key for t in tasks]


def test_text_that_is_hostile_to_copy_arrives_as_it_is(store: Store) -> None:
    model = ModelSpec(name=HOSTILE, weights=Weights.RANDOM, architecture={HOSTILE: HOSTILE})
    engine = EngineSpec(model=model, backend="vllm", board="b\\t", options={"flag": HOSTILE})
    hostile = replace(FIRST, key="v1:" + HOSTILE, engine=engine)
    world = World(store, [hostile])
    with store.begin() as connection:
        create_campaign(connection, HOSTILE, HOSTILE, HOSTILE)
        same = engine_id(connection, engine)
        session = world.session(same)
        claim = world.leases.claim(world.campaign_id, same, session)
    assert claim is not None
    assert claim.key == "v1:" + HOSTILE
    world.leases.finish(claim.lease_id, session, measurement(marks=[HOSTILE]))
    (row,) = world.sql("select model, board, options, marks from measurements")
    assert tuple(row) == (HOSTILE, "b\\t", {"flag": HOSTILE}, [HOSTILE])


def test_two_campaigns_that_share_tasks_never_wait_in_a_circle(store: Store) -> None:
    """One inserts the first key and waits for the second; the other wants both the other way."""
    world = World(store)
    a, b, c = sorted([task(1), task(2), task(4)], key=lambda t: t.key)
    world.campaign("warm", [task(8)])  # the engine is known

    def ask(connection: Connection, name: str, tasks: list[Task]) -> int:
        return enqueue(connection, create_campaign(connection, name, "me", ""), tasks)

    with stage(world) as s:
        holder, one, two = s.hand(), s.hand(), s.hand()
        assert holder.retrying(lambda k: ask(k, "holder", [b])) == 1
        first = one.start(lambda: one.retrying(lambda k: ask(k, "one", [a, b, c])))
        s.waits(one)
        second = two.start(lambda: two.retrying(lambda k: ask(k, "two", [c, a])))
        s.waits(two)
        holder.commit()
        assert first.result() == 2
        one.commit()
        assert second.result() == 0
        two.commit()
    assert world.one("select count(*) from tasks") == 4


DRAFT = ModelSpec(name="draft", weights=Weights.REAL, commit="d00d", architecture={"layers": 2})


def test_an_engine_is_kept_with_everything_that_was_chosen(world: World) -> None:
    whole = EngineSpec(
        model=ModelSpec(name="m", weights=Weights.REAL, commit="c0de", architecture={"layers": 9}),
        backend="vllm", board="a100-sxm-80gb", board_count=2, version="0.32.0", dtype="float16",
        quantization="awq", tensor_parallel=2, threads=3, options={"enforce_eager": True},
        mode="online", speculation="draft_model", speculative_tokens=4, draft=DRAFT,
        power_limit_w=250.0,
    )  # fmt: skip
    (row,) = world.sql("select * from engines where id = %(id)s", id=world.engine(whole))
    kept = dict(row._mapping)
    assert {kept.pop("id"), kept.pop("digest")} == {row.id, engine_digest(whole)}
    assert kept == {
        "model": "m", "model_commit": "c0de", "weights": "real", "architecture": {"layers": 9},
        "backend": "vllm", "backend_version": "0.32.0", "dtype": "float16", "quantization": "awq",
        "tensor_parallel": 2, "threads": 3, "board": "a100-sxm-80gb", "board_count": 2,
        "options": {"enforce_eager": True}, "mode": "online", "speculation": "draft_model",
        "speculative_tokens": 4, "power_limit_w": 250.0,
        "draft": {"name": "draft", "weights": "real", "commit": "d00d",
                  "architecture": {"layers": 2}},
    }  # fmt: skip


def test_an_engine_without_a_draft_has_none(world: World) -> None:
    assert world.sql("select draft from engines where draft is not null") == []
    row = world.sql("select mode, speculation, speculative_tokens, power_limit_w from engines")[0]
    assert tuple(row) == ("offline", None, None, None)


def test_commits_are_frozen_of_models_and_of_their_drafts(store: Store) -> None:
    real = ModelSpec(name="m", weights=Weights.REAL, commit="c0de")
    drawn = replace(DRAFT, name="drawn", weights=Weights.RANDOM, commit=None)
    engines = [
        replace(ENGINE, model=real, draft=DRAFT, speculation="draft_model"),
        replace(ENGINE, model=real, draft=drawn, speculation="draft_model"),
        ENGINE,
    ]
    world = World(store, [task(1, engine=engine) for engine in engines])
    numbers = [row.id for row in world.sql("select id from engines where draft is not null")]
    grid = [Enrolled(engine_id=n, tasks=1, task_s=1.0, load_s=1.0, context_tokens=1, batch_size=1)
            for n in numbers]  # fmt: skip
    with world.store.begin() as connection:
        assert frozen_commits(connection, "proof") == {"m": "c0de", "draft": "d00d"}
        remember(connection, world.campaign_id, None, grid)
        assert frozen_commits(connection, "proof") == {"m": "c0de", "draft": "d00d"}
        remember(connection, world.campaign_id, None, [])
        assert frozen_commits(connection, "proof") == {}


def test_exclusions_are_replaced(world: World) -> None:
    small = Workload(input_tokens=8, output_tokens=8, batch_size=1)
    one = Exclusion(engine=ENGINE, workload=small, reason="memory", detail="9 > 8 GiB", points=1)
    whole = Exclusion(engine=ENGINE, workload=None, reason="dtype", detail="no bf16", points=12)
    with world.store.begin() as connection:
        write_exclusions(connection, world.campaign_id, [one, whole])
        write_exclusions(connection, world.campaign_id, [whole])
    (row,) = world.sql("select * from exclusions")
    assert (row.reason, row.workload, row.points, row.engine) == ("dtype", None, 12, ENGINE.label)


def test_a_protocol_is_its_numbers_not_its_name(world: World) -> None:
    with world.store.begin() as connection:
        known = protocol_id(connection, PROTOCOL)
        assert protocol_id(connection, replace(PROTOCOL, name="another")) == known
        longer = replace(PROTOCOL, window_s=30.0)
        assert protocol_id(connection, longer) != known
        assert read_protocol(connection, protocol_id(connection, longer)) == longer


# ---- progress and joules -----------------------------------------------------------------------


def test_progress_counts_by_engine_and_state(store: Store) -> None:
    other = replace(ENGINE, dtype="float16")
    world = World(store, [task(1), task(2), task(4), task(8), task(1, engine=other)])
    Holder(world).finish(world.leases)
    Holder(world)
    world.sql("update tasks set not_before = now() + interval '1 hour' where batch_size = 4")
    world.sql("update tasks set state = 'quarantined', reason = 'why' where batch_size = 8")
    world.campaign("another", [task(16)])
    with store.begin() as connection:
        found = progress(connection, world.campaign_id)
        known = [is_claimable(connection, world.campaign_id, e) for e in found.left]
    here, there = world.engine_id, world.engine(other)
    assert dict(found.states) == {"done": 1, "leased": 1, "pending": 2, "quarantined": 1}
    assert {type(count) for count in found.states.values()} == {int}
    assert found.unfinished == 3
    assert found.left == {
        here: Left(unfinished=2, claimable=0), there: Left(unfinished=1, claimable=1),
    }  # fmt: skip
    assert known == [engine == there for engine in found.left]


def test_joules_are_of_accepted_windows_and_absent_where_none_was_measured(world: World) -> None:
    with world.store.begin() as connection:
        assert joules(connection, world.campaign_id) == (None, None)
    zombie = Holder(world, expired=True)
    world.reap()
    again = Holder(world)
    zombie.finish(world.leases, 666.0)
    again.finish(world.leases, 10.0)
    blind = Holder(world)
    missing = measurement(repeat(0, reading(None, reasons=("no_counter",))))
    world.leases.finish(blind.lease, blind.session, missing)
    with world.store.begin() as connection:
        assert joules(connection, world.campaign_id) == (10.0, None)


# ---- sessions and windows ----------------------------------------------------------------------


def idle_window(ordinal: int = 0) -> Window:
    trace = PowerTrace(offsets_s=(0.0, 1.0), watts=(20.0, 22.0))
    gpu = GpuEnergy(uuid="GPU-1", index=0, name="NVIDIA RTX A6000", energy_j=21.0, trace=trace)
    read = reading(21.0, gpus=(gpu,))
    return Window(kind=WindowKind.IDLE_RESIDENT, ordinal=ordinal, reading=read)


def test_what_serving_and_speculation_show_is_kept_with_the_window(world: World) -> None:
    held = Holder(world)
    latencies = {"ttft_s": {"p50": 0.25, "p99": 1.5}, "e2e_s": {"p99": 4.0}}
    seen = {"running_mean": 3.5, "straddling": 2, "latencies": latencies}
    served = repeat(0, counters={"drafts": 8.0, "rate": math.nan, "a\0b": 1.0}, **seen)
    world.leases.finish(held.lease, held.session, measurement(served, repeat(1)))
    text = "select running_mean, straddling, latencies, counters from windows order by ordinal"
    first, second = world.sql(text)
    counters = {"drafts": 8.0, "rate": "nan", "a\N{REPLACEMENT CHARACTER}b": 1.0}
    assert tuple(first) == (3.5, 2, latencies, counters)
    assert tuple(second) == (None, 0, {}, {})


def test_a_sessions_windows_are_written_once_although_the_reply_was_lost(world: World) -> None:
    session = world.session()
    with losing(world, "unanswered") as store:
        store.retrying(lambda c: write_windows(c, [idle_window(0), idle_window(1)], session, None))
    for table in ("windows", "gpu_energies", "power_traces"):
        assert world.one(f"select count(*) from {table}") == 2


def test_two_windows_of_an_attempt_with_one_ordinal_are_refused(world: World) -> None:
    held = Holder(world)
    with pytest.raises(Exception, match="windows_attempt_id_ordinal_key"):
        world.leases.finish(held.lease, held.session, measurement(repeat(0), repeat(0)))
    assert world.state(held.task_id) == "leased"


def test_every_gpu_and_its_trace_are_kept_with_the_window(world: World) -> None:
    held = Holder(world)
    group = GpuEnergy(
        uuid="GPU-1",
        index=3,
        name="NVIDIA RTX A6000",
        energy_j=9.0,
        method="counter",
        counter_j=9.0,
        integrated_j=8.9,
        ratio=9.0 / 8.9,
        throttle_reasons=("sw_power_cap",),
        trace=PowerTrace(offsets_s=(0.0, 0.5), watts=(100.0, 200.0)),
    )
    sibling = GpuEnergy(uuid="GPU-2", index=4, name="NVIDIA RTX A6000", sibling=True)
    read = reading(9.0, gpus=(group, sibling))
    world.leases.finish(held.lease, held.session, measurement(repeat(0, read)))
    first, second = world.sql("select * from gpu_energies order by gpu_index")
    assert (first.gpu_index, first.counter_j, first.integrated_j) == (3, 9.0, 8.9)
    assert first.throttle_reasons == ["sw_power_cap"]
    assert (second.sibling, second.energy_j, second.method) == (True, None, None)
    (trace,) = world.sql("select * from power_traces")
    assert (trace.gpu_uuid, trace.offsets_s, trace.watts) == ("GPU-1", [0.0, 0.5], [100.0, 200.0])


def test_a_session_ends_once_and_keeps_what_its_engine_said(world: World) -> None:
    session = world.session()
    loaded = Loaded(
        resolved={"max_model_len": 512, "gpu_memory": math.inf, "nul": "a\0b", "set": {1}},
        software={"simulated": "1.0"},
        pid=4711,
    )
    with world.store.begin() as connection:
        describe_session(connection, session, loaded, [idle_window()], "roofline")
        close_session(connection, session, "failed", error="first", stderr_tail="a\0\udcffb")
        close_session(connection, session, "ended")
    (row,) = world.sql("select * from sessions where id = %(id)s", id=session)
    assert (row.outcome, row.error) == ("failed", "first")
    assert row.stderr_tail == "a\N{REPLACEMENT CHARACTER}?b"
    assert world.one("select kind from windows where session_id = %(id)s", id=session) == (
        "idle_resident"
    )
    assert (row.engine_pid, row.software) == (4711, {"simulated": "1.0"})
    assert row.resolved == {
        "max_model_len": 512,
        "gpu_memory": "inf",
        "nul": "a\N{REPLACEMENT CHARACTER}b",
        "set": [1],
    }


def test_last_words_fill_in_what_their_own_session_did_not_say(world: World) -> None:
    silent, failed, other = world.session(), world.session(), world.session()
    with world.store.begin() as connection:
        close_session(connection, failed, "failed", error="out of memory")
        for session in (silent, failed):
            last_words(connection, session, error="the node died", stderr_tail="killed")
    told = {row.id: (row.outcome, row.error, row.stderr_tail)
            for row in world.sql("select * from sessions")}  # fmt: skip
    assert told == {
        silent: (None, "the node died", "killed"),
        failed: ("failed", "out of memory", "killed"),
        other: (None, None, None),
    }


def test_each_window_has_the_joules_of_its_own_gpus(world: World) -> None:
    held = Holder(world)
    gpus = [GpuEnergy(uuid="GPU-1", index=0, name="NVIDIA L4", energy_j=joules)
            for joules in (20.0, 30.0)]  # fmt: skip
    windows = [repeat(n, reading(gpu.energy_j, gpus=(gpu,))) for n, gpu in enumerate(gpus)]
    world.leases.finish(held.lease, held.session, measurement(*windows))
    found = world.sql("select w.energy_j, g.energy_j as of_gpu from windows w"
                      " join gpu_energies g on g.window_id = w.id order by w.ordinal")  # fmt: skip
    assert [tuple(row) for row in found] == [(20.0, 20.0), (30.0, 30.0)]


def test_plain_text_and_numbers_are_kept_to_the_letter() -> None:
    assert storable_text(HOSTILE) == HOSTILE
    assert storable_text(None) is None
    assert storable_json({"a": [1, 0.5, True, None, "x"]}) == '{"a": [1, 0.5, true, null, "x"]}'
    assert storable_json((Reality.REAL, 1 + 2j)) == '["real", "(1+2j)"]'
