"""The verb `status`: how campaigns stand, from the store alone.

Owns what a person reads there and its JSON form, once or again and again. Never changes anything,
and never starts a store that does not exist.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from campaign.running.eta import Rest, eta_s
from campaign.running.live import clock
from campaign.running.pace import Estimate, corrected
from campaign.storeroom import ask_campaigns, existing, place, split
from campaign.tabular import count_of, plain, print_table, say, write_json
from db.errors import ConfigError
from db.grids import Pace, Pacing
from db.place import Place
from db.standing import Joules, Standing, paced_standing
from workers.process import boot_id, is_alive

ERRORS_SHOWN = 5
#: Seconds between two looks of ``--watch``.
WATCHED_S = 2.0
#: Seconds for which a board without a session is taken to be between two.
BETWEEN_S = 60.0
#: Takes a terminal's cursor to its corner and clears what is there.
CLEAR = "\x1b[H\x1b[2J"

Found = tuple[Standing, Pacing]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own argument."""
    parser.epilog = "campaign status [CAMPAIGN] [store overrides]. Without a name: every campaign."
    parser.add_argument(
        "--watch", action="store_true", help="again and again until nothing is left to measure"
    )


def main(args: argparse.Namespace) -> int:
    """Show where campaigns stand; returns 0."""
    words, overrides = split(args.overrides)
    if len(words) > 1:
        raise ConfigError(f"status takes one campaign, not {len(words)}: {' '.join(words)}")
    where = place(overrides)
    name = words[0] if words else None
    if args.watch:
        return _watch(where, name, as_json=args.json)
    found = _ask(where, name)
    if args.json:
        write_json({"campaigns": [_document(*one) for one in found]})
    elif not found:
        say(f"no campaigns yet in {where.url or where.embedded_folder}")
    else:
        for one in found:
            _print(*one)
    return 0


def _ask(where: Place, name: str | None) -> list[Found]:
    return ask_campaigns(where, name, partial(paced_standing, newest=ERRORS_SHOWN))


def _watch(where: Place, name: str | None, *, as_json: bool) -> int:
    """Show every change until nothing is left; a line of JSON for each, or one of text."""
    shown = ""
    with existing(where):  # held open: an embedded server would start anew for every look
        while True:
            found = _ask(where, name)
            lines = "\n".join(_line(*one) for one in found) or "no campaigns yet"
            if as_json:
                document = {"campaigns": [_document(*one) for one in found]}
                print(json.dumps(plain(document), ensure_ascii=False), flush=True)
            elif sys.stderr.isatty():
                print(CLEAR, end="", file=sys.stderr)
                for one in found:
                    _print(*one)
            elif lines != shown:
                say(lines)
            shown = lines
            if not any(_left(one) for one, _ in found):
                return 0
            time.sleep(WATCHED_S)


def _left(one: Standing) -> int:
    return sum(engine.left for engine in one.engines)


def _line(one: Standing, pacing: Pacing) -> str:
    """Return a campaign in a line, as a run shows it."""
    failed = sum(engine.failed for engine in one.engines)
    words = [f"{one.tasks['done']}/{sum(one.tasks.values())} done", f"{_left(one)} left"]
    words += [f"{failed} failed"] if failed else []
    words += [_eta(one, pacing)] if _eta(one, pacing) else []
    return f"{one.name}: {', '.join([*words, energy_words(one.joules)])}"


def _eta(one: Standing, pacing: Pacing) -> str:
    seconds = _eta_s(one, pacing)
    return "" if seconds is None else f"ETA {clock(seconds)}"


def _eta_s(one: Standing, pacing: Pacing) -> float | None:
    """Return the seconds until the boards that are measuring now have done what they can."""
    estimates = {
        found.engine_id: Estimate(
            board=spec.board, task_s=found.task_s, load_s=found.load_s, tasks=found.tasks
        )
        for found, spec in pacing.engines
    }
    improved, boards = corrected(estimates, pacing.paces), Counter[str]()
    holders, in_work = Counter[int](), Counter[int]()
    for session in one.running:
        if _alive(session) is not False:
            holders[session["engine_id"]] += 1
            in_work[session["engine_id"]] += session["leased"]
            boards[session["board"]] += session["board_count"]
    for found, spec in pacing.engines if boards else ():
        pace = pacing.paces.get(found.engine_id, Pace())
        if pace.ago_s is not None and pace.ago_s < BETWEEN_S:
            boards[spec.board] = max(boards[spec.board], spec.board_count)
    left = {engine.engine_id: engine.left for engine in one.engines}
    return eta_s(
        (
            Rest(
                estimate=improved[found.engine_id],
                board_count=spec.board_count,
                tasks=left.get(found.engine_id, 0),
                in_work=in_work[found.engine_id],
                holders=holders[found.engine_id],
            )
            for found, spec in pacing.engines
        ),
        boards,
    )


def _alive(session: Mapping[str, Any]) -> bool | None:
    """Whether a session's process lives; None where it is another host's."""
    if session["boot"] != boot_id():
        return None
    return is_alive(session["pid"], session["pid_started_s"])


def _document(one: Standing, pacing: Pacing) -> dict[str, object]:
    """Return a standing as JSON has it; `eta_s` is None where nobody measures."""
    fields = {name: getattr(one, name) for name in Standing.__dataclass_fields__}
    hidden = {"boot", "pid_started_s"}
    fields["running"] = [
        {**{k: v for k, v in session.items() if k not in hidden}, "alive": _alive(session)}
        for session in one.running
    ]
    return fields | {"eta_s": _eta_s(one, pacing)}


def _print(one: Standing, pacing: Pacing) -> None:
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
    if eta := _eta(one, pacing):
        say(f"{eta} on the boards that measure now")
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
        parts.append(f"{count_of(joules.windows_without_energy, 'window')} without measured energy")
    return ", ".join(parts) or "none"


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} ({count})" for reason, count in reasons.items())
