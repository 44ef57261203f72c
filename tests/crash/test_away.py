"""A store that is away for long: the run waits and goes on, or keeps what it has and says so."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from db import schema
from db.embedded import EmbeddedPostgres
from db.place import Place
from db.store import Store
from tests.crash.site import SMALL, Site, until
from tests.crash.test_kill import whole
from tests.store.wire import Wire

pytestmark = [pytest.mark.crash, pytest.mark.ray, pytest.mark.store]

LEASE_S = 3
SHORT = (*SMALL, f"store.lease_s={LEASE_S}", "store.beat_s=0.5")


def stopped_server(site: Site) -> list[psutil.Process]:
    """Stop every process of the server: it is there, and answers nobody."""
    head = psutil.Process(site.postmaster())
    server = [head, *head.children(recursive=True)]
    for process in server:
        process.suspend()
    return server


def heard(run, words: str) -> None:
    assert run.stderr is not None
    until(lambda: words in run.stderr.readline(), words)


def test_a_server_that_hangs_for_three_leases_costs_no_attempt(site: Site) -> None:
    """It was up all along: only the driver knows that nobody could beat, and reaps nobody."""
    run = site.start(SHORT, hold_at="in_window")
    site.held_pid("in_window")
    server = stopped_server(site)
    gone = psutil.Process(site.held_pid("in_window"))
    try:
        gone.wait(timeout=3 * LEASE_S)  # it lives on
    except psutil.TimeoutExpired:
        site.let_go("in_window")
    for process in server:
        process.resume()
    code, said, err = site.finish(run)
    assert code == 0, err
    assert said["tasks"] == {"done": 3}
    assert site.facts("select outcome, count(*) from attempts group by 1") == [("ok", 3)]
    assert site.facts("select sum(losses) from tasks") == [(0,)]
    whole(site)


@pytest.fixture
def wire(site: Site) -> Iterator[Wire]:
    """A server of one's own, and the wire to it."""
    with EmbeddedPostgres(site.folder / "server") as server:
        store = Store(server.owner_url())
        schema.upgrade(store)
        store.close()
        folder = site.folder / "wire"
        folder.mkdir()
        made = Wire(server.owner_url(), folder)
        site.place = Place(url=server.owner_url())
        yield made
        made.cut()


def through(wire: Wire, *overrides: str) -> tuple[str, ...]:
    return (*SHORT, f"store.url='{wire.url}'", *overrides)


def test_a_run_waits_for_the_store_and_goes_on(site: Site, wire: Wire) -> None:
    run = site.start(through(wire), hold_at="measured")
    site.held_pid("measured")
    wire.cut()
    heard(run, "does not answer")
    site.let_go("measured")
    until(lambda: list((site.folder / "spool").glob("*.json")), "the measurement is kept")
    wire.mend()
    heard(run, "answers again")
    code, said, err = site.finish(run)
    assert code == 0, err
    assert said["tasks"] == {"done": 3}
    whole(site)
    assert not list((site.folder / "spool").glob("*.json"))


def test_a_store_that_stays_away_ends_the_run_with_its_measurement_kept(
    site: Site, wire: Wire
) -> None:
    run = site.start(through(wire, "store.patience_s=3"), hold_at="measured")
    site.held_pid("measured")
    wire.cut()
    heard(run, "the run ends, and keeps what it measures")
    site.let_go("measured")
    code, _, err = site.finish(run)
    assert code == 75, err
    assert len(list((site.folder / "spool").glob("*.json"))) == 1
    until(lambda: not site.ours(), "no orphan process")
    wire.mend()
    code, said, err = site.finish(site.start(through(wire)))
    assert code == 0, err
    assert "1 spooled attempt sent to the store: 1 ok" in err
    assert said["tasks"] == {"done": 3}
    assert site.facts("select outcome, count(*) from attempts group by 1") == [("ok", 3)]
    whole(site)
