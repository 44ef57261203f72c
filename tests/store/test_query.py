"""The verb `query`, through the command line: forms of an answer, and bad questions."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from campaign.cli import main
from campaign.tabular import print_table
from db.embedded import EmbeddedPostgres
from tests.store.filled import Filled, filled

pytestmark = pytest.mark.store


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Filled]:
    with filled(embedded_store, "querying") as found:
        yield found


def test_json_is_a_list_of_objects(store: Filled, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "select 1 as n, null as nothing, '{a,b}'::text[] as many, 0.5::numeric as half"
    assert main(["query", sql, "--json", *store.here]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"n": 1, "nothing": None, "many": ["a", "b"], "half": 0.5}
    ]


def test_json_without_rows_is_an_empty_list(
    store: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["query", "select 1 as n where false", "--json", *store.here]) == 0
    said = capsys.readouterr()
    assert (json.loads(said.out), said.err) == ([], "no rows\n")


def test_json_has_what_floats_cannot_say_as_text(
    store: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["query", "select 'nan'::float8 as x", "--json", *store.here]) == 0
    assert json.loads(capsys.readouterr().out) == [{"x": "nan"}]


def test_csv_disarms_formulas_and_leaves_numbers_alone(
    store: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    sql = """select '=1+1' as "=head", -5 as n, -0.5::float8 as x, '@a' as a, '+b' as b, '-c' as c,
             e'\\t=d' as d, null as nothing, 'plain' as plain, '{=e}'::text[] as many"""
    assert main(["query", sql, "--csv", *store.here]) == 0
    head, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert head[0] == "'=head"
    assert row == ["'=1+1", "-5", "-0.5", "'@a", "'+b", "'-c", "'\t=d", "", "plain", '["=e"]']


def test_csv_without_rows_still_has_its_header(
    store: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["query", "select 1 as a, 2 as b where false", "--csv", *store.here]) == 0
    assert capsys.readouterr().out == "a,b\n"


def test_a_named_query_lists_what_was_measured(
    store: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["query", "measurements", "--json", *store.here]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 6
    assert {row["reality"] for row in found} == {"real", "simulated"}
    estimated = next(row for row in found if row["backend"] == "transformers")
    assert (estimated["energy_j"], estimated["energy_estimated_j"]) == (None, 7.0)


@pytest.mark.parametrize("asked", ["measurements", "select generate_series(1, 6) as n"])
@pytest.mark.parametrize(
    ("words", "rows", "said"),
    [
        (["--csv"], 6, ""),
        (["--csv", "--limit", "0"], 6, ""),
        (["--csv", "--limit", "6"], 6, ""),
        (["--csv", "--limit", "4"], 4, "the first 4 rows; --limit 0 gives all of them"),
        (["--csv", "--limit", "1"], 1, "the first 1 row; --limit 0 gives all of them"),
    ],
)
def test_no_more_rows_than_wanted_and_what_was_left_out_is_said(
    asked: str, words: list[str], rows: int, said: str, store: Filled,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(["query", asked, *words, *store.here]) == 0
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 1 + rows
    assert told.err.strip() == said


def test_a_table_has_a_thousand_rows_unless_more_are_wanted(
    store: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    sql = "select generate_series(1, 1200) as n"
    for more, last, said in (
        ([], "1000", "the first 1000 rows; --limit 0"), (["--limit", "0"], "1200", ""),
    ):  # fmt: skip
        assert main(["query", sql, *more, *store.here]) == 0
        told = capsys.readouterr()
        assert told.out.split()[-1] == last
        assert told.err.startswith(said) if said else not told.err


def test_an_empty_comparison_says_why(store: Filled, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["query", "energy_per_output_token", "--weights", "random", "--json", *store.here]
    assert main(words) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == []
    assert "random weights" in said.err


def test_the_table_for_people_cannot_steer_their_terminal(
    store: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["query", r"select e'\x1b[31mred\nline [bold]' as text", *store.here]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "red line [bold]" in shown


def test_list_needs_no_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "--list", "--json", "store.path=/nonexistent"]) == 0
    listed = {row["name"]: row["purpose"] for row in json.loads(capsys.readouterr().out)}
    assert "measurements" in listed
    assert all(listed.values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["measurement"], "did you mean measurements?"),
        (["zzz"], "no query is called zzz; `campaign query --list` has them"),
        ([], "query what?"),
        (["select", "1"], "quote the SQL"),
        (["select 1", "--csv", "--json"], "choose one"),
        (["select 1", "--timeout", "0"], "--timeout 0"),
        (["select 1", "--timeout", "nan"], "--timeout nan"),
        (["select 1", "--limit", "-1"], "--limit -1"),
        (["select 1", "--limit", "9999999999"], "--limit 9999999999"),
        (["select 1", "--weights", "zero"], "invalid choice"),
        ([""], "this is no query"),
        (["select 1", "store.pth=/x"], "store.pth"),
        (["select 1", "store.path=/nonexistent/store"], "there is no store in /nonexistent/store"),
    ],
)
def test_a_bad_question_is_one_line_and_exit_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["query", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("campaign: ")
    assert said in line


def test_a_question_never_makes_a_store(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "measurements", f"store.path={place / 'typo'}"]) == 2
    assert list(place.iterdir()) == []


def test_postgres_own_words_are_one_line_and_exit_2(
    store: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["query", "select nope\nfrom tasks", *store.here]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'column "nope" does not exist, at character 8 (nope)' in line


def test_a_reader_that_leaves_early_is_no_error(store: Filled) -> None:
    sql = "select repeat('x', 1000) as text from generate_series(1, 20000)"
    command = [sys.executable, "-m", "campaign", "query", sql, "--csv", *store.here]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    ) as running:  # fmt: skip
        try:
            assert running.stdout is not None
            assert running.stderr is not None
            assert running.stdout.readline() == "text\n"
            running.stdout.close()
            assert (running.stderr.read(), running.wait(60)) == ("", 0)
        finally:
            running.kill()


def test_a_table_for_people_ends_and_says_so() -> None:
    out = io.StringIO()
    assert print_table(("n",), ((n,) for n in range(1500)), stream=out) == 1000
    assert "--csv" in out.getvalue().splitlines()[-1]
    assert "1000" not in out.getvalue().splitlines()[-2]
