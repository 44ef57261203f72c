"""The verb `check`: every gate that fired, and a command that really measures it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from campaign.cli import main
from db.embedded import EmbeddedPostgres
from db.leases import LeasePolicy, Leases
from db.records import Outcome
from tests.store.filled import Filled, filled

pytestmark = pytest.mark.store

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def store(embedded_store: EmbeddedPostgres) -> Iterator[Filled]:
    """Two results marked short_window, and a task that a gate quarantined at its second attempt."""
    with filled(embedded_store, "checking") as found:
        void_twice(found, "foreign_process")
        yield found


def void_twice(store: Filled, gate: str) -> None:
    campaign = store.value("select id from campaigns where name = 'quickstart'")
    engine = store.value("select id from engines where backend = 'transformers'")
    session = store.value("select id from sessions where reality = 'real' limit 1")
    leases = Leases(store.store, LeasePolicy(max_invalid=2, retry_delay_s=0.0))
    for _ in range(2):
        claim = leases.claim(campaign, engine, session)
        assert claim is not None
        leases.give_back(claim.lease_id, session, Outcome.INVALID, kind=gate, error="pid 4711")


def answer(capsys: Printed, *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return json.loads(said.out)


def gates(store: Filled, capsys: Printed, name: str = "quickstart") -> dict[str, Any]:
    (one,) = answer(capsys, "check", name, *store.here)["campaigns"]
    return {gate["gate"]: gate for gate in one["gates"]}


def test_marks_and_voids_are_counted_with_where_they_happened(
    store: Filled, capsys: Printed
) -> None:
    (one,) = answer(capsys, "check", "quickstart", *store.here)["campaigns"]
    assert (one["tasks"], one["results"]) == (9, 6)
    voided, marked = one["gates"]
    assert (voided["gate"], marked["gate"]) == ("foreign_process", "short_window")
    assert (voided["quarantined"], voided["attempts"], voided["results"]) == (1, 2, 0)
    assert (marked["quarantined"], marked["attempts"], marked["results"]) == (0, 0, 2)
    assert [point["engine"] for point in voided["points"]] == [
        "transformers llama-small on cpu:x:2"
    ]
    assert [point["workload"] for point in marked["points"]] == ["8→8 x1", "8→8 x4"]
    assert {point["protocol"] for point in marked["points"]} == {"quick"}


def test_faults_are_no_gates(store: Filled, capsys: Printed) -> None:
    """A task that ran out of memory is quarantined too: `status` tells of it."""
    assert store.value("select count(*) from tasks where state = 'quarantined'") == 2
    assert set(gates(store, capsys)) == {"foreign_process", "short_window"}


@pytest.mark.parametrize(("gate", "pending"), [("short_window", 2), ("foreign_process", 1)])
def test_the_command_that_is_printed_makes_it_pending_again(
    gate: str, pending: int, store: Filled, capsys: Printed
) -> None:
    before = store.value("select count(*) from tasks where state = 'pending'")
    program, *words = shlex.split(gates(store, capsys)[gate]["command"])
    assert program == "campaign"
    assert main(words) == 0
    capsys.readouterr()
    after = store.value("select count(*) from tasks where state = 'pending'")
    assert after - before == pending
    left = gates(store, capsys)
    assert gate not in left or left[gate]["command"] is None
    assert store.value("select count(*) from tasks where state = 'quarantined'") == (
        1 if gate == "foreign_process" else 2
    )


def test_what_was_made_up_for_needs_no_command(store: Filled, capsys: Printed) -> None:
    main(["retry", "--gate", "foreign_process", *store.here])
    capsys.readouterr()
    found = gates(store, capsys)["foreign_process"]
    assert (found["attempts"], found["quarantined"], found["command"]) == (2, 0, None)
    assert main(["check", "quickstart", *store.here]) == 0
    assert "foreign_process: nothing to do" in capsys.readouterr().err


def test_people_read_a_table_and_the_commands(store: Filled, capsys: Printed) -> None:
    assert main(["check", *store.here]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "quickstart: 6 of 9 tasks have a result; what falls short:" in said.err
    assert "campaign retry --campaign quickstart --gate short_window 'store.url=" in said.err
    assert "the same protocol gives the same windows" in said.err
    assert "empty: 0 of 0 tasks have a result, no gate fired" in said.err


def test_a_wrong_name_or_too_many_are_one_line(store: Filled, capsys: Printed) -> None:
    for words, line in (
        (["quikstart"], "no campaign is called quikstart; did you mean quickstart?"),
        (["a", "b"], "check takes one campaign, not 2"),
    ):
        assert main(["check", *words, *store.here]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert line in said


def test_no_store_is_nothing_to_check(public_tmp: Path, capsys: Printed) -> None:
    assert main(["check", f"store.path={public_tmp / 'nowhere'}"]) == 0
    assert "no campaigns yet" in capsys.readouterr().err
