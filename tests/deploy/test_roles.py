"""What the three logins of deploy/roles.sql may do: exactly this, on a real Postgres."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from db import schema, tables
from db.asking import Limits, Question, asked, shipped
from db.claims import counted
from db.dumping import dump
from db.errors import ConfigError, StoreUnavailable
from db.leases import LeasePolicy, Leases
from db.results import with_windows
from db.store import FOLDER, Store, statements
from tests.deploy.conftest import ROLES
from tests.store.filled import fill
from tests.store.world import measurement

pytestmark = pytest.mark.store

WORKER, READER = "campaign_worker", "campaign_reader"
#: What a worker may do to a table beside reading it.
WRITES = {
    "campaigns": {"INSERT", "UPDATE"},
    "engines": {"INSERT"},
    "protocols": {"INSERT"},
    "tasks": {"INSERT", "UPDATE"},
    "campaign_tasks": {"INSERT", "DELETE"},
    "exclusions": {"INSERT", "DELETE"},
    "sessions": {"INSERT", "UPDATE"},
    "attempts": {"INSERT", "UPDATE"},
    "windows": {"INSERT"},
    "gpu_energies": {"INSERT"},
    "phases": {"INSERT"},
    "power_traces": {"INSERT"},
    "external_rows": {"INSERT"},
}
VIEWS = set(statements("views.sql")) - {"drop"}
RELATIONS = {*tables.metadata.tables, *VIEWS, "alembic_version"}
LARGE_OBJECTS = ("lo_creat", "lo_create", "lo_from_bytea")

#: Every right of anybody but the owner and the superuser on what the store is made of.
RIGHTS = """
select coalesce(nullif(a.grantee, 0)::regrole::text, 'public'), o.kind, o.name, a.privilege_type,
       a.is_grantable
  from (select 'relation' as kind, relname::text as name, relacl as acl from pg_class
         where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'S')
         union all
        select 'column', c.relname || '.' || t.attname, t.attacl
          from pg_attribute t join pg_class c on c.oid = t.attrelid
         where c.relnamespace = 'public'::regnamespace
         union all
        select 'schema', nspname, coalesce(nspacl, acldefault('n', nspowner))
          from pg_namespace where nspname = 'public'
         union all
        select 'database', 'this', coalesce(datacl, acldefault('d', datdba))
          from pg_database where datname = current_database()
         union all
        select 'later', defaclobjtype::text, defaclacl from pg_default_acl
         union all
        select 'function', proname, coalesce(proacl, acldefault('f', proowner))
          from pg_proc where proname = any(%s)) o
 cross join aclexplode(o.acl) a
 where a.grantee <> all(array['campaign', 'postgres']::regrole[]::oid[])
"""
ROLE_POWERS = """
select rolname, 'role', power, '', false
  from pg_roles
 cross join lateral (values ('super', rolsuper), ('createdb', rolcreatedb),
                            ('createrole', rolcreaterole), ('replication', rolreplication),
                            ('bypassrls', rolbypassrls), ('inherit', rolinherit)
                    ) p (power, has)
 where has and rolname in ('campaign', 'campaign_worker', 'campaign_reader')
 union all
select m.member::regrole::text, 'member', m.roleid::regrole::text, '', m.admin_option
  from pg_auth_members m
 where m.member::regrole::text in ('campaign', 'campaign_worker', 'campaign_reader')
"""
Rights = set[tuple[str, str, str, str, bool]]


def expected() -> Rights:
    found: Rights = set()
    for role in (WORKER, READER):
        found |= {(role, "relation", name, "SELECT", False) for name in RELATIONS}
        found |= {
            (role, "schema", "public", "USAGE", False),
            (role, "database", "this", "CONNECT", False),
            (role, "later", "r", "SELECT", False),
        }
    found.add((WORKER, "database", "this", "TEMPORARY", False))
    for table, verbs in WRITES.items():
        found |= {(WORKER, "relation", table, verb, False) for verb in verbs}
    return found


def rights(connection: psycopg.Connection) -> Rights:
    granted = connection.execute(RIGHTS, [list(LARGE_OBJECTS)]).fetchall()
    return set(granted) | set(connection.execute(ROLE_POWERS).fetchall())


def test_each_login_has_exactly_these_rights(server, database):
    with server.login("postgres", database) as connection:
        assert rights(connection) == expected()


#: Where the script is about to grant what a run writes.
THEN = "-- What a run writes."
#: A part of the script, and what would widen it.
WIDER = {
    "the analyst changes rows": (
        "grant select on all tables in schema public to",
        "grant select, update on all tables in schema public to",
    ),
    "windows are changed": ("('windows', 'insert')", "('windows', 'insert, update')"),
    "attempts are deleted": ("('attempts', 'insert, update')", "('attempts', 'insert, delete')"),
    "the schema version is written": (
        "('protocols', 'insert')",
        "('protocols', 'insert'), ('alembic_version', 'update')",
    ),
    "one column is written": (THEN, f"grant update (reason) on tasks to {READER};\n{THEN}"),
    "tables are made": ("grant usage on schema", "grant usage, create on schema"),
    "everybody uses the schema": (THEN, f"grant usage on schema public to public;\n{THEN}"),
    "the analyst has temporary tables": (
        "grant connect on database %I to campaign_reader",
        "grant connect, temporary on database %I to campaign_reader",
    ),
    "everybody connects": ("revoke all on database %I from public, ",
                           "revoke all on database %I from "),
    "later tables are written": ("grant select on tables", "grant select, insert on tables"),
    "rights are handed on": ("campaign_reader;\n\n-- Large",
                             "campaign_reader with grant option;\n\n-- Large"),
    "large objects are written": (
        THEN, f"grant execute on function lo_create(oid) to public;\n{THEN}",
    ),
    "databases are made": ("nocreatedb", "createdb"),
    "roles are made": ("nocreaterole", "createrole"),
    "a superuser": ("login nosuperuser", "login superuser"),
}  # fmt: skip


@pytest.mark.parametrize("name", WIDER)
def test_a_wider_right_is_seen_and_the_script_takes_it_back(server, stores, name):
    old, new = WIDER[name]
    assert ROLES.count(old) == 1, old
    with (
        stores(ROLES.replace(old, new)) as store,
        server.login("postgres", store) as connection,
    ):
        wider = rights(connection) - expected()
        connection.execute(ROLES)
        assert wider
        assert rights(connection) == expected()


DDL = [
    "create table t (a int)",
    "create view v as select 1",
    "create schema s",
    "create function f() returns int language sql as 'select 1'",
    "create type kind as enum ('a')",
    "create index on tasks (reason)",
    "alter table tasks add column a int",
    "alter table windows drop constraint windows_energy_is_measured_check",
    "alter table windows disable trigger all",
    "drop view measurements cascade",
    "truncate windows",
    "comment on table tasks is 'x'",
    "create role other",
    "create database other",
    "alter role campaign_reader superuser",
    "set role campaign",
    "copy (select 1) to program 'true'",
    "copy tasks to '/tmp/out'",
    "select pg_read_file('/etc/passwd')",
    "select lo_create(0)",
]  # fmt: skip


@pytest.mark.parametrize("role", [WORKER, READER])
def test_neither_worker_nor_analyst_changes_the_schema(server, database, role):
    with server.login(role, database) as connection:
        connection.execute("set default_transaction_read_only = off")
        for statement in DDL:
            with pytest.raises(InsufficientPrivilege):
                connection.execute(statement)


def test_nobody_hands_on_what_is_not_theirs(server, database):
    with server.login(WORKER, database) as connection:
        connection.execute("grant insert on windows to campaign_reader")  # Postgres only warns
    with server.login("postgres", database) as connection:
        assert rights(connection) == expected()


CHANGES = [
    *(f"delete from {name}" for name in tables.metadata.tables),
    *(f"insert into {name} default values" for name in tables.metadata.tables),
    "update tasks set reason = 'x'",
    "update windows set energy_j = 1",
    "update alembic_version set version_num = '9999'",
    "select id from tasks for update",
    "create temporary table t (a int)",
]


def test_an_analyst_only_reads(server, database):
    with server.login(READER, database) as connection:
        assert connection.execute("show default_transaction_read_only").fetchone() == ("on",)
        for name in RELATIONS:
            connection.execute(f"select count(*) from {name}")
        connection.execute("set default_transaction_read_only = off")
        for statement in CHANGES:
            with pytest.raises(InsufficientPrivilege):
                connection.execute(statement)


KEPT = [
    *(f"delete from {name}" for name in ("windows", "attempts", "sessions", "tasks", "engines")),
    "update windows set energy_j = 1",
    "update gpu_energies set energy_j = 1",
    "update phases set energy_j = 1",
    "update external_rows set energy_j = 1",
    "delete from external_rows",
    "update engines set model = 'x'",
    "update alembic_version set version_num = '9999'",
]


def test_a_worker_neither_deletes_nor_changes_what_was_measured(server, database):
    with server.login(WORKER, database) as connection:
        for statement in KEPT:
            with pytest.raises(InsufficientPrivilege):
                connection.execute(statement)


@pytest.fixture
def worked(server, database) -> Iterator[tuple[str, Store]]:
    """A store in which the worker's login ran a campaign."""
    store = Store(server.url(WORKER, database), patience_s=1.0)
    schema.check(store)
    fill(store)
    yield database, store
    store.close()


def test_a_worker_runs_a_campaign(server, worked):
    name, store = worked
    with store.begin() as connection:
        found = connection.exec_driver_sql("select count(*) from measurements").scalar_one()
        campaign, engine = connection.exec_driver_sql(
            "select s.campaign_id, s.engine_id from sessions s where s.outcome is null "
            "and s.reality = 'simulated' limit 1"
        ).one()
        session = uuid.UUID(str(connection.exec_driver_sql(
            "select id from sessions where outcome is null and reality = 'simulated' limit 1"
        ).scalar_one()))  # fmt: skip
    assert found == 6
    leases = Leases(store, LeasePolicy())
    claim = leases.claim(campaign, engine, session)
    assert claim is not None
    leases.beat(claim.lease_id)
    leases.finish(claim.lease_id, session, measurement())
    leases.reap()
    leases.bury([session])
    leases.release([session])
    leases.quarantine_engine(campaign, engine, "engine:test")
    with server.login(READER, name) as connection:
        assert connection.execute("select count(*) from measurements").fetchone() == (7,)


def test_what_a_worker_may_not_do_is_said_in_one_line(worked):
    _, store = worked
    forbidden = pytest.raises(ConfigError, match=r"may not do that .*deploy/roles\.sql")
    with forbidden as said, store.begin() as connection:
        connection.exec_driver_sql("drop table windows")
    assert "\n" not in str(said.value)


def explained(connection: psycopg.Connection, statement: str) -> None:
    """Have Postgres plan a statement, which checks every right that running it would need."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
    for number, name in enumerate(names, 1):
        statement = statement.replace(f"%({name})s", f"${number}")
    connection.execute(f"explain (generic_plan) {statement.replace('%%', '%')}".encode())


PLANNED = ("with", "select", "insert", "update", "delete")  # the others need no right of a table
TEMPORARY = re.compile(r"create temporary table (\w+)")
FILES = sorted(path.name for path in FOLDER.glob("*.sql"))
STATEMENTS = [
    pytest.param(with_windows(statement), id=f"{file}:{name}")
    for file in FILES
    if file not in {"views.sql", "embedded.sql"}
    for name, statement in statements(file).items()
    if re.sub(r"--.*\n", "", statement).strip().startswith(PLANNED)
]
#: What the owner alone may do.
OWNERS_OWN = {statements("external.sql")["remove"]}
WORKERS_OWN = {t for file in FILES for t in TEMPORARY.findall((FOLDER / file).read_text())}
WRITES_ROWS = re.compile(
    r"\b(insert into|delete from|update \w+ \w+\s+set|update \w+\s+set|for (no key )?update)\b"
)


@pytest.fixture(scope="module")
def logins(server, stores) -> Iterator[dict[str, psycopg.Connection]]:
    with (
        stores() as store,
        server.login(WORKER, store) as worker,
        server.login(READER, store) as reader,
    ):
        for statement in (s for file in FILES for s in statements(file).values()):
            if TEMPORARY.search(statement):  # others read it
                kept = statement.replace("on commit drop", "")
                worker.execute(re.sub(r"%\(\w+\)s", "null", kept).encode())
        yield {WORKER: worker, READER: reader}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_worker_may_run_every_statement_of_the_program_but_the_owners(logins, statement):
    if statement in OWNERS_OWN:
        with pytest.raises(InsufficientPrivilege):
            explained(logins[WORKER], statement)
    else:
        explained(logins[WORKER], statement)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_an_analyst_may_run_those_that_read_alone(logins, statement):
    if any(re.search(rf"\b{table}\b", statement) for table in WORKERS_OWN):
        pytest.skip("reads the worker's own temporary table")
    if WRITES_ROWS.search(statement):
        with pytest.raises(InsufficientPrivilege):
            explained(logins[READER], statement)
    else:
        explained(logins[READER], statement)


def test_the_analyst_is_the_login_that_queries_ask_for(server, worked):
    name, _ = worked
    limits = Limits()
    own = Question(sql="select count(*) from measurements")
    owner, reader = server.url("campaign", name), server.url(READER, name)
    for question in (own, *shipped().values()):
        with asked(question, owner, reader, limits=limits, settings={}) as answer:
            list(answer.rows)
    with (
        pytest.raises(ConfigError, match="may do more than read"),
        asked(own, owner, server.url(WORKER, name), limits=limits, settings={}),
    ):
        pass


def test_without_a_login_that_only_reads_the_script_is_named_that_makes_it(server, worked):
    name, _ = worked
    own, owner = Question(sql="select 1"), server.url("campaign", name)
    told = pytest.raises(ConfigError, match=f"makes {READER}; name it with store")
    with told, asked(own, owner, None, limits=Limits(), settings={}):
        pass


def test_who_may_not_dump_is_told_who_may(server, database, tmp_path):
    store = Store(server.url(WORKER, database))
    with pytest.raises(ConfigError, match="; the owner of the store dumps it"):
        dump(store, tmp_path / "store.dump")
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_report_gathers_the_worker_may_and_the_analyst_is_told_so(server, database):
    worker, reader = (Store(server.url(role, database)) for role in (WORKER, READER))
    with counted(worker, None) as found:
        assert found.sources == {}
    with pytest.raises(StoreUnavailable, match="the login only reads"), counted(reader, None):
        pass
    worker.close()
    reader.close()


def test_the_next_upgrade_leaves_both_their_rights(server, database):
    store = Store(server.url("campaign", database))
    schema.upgrade(store)  # makes the views anew
    store.close()
    for role in (WORKER, READER):
        with server.login(role, database) as connection:
            for view in VIEWS:
                connection.execute(f"select * from {view} limit 0")


def test_a_worker_cannot_upgrade(server, database):
    store = Store(server.url(WORKER, database))
    with pytest.raises(Exception, match="must be owner"):
        schema.upgrade(store)
    store.close()


def test_no_password_stands_in_the_script():
    assert not re.search(r"password\s+'", ROLES)
