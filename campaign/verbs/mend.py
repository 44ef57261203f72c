"""The verbs `void` and `retry`: measure again what was measured wrongly, or failed.

Owns what the words and filters mean. Never deletes: a voided result stays in the store with its
reason, and a task that somebody is measuring is left alone.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Sequence

from campaign.configuration.reader import nearest
from campaign.storeroom import existing, place, split
from campaign.tabular import print_table, say, write_json
from db.errors import ConfigError
from db.mending import Mended, Selection, keys, known, retry, void
from db.records import TaskState
from db.store import Store

MISSING = {
    "campaign": "the store has no such campaign",
    "model": "the store has no task of it",
    "gate": "it marked no result and voided no attempt",
}
KEY = re.compile(r"(v\d+:)?[0-9a-f]{4,64}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the filters of both verbs; task keys stand among the words of the command line."""
    parser.epilog = (
        "Words are the beginnings of task keys. Filters and words count together. void: results "
        "become pending and keep their rows, marked with --reason. retry: quarantined tasks "
        "become pending with fresh counters; with --gate those that it voided, and the results "
        "that carry its mark (`campaign check` lists the gates)."
    )
    parser.add_argument("--campaign", metavar="NAME", help="tasks of this campaign")
    parser.add_argument("--model", metavar="NAME", help="tasks of this model")
    parser.add_argument("--gate", metavar="GATE", help="what this gate marked or voided")
    parser.add_argument("--reason", metavar="TEXT", help="why results are voided (void only)")
    parser.add_argument("--dry-run", action="store_true", help="show it, change nothing")


def main(args: argparse.Namespace) -> int:
    """Void or retry, and show what changed; returns 0."""
    words, overrides = split(args.overrides)
    _check(args, words)
    with existing(place(overrides), writing=True) as opened:
        store = opened.store
        selection = _selection(store, args, words)
        if args.verb == "void":
            mended = void(store, selection, args.reason, dry_run=args.dry_run)
        else:
            mended = retry(store, selection, dry_run=args.dry_run)
    _show(args, mended)
    untouched = len(words) - len(mended) if words else 0
    if untouched > 0:
        kind = "done" if args.verb == "void" else "quarantined"
        say(f"{untouched} of the named tasks left alone: not {kind}")
    return 0


def _check(args: argparse.Namespace, words: Sequence[str]) -> None:
    """Refuse what would be a guess: no reason, no selection, no task key."""
    for word in words:
        if not KEY.fullmatch(word.lower()):
            raise ConfigError(f"{word} is no task key: give at least its first 4 hex digits")
    if args.verb == "retry":
        if args.reason is not None:
            raise ConfigError("retry takes no --reason: results it voids get `retry: GATE`")
        return
    if not (args.reason or "").strip():
        raise ConfigError('void needs --reason "…": it stays with the voided rows')
    if not words and (args.campaign, args.model, args.gate) == (None, None, None):
        raise ConfigError("void what? name task keys, --campaign, --model or --gate")


def _selection(store: Store, args: argparse.Namespace, words: Sequence[str]) -> Selection:
    """Return what is meant, once every name in it is known."""
    there = known(store)
    for option, given, names in (
        ("campaign", args.campaign, there.campaigns),
        ("model", args.model, there.models),
        ("gate", args.gate, there.gates),
    ):
        if given is not None and given not in names:
            raise ConfigError(f"--{option} {given}: {MISSING[option]}{_near(given, names)}")
    return Selection(
        keys=[_key(store, word) for word in words] or None,
        campaign_id=None if args.campaign is None else there.campaigns[args.campaign],
        model=args.model,
        gate=args.gate,
    )


def _near(word: str, names: Collection[str]) -> str:
    return nearest(word, names) if names else ""


def _key(store: Store, word: str) -> str:
    """Return the one task key that begins with a word."""
    found = keys(store, word.lower())
    if len(found) != 1:
        names = ", ".join(found) or "no task"
        raise ConfigError(f"{word} names {names}: give the beginning of one task's key")
    return found[0]


def _show(args: argparse.Namespace, mended: Sequence[Mended]) -> None:
    """Print what changed, or would."""
    voided = sum(task.was is TaskState.DONE for task in mended)
    if args.json:
        write_json({"verb": args.verb, "dry_run": args.dry_run, "voided": voided,
                    "pending": len(mended), "tasks": mended})  # fmt: skip
        return
    if mended:
        print_table(
            ("task", "was", "engine", "workload", "replicate", "campaigns"),
            [(m.key[:15], m.was, m.engine, m.workload, m.replicate, m.campaigns) for m in mended],
            stream=sys.stderr,
        )
    would = "would be " if args.dry_run else ""
    say(f"{would}pending again: {_count(len(mended), 'task')}; "
        f"{would}voided: {_count(voided, 'result')}")  # fmt: skip


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
