"""What a question may do to the store: read it, and nothing else."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from db import asking
from db.asking import Limits, Question, asked, question, shipped
from db.dumping import libpq_url
from db.embedded import EmbeddedPostgres
from db.errors import ConfigError, StoreUnavailable
from tests.store.filled import Filled, filled

pytestmark = pytest.mark.store

QUICK = Limits(statement_s=0.2, lock_s=0.1)


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Filled]:
    with filled(embedded_store, "asking") as found:
        yield found


def rows(store: Filled, sql: str, *, limits: Limits | None = None, **more: str) -> list[Any]:
    """Ask as a person does."""
    asking = Question(sql=sql)
    urls = (store.url, store.reader_url)
    with asked(asking, *urls, limits=limits or Limits(), settings=more) as answer:
        return list(answer.rows)


def tasks(store: Filled) -> int:
    return int(store.value("select count(*) from tasks"))


# ---- what it answers ---------------------------------------------------------------------------


def test_an_answer_has_columns_even_without_rows(store: Filled) -> None:
    urls = (store.url, store.reader_url)
    nothing = Question(sql="select 1 as one, 2 as one where false")
    with asked(nothing, *urls, limits=Limits(), settings={}) as answer:
        assert (answer.columns, list(answer.rows)) == (("one", "one_2"), [])


def test_rows_come_while_the_rest_is_still_computed(store: Filled) -> None:
    late = Question(sql="select 1 / (100000 - n) from generate_series(1, 200000) n")
    seen: list[Any] = []
    with (
        pytest.raises(ConfigError, match="division by zero"),
        asked(late, store.url, store.reader_url, limits=Limits(), settings={}) as answer,
    ):
        deque(map(seen.append, answer.rows), maxlen=0)
    assert 1000 < len(seen) < 100000


def test_the_first_rows_are_asked_for_where_the_question_is_ours() -> None:
    """A list of all there is must not be sorted whole for a table of its beginning."""
    asking = shipped()["measurements"]
    assert asking.first(7).sql == f"{asking.sql}\n limit 7"
    for own in (shipped()["slowest_tasks"], Question(sql="select 1")):
        assert own.first(7) == own


def test_a_question_leaves_no_statement_to_whoever_gets_its_connection(store: Filled) -> None:
    """Behind a pooler that is the next question, which has a statement of its own."""
    assert rows(store, "select name from pg_prepared_statements") == []


def test_an_answer_may_be_left_early(store: Filled) -> None:
    endless = Question(sql="select generate_series(1, 1000000000000) as n, 'left early' as t")
    with asked(
        endless, store.url, store.reader_url, limits=Limits(statement_s=600.0), settings={}
    ) as answer:
        assert next(answer.rows) == (1, "left early")
    assert rows(store, "select 1") == [(1,)]


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_question_has_a_purpose_and_runs_for_a_reader(
    name: str, store: Filled
) -> None:
    asking = shipped()[name]
    assert asking.purpose
    urls = (store.url, store.reader_url)
    weights = {"campaign.weights": "real"}
    with asked(asking, *urls, limits=Limits(), settings=weights) as answer:
        assert answer.columns
        found = list(answer.rows)  # what they find is asked in test_named_queries.py
    with asked(asking.first(1), *urls, limits=Limits(), settings=weights) as answer:
        assert len(list(answer.rows)) == (len(found) if " limit " in asking.sql else bool(found))


def test_a_simulated_or_estimated_joule_is_never_called_measured(store: Filled) -> None:
    sql = shipped()["energy_by_batch_size"].sql
    found = rows(store, f"select distinct backend, energy from ({sql}) q order by 1")
    assert found == [
        ("simulated", "simulated"),
        ("transformers", "estimated"),
        ("vllm", "measured"),
    ]


def test_an_estimate_stays_out_of_the_column_of_joules(store: Filled) -> None:
    sql = shipped()["energy_by_batch_size"].sql
    found = rows(
        store,
        "select joules_per_output_token is null, estimated_joules_per_output_token is null "
        f"from ({sql}) q where energy = 'estimated'",
    )
    assert found == [(True, False)]


def test_failures_tell_the_last_line_of_the_traceback(store: Filled) -> None:
    sql = shipped()["failures"].sql
    ((last_line,),) = rows(store, f"select last_line from ({sql}) q where state = 'quarantined'")
    assert last_line.startswith("RuntimeError: boom")


def test_equal_engines_that_resolved_differently_are_told_apart(store: Filled) -> None:
    sql = shipped()["equal_keys_different_engines"].sql
    found = rows(store, f"select backend, part, field, values from ({sql}) q")
    assert found == [("simulated", "resolved", "b", ["2", "3"])]


def test_settings_choose_what_comparisons_show(store: Filled) -> None:
    sql = "select count(*) from comparable"
    weights = {"campaign.weights": "random"}
    assert rows(store, sql, **{"campaign.weights": "real"}) == [(1,)]
    assert rows(store, sql, **weights) == [(0,)]


# ---- what it may not do ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    ["select 1; select 2", "select 1; drop table tasks", "commit; drop table tasks"],
)
def test_a_second_statement_is_refused_by_the_server(sql: str, store: Filled) -> None:
    with pytest.raises(ConfigError, match="multiple commands"):
        rows(store, sql)
    assert tasks(store) == 9


@pytest.mark.parametrize(
    "sql",
    [
        "delete from tasks returning id",
        "with gone as (delete from tasks returning id) select * from gone",
        "explain analyze delete from tasks",
        "copy tasks to program 'true'",
        "copy tasks to stdout",
        "select pg_read_file('/etc/hostname')",
        "select pg_ls_dir('.')",
        "select lo_creat(-1)",
        "select lo_import('/etc/hostname')",
        "select nextval('tasks_id_seq')",
        "select * from pg_authid",
        "create temporary table mine (a int)",
        "set role campaign",
        "do $$ begin delete from tasks; end $$",
        "drop view measurements",
    ],
)
def test_nothing_but_reading_is_possible(sql: str, store: Filled) -> None:
    with pytest.raises(ConfigError):
        rows(store, sql)
    assert tasks(store) == 9


@pytest.mark.parametrize(
    "sql", ["delete from attempts", "update tasks set state = 'done'", "create table mine (a int)"]
)
def test_the_readers_rights_hold_without_the_read_only_transaction(sql: str, store: Filled) -> None:
    with psycopg.connect(libpq_url(store.reader_url), autocommit=True) as reader:
        reader.execute("set default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(sql)  # type: ignore[arg-type]


def test_a_persons_sql_runs_on_no_login_that_may_write(store: Filled) -> None:
    owner = store.url
    harmless = Question(sql="select 1 as one")
    with (
        pytest.raises(ConfigError, match=r"store\.reader_url="),
        asked(harmless, owner, None, limits=Limits(), settings={}),
    ):
        pass
    with (
        pytest.raises(ConfigError, match="may do more than read"),
        asked(harmless, owner, owner, limits=Limits(), settings={}),
    ):
        pass


def test_a_shipped_question_runs_without_a_reader_and_cannot_write(store: Filled) -> None:
    owner = store.url
    asking = shipped()["sessions"]
    with asked(asking, owner, None, limits=Limits(), settings={}) as answer:
        assert len(list(answer.rows)) == 4
    wrong = Question(name="wrong", sql="delete from campaign_tasks returning task_id")
    with (
        pytest.raises(ConfigError, match="read-only transaction"),
        asked(wrong, owner, None, limits=Limits(), settings={}),
    ):
        pass


@pytest.mark.parametrize(
    "sql",
    [
        "select pg_sleep(600)",
        "select set_config('statement_timeout', '0', false), pg_sleep(600)",
    ],
)
def test_a_question_is_stopped_and_cannot_lift_its_own_limit(sql: str, store: Filled) -> None:
    with pytest.raises(ConfigError, match=r"stopped after 0\.2 s"):
        rows(store, sql, limits=QUICK)


def test_a_question_does_not_wait_for_a_lock(store: Filled) -> None:
    patient = Limits(statement_s=600.0, lock_s=0.1)
    with store.store.begin() as connection:
        connection.exec_driver_sql("lock table exclusions in access exclusive mode")
        with pytest.raises(ConfigError, match="lock timeout"):
            rows(store, "select * from exclusions", limits=patient)


# ---- what it says ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select nope from tasks", r'column "nope" does not exist, at character 8 \(nope\)'),
        ("select 1,\n  2,\n  nope", r"at line 3 \(nope\)"),
        ("selec 1", r'syntax error at or near "selec", at character 1'),
        ("select * from measurement", r"try the views measurements"),
        ("select 1 +", r"at character 11 \(the end\)"),
        ("begin", "gives no rows"),
        ("-- nothing", "gives no rows"),
        ("select '100%' like '%d', %s", r"syntax error at or near \"%\""),
        ("select 'infinity'::timestamptz", "timestamp too large"),
        ("select $1", r"^query: \$1 stands for a value that nothing gives; write"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(sql: str, words: str, store: Filled) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        rows(store, sql)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean measurements"):
        question("measurement")


def test_a_server_that_goes_is_not_the_questions_fault(store: Filled) -> None:
    with pytest.raises(StoreUnavailable):
        rows(store, "select pg_terminate_backend(pg_backend_pid())")


def test_sql_with_percent_signs_is_taken_as_it_stands(store: Filled) -> None:
    assert rows(store, "select 'a%sb' like 'a%b', 5 % 3") == [(True, 2)]


def test_the_simple_protocol_would_let_a_second_statement_through(
    store: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal is the server's: a client that sends the text as one query runs both."""
    with psycopg.connect(libpq_url(store.reader_url)) as simple:
        simple.execute("select 1; select 2")
    monkeypatch.setattr(asking, "_prepared", lambda *_: ("one",))
    with pytest.raises(ConfigError, match="multiple commands"):  # stream() refuses it as well
        rows(store, "select 1; select 2")
