"""Makes results/BOARD-DATE/ from what legs brought back: rows, validity, provenance.

    python deploy/offline/results.py LEG_FOLDER ... [--into results] [--reality simulated]

Each folder is what came back from one leg, in order; the last dump holds what all of them measured.
Everything is asked of the program itself, of a store of its own that is gone afterwards. A folder
that names a host, a user, a path or a GPU is not written.
"""

import argparse
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from leg import ROOMS, digest_of

ROOT: Final = Path(__file__).resolve().parent.parent.parent
#: Questions whose answers are kept beside the rows, as they are shipped.
QUESTIONS: Final = (
    "phases", "idle_power", "loading", "counter_against_integral", "power_and_clocks",
    "replicates_spread", "worst_validity", "excluded",
)  # fmt: skip
#: What tells a machine: a GPU's UUID, and folders of users or of this program's own.
TELLTALE: Final = re.compile(r"GPU-[0-9a-f]{8}-|/(?:tmp|root|home|var)/")
SHORTEST_NAME: Final = 3
#: Commits among which the one that measured is looked for.
LATELY: Final = 100
#: Which boards were measured, the most often measured first, and since when.
BOARDS: Final = """
select board, reality, min(measured_at)::date as day
  from measurements group by board, reality order by count(*) desc
"""
Json = dict[str, object] | list[object] | str | float | bool | None


class Store:
    """A store of its own, filled from a dump; every question goes through the command line."""

    def __init__(self, folder: Path) -> None:
        """Take the folder it lives in."""
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "CAMPAIGN_HOME": str(folder)}

    def campaign(self, *words: str) -> str:
        """Return what `campaign WORDS` prints. Ends the program where it fails."""
        command = [sys.executable, "-m", "campaign", *words]
        answer = subprocess.run(
            command, cwd=ROOT, env=self.environment, check=False, stdout=subprocess.PIPE, text=True
        )
        if answer.returncode:
            sys.exit(f"results.py: campaign {words[0]} ended with {answer.returncode}")
        return answer.stdout

    def rows(self, sql: str) -> list[dict[str, str]]:
        """Return the rows of a question."""
        return list(csv.DictReader(io.StringIO(self.campaign("query", sql, "--csv"))))


def dump_of(legs: Sequence[Path], scratch: Path) -> Path:
    """Return the newest dump of the legs, put together where it came in pieces."""
    for leg in reversed(legs):
        pieces = sorted(leg.rglob("store.dump*"))
        if pieces:
            whole = scratch / "store.dump"
            whole.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
            return whole
    return sys.exit(f"results.py: no store.dump in {', '.join(map(str, legs))}")


def written(store: Store, folder: Path, reality: str) -> None:
    """Write the rows and the answers of the questions into a folder."""
    store.campaign("export", "-o", str(folder / "rows.parquet"), "--reality", reality)
    for name in QUESTIONS:
        text = store.campaign("query", name, "--csv", "--weights", "random")
        if text.count("\n") > 1:
            (folder / f"{name}.csv").write_text(text)
    # From the rows alone nobody can tell again: imported ones are not counted.
    (folder / "claims.json").write_text(store.campaign("analyze", "claims", "--json"))


def provenance(store: Store, legs: Sequence[Path], dump: Path) -> dict[str, Json]:
    """Return where it comes from: the program, the machine, the campaigns, the dump."""
    told = [file for leg in legs for file in sorted(leg.rglob("machine.json"))]
    machines = [json.loads(file.read_text()) for file in told]
    return {
        "programs": programs(machines, ROOT),
        "legs": len(legs),
        "dump_sha256": hashlib.sha256(dump.read_bytes()).hexdigest(),
        "campaigns": json.loads(store.campaign("status", "--json")),
        "machine": machines[-1] if machines else None,
    }


def programs(machines: Sequence[Mapping[str, Json]], checkout: Path) -> list[str | None]:
    """Return the commit of each program that measured, in order."""
    digests = dict.fromkeys(machine.get("source_sha256") for machine in machines)
    return [revision_of(str(digest), checkout) for digest in digests]


def revision_of(digest: str, checkout: Path) -> str | None:
    """Return the newest commit that holds the program of this digest; None if none of late does."""
    for revision in git(checkout, "rev-list", "-n", str(LATELY), "HEAD").decode().split():
        packed = git(checkout, "archive", revision, *ROOMS)
        if not packed:
            return None  # of before there were these folders
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            files = {entry.name: archive.extractfile(entry) for entry in archive}
        if digest_of({name: file.read() for name, file in files.items() if file}) == digest:
            return revision
    return None


def git(checkout: Path, *words: str) -> bytes:
    """Return what git prints; nothing where it fails."""
    command = ["git", *words]
    return subprocess.run(command, cwd=checkout, check=False, stdout=subprocess.PIPE).stdout


def telling(store: Store, folder: Path) -> Iterable[str]:
    """Yield each file that tells which machine or whose it was, and by what."""
    hosts = {row["host"] for row in store.rows("select distinct host from sessions")}
    owners = {row["owner"] for row in store.rows("select distinct owner from campaigns")}
    names = [name for name in hosts | owners if len(name) >= SHORTEST_NAME]
    for file in sorted(folder.iterdir()):
        text = file.read_bytes().decode("utf-8", errors="replace")
        found = [name for name in names if re.search(rf"\b{re.escape(name)}\b", text)]
        found += TELLTALE.findall(text)
        if found:
            yield f"{file.name}: {found[0]}"


def scrubbed(value: Json, names: Iterable[str]) -> Json:
    """Return JSON without the keys that name a person, a host or a path."""
    if isinstance(value, dict):
        return {key: scrubbed(inner, names) for key, inner in value.items() if key not in names}
    if isinstance(value, list):
        return [scrubbed(inner, names) for inner in value]
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Make the folder; returns 1 where it would tell whose machine it was."""
    parser = argparse.ArgumentParser(description="results of legs, as a folder to keep")
    parser.add_argument("legs", nargs="+", type=Path, metavar="LEG_FOLDER")
    parser.add_argument("--into", type=Path, default=ROOT / "results", metavar="FOLDER")
    parser.add_argument("--reality", default="real", choices=["real", "simulated"])
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="results-") as place:
        scratch, folder = Path(place), Path(place) / "made"
        scratch.chmod(0o755)  # as root, Postgres runs as another user
        folder.mkdir()
        store, dump = Store(scratch), dump_of(args.legs, scratch)
        store.campaign("db", "restore", str(dump))
        which = [row for row in store.rows(BOARDS) if row["reality"] == args.reality]
        if not which:
            sys.exit(f"results.py: nothing {args.reality} was measured")
        written(store, folder, args.reality)
        about = scrubbed(provenance(store, args.legs, dump), {"owner", "host", "hosts", "kernel"})
        (folder / "provenance.json").write_text(json.dumps(about, indent=1) + "\n")
        for leg in args.legs:
            for file in sorted(leg.rglob("instrument*.json")):
                shutil.copyfile(file, folder / file.name)
        bad = list(telling(store, folder))
        if bad:
            print("\n".join(["results.py: nothing is written:", *bad]), file=sys.stderr)
            return 1
        name = re.sub(r"[^a-z0-9.-]+", "-", which[0]["board"])
        kept = args.into / f"{name}-{which[0]['day']}"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept)
        kept.chmod(0o755)
    for file in sorted(kept.iterdir()):
        print(f"{file.stat().st_size / 1e3:9.1f} kB  {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
