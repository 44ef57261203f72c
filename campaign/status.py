"""The verb `status`: how campaigns stand, from the store alone.

Owns what a person reads there and its JSON form. Never changes anything, and never starts a
store that does not exist.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from campaign.storeroom import ask_campaigns, place, split
from campaign.tabular import print_table, say, write_json
from db.errors import ConfigError
from db.standing import Joules, Standing, standing
from workers.process import boot_id, is_alive

ERRORS_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words; there are no options."""
    parser.epilog = "campaign status [CAMPAIGN] [store overrides]. Without a name: every campaign."


def main(args: argparse.Namespace) -> int:
    """Show where campaigns stand; returns 0."""
    words, overrides = split(args.overrides)
    if len(words) > 1:
        raise ConfigError(f"status takes one campaign, not {len(words)}: {' '.join(words)}")
    where = place(overrides)
    newest = partial(standing, newest=ERRORS_SHOWN)
    found = ask_campaigns(where, words[0] if words else None, newest)
    if args.json:
        write_json({"campaigns": [_document(one) for one in found]})
    elif not found:
        say(f"no campaigns yet in {where.url or where.embedded_folder}")
    else:
        for one in found:
            _print(one)
    return 0


def _alive(session: Mapping[str, Any]) -> bool | None:
    """Whether a session's process lives; None where it is another host's."""
    if session["boot"] != boot_id():
        return None
    return is_alive(session["pid"], session["pid_started_s"])


def _document(one: Standing) -> dict[str, object]:
    """Return a standing as JSON has it."""
    fields = {name: getattr(one, name) for name in Standing.__dataclass_fields__}
    hidden = {"boot", "pid_started_s"}
    fields["running"] = [
        {**{k: v for k, v in session.items() if k not in hidden}, "alive": _alive(session)}
        for session in one.running
    ]
    return fields


def _print(one: Standing) -> None:
    """Print a standing for people."""
    counts = ", ".join(f"{count} {state}" for state, count in one.tasks.items() if count)
    say(f"{one.name} (of {one.owner}, since {one.created_at:%Y-%m-%d}): {counts or 'no tasks'}")
    print_table(
        ("engine", "done", "left", "failed", "why"),
        [(e.engine, e.done, e.left, e.failed, _counted(e.reasons)) for e in one.engines],
        stream=sys.stderr,
    )
    if one.exclusions:
        say(f"left out: {_counted(one.exclusions)}")
    say(f"energy so far: {energy_words(one.joules)}")
    for session in one.running:
        ends = " (its process is gone: the next run takes its task back)"
        say(
            f"running on {session['host']} since {session['started_at']:%H:%M:%S %Z}: "
            f"{session['backend']} {session['model']} on {session['board']}, process "
            f"{session['pid']}{ends if _alive(session) is False else ''}"
        )
    for error in one.errors:
        said = error["error"] or error["kind"] or "no message"
        say(f"{error['outcome']}: {error['backend']} {error['model']}: {said}")
    if one.errors:
        key = next((e["task_key"] for e in one.errors if e["task_key"]), None)
        say(f"more with `campaign logs {(key or str(one.errors[0]['session_id']))[:15]}`")
    say("")


def energy_words(joules: Joules) -> str:
    """Return joules in words: measured and estimated ones are never one number."""
    parts = [
        f"{value:.4g} J {kind}"
        for kind, value in (
            ("measured", joules.measured_j),
            ("simulated", joules.simulated_j),
            ("imported", joules.external_j),
            ("estimated, not measured", joules.estimated_j),
        )
        if value is not None
    ]
    if joules.windows_without_energy:
        parts.append(f"{joules.windows_without_energy} windows without measured energy")
    return ", ".join(parts) or "none"


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} ({count})" for reason, count in reasons.items())
