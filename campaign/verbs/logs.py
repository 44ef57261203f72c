"""The verb `logs`: what became of a task or a session, with tracebacks and the engine's stderr.

Owns the way from a prefix to one task or session. Never changes anything.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any

from campaign.storeroom import existing, place, split
from campaign.tabular import say, write_json
from db.errors import ConfigError
from db.standing import attempts, find, snapshot

PREFIX = re.compile(r"(v\d+:)?[0-9a-f][0-9a-f-]{3,}")

Row = Mapping[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words; there are no options."""
    parser.epilog = (
        "campaign logs TASK|SESSION [store overrides]. The beginning of a task's key or of a "
        "session's id is enough; `campaign query failures` and `campaign status` show them."
    )


def main(args: argparse.Namespace) -> int:
    """Show the attempts of a task or a session; returns 0."""
    words, overrides = split(args.overrides)
    if len(words) != 1:
        raise ConfigError(f"logs takes one task key or session id, not {len(words)}")
    prefix = words[0].lower()
    if not PREFIX.fullmatch(prefix):
        raise ConfigError(
            f"{words[0]} is no task key and no session id: give at least its first 4 hex digits"
        )
    with existing(place(overrides)) as store, snapshot(store.store) as connection:
        tasks, sessions = find(connection, prefix)
        _refuse_ambiguous(prefix, tasks, sessions)
        if tasks:
            tried = attempts(connection, task_id=tasks[0]["id"])
            subject: dict[str, Row] = {"task": {k: v for k, v in tasks[0].items() if k != "id"}}
        else:
            tried = attempts(connection, session_id=sessions[0]["id"])
            subject = {"session": sessions[0]}
    if args.json:
        write_json({**subject, "attempts": tried})
    else:
        _print(subject, tried)
    return 0


def _refuse_ambiguous(prefix: str, tasks: Sequence[Row], sessions: Sequence[Row]) -> None:
    """Raise unless exactly one task or session begins with the prefix."""
    found = [*(t["key"] for t in tasks), *(str(s["id"]) for s in sessions)]
    if not found:
        raise ConfigError(
            f"no task or session begins with {prefix}: `campaign query failures` lists those that "
            "failed, `campaign query sessions` every session"
        )
    if len(found) > 1:
        raise ConfigError(f"{prefix} begins several, give more of it: {', '.join(found)}")


def _print(subject: Mapping[str, Row], tried: Sequence[Row]) -> None:
    """Print a task or session, its attempts and what was said in them."""
    ((kind, it),) = subject.items()
    if kind == "task":
        reason = f" ({it['reason']})" if it["reason"] else ""
        say(f"{it['key']}\n{_engine(it)}, {it['workload']}, replicate {it['replicate']}: "
              f"{it['state']}{reason}")  # fmt: skip
    else:
        say(f"session {it['id']} on {it['host']}\n{_engine(it)}: {it['outcome'] or 'running'}")
        _print_text("error", it["error"])
        _print_text("stderr", it["stderr_tail"])
    if not tried:
        say("no attempts")
    shown = set()
    for attempt in tried:
        _print_attempt(attempt)
        if kind == "task" and attempt["session_id"] not in shown:
            shown.add(attempt["session_id"])
            _print_text("session's error", attempt["session_error"])
            _print_text("session's stderr", attempt["stderr_tail"])


def _print_attempt(attempt: Row) -> None:
    outcome = attempt["outcome"] or "open"
    kind = f" ({attempt['kind']})" if attempt["kind"] else ""
    marks = f", marked {', '.join(attempt['marks'])}" if attempt["marks"] else ""
    void = f", voided: {attempt['void_reason']}" if attempt["voided_at"] else ""
    say(f"attempt {attempt['number']} of {attempt['task_key'][:15]}, "
          f"{attempt['opened_at']:%Y-%m-%d %H:%M:%S %Z} on {attempt['host']}, session "
          f"{attempt['session_id']}: {outcome}{kind}{marks}{void}")  # fmt: skip
    _print_text("error", attempt["error"])


def _print_text(title: str, text: str | None) -> None:
    """Print a text of several lines, indented, without what would steer the terminal."""
    if not text or not text.strip():
        return
    say(f"  {title}:")
    for line in text.rstrip().splitlines():
        say(f"    {line}")


def _engine(row: Row) -> str:
    return f"{row['backend']} {row['model']} on {row['board']}"
