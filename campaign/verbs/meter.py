"""The verb `meter`: the joules of any command, of the machine for some seconds, of a block of code.

Owns its arguments and exit codes, and the block of `campaign.meter`. Needs neither a store nor Ray
nor an engine, and loads what draws tables only once the window is closed, so that a command starts
at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from db.errors import CampaignError, ConfigError, NodeUnfit
from workers.meters import program
from workers.meters.metered import INTERVAL_S, Metered, Meters

if TYPE_CHECKING:  # at run time it brings along what draws tables
    from campaign.verbs.reading import MeterResult

#: Limits of the options, seconds: beyond them clocks overflow, and samples say nothing.
MOST_S = {"seconds": 1e9, "interval": 60.0}

HELP = """\
With -- the energy is that of the command, from its start to its end; the command keeps stdin,
stdout, stderr and its signals. The table goes to stderr, --json to stdout, in one line and after
all that the command printed there. GPUs: --gpus, else CUDA_VISIBLE_DEVICES, else all. The CPU is
metered as well where RAPL is readable.

exit codes: the command's own; 128+n if signal n ended it; 126 it cannot be executed; 127 no such
command. Without a command 0, or 130 when Ctrl-C ended the window (what was measured is printed).
2 bad input; 3 nothing can be metered: the command was not started."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; the command behind -- is not among them."""
    parser.usage = ("campaign meter [OPTION ...] -- CMD [ARG ...]\n"
                    "       campaign meter [OPTION ...] --seconds S")  # fmt: skip
    parser.epilog = HELP
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, metavar="S", help="meter the machine so long")
    parser.add_argument("--gpus", metavar="LIST", help="indices as nvidia-smi counts, or UUIDs")
    parser.add_argument("--interval", type=float, metavar="S", default=INTERVAL_S,
                        help=f"seconds between power samples (default {INTERVAL_S})")  # fmt: skip
    parser.add_argument("--trace", metavar="FILE", help="write the power samples as CSV")


def main(args: argparse.Namespace) -> int:
    """Meter, print, and return the exit code of what was metered."""
    _check(args)
    command: list[str] | None = args.command
    path = program.find(command[0]) if command else ""
    with ExitStack() as stack:
        trace = stack.enter_context(_writable(args.trace)) if args.trace else None
        meters = stack.enter_context(
            Meters(args.gpus, os.environ, interval_s=args.interval, aligned=command is None)
        )
        _warn(meters.notes)
        metered = meters.command(path, command) if command else meters.seconds(args.seconds)
        _print(metered, command, as_json=args.json)
        if trace:
            _write_trace(metered, trace)
    return _exit_code(metered)


def _check(args: argparse.Namespace) -> None:
    """Raise ConfigError for arguments that say nothing, or two things."""
    example = "for example campaign meter -- sleep 5, or campaign meter --seconds 5"
    if args.overrides:
        raise ConfigError(f"meter: {args.overrides[0]!r} stands before --: {example}")
    if args.command == []:
        raise ConfigError(f"meter: no command after --: {example}")
    if (args.command is None) == (args.seconds is None):
        raise ConfigError(f"meter: give a command after --, or --seconds, and not both: {example}")
    for option in MOST_S:
        if getattr(args, option) is not None:
            _limited(option, getattr(args, option))


def _limited(option: str, value: float) -> None:
    """Raise ConfigError for seconds beyond an option's limits."""
    most = MOST_S[option]
    if not 0 < value <= most:
        raise ConfigError(f"meter: --{option} {value:g}: it must be above zero, {most:g} at most")


@dataclass(slots=True, kw_only=True)
class Metering:
    """A block of code while it is metered, and what was found once it has ended.

    `notes` are lines for people about what is not metered, with the fix.
    """

    notes: tuple[str, ...]
    metered: Metered | None = None

    @property
    def result(self) -> MeterResult:
        """What was measured. Raises CampaignError inside the block."""
        from campaign.verbs.reading import result_of

        if self.metered is None:
            raise CampaignError("meter: the block has not ended: ask for its result after it")
        return result_of(self.metered)


@contextmanager
def metering(named: str | None, interval_s: float) -> Iterator[Metering]:
    """Meter a block of code, one that raises as well. Raises ConfigError or NodeUnfit before it."""
    _limited("interval", interval_s)
    with Meters(named, os.environ, interval_s=interval_s, aligned=False) as meters:
        block = Metering(notes=meters.notes)
        begun = meters.begin()
        try:
            yield block
        finally:
            block.metered = meters.end(*begun)


def _writable(name: str) -> TextIO:
    """Open the file before anything runs: a run must not be lost to a misspelt folder."""
    try:
        return Path(name).expanduser().open("w", newline="", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--trace {name}: {error.strerror}") from error


def _exit_code(metered: Metered) -> int:
    if metered.exit_code is not None:
        return metered.exit_code
    if metered.ended_by is not None:
        return program.BY_SIGNAL + metered.ended_by
    cpu_j = metered.cpu.package_j if metered.cpu else None
    measured = any(gpu.energy_j is not None for gpu in metered.gpus) or cpu_j is not None
    return 0 if measured else NodeUnfit.exit_code


def _warn(notes: Sequence[str]) -> None:
    """Say what will be missing while the command can still be stopped."""
    for note in notes:
        print(f"campaign: {note}", file=sys.stderr)


def _print(metered: Metered, command: Sequence[str] | None, *, as_json: bool) -> None:
    from campaign.verbs.reading import print_reading, write_reading

    if as_json:
        write_reading(metered)
    else:
        print_reading(metered, command)


def _write_trace(metered: Metered, file: TextIO) -> None:
    from campaign.verbs.reading import write_trace

    write_trace(metered, file)
