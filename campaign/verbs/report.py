"""The verb `report`: a campaign as one page, as Markdown, and as figures.

Owns its words, and that a file is whole or is not there. Never writes to the store.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from campaign.analysis.predictor.saved import read
from campaign.report.build import Report
from campaign.report.gathered import Wanted, gathered
from campaign.storeroom import place, split
from campaign.tabular import count_of, say, write_json
from campaign.verbs.analyses.written import written
from db.errors import ConfigError

DEFAULT = Path("report.html")
STDOUT = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is reported, in which form, and where to."""
    parser.usage = "campaign report [--campaign NAME] [options] [-o FILE] [store overrides]"
    parser.epilog = (
        f"HTML goes to {DEFAULT} unless -o says otherwise, Markdown to stdout; -o - is stdout."
    )
    parser.add_argument("--campaign", metavar="NAME", help="only this one; all of them otherwise")
    parser.add_argument(
        "--public", action="store_true", help="without hosts, users and paths; UUIDs hashed"
    )
    parser.add_argument("--format", choices=["html", "md"], default="html", help="default: html")
    parser.add_argument(
        "--model-dir",
        type=Path,
        metavar="DIR",
        help="show this predictor, which `analyze predictor --save` wrote",
    )
    parser.add_argument(
        "--source",
        metavar="NAME",
        help="imported rows to show, * is all; without --campaign all of them are",
    )
    parser.add_argument("--figures", metavar="DIR", help="also draw the charts there, SVG and PNG")
    parser.add_argument("-o", "--output", metavar="FILE", help="file to write")


def main(args: argparse.Namespace) -> int:
    """Write the report; returns 0."""
    words, overrides = split(args.overrides)
    if words:
        raise ConfigError(f"report takes no words, only options: {' '.join(words)}")
    path = _path(args)
    if path is None and args.json:
        raise ConfigError("--json tells of the file on stdout: name another place with -o FILE")
    figures = None if args.figures is None else _folder(Path(args.figures).expanduser())
    predictor = None if args.model_dir is None else read(args.model_dir.expanduser())
    report = gathered(place(overrides), Wanted(
        campaign=args.campaign, source=args.source, public=args.public, predictor=predictor,
    ))  # fmt: skip
    if path is None:
        sys.stdout.write(_text(report, args.format))
    else:
        text = _text(report, args.format)
        with written(path) as file:
            file.write(text)
    drawn = [] if figures is None else _drawn(report, figures)
    _told(args, path, report, drawn)
    return 0


def _path(args: argparse.Namespace) -> Path | None:
    """Return the file to write; None is stdout. What cannot be written is found out here."""
    if args.output == STDOUT or (args.output is None and args.format == "md"):
        return None
    path = Path(args.output or DEFAULT).expanduser()
    if path.is_dir():
        raise ConfigError(f"-o {path} is a folder: name a file in it")
    _probe(path.parent, f"-o {path}")
    return path


def _folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--figures {folder} cannot be written: {error.strerror}") from error
    _probe(folder, f"--figures {folder}")
    return folder


def _probe(folder: Path, named: str) -> None:
    """Write a file without a name there; what cannot be is found out now and not after the work."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"campaign")
    except OSError as error:
        raise ConfigError(f"{named} cannot be written: {error.strerror}") from error


def _text(report: Report, form: str) -> str:
    if form == "md":
        from campaign.report.markdown import markdown

        return markdown(report)
    from campaign.report.page import page

    return page(report)


def _drawn(report: Report, folder: Path) -> list[Path]:
    from campaign.report.figures import figures

    made = []
    for name, content in figures(report):
        with _whole(folder / name) as aside:
            aside.write_bytes(content)
        made.append(folder / name)
    return made


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a file beside a path that takes its name at the end."""
    aside = path.with_name(f".{path.name}.part")
    try:
        yield aside
        aside.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        aside.unlink(missing_ok=True)


def _told(
    args: argparse.Namespace, path: Path | None, report: Report, drawn: Sequence[Path]
) -> None:
    configurations = count_of(len(report.points), "configuration")
    if path is not None:
        say(f"{path}: {configurations}, {path.stat().st_size / 1e3:,.0f} kB")
    if drawn:
        say(f"{args.figures}: {count_of(len(drawn), 'figure')}")
    if args.json:
        write_json(
            {
                "file": None if path is None else str(path),
                "figures": [str(one) for one in drawn],
                "campaign": report.campaign,
                "configurations": len(report.points),
                "kind": str(report.kind),
                "findings": [
                    {"headline": one.headline, "sure": one.sure} for one in report.findings.told
                ],
                "unsaid": list(report.findings.unsaid),
            }
        )
