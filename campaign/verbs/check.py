"""The verb `check`: what falls short in campaigns, gate by gate, and how to measure it again.

Owns the words for it and its JSON form. Never changes anything: the command that does is printed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from campaign.storeroom import ask_campaigns, place, split
from campaign.tabular import print_table, say, write_json
from db.checking import Checked, Shortfall, checked
from db.errors import ConfigError

#: Where measuring again under the same protocol, on the same machine, changes nothing: what does.
ADVICE: Mapping[str, str] = {
    "short_window": "the same protocol gives the same windows: protocol=default has longer ones",
    "no_energy": "`campaign doctor` says what is missing on a machine, and the fix",
    "aliased": "the load keeps its rhythm: another batch size, or a board with an energy counter",
    "throttled_power": "normal at full load: the row is what the board does at its power limit",
    "shared_node": "measure while nobody else does on the machine",
    "interval_wide": "more or longer repeats: protocol.repeats_max, protocol.window_s",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words; there are no options."""
    parser.epilog = (
        "campaign check [CAMPAIGN] [store overrides]. Without a name: every campaign. The exit "
        "code is 0 whatever is found. docs/measurement.md explains every gate."
    )


def main(args: argparse.Namespace) -> int:
    """Show what falls short; returns 0."""
    words, overrides = split(args.overrides)
    if len(words) > 1:
        raise ConfigError(f"check takes one campaign, not {len(words)}: {' '.join(words)}")
    where = place(overrides)
    found = ask_campaigns(where, words[0] if words else None, checked)
    if args.json:
        write_json({"campaigns": [_document(one, overrides) for one in found]})
    elif not found:
        say(f"no campaigns yet in {where.url or where.embedded_folder}")
    else:
        for one in found:
            _print(one, overrides)
    return 0


def command(campaign: str, gate: Shortfall, overrides: Sequence[str]) -> str | None:
    """Return the command after which a run measures it again; None if there is nothing to."""
    if gate.results + gate.quarantined == 0:
        return None
    return shlex.join(
        ["campaign", "retry", "--campaign", campaign, "--gate", gate.gate, *overrides]
    )


def _document(one: Checked, overrides: Sequence[str]) -> dict[str, object]:
    """Return a campaign as JSON has it."""
    gates = [
        {**asdict(gate), "command": command(one.name, gate, overrides),
         "advice": ADVICE.get(gate.gate)}
        for gate in one.gates
    ]  # fmt: skip
    return {"name": one.name, "tasks": one.tasks, "results": one.results, "gates": gates}


def _print(one: Checked, overrides: Sequence[str]) -> None:
    """Print a campaign for people."""
    if not one.gates:
        say(f"{one.name}: {one.results} of {one.tasks} tasks have a result, no gate fired")
        return
    say(f"{one.name}: {one.results} of {one.tasks} tasks have a result; what falls short:")
    print_table(
        ("gate", "marked", "quarantined", "voided attempts", "engine", "workload", "protocol"),
        [
            (gate.gate, point.results, point.quarantined, point.attempts, point.engine,
             point.workload, point.protocol)
            for gate in one.gates for point in gate.points
        ],
        stream=sys.stderr,
    )  # fmt: skip
    for gate in one.gates:
        words = command(one.name, gate, overrides)
        if words is None:
            say(f"{gate.gate}: nothing to do, its attempts were made up for or will be")
            continue
        say(f"{gate.gate}: {words}")
        if gate.gate in ADVICE:
            say(f"  {ADVICE[gate.gate]}")
    say("then the same `campaign run` measures again what these commands made pending")
