"""A store that goes away, refuses its login or is upgraded in mid-run; and whose clock counts."""

from __future__ import annotations

import inspect
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from db import leases, presence
from db.embedded import EmbeddedPostgres
from db.errors import ConfigError, StoreRefused, StoreUnavailable
from db.store import Store, statements
from tests.store.scenarios import FIRST, SECOND
from tests.store.test_session import ask
from tests.store.test_spool import Outage, job
from tests.store.world import World, ground
from workers.assignment import Ending
from workers.session import Session

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
    with pytest.raises(StoreUnavailable, match="read-only"), store.begin() as connection:
        connection.exec_driver_sql("set transaction read only; delete from tasks")


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
