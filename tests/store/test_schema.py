"""The schema: one source of it, every rule a constraint, every column explained, versions kept."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.exc import IntegrityError

from db import schema
from db.embedded import EmbeddedPostgres
from db.errors import ConfigError
from db.identity import PROTOCOL_FIELDS
from db.leases import LeasePolicy, Leases
from db.records import Workload
from db.store import FOLDER, Store, statements
from db.tables import metadata
from tests.store.scenarios import FIRST, SECOND, Holder
from tests.store.world import PROTOCOL, World, ground, measurement, reading, repeat

pytestmark = pytest.mark.store

VIEWS = [name for name in statements("views.sql") if name != "drop"]
NEWEST = max(path.name[:4] for path in (FOLDER / "migrations" / "versions").glob("0*.py"))

CONSTRAINTS = """
select conrelid::regclass::text as table, conname as name, pg_get_constraintdef(oid) as rule,
       convalidated as validated
  from pg_constraint where connamespace = current_schema()::regnamespace order by 1, 2
"""
INDEXES = """
select tablename as table, indexname as name, replace(indexdef, current_schema() || '.', '') as rule
  from pg_indexes where schemaname = current_schema() and tablename <> 'alembic_version'
 order by 1, 2
"""
COMMENTS = """
select c.relname as table, a.attname as column, col_description(c.oid, a.attnum) as comment,
       obj_description(c.oid, 'pg_class') as table_comment, c.relkind as kind,
       format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as not_null,
       pg_get_expr(d.adbin, d.adrelid) as default
  from pg_class c
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
  left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
 where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'v')
   and c.relname <> 'alembic_version'
 order by 1, a.attname
"""


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store) as found:
        yield found


@pytest.fixture
def bare(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "bare", bare=True) as found:
        yield found


@pytest.fixture
def world(store: Store) -> World:
    return World(store, [FIRST, SECOND])


def asked(store: Store, text: str) -> list[dict[str, Any]]:
    with store.begin() as connection:
        return [dict(row) for row in connection.exec_driver_sql(text).mappings()]


# ---- one source --------------------------------------------------------------------------------


# Alembic cannot compare generated columns; the next test does.
@pytest.mark.filterwarnings("ignore:Computed default on")
def test_alembic_finds_nothing_to_migrate(store: Store) -> None:
    with store.begin() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, kind, _: kind != "table" or name in metadata.tables,
            },
        )
        assert compare_metadata(context, metadata) == []


def test_a_migrated_store_is_what_the_tables_declare(store: Store, bare: Store) -> None:
    """Alembic compares neither checks nor partial indexes; Postgres' own words do."""
    with bare.begin() as connection:
        metadata.create_all(connection)
    for question in (CONSTRAINTS, INDEXES):
        declared = asked(bare, question)
        migrated = [row for row in asked(store, question) if row["table"] != "alembic_version"]
        assert migrated == declared
    declared = asked(bare, COMMENTS)
    migrated = [row for row in asked(store, COMMENTS) if row["kind"] == "r"]
    assert migrated == declared


# ---- explained ---------------------------------------------------------------------------------


def test_every_table_and_every_column_is_explained(store: Store) -> None:
    found = [row for row in asked(store, COMMENTS) if row["kind"] == "r"]
    assert {row["table"] for row in found} == set(metadata.tables)
    assert [row for row in found if not row["comment"] or not row["table_comment"]] == []


def test_every_number_with_a_unit_says_it_in_its_name(store: Store) -> None:
    unit = re.compile(r"_(j|w|s|ns|c|mhz|pct|bytes|tokens)$|^(watts|.*tokens)$")
    without = {"ratio", "sensor_accuracy", "running_mean"}  # two are relative, one counts
    numbers = ("double precision", "real[]")
    found = [row for row in asked(store, COMMENTS) if row["kind"] == "r" and row["type"] in numbers]
    found = [row for row in found if row["table"] != "external_rows"]  # campaign.analysis.columns
    assert len(found) > 20
    assert {r["column"] for r in found if not unit.search(r["column"])} == without


def test_the_views_are_there_and_say_what_for(store: Store) -> None:
    found = {r["table"]: r["table_comment"] for r in asked(store, COMMENTS) if r["kind"] == "v"}
    assert sorted(found) == sorted(VIEWS)
    assert found["comparable"].startswith("What comparisons are made from")
    assert "campaign.weights = 'random'" in found["comparable"]
    assert all(words.endswith(".") and "--" not in words for words in found.values())


# ---- versions ----------------------------------------------------------------------------------


def test_an_empty_store_says_how_to_make_it(bare: Store) -> None:
    assert not schema.is_current(bare)
    with pytest.raises(ConfigError, match=r"no schema.*run `campaign db upgrade`"):
        schema.check(bare)
    schema.upgrade(bare)
    assert schema.is_current(bare)
    schema.check(bare)


def test_an_older_store_says_how_to_bring_it_up(
    bare: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program of tomorrow knows a revision more."""
    schema.upgrade(bare)
    known = schema._refuse_newer
    monkeypatch.setattr(schema, "_refuse_newer", lambda *c: ["tomorrow", *known(*c)])
    assert not schema.is_current(bare)
    with pytest.raises(ConfigError, match=rf"schema {NEWEST}, this program needs tomorrow: run"):
        schema.check(bare)


def test_a_newer_store_is_left_alone(bare: Store) -> None:
    schema.upgrade(bare)
    with bare.begin() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '9999'"))
        connection.execute(sa.text("drop view repeats cascade"))
    for use in (schema.check, schema.is_current, schema.upgrade):
        with pytest.raises(ConfigError, match=rf"schema 9999, newer than this program's {NEWEST}"):
            use(bare)
    assert "repeats" not in {row["table"] for row in asked(bare, COMMENTS)}


@pytest.mark.parametrize("theirs", ["table tasks (n int)", "view measurements as select 1 as n"])
def test_what_another_program_calls_alike_is_left_alone(bare: Store, theirs: str) -> None:
    with bare.begin() as connection:
        connection.exec_driver_sql(f"create {theirs}")
    with pytest.raises(ConfigError, match=f"has {theirs.split()[1]} of another program"):
        schema.upgrade(bare)
    assert [row["column"] for row in asked(bare, COMMENTS)] == ["n"]


def test_two_upgrades_at_once_make_one_schema(bare: Store) -> None:
    other = Store(bare.url)
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(schema.upgrade, each) for each in (bare, other)]:
            done.result()
    other.close()
    schema.check(bare)
    assert asked(bare, "select count(*) as n from alembic_version") == [{"n": 1}]


def test_an_upgrade_that_fails_leaves_nothing_behind(
    bare: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {**statements("views.sql"), "wrong": "create view wrong as select no_such_column"}
    monkeypatch.setattr(schema, "statements", lambda _: broken)
    with pytest.raises(sa.exc.ProgrammingError):
        schema.upgrade(bare)
    assert asked(bare, COMMENTS) == []


def test_an_upgrade_keeps_the_facts_and_makes_the_views_anew(world: World) -> None:
    Holder(world).finish(world.leases)
    before = world.counted()
    world.sql("drop view energy_wh")
    schema.upgrade(world.store)
    assert world.counted() == before
    assert world.sql("select * from energy_wh") == []


OLD_ROWS = """
insert into campaigns (name, owner, config) values ('old', 'me', '');
insert into engines (digest, model, weights, backend, dtype, tensor_parallel, board, board_count)
values ('d', 'm', 'real', 'vllm', 'bfloat16', 1, 'a100', 1);
insert into protocols (digest, name, numbers) values ('d', 'quick', '{numbers}');
insert into tasks (key, engine_id, protocol_id, input_tokens, output_tokens, batch_size, reality,
                   replicate, ordinal)
select 'v1:' || n, e.id, p.id, 8, 8, n, 'real', 0, n
  from engines e, protocols p, generate_series(1, 2) n;
insert into campaign_tasks select c.id, t.id from campaigns c, tasks t;
insert into sessions (id, campaign_id, engine_id, host, boot, pid, pid_started_s, meter, reality)
select gen_random_uuid(), c.id, e.id, 'h', 'b', 1, 1, 'nvml', 'real' from campaigns c, engines e;
insert into attempts (task_id, number, lease_id, session_id, closed_at, outcome)
select t.id, 1, gen_random_uuid(), s.id, now(), 'ok' from tasks t, sessions s
 where t.key = 'v1:1';
update tasks t set state = 'done', lease_id = a.lease_id from attempts a where a.task_id = t.id;
insert into windows (session_id, attempt_id, kind, ordinal, started_at, started_ns, duration_s,
                     batches, requests, input_tokens, output_tokens, reality, energy_j,
                     energy_method)
select session_id, id, 'repeat', 0, now(), 1, 2, 1, 1, 8, 8, 'real', 16, 'nvml_counter'
  from attempts
"""


def test_rows_of_an_older_store_took_the_defaults(bare: Store) -> None:
    with bare.begin() as connection:
        command.upgrade(schema._alembic(connection), "0002")
        numbers = json.dumps({name: getattr(PROTOCOL, name) for name in PROTOCOL_FIELDS})
        for statement in OLD_ROWS.replace("{numbers}", numbers).split(";"):
            connection.exec_driver_sql(statement)
    with pytest.raises(ConfigError, match=rf"schema 0002, this program needs {NEWEST}"):
        schema.check(bare)
    schema.upgrade(bare)
    (row,) = asked(bare, "select * from energy_per_output_token")
    assert (row["joules_per_output_token"], row["workload"], row["mode"]) == (
        2.0,
        "8→8 x1",
        "offline",
    )
    assert (row["arrival"], row["decoding"], row["lengths"]) == ("static", "greedy", "fixed")
    (window,) = asked(bare, "select straddling, running_mean, counters, latencies from windows")
    assert tuple(window.values()) == (0, None, {}, {})
    (ids,) = asked(bare, "select campaign_id, engine_id, id from sessions")
    claim = Leases(bare, LeasePolicy()).claim(*ids.values())
    assert claim is not None
    assert claim.workload == Workload(input_tokens=8, output_tokens=8, batch_size=2)


def test_sums_of_an_older_store_are_made_anew_with_what_they_measured(bare: Store) -> None:
    """As it was when nothing but sums was kept; what it had kept is not believed."""
    numbers = json.dumps({name: getattr(PROTOCOL, name) for name in PROTOCOL_FIELDS})
    with bare.begin() as connection:
        command.upgrade(schema._alembic(connection), "0009")
        connection.exec_driver_sql("alter table windows disable trigger windows_summed_insert")
        for statement in OLD_ROWS.replace("{numbers}", numbers).split(";"):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("alter table windows enable trigger windows_summed_insert")
        connection.exec_driver_sql(
            "insert into summaries (attempt_id, repeats, simulated, energy_j, latencies, counters)"
            " select id, 9, true, 1, '{}', '{}' from attempts"
        )
    schema.upgrade(bare)
    (row,) = asked(bare, "select * from measurements")
    assert (row["repeats"], row["energy_j"], row["reality"]) == (1, 16.0, "real")
    assert (row["workload"], row["replicate"], row["marks"]) == ("8→8 x1", 0, [])
    assert asked(bare, "select * from summaries except select * from sums") == []


def test_evidence_of_an_older_store_says_of_its_engines_what_it_did_not(bare: Store) -> None:
    numbers = json.dumps({name: getattr(PROTOCOL, name) for name in PROTOCOL_FIELDS})
    with bare.begin() as connection:
        command.upgrade(schema._alembic(connection), "0011")
        connection.exec_driver_sql("alter table windows disable trigger windows_summed_insert")
        for statement in OLD_ROWS.replace("{numbers}", numbers).split(";"):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql(
            """update engines set options = '{"enforce_eager": true}', power_limit_w = 200"""
        )
        connection.exec_driver_sql(
            "insert into external_rows (digest, source, file_sha256, line, model, board, energy_j)"
            " values ('d', 's', 'f', 1, 'm', 'a100', 5)"
        )
        connection.exec_driver_sql("create view evidence as select 1 as row_id")
    assert not schema.is_current(bare)
    schema.upgrade(bare)
    own, theirs = asked(bare, "select * from evidence order by source nulls first")
    assert (own["options"], own["declared_power_limit_w"]) == ('{"enforce_eager": true}', 200)
    assert (own["mode"], own["power_limit_w"], own["speculation"]) == ("offline", None, None)
    assert (theirs["energy_j"], theirs["options"], theirs["mode"]) == (5, None, None)


def test_views_of_other_people_are_never_dropped(bare: Store) -> None:
    schema.upgrade(bare)
    with bare.begin() as connection:
        connection.execute(sa.text("create view mine as select energy_wh from measurements"))
    with pytest.raises(ConfigError, match=r"views of your own.*drop them.*view mine depends"):
        schema.upgrade(bare)
    assert asked(bare, "select * from mine") == []


# ---- every rule is a constraint ----------------------------------------------------------------

LEASED = "state = 'leased', lease_expires_at = now()"
HELD = f"{LEASED}, lease_id = (select lease_id from attempts limit 1)"

#: What no statement of ours does, written directly; `open` and `done` name an attempt's task.
ILLEGAL = {
    "tasks_state_check": "update tasks set state = 'lost' where state = 'done'",
    "tasks_reality_check": "update tasks set reality = 'guessed'",
    "tasks_positive_sizes_check": "update tasks set output_tokens = 0",
    "tasks_leased_has_expiry_check": "update tasks set lease_expires_at = now()",
    "tasks_held_has_lease_check": f"update tasks set {LEASED}, lease_id = null",
    "tasks_only_pending_waits_check": "update tasks set not_before = now() where state = 'done'",
    "tasks_ended_has_reason_check": "update tasks set reason = 'why'",
    "tasks_lease_id_fkey": "update tasks set lease_id = gen_random_uuid() where state = 'done'",
    "tasks_result_lease_id_fkey": "update tasks set state = 'done', lease_expires_at = null",
    "tasks_lease_id_idx": f"update tasks set {HELD}",
    "tasks_key_key": "update tasks set key = 'v1:the same'",
    "tasks_engine_id_fkey": "update tasks set engine_id = 0",
    "tasks_protocol_id_fkey": "update tasks set protocol_id = 0",
    "attempts_outcome_check": "update attempts set outcome = 'maybe' where outcome = 'ok'",
    "attempts_closed_has_outcome_check": "update attempts set closed_at = null",
    "attempts_failed_has_kind_check": "update attempts set outcome = 'lost' where outcome = 'ok'",
    "attempts_void_has_reason_check": "update attempts set voided_at = now() where outcome = 'ok'",
    "attempts_only_ok_is_voided_check": "update attempts set voided_at = now(), void_reason = 'x'",
    "attempts_task_id_number_key": "{copy} select task_id, number, gen_random_uuid(), session_id, "
    "'released', now() from attempts",
    "attempts_lease_id_key": "{copy} select task_id, number + 9, lease_id, session_id, "
    "'released', now() from attempts",
    "attempts_accepted_idx": "{copy} select task_id, number + 9, gen_random_uuid(), session_id, "
    "'ok', now() from attempts where outcome = 'ok'",
    "attempts_open_idx": "{copy} select task_id, number + 9, gen_random_uuid(), session_id, "
    "null, null from attempts where outcome is null",
    "attempts_task_id_fkey": "update attempts set task_id = 0 where outcome = 'ok'",
    "attempts_session_id_fkey": "update attempts set session_id = gen_random_uuid()",
    "sessions_outcome_check": "update sessions set outcome = 'tired', ended_at = now()",
    "sessions_ended_has_outcome_check": "update sessions set ended_at = now()",
    "sessions_reality_check": "update sessions set reality = 'guessed'",
    "sessions_engine_id_fkey": "update sessions set engine_id = 0",
    "sessions_campaign_id_fkey": "update sessions set campaign_id = 0",
    "windows_kind_check": "update windows set kind = 'pause'",
    "windows_reality_check": "update windows set reality = 'guessed'",
    "windows_repeat_has_attempt_check": "update windows set kind = 'load'",
    "windows_missing_has_reason_check": "update windows set energy_j = null, energy_method = null",
    "windows_energy_has_method_check": "update windows set energy_method = null",
    "windows_estimate_has_method_check": "update windows set energy_estimated_j = 1",
    "windows_accuracy_is_relative_check": "update windows set sensor_accuracy = 3",
    "windows_positive_duration_check": "update windows set duration_s = 0",
    "windows_energy_is_measured_check": "update windows set energy_j = 0",
    "windows_estimate_is_finite_check": "update windows set estimate_method = 'x', "
    "energy_estimated_j = 'NaN'",
    "windows_counts_check": "update windows set requests = -1",
    "phases_phase_check": "{phase} select id, 'idle', 'steps', 1, 1 from windows",
    "phases_method_check": "{phase} select id, 'decode', 'guess', 1, 1 from windows",
    "phases_missing_has_reason_check": "{phase} select id, 'decode', 'steps', 1, null from windows",
    "phases_energy_is_measured_check": "{phase} select id, 'decode', 'steps', 1, 0 from windows",
    "phases_energy_has_duration_check": "{phase} select id, 'decode', 'steps', 0, 1 from windows",
    "phases_tokens_are_counted_check": "insert into phases (window_id, phase, method, duration_s, "
    "energy_j, tokens) select id, 'decode', 'steps', 1, 1, 0 from windows",
    "phases_window_id_fkey": "{phase} values (0, 'decode', 'steps', 1, 1)",
    "windows_attempt_id_ordinal_key": "update windows set ordinal = 0",
    "windows_attempt_id_fkey": "update windows set attempt_id = 0",
    "windows_session_id_fkey": "update windows set session_id = gen_random_uuid()",
    "engines_weights_check": "update engines set weights = 'zero'",
    "engines_sizes_check": "update engines set board_count = 0",
    "engines_mode_check": "update engines set mode = 'sometimes'",
    "campaign_tasks_task_id_fkey": "insert into campaign_tasks select id, 0 from campaigns",
    "external_rows_digest_key": "{external} 1, null), ('d', 's', 'f', 1, 'm', 't4', 1, null)",
    "external_rows_missing_has_reason_check": "{external} null, null)",
    "external_rows_numbers_are_positive_check": "{external} 0, null)",
    "external_rows_numbers_are_finite_check": "{external} 'NaN', null)",
    "external_rows_origin_reality_check": "{external} 1, null); "
    "update external_rows set origin_reality = 'guessed'",
    "external_rows_weights_check": "{external} 1, null); update external_rows set weights = 'zero'",
    "external_rows_counts_check": "{external} 1, null); update external_rows set gpus = 0",
}
EXTERNAL = """
insert into external_rows (digest, source, file_sha256, line, model, board, energy_j, reasons)
values ('d', 's', 'f', 1, 'm', 't4',"""
COPY = "insert into attempts (task_id, number, lease_id, session_id, outcome, closed_at)"
PHASE = "insert into phases (window_id, phase, method, duration_s, energy_j)"


@pytest.mark.parametrize("rule", ILLEGAL)
def test_an_illegal_row_is_refused(rule: str, world: World) -> None:
    done, _held = Holder(world), Holder(world)
    windows = measurement(repeat(0), repeat(1))
    world.leases.finish(done.lease, done.session, windows)
    with pytest.raises(IntegrityError) as refused:
        world.sql(ILLEGAL[rule].format(copy=COPY, phase=PHASE, external=EXTERNAL))
    assert isinstance(refused.value.orig, psycopg.Error)
    assert refused.value.orig.diag.constraint_name == rule


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("engines_sizes_check", "update engines set speculative_tokens = 0"),
        ("engines_sizes_check", "update engines set power_limit_w = 0"),
        ("windows_counts_check", "update windows set straddling = -1"),
        ("windows_counts_check", "update windows set running_mean = -1"),
        ("external_rows_numbers_are_positive_check", f"{EXTERNAL} -1, null)"),
        ("external_rows_numbers_are_finite_check", f"{EXTERNAL} 'Infinity', null)"),
    ],
)
def test_a_number_that_cannot_be_is_refused(rule: str, text: str, world: World) -> None:
    Holder(world).finish(world.leases)
    with pytest.raises(IntegrityError, match=rule):
        world.sql(text)


def test_a_result_is_not_voided_behind_the_back_of_its_task(world: World) -> None:
    Holder(world).finish(world.leases)
    with pytest.raises(IntegrityError, match="tasks_result_lease_id_fkey"):
        world.sql("update attempts set voided_at = now(), void_reason = 'noisy'")


@pytest.mark.parametrize("energy_j", ["-1", "'NaN'", "'Infinity'", "'-Infinity'"])
def test_an_energy_that_is_none_is_refused(energy_j: str, world: World) -> None:
    Holder(world).finish(world.leases)
    with pytest.raises(IntegrityError, match="windows_energy_is_measured_check"):
        world.sql(f"update windows set energy_j = {energy_j}")


def test_every_check_has_its_illegal_row(store: Store) -> None:
    rules = {row["name"] for row in asked(store, CONSTRAINTS) if row["rule"].startswith("CHECK")}
    assert rules - set(ILLEGAL) == set()


def test_a_finish_that_breaks_a_rule_writes_nothing(world: World) -> None:
    held = Holder(world)
    broken = measurement(repeat(0), repeat(1, reading(0.0)))
    with pytest.raises(IntegrityError, match="windows_energy_is_measured_check"):
        world.leases.finish(held.lease, held.session, broken)
    assert world.state(held.task_id) == "leased"
    assert world.outcomes(held.task_id) == [None]
    assert world.one("select count(*) from windows") == 0


def test_an_engine_is_written_once(world: World) -> None:
    assert world.engine() == world.engine()
    with pytest.raises(IntegrityError, match="engines_digest_key"):
        world.sql(
            "insert into engines (digest, model, weights, backend, dtype, tensor_parallel, board,"
            " board_count) select digest, model, weights, backend, dtype, tensor_parallel, board,"
            " board_count from engines"
        )


def test_a_lease_belongs_to_one_attempt(world: World) -> None:
    held = Holder(world)
    assert isinstance(held.lease, uuid.UUID)
    with pytest.raises(IntegrityError, match="attempts_lease_id_key"):
        world.sql(
            COPY + " select id, 1, %(lease)s, %(session)s, 'released', now() from tasks"
            " where state = 'pending'",
            lease=held.lease,
            session=held.session,
        )
