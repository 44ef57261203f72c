"""The verbs `status` and `logs`: what they say of a store, and what they do not touch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from campaign.cli import main
from db.embedded import EmbeddedPostgres
from tests.store.filled import ESCAPE, Filled, filled

pytestmark = pytest.mark.store

Printed = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Filled]:
    with filled(embedded_store, "standing") as found:
        yield found


def answer(capsys: Printed, *words: str) -> Any:
    """Run a verb for a machine; returns its JSON."""
    assert main([*words, "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return json.loads(said.out)


def people(capsys: Printed, *words: str) -> str:
    """Run a verb for people; returns what it told them."""
    assert main(list(words)) == 0
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def refusal(capsys: Printed, *words: str) -> str:
    """Run a verb that refuses; returns its one line."""
    assert main(list(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


# ---- status ------------------------------------------------------------------------------------


def test_tasks_are_counted_by_state_and_by_engine(store: Filled, capsys: Printed) -> None:
    (found,) = answer(capsys, "status", "quickstart", *store.here)["campaigns"]
    assert found["owner"] == "me"
    assert found["tasks"] == {
        "pending": 2, "leased": 0, "done": 6, "quarantined": 1, "excluded": 0
    }  # fmt: skip
    by_engine = {e["engine"].split()[0]: e for e in found["engines"]}
    assert {k: (e["done"], e["left"], e["failed"]) for k, e in by_engine.items()} == {
        "simulated": (4, 1, 1), "transformers": (1, 1, 0), "vllm": (1, 0, 0)
    }  # fmt: skip
    assert by_engine["simulated"]["reasons"] == {"faulted:out_of_memory": 1}


def test_points_left_out_are_counted_by_reason(store: Filled, capsys: Printed) -> None:
    (found,) = answer(capsys, "status", "quickstart", *store.here)["campaigns"]
    assert found["exclusions"] == {"memory": 4}


def test_joules_of_different_kinds_are_never_added(store: Filled, capsys: Printed) -> None:
    (found,) = answer(capsys, "status", "quickstart", *store.here)["campaigns"]
    assert found["joules"] == {
        "measured_j": 16.0,
        "simulated_j": 3 * (10 + 11 + 12 + 13) + 4 * (0 + 1 + 2),
        "external_j": None,
        "estimated_j": 7.0,
        "windows_without_energy": 1,
    }


def test_a_voided_result_gives_its_joules_back(
    embedded_store: EmbeddedPostgres, capsys: Printed
) -> None:
    with filled(embedded_store, "standing_voided") as store:
        words = ["void", "--model", "llama-real", "--reason", "wrong board", *store.here]
        assert main(words) == 0
        capsys.readouterr()
        (found,) = answer(capsys, "status", "quickstart", *store.here)["campaigns"]
    assert found["joules"]["measured_j"] is None


def test_a_running_session_is_told_from_a_dead_and_a_distant_one(
    store: Filled, capsys: Printed
) -> None:
    (found,) = answer(capsys, "status", "quickstart", *store.here)["campaigns"]
    alive = {s["backend"]: s["alive"] for s in found["running"]}
    assert alive == {"simulated": True, "transformers": None, "vllm": None}
    with store.store.begin() as connection:
        connection.exec_driver_sql("update sessions set pid_started_s = pid_started_s - 1")
    (found,) = answer(capsys, "status", "quickstart", *store.here)["campaigns"]
    assert {s["backend"]: s["alive"] for s in found["running"]}["simulated"] is False
    assert "its process is gone" in people(capsys, "status", "quickstart", *store.here)


def test_errors_are_their_last_line(store: Filled, capsys: Printed) -> None:
    (found,) = answer(capsys, "status", "quickstart", *store.here)["campaigns"]
    last = {e["outcome"]: e["error"] for e in found["errors"]}
    assert last == {
        "failed": "ValueError: no engine", "faulted": f"RuntimeError: boom {ESCAPE}red"
    }  # fmt: skip


def test_people_read_it_without_what_steers_their_terminal(store: Filled, capsys: Printed) -> None:
    told = people(capsys, "status", *store.here)
    assert "\x1b" not in told
    assert "RuntimeError: boom" in told
    assert "7 J estimated, not measured" in told


def test_every_campaign_is_shown_without_a_name(store: Filled, capsys: Printed) -> None:
    found = answer(capsys, "status", *store.here)["campaigns"]
    assert [one["name"] for one in found] == ["quickstart", "empty"]
    assert found[1]["tasks"] == dict.fromkeys(found[0]["tasks"], 0)


def test_an_unknown_campaign_is_answered_with_the_nearest(store: Filled, capsys: Printed) -> None:
    assert "did you mean quickstart?" in refusal(capsys, "status", "quickstrat", *store.here)
    assert "takes one campaign" in refusal(capsys, "status", "a", "b", *store.here)


def test_where_no_store_is_there_are_no_campaigns_and_none_is_made(
    place: Path, capsys: Printed
) -> None:
    nowhere = f"store.path={place / 'nothing'}"
    assert answer(capsys, "status", nowhere) == {"campaigns": []}
    assert "no campaigns yet" in people(capsys, "status", nowhere)
    assert "there is no store" in refusal(capsys, "status", "quickstart", nowhere)
    assert list(place.iterdir()) == []


# ---- logs --------------------------------------------------------------------------------------


def test_logs_of_a_task_are_its_attempts_with_their_tracebacks(
    store: Filled, capsys: Printed
) -> None:
    key = store.key("state = 'quarantined'")
    found = answer(capsys, "logs", key, *store.here)
    assert (found["task"]["key"], found["task"]["reason"]) == (key, "faulted:out_of_memory")
    (attempt,) = found["attempts"]
    assert (attempt["outcome"], attempt["kind"]) == ("faulted", "out_of_memory")
    assert attempt["error"].startswith("Traceback\n  in a file\n")


def test_the_beginning_of_a_key_is_enough_with_or_without_its_version(
    store: Filled, capsys: Printed
) -> None:
    key = store.key("state = 'quarantined'")
    for prefix in (key[:15], key[3:15], key[3:15].upper()):
        assert answer(capsys, "logs", prefix, *store.here)["task"]["key"] == key


def test_logs_of_a_session_are_its_error_and_the_engines_last_words(
    store: Filled, capsys: Printed
) -> None:
    told = people(capsys, "logs", str(store.failed_load), *store.here)
    assert "ValueError: no engine" in told
    assert "last words" in told
    assert "no attempts" in told
    found = answer(capsys, "logs", str(store.simulated), *store.here)
    assert [a["outcome"] for a in found["attempts"]] == ["ok"] * 4 + ["faulted"]


def test_logs_for_people_cannot_steer_their_terminal(store: Filled, capsys: Printed) -> None:
    told = people(capsys, "logs", store.key("state = 'quarantined'"), *store.here)
    assert "\x1b" not in told
    assert "    RuntimeError: boom" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "takes one task key or session id"),
        (["abc"], "at least its first 4 hex digits"),
        (["../../etc"], "no task key"),
        (["v1:%"], "no task key"),
        (["0123456789abcdef"], "no task or session begins with"),
    ],
)
def test_logs_refuse_what_names_nothing(
    words: list[str], said: str, store: Filled, capsys: Printed
) -> None:
    assert said in refusal(capsys, "logs", *words, *store.here)


def test_logs_refuse_what_names_several(store: Filled, capsys: Printed) -> None:
    with store.store.begin() as connection:
        connection.exec_driver_sql("update tasks set key = 'v1:dddd' || id where id <= 2")
    assert "give more of it: v1:dddd1, v1:dddd2" in refusal(capsys, "logs", "dddd", *store.here)
