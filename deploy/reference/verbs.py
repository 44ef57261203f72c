"""docs/reference/verbs.md: every verb with its words, options and exit codes.

Asks the command line itself, through ``--help``; only the exit codes are written here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import suppress
from unittest.mock import patch

from campaign.cli import GROUPS, RUNNERS, VERBS, main
from deploy.reference.markdown import MADE, code, table

#: What every exit code means.
CODES: Mapping[str, str] = {
    "0": "done",
    "2": "bad configuration or input, or a store that cannot be opened",
    "3": "nothing here can run or measure it, or it is over budget",
    "4": "finished, but something failed, was quarantined or could not be had",
    "75": "stopped by `run.deadline`, the end of a Slurm job, a store that stayed away or a Ray "
    "that died: the same command goes on",
    "130": "interrupted",
}
#: Those that any verb may end with, and those that some have beside them.
EVERY = ("0", "2", "130")
MORE: Mapping[str, tuple[str, ...]] = {
    "plan": ("3",),
    "run": ("3", "4", "75"),
    "prefetch": ("3", "4"),
    "ingest": ("4",),
    "doctor": ("3",),
    "meter": ("3",),
    "instrument": ("3",),
}
#: Options of every verb, described once.
SHARED = ("-h", "--help", "--json", "--conf")
OPENING = """# Verbs

`campaign VERB [OPTION ...] [OVERRIDE ...]`, or `python -m campaign VERB …`. An override is
`key=value` of the [configuration](configuration.md), `+grid=NAME` or `group=option`; a list is an
axis. Verbs that only ask take those that say which store is meant: *store overrides*, such as
`store.url=…` and `store.path=…`."""


def parser_of(title: str) -> argparse.ArgumentParser:
    """Return the parser that answers ``campaign TITLE --help``; a title is one word or two."""
    found: list[argparse.ArgumentParser] = []

    def keep(parser: argparse.ArgumentParser, _: object = None) -> None:
        found.append(parser)

    with patch.object(argparse.ArgumentParser, "print_help", keep), suppress(SystemExit):
        main([*title.split(), "--help"])
    return found[0]


def titles() -> Iterator[str]:
    """Yield every verb, behind a group its members."""
    for verb in VERBS:
        yield verb
        yield from (f"{verb} {member}" for member in GROUPS.get(verb, ()))


def verbs() -> str:
    """Return the whole document."""
    lines = [
        MADE,
        OPENING,
        "",
        *table(("option", "of every verb"), _shared()),
        "",
        "## Exit codes",
        "",
    ]
    lines += table(("code", "means"), ((code, words) for code, words in CODES.items()))
    for title in titles():
        lines += ["", *_section(title)]
    return "\n".join(lines) + "\n"


def _shared() -> Iterator[tuple[str, str]]:
    actions = parser_of("plan")._actions  # noqa: SLF001 - argparse lists them nowhere else
    for action in actions:
        if action.option_strings and action.option_strings[-1] in SHARED:
            but = f" (not {', '.join(RUNNERS)})" if "--conf" in action.option_strings else ""
            yield _named(action), f"{action.help}{but}"


def _section(title: str) -> list[str]:
    parser = parser_of(title)
    verb = title.split(maxsplit=1)[0]
    purpose = str(parser.description)
    level = "##" if title == verb else "###"
    usage, rest = _usage(parser)
    lines = [f"{level} {title}", "", f"{purpose[0].upper()}{purpose[1:]}.", ""]
    lines += ["```text", *(line.strip() for line in usage.splitlines()), "```"]
    if rows := [(_named(action), _said(action)) for action in options(parser)]:
        lines += ["", *table(("option", "what it does"), rows)]
    if rest and title not in GROUPS:
        laid_out = parser.formatter_class is argparse.RawDescriptionHelpFormatter
        text = rest.strip("\n").splitlines()
        lines += ["", "```text", *text, "```"] if laid_out else ["", _escaped(rest)]
    return [*lines, "", _codes(verb)]


def _usage(parser: argparse.ArgumentParser) -> tuple[str, str]:
    """Return how a verb is written, and what its epilog says beside that."""
    epilog = parser.epilog or ""
    if parser.usage:
        return parser.usage, epilog
    if epilog.startswith(f"{parser.prog} "):
        usage, _, rest = epilog.partition(". ")
        return usage, rest
    return f"{parser.prog} {'[OPTION ...] ' if options(parser) else ''}[OVERRIDE ...]", epilog


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the options that are a verb's own."""
    actions = parser._actions  # noqa: SLF001 - argparse lists them nowhere else
    return [a for a in actions if a.option_strings and a.option_strings[-1] not in SHARED]


def _named(action: argparse.Action) -> str:
    takes = action.metavar or (action.choices and "|".join(map(str, action.choices)))
    if takes is None and action.nargs != 0:
        takes = action.dest.upper()
    last = f"{action.option_strings[-1]} {takes}" if takes else action.option_strings[-1]
    return ", ".join(map(code, (*action.option_strings[:-1], last)))


def _said(action: argparse.Action) -> str:
    words = [(action.help or "").replace("%%", "%")]
    given = action.default not in (None, False, "", [], argparse.SUPPRESS)
    if given and action.nargs != 0 and "default" not in words[0]:
        words.append(f"default: {code(action.default)}")
    words += ["required"] if action.required else []
    return "; ".join(word for word in words if word)


def _escaped(text: str) -> str:
    """Return text in which what stands for a word of the user is no markup."""
    return " ".join(text.split()).replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[")


def _codes(verb: str) -> str:
    found = sorted((*EVERY, *MORE.get(verb, ())), key=int)
    own = "; else the command's own, 128+n if signal n ended it, 126 and 127 if it did not start"
    return f"Exit codes: {', '.join(found)}{own if verb in RUNNERS else ''}."
