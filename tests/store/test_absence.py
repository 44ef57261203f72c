"""A store that goes away, refuses its login or is upgraded in mid-run; and whose clock counts."""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import Connection, make_url

from campaign.cli import main
from db import leases, presence, schema
from db.embedded import EmbeddedPostgres
from db.embedded_life import processes
from db.errors import ConfigError, Infeasible, StoreRefused, StoreUnavailable
from db.place import Place
from db.records import Outcome
from db.store import Store, statements
from tests.store.scenarios import FIRST, SECOND
from tests.store.test_session import ask
from tests.store.test_spool import Outage, job, when
from tests.store.world import World, ground, measurement, reading, repeat
from workers.assignment import Ending
from workers.session import Session
from workers.spool import Spool, read

pytestmark = pytest.mark.store


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "absence") as found:
        yield found


@pytest.fixture
def outage(store: Store, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outage]:
    made = Outage(store, place, monkeypatch)
    yield made
    made.wire.cut()


# ---- credentials -------------------------------------------------------------------------------


def test_a_password_that_expires_in_mid_run_is_waited_for(
    outage: Outage, place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Existing connections break, new ones are refused, until PGPASSFILE holds the new password."""
    url = make_url(outage.wire.url)
    theirs = Path(str(url.query["passfile"])).read_text()
    ours = place / "pgpass"
    ours.touch(0o600)
    ours.write_text(theirs)
    monkeypatch.setenv("PGPASSFILE", str(ours))
    outage.wire.url = url.difference_update_query(["passfile"]).render_as_string(False)
    owner = url.username
    logins = {line.split(":")[3]: line.split(":")[4] for line in theirs.splitlines()}
    old = logins[owner]

    class Renewing(logging.Handler):
        """Whoever reads the line renews the password."""

        def emit(self, record: logging.LogRecord) -> None:
            if "refused the login" in record.getMessage():
                ours.write_text(theirs.replace(old, "new"))

    def expire() -> None:
        changing.exec_driver_sql(f"alter role {owner} password 'new'")
        changing.commit()
        outage.wire.mend()

    renewing = Renewing()
    logging.getLogger("campaign.store").addHandler(renewing)
    with outage.store._engine.connect() as changing:
        try:
            report = outage.session(job(outage.store, patience_s=120.0), "measured", expire)
        finally:
            changing.exec_driver_sql(f"alter role {owner} password '{old}'")
            changing.commit()
            logging.getLogger("campaign.store").removeHandler(renewing)
    assert (report.ending, report.outcomes) == (Ending.DRAINED, {"ok": 3}), report
    (said, *_) = [r.getMessage() for r in caplog.records if "refused the login" in r.getMessage()]
    assert f'password authentication failed for user "{owner}"' in said
    assert f"put a valid password into {ours}" in said
    assert any("answers again" in record.getMessage() for record in caplog.records)


def test_where_a_run_begins_a_refused_login_is_wrong_input(
    store: Store, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSFILE", str(place / "nothing"))
    url = make_url(store.url).difference_update_query(["passfile"])
    other = Store(url.render_as_string(hide_password=False), patience_s=3600.0)
    with pytest.raises(ConfigError, match="refused the login") as refused, other.begin():
        pass
    assert isinstance(refused.value, StoreRefused)
    assert refused.value.exit_code == 2
    other.close()


def test_a_server_that_became_a_standby_is_away(store: Store) -> None:
    said = "takes nothing .* read-only transaction.: it is a standby, .* name its primary"
    with pytest.raises(StoreUnavailable, match=said), store.begin() as connection:
        connection.exec_driver_sql("set transaction read only; delete from tasks")


def test_doctor_says_that_a_standby_takes_nothing(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "-csearch_path=absence -cdefault_transaction_read_only=on"
    url = make_url(store.url).update_query_dict({"options": options})
    text = url.render_as_string(hide_password=False)
    assert main(["doctor", "--json", f"store.url='{text}'"]) == Infeasible.exit_code
    said = json.loads(capsys.readouterr().out)
    (found,) = (one for one in said["findings"] if one["subject"] == "store")
    assert (said["can_measure"], found["ok"]) == (False, False)
    assert "takes nothing: it is a standby" in found["detail"]
    assert "name its primary" in found["fix"]


@contextmanager
def silenced(store: Store) -> Iterator[None]:
    """Whoever asks for tasks waits without a word, as for a server that is stopped."""
    with store.begin() as connection:
        connection.exec_driver_sql("lock table tasks in access exclusive mode")
        yield


def count(connection: Connection) -> object:
    return connection.exec_driver_sql("select count(*) from tasks").scalar()


@pytest.mark.parametrize("single", [False, True])
def test_a_server_that_keeps_silent_is_away_once_patience_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, single: bool
) -> None:
    monkeypatch.setattr("db.store.HURRY_S", 0.4)
    monkeypatch.setattr("db.connecting.SILENT_S", 0.1)
    with silenced(store), pytest.raises(StoreUnavailable, match=r"does not answer \(silent for"):
        store.within(0.4).retrying(count, single=single)
    said = [r.getMessage() for r in caplog.records if "still waiting" in r.getMessage()]
    assert len(said) == 1
    assert store.where in said[0]
    assert store.retrying(count) is not None


def test_who_is_told_to_hurry_waits_no_longer_for_a_server_that_keeps_silent(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.store.HURRY_S", 0.3)
    monkeypatch.setattr("db.connecting.SILENT_S", 0.1)
    patient = Store(store.url, patience_s=3600.0)

    class Hurrying(logging.Handler):
        """Whoever reads that it is waited for ends the run."""

        def emit(self, record: logging.LogRecord) -> None:
            if "still waiting" in record.getMessage():
                patient.hurry.set()

    hurrying = Hurrying()
    logging.getLogger("campaign.store").addHandler(hurrying)
    try:
        with silenced(store), pytest.raises(StoreUnavailable, match="silent for"):
            patient.retrying(count)
    finally:
        logging.getLogger("campaign.store").removeHandler(hurrying)
        patient.close()


# ---- a pooler between us and the server ----------------------------------------------------------

LEFT = "select current_setting('enable_seqscan'), (select count(*) from pg_prepared_statements)"


def left_behind(store: Store) -> tuple[str, bool]:
    """What is left on a connection that asked for single rows: a setting, prepared statements."""
    single = Store(store.url, by_key=True)
    with single.begin() as connection:
        for _ in range(10):
            found = connection.exec_driver_sql(LEFT).one()
    single.close()
    return found[0], found[1] > 0


def test_nothing_is_left_on_a_connection_that_a_pooler_gives_to_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its prepared statements would be missing there, or another's, and its settings be theirs."""
    assert left_behind(store) == ("off", True)
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", -1)  # a pooler makes one up
    assert left_behind(store) == ("on", False)


def test_a_server_compiles_no_statement_for_single_rows(store: Store) -> None:
    """Postgres 15 to 17 would, each one for a second: what is off counts as that costly there."""
    url = make_url(store.url)
    as_servers_have_it = f"{url.query.get('options', '')} -c jit=on"
    url = url.update_query_dict({"options": as_servers_have_it})
    single = Store(url.render_as_string(hide_password=False), by_key=True)
    with single.begin() as connection:
        found = connection.exec_driver_sql("select current_setting('jit')").scalar_one()
    single.close()
    assert found == "off"


# ---- a newer program upgrades the store --------------------------------------------------------


def test_a_store_that_is_upgraded_in_mid_run_stops_it_and_costs_no_engine(store: Store) -> None:
    World(store)
    made = job(store, patience_s=5.0)
    (before,) = ask(store, "select version_num from alembic_version")
    with store.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    try:
        report = Session(made, ()).run()
    finally:
        with store.begin() as connection:
            connection.exec_driver_sql(f"update alembic_version set version_num = '{before[0]}'")
    assert report.ending is Ending.REFUSED
    assert "schema 9999, newer than this program's" in str(report.error)
    assert ask(store, "select distinct state from tasks") == [("pending",)]


# ---- whatever else keeps a measurement out of it -------------------------------------------------


def test_an_embedded_server_that_does_not_start_again_for_a_while_is_away(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is killed in mid-measurement, and its disk comes back once the measurement is safe."""
    folder, spool = place / "store", Spool(place / "spool")
    version, away = folder / "data" / "PG_VERSION", folder / "PG_VERSION"

    def lose(point: str) -> None:
        if point == "measured":
            monkeypatch.setattr("workers.attempts.reach", lambda _: None)
            for process in processes(folder / "data"):
                process.kill()
            version.rename(away)
            when(spool, lambda: away.rename(version))()

    monkeypatch.setattr("workers.attempts.reach", lose)
    with EmbeddedPostgres(folder) as server:
        store = Store(server.owner_url())
        schema.upgrade(store)
        made = job(store, patience_s=120.0, spool=str(spool.folder))
        report = Session(replace(made, place=Place(folder=str(folder), patience_s=120.0)), ()).run()
        assert (report.ending, report.outcomes) == (Ending.DRAINED, {"ok": 3}), report
        store.close()  # its connections were to the server that was killed
        assert ask(store, "select outcome, count(*) from attempts group by 1") == [("ok", 3)]
        store.close()
    assert spool.files() == []
    assert any("is damaged" in record.getMessage() for record in caplog.records)


def test_a_table_that_changed_in_mid_run_costs_no_measurement(
    store: Store, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    World(store)
    spool = Spool(place / "spool")

    def change(point: str) -> None:
        if point == "measured":
            rename(store, "warmup_batches", "gone")

    monkeypatch.setattr("workers.attempts.reach", change)
    report = Session(job(store, patience_s=5.0, spool=str(spool.folder)), ()).run()
    rename(store, "gone", "warmup_batches")
    assert report.ending is Ending.FAILED
    assert 'column "warmup_batches"' in str(report.error)
    assert [read(path).outcome for path in spool.files()] == [Outcome.OK]
    sent = spool.deliver(leases.Leases(store, leases.LeasePolicy()), store.where)
    assert (sent.outcomes, sent.problems) == ({"ok": 1}, ())
    assert ask(store, "select count(*) from measurements") == [(1,)]


def rename(store: Store, column: str, name: str) -> None:
    with store.begin() as connection:
        connection.exec_driver_sql(f"alter table attempts rename column {column} to {name}")


def test_a_measurement_that_the_stores_rules_refuse_is_a_fault_and_not_kept(
    store: Store, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    World(store)
    spool = Spool(place / "spool")
    wrong = measurement(repeat(0, reading(-1.0)))
    monkeypatch.setattr("workers.attempts.measure", lambda *_: wrong)
    made = job(store, patience_s=5.0, spool=str(spool.folder), batches=(1,))
    report = Session(made, ()).run()
    assert (report.ending, report.outcomes) == (Ending.DRAINED, {"faulted": 3})
    errors = ask(store, "select error from attempts")
    assert all("violates check constraint" in error for (error,) in errors)
    assert spool.files() == []


UPGRADE = """
import sys
from db import schema
from db.store import Store

schema.upgrade(Store(sys.argv[1]))
"""


def test_two_processes_upgrade_at_once(embedded_store: EmbeddedPostgres) -> None:
    with ground(embedded_store, "twice", bare=True) as bare:
        command = [sys.executable, "-c", UPGRADE, bare.url]
        both = [subprocess.Popen(command, env=with_path()) for _ in range(2)]
        assert [process.wait(timeout=250) for process in both] == [0, 0]
        assert ask(bare, "select count(*) from alembic_version") == [(1,)]
        assert ask(bare, "select count(*) from tasks") == [(0,)]


def with_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path.cwd())}


# ---- whose clock counts ------------------------------------------------------------------------

#: What a lease statement may be told: who, what and how long; never when.
TOLD = {
    "lease_id", "session_id", "campaign_id", "engine_id", "task_id", "sessions", "boot", "keys",
    "replicate", "lease_s", "delay_s", "max_faults", "max_lost", "max_invalid",
    "outcome", "kind", "error", "permanent", "marks", "warmup_batches", "reason",
}  # fmt: skip


def test_no_time_of_a_client_enters_a_lease_statement() -> None:
    told = {
        name
        for statement in statements("leases.sql").values()
        for name in re.findall(r"%\((\w+)\)s", statement)
    }
    assert told == TOLD
    assert not re.search(r"datetime|\btime\.|clock_gettime", inspect.getsource(leases))
    source = inspect.getsource(presence)
    assert not re.search(r"datetime|clock_gettime", source)
    assert re.findall(r"time\.\w+", source) == ["time.monotonic"]  # only a length


CLAIM = """
import sys, time, uuid
from db.leases import LeasePolicy, Leases
from db.store import Store

url, campaign, engine, session = sys.argv[1:]
leases = Leases(Store(url), LeasePolicy(lease_s=90.0))
claim = leases.claim(int(campaign), int(engine), uuid.UUID(session))
leases.beat(claim.lease_id)
print(time.time(), leases.reap())
"""
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


@pytest.mark.skipif(not LIBRARIES, reason="needs libfaketime (Debian: libfaketime)")
@pytest.mark.parametrize("shift", ["-2d", "+2d"])
def test_a_host_whose_clock_is_days_off_takes_and_gives_the_same_leases(
    store: Store, shift: str
) -> None:
    world = World(store, [FIRST, SECOND])
    here = world.claim(world.session())
    arguments = (store.url, world.campaign_id, world.engine_id, world.session())
    skewed = with_path() | {
        "LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", CLAIM, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=skewed)
    clock, reaped = done.stdout.split()
    now = world.one("select extract(epoch from now())::float")
    assert abs(float(clock) - now) > 86400, "the clock was not shifted"
    assert reaped == "0"
    left = "select extract(epoch from lease_expires_at - now())::float as s from tasks"
    assert all(0 < row.s <= 90 for row in world.sql(left))
    world.leases.beat(here.lease_id)
