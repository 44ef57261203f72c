"""The command line: the first word is the verb, the rest belongs to the verb's module.

Owns the parsing of arguments, the translation of errors into one line and an exit code, and
nothing else. Imports a verb's module only when it is asked for.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

from campaign.configuration.reader import nearest
from campaign.configuration.redaction import redact, refuse_secrets
from campaign.verbs.analyze import ANALYSES
from db.errors import CampaignError, ConfigError

#: verb: (module, what it does)
VERBS: Mapping[str, tuple[str, str]] = {
    "plan": ("campaign.verbs.plan", "what a campaign would measure, leave out, and take"),
    "estimate": ("campaign.verbs.estimate", "what one batch would take: seconds, watts and joules"),
    "run": ("campaign.verbs.run", "measure; the same command again continues"),
    "status": ("campaign.verbs.status", "what became of the tasks"),
    "check": (
        "campaign.verbs.check",
        "what falls short, gate by gate, and how to mend it",
    ),
    "query": ("campaign.verbs.query", "ask the results: a named query, or SQL"),
    "analyze": ("campaign.verbs.analyze", "learn from the rows: predictor and other analyses"),
    "predict": ("campaign.verbs.predict", "what a saved predictor says of points, with intervals"),
    "logs": ("campaign.verbs.logs", "why an attempt of a task failed"),
    "retry": ("campaign.verbs.mend", "measure quarantined tasks again"),
    "void": ("campaign.verbs.mend", "withdraw results, with a reason"),
    "ingest": ("campaign.verbs.ingest", "send what was spooled while the store was away"),
    "import": ("campaign.verbs.importing", "rows that others measured, from CSV or Parquet"),
    "export": ("campaign.verbs.exporting", "rows as Parquet or CSV, with a data dictionary"),
    "report": ("campaign.verbs.report", "results to look at: a page, Markdown, or figures"),
    "db": ("campaign.verbs.database", "url, upgrade, dump and restore of the store"),
    "catalog": (
        "campaign.verbs.listing",
        "the models, ablations, boards and configurations known",
    ),
    "fetch": ("campaign.verbs.fetch", "bring request traces here, checked by their SHA-256"),
    "prefetch": ("campaign.verbs.prefetch", "bring the weights of a plan's engines to this host"),
    "doctor": ("campaign.verbs.doctor", "what this machine can measure, and why not more"),
    "meter": ("campaign.verbs.meter", "the joules of any command: campaign meter -- CMD"),
    "instrument": (
        "campaign.verbs.instrument",
        "what a board's counter and sensors do, found by experiment",
    ),
}
#: Verbs whose second word has a module of its own.
GROUPS: Mapping[str, Mapping[str, tuple[str, str]]] = {"analyze": ANALYSES}
#: Verbs without configuration; what follows the -- of a runner is another program's, left alone.
RUNNERS = ("meter",)
PLAIN = (*RUNNERS, "instrument")
#: Verbs whose words are all configuration: a misspelling is answered before their imports.
CONFIGURED = ("plan", "run", "prefetch")
INTERRUPTED = 130
#: What Python says where a path begins with ~, of a user without HOME and without an account.
NO_HOME = "Could not determine home directory."
OVERRIDES = "key=value of the configuration, +grid=NAME, group=option; a list is an axis"


class Verb(Protocol):
    """What a verb's module offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's own arguments."""

    def main(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code."""


class _Parser(argparse.ArgumentParser):
    """Answers a wrong argument with one line, the nearest options in it."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: "):
            first = message.split()[2]
            known = [o for action in self._actions for o in action.option_strings]
            message = f"{first}: no such option{nearest(first, known)}"
            message += "; a command goes after --" if self.get_default("verb") in RUNNERS else ""
        raise ConfigError(f"{self.prog.partition(' ')[2] or self.prog}: {message}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; returns its exit code. Every expected error is one line on stderr."""
    _keep_standard_streams()
    if sys.stdout is None:
        return _fail("stdout is closed: send it to a file, or to /dev/null", ConfigError.exit_code)
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except CampaignError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left
        return 0
    except RuntimeError as error:
        if str(error) != NO_HOME:
            raise
        return _fail(f"a path begins with ~, and user id {os.getuid()} has no home folder: set "
                     "HOME, or write the path in full", ConfigError.exit_code)  # fmt: skip
    except UnicodeEncodeError as error:
        letters = ascii(error.object[error.start : error.end])
        message = f"{letters} cannot be read or written as {error.encoding}: set LC_ALL=C.UTF-8"
        return _fail(message, ConfigError.exit_code)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}", ConfigError.exit_code)


def _keep_standard_streams() -> None:
    """Fill the places of standard streams that were closed.

    A lock or a log would get their numbers, and whatever we start write into it; Ray starts in no
    process without a stderr.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for good


def _run(argv: list[str]) -> int:
    argv, command = _split(argv)
    refuse_secrets(argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help(), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else ConfigError.exit_code
    verb, *rest = argv
    if verb not in VERBS:
        raise ConfigError(f"{verb!r} is no verb{nearest(verb, VERBS)}")
    if verb in CONFIGURED and not any(word.startswith("--conf") for word in rest):
        from campaign.configuration.overrides import is_override, parse, refuse

        refuse(parse([word for word in rest if is_override(word)]))
    title, (where, purpose) = verb, VERBS[verb]
    if verb in GROUPS and rest and not rest[0].startswith("-"):
        title, rest = f"{verb} {rest[0]}", rest[1:]
        where, purpose = _member(title)
    module: Verb = importlib.import_module(where)
    parser = _Parser(prog=f"campaign {title}", description=purpose, allow_abbrev=False)
    args = _arguments(verb, module, parser, rest)
    args.command = command
    return module.main(args)


def _member(title: str) -> tuple[str, str]:
    """Return module and purpose of what a group's second word names."""
    verb, name = title.split(" ", 1)
    if name not in GROUPS[verb]:
        known = nearest(name, GROUPS[verb]) or f"; one of {', '.join(GROUPS[verb])}"
        raise ConfigError(f"{title}: no such analysis{known}")
    return GROUPS[verb][name]


def _split(argv: list[str]) -> tuple[list[str], list[str] | None]:
    """Return our own words and, behind --, those of the program that a verb runs."""
    if argv[:1] and argv[0] in RUNNERS and "--" in argv:
        at = argv.index("--")
        return argv[:at], argv[at + 1 :]
    return argv, None


def _arguments(verb: str, module: Verb, parser: _Parser, rest: Sequence[str]) -> argparse.Namespace:
    parser.set_defaults(verb=verb, conf=None)
    parser.add_argument("--json", action="store_true", help="print data as JSON")
    words = argparse.SUPPRESS
    if verb not in PLAIN:
        words, folder = OVERRIDES, "folder of your own grid/, workload/, ..."
        parser.add_argument("--conf", metavar="DIR", help=folder)
    module.add_arguments(parser)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help=words)
    args = parser.parse_intermixed_args(rest)
    if args.conf is not None:
        args.overrides = [_search_path(args.conf), *args.overrides]
    return args


def _search_path(folder: str) -> str:
    from campaign.configuration.overrides import SEARCH_PATH

    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise ConfigError(f"--conf {folder}: no such folder")
    if odd := "".join(letter for letter in ",'\"]" if letter in str(path)):
        raise ConfigError(f"--conf {path}: a path with {odd} cannot be searched; rename the folder")
    return f"{SEARCH_PATH}=['file://{path}']"


def _help() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {what}" for verb, (_, what) in VERBS.items()]
    return "\n".join(
        ["usage: campaign VERB [OVERRIDE ...]", "", *lines, "",
         "for example: campaign run +grid=quickstart workload.batch_size=[1,8]",
         "campaign VERB --help says more"]
    )  # fmt: skip


def _fail(message: str, code: int) -> int:
    """Print each line of a message with our name before it, no password in it."""
    for line in redact(message).splitlines():
        print(f"campaign: {line}", file=sys.stderr)
    return code
