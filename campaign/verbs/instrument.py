"""The verb `instrument`: what a board's energy counter and power sensors do, found by experiment.

Owns its arguments and the file it writes. Needs neither a store nor Ray nor an engine; a load is
drawn by PyTorch, and where it is not there, what needs none is found.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from campaign.tabular import say, write_json
from db.errors import ConfigError
from workers.instrument.examine import examine
from workers.instrument.loader import PROGRAM

#: The longest and the shortest that experiments may take, of their own lengths.
PACES = (0.05, 10.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the board, the file, and the pace."""
    parser.usage = "campaign instrument -o FILE [OPTION ...]"
    parser.epilog = (
        "About five minutes on an idle board, which it loads at times. It changes no setting. "
        "docs/measurement.md says what each experiment finds. Exit code 3: no GPU can be examined."
    )
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="JSON to write")
    parser.add_argument("--gpu", type=int, default=0, metavar="N", help="as nvidia-smi counts")
    parser.add_argument(
        "--pace", type=float, default=1.0, metavar="X", help="0.1 is a look, 2 takes twice as long"
    )
    parser.add_argument(
        "--load", default=PROGRAM, metavar="MODULE", help="what draws power; default: PyTorch"
    )


def main(args: argparse.Namespace) -> int:
    """Examine the board and write what was found; returns 0."""
    if args.overrides:
        raise ConfigError(f"instrument: {args.overrides[0]!r} is no option")
    if not PACES[0] <= args.pace <= PACES[1]:
        raise ConfigError(f"--pace {args.pace:g}: from {PACES[0]:g} to {PACES[1]:g}")
    file = Path(args.output).expanduser()
    if not file.parent.is_dir():
        raise ConfigError(f"--output {file}: {file.parent} is no folder: create it first")
    began_s = time.monotonic()

    def keep(found: Mapping[str, object]) -> None:
        _write(file, {**found, "seconds": round(time.monotonic() - began_s, 1)})

    signal.signal(signal.SIGTERM, _leave)
    found = examine(args.gpu, keep, program=args.load, pace=args.pace, say=say)
    if args.json:
        write_json(found)
    say(f"{file}: {file.stat().st_size / 1e3:.1f} kB")
    return 0


def _leave(number: int, _: FrameType | None) -> None:
    """End as Ctrl-C does: the load and the meter go first."""
    sys.exit(128 + number)


def _write(file: Path, found: object) -> None:
    """Write a file, complete or not at all."""
    descriptor, partial = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        write_json(found, out)
    Path(partial).chmod(0o644)
    Path(partial).replace(file)
