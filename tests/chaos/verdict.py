"""What must hold of a campaign after all of it, beside the same campaign left in peace.

Owns the rules. Each is a question to the store whose answer is a list of what breaks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Ask = Callable[[str], Sequence[Any]]

#: Relative difference of a task's seconds per batch between two sessions of a simulated board:
#: six times the spread of both. The sizes of the tasks differ by more.
SPREAD = 0.15

RESULTS = """
select t.key, count(*) as accepted, sum(w.duration_s) / sum(w.batches) as batch_s
  from tasks t
  join attempts a on a.task_id = t.id and a.outcome = 'ok' and a.voided_at is null
  join windows w on w.attempt_id = a.id
 group by t.key
"""
SHOWN = "select task_key as key, count(*) as rows from measurements group by 1"
#: Each rule with the statement that finds what breaks it, a text a row.
RULES: Mapping[str, str] = {
    "counted twice": """
        select t.key from tasks t join attempts a on a.task_id = t.id
         where a.outcome = 'ok' and a.voided_at is null group by 1 having count(*) > 1
    """,
    "a result under another's token": """
        select t.key || ' ' || a.lease_id from tasks t join attempts a on a.task_id = t.id
         where a.outcome = 'ok' and t.result_lease_id is distinct from a.lease_id
    """,
    "a result of another engine's session": """
        select t.key || ' ' || s.id from tasks t join attempts a on a.task_id = t.id
          join sessions s on s.id = a.session_id where s.engine_id <> t.engine_id
    """,
    "a window of another session": """
        select w.id::text from windows w join attempts a on a.id = w.attempt_id
         where w.session_id <> a.session_id
    """,
    "a window of another workload": """
        select t.key || ' window ' || w.id from windows w join attempts a on a.id = w.attempt_id
          join tasks t on t.id = a.task_id
         where w.requests <> w.batches * t.batch_size
            or w.input_tokens <> w.requests * t.input_tokens
            or w.output_tokens <> w.requests * t.output_tokens
    """,
    "a result without its windows, or with more": """
        select t.key || ' ' || count(w.id) from tasks t
          join protocols p on p.id = t.protocol_id
          join attempts a on a.task_id = t.id and a.outcome in ('ok', 'superseded')
          left join windows w on w.attempt_id = a.id
         group by t.key, a.id, p.numbers having count(w.id) <> (p.numbers ->> 'repeats')::int
    """,
    "windows of a measurement that was never finished": """
        select a.id::text from attempts a join windows w on w.attempt_id = a.id
         where a.outcome not in ('ok', 'superseded', 'invalid')
    """,
    "no result": "select key || ' is ' || state from tasks where state <> 'done'",
    "an open lease": "select key from tasks where lease_expires_at is not null",
    "an open attempt": "select id::text from attempts where outcome is null",
    "an open session": "select id::text from sessions where outcome is null",
    "a fault that nobody made": """
        select concat_ws(' ', id, outcome, kind, right(error, 400)) from attempts
         where outcome in ('faulted', 'invalid')
            or kind not in ('lease_expired', 'owner_died')
    """,
    "a session that failed on its own": """
        select concat_ws(' ', id, right(error, 400)) from sessions where outcome = 'failed'
    """,
    "attempts numbered with a gap": """
        select t.key from tasks t join attempts a on a.task_id = t.id
         group by t.id having count(*) <> t.attempts or max(a.number) <> t.attempts
    """,
}
TALLY = """
select outcome, coalesce(kind, '') as kind, count(*) as attempts
  from attempts group by 1, 2 order by 1, 2
"""


def broken(ask: Ask, undisturbed: Sequence[Any]) -> Iterator[str]:
    """Yield what breaks the rules; `undisturbed` are the RESULTS of the other run."""
    for rule, statement in RULES.items():
        found = ask(statement)
        if found:
            texts = ", ".join(str(row[0]) for row in found[:5])
            yield f"{rule}: {len(found)} ({texts})"
    expected = {row.key: row for row in undisturbed}
    results = {row.key: row for row in ask(RESULTS)}
    shown = {row.key: row.rows for row in ask(SHOWN)}
    if lost := expected.keys() - results.keys():
        yield f"lost: {len(lost)} ({sorted(lost)[:5]})"
    if more := results.keys() - expected.keys():
        yield f"results that nobody asked for: {len(more)} ({sorted(more)[:5]})"
    if wrong := [key for key in expected if shown.get(key) != 1]:
        yield f"not exactly one row in the view: {len(wrong)} ({sorted(wrong)[:5]})"
    for key in expected.keys() & results.keys():
        here, there = results[key].batch_s, expected[key].batch_s
        if abs(here / there - 1) > SPREAD:
            yield f"{key}: {here:.4f} s a batch, {there:.4f} s undisturbed: another task's values"
