"""One leg of a campaign on a machine without a network: unpack, go on from a dump, measure, pack.

    python3 deploy/offline/leg.py [--seconds 540] [--only-unpack] [WORDS OF campaign ...]

Runs under the machine's own Python from the root of the checkout. What pack.py packed is unpacked
once into a folder outside the checkout, a dump that was carried along is restored into a store that
is still empty, `campaign WORDS` runs until its time is over, and what it left is written below
$OUT, in files no larger than what comes back. It never changes a setting of a GPU.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
#: Seconds kept for the dump, the export and the files that come back.
AFTER_S: Final = 40.0
#: Of that, what a run keeps between its deadline and its last task's end.
MARGIN_S: Final = 10.0
#: How long a run goes on with a task after SIGTERM, and how long it then has to give it back.
GRACE_S, LEAVING_S = 10.0, 5.0
MIB: Final = 1 << 20
#: The most that one file may hold which comes back, and how many may.
MOST_BYTES, MOST_FILES = 15 * MIB, 8
DUMP: Final = "store.dump"
#: The folders that hold the program and its configuration.
ROOMS: Final = ("campaign", "conf", "db", "workers")
GIB: Final = 1 << 30
#: Prints what is installed, of the packages that were carried and of the machine's own.
LIST: Final = """
from importlib.metadata import distributions
print(*sorted({f"{d.name}=={d.version}" for d in distributions()}), sep="\\n")
"""


class Leg:
    """The folders of a leg, and the environment that its programs run in."""

    def __init__(self, packed: Path, home: Path, out: Path) -> None:
        """Take what was carried, where it is unpacked, and where results go."""
        self.packed, self.home, self.out = packed, home, out
        self.site, self.engine, self.store = home / "site", home / "vllm", home / "home"
        for folder in (self.home, self.site, self.engine, self.store, out):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)  # as root, Postgres runs as another user
        self.environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "CAMPAIGN_HOME": str(self.store),
            "HF_HUB_OFFLINE": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            # It would end sessions by the memory that the machine had when Ray was started: a
            # virtual one may be given more as it is used.
            "RAY_memory_monitor_refresh_ms": "0",
            "VLLM_USE_FLASHINFER_SAMPLER": "0",
        }

    def unpack(self) -> None:
        """Unpack every archive that was carried, unless it was before."""
        for file in sorted(self.packed.glob("*/*.tar.xz")):
            done = self.home / f"{file.name}.unpacked"
            if done.exists():
                continue
            began_s = time.monotonic()
            sums = file.with_name("SHA256SUMS")
            expected = sums.read_text().split()[0] if sums.exists() else None
            if hashlib.sha256(file.read_bytes()).hexdigest() != expected:
                sys.exit(f"leg.py: {file} is not what was packed: carry it again")
            with tarfile.open(file, "r:xz") as archive:
                where = self.engine if file.name.startswith("vllm") else self.site
                archive.extractall(where, filter="tar")
            done.touch()
            said(f"unpacked {file.name} in {time.monotonic() - began_s:.1f} s")

    @property
    def path(self) -> str:
        """Where Python looks. An engine is there once all of it is: half of one would fail."""
        package = self.engine / "vllm"
        whole = (package / "__init__.py").exists() and any(package.glob("_C*.so"))
        folders = [self.site, *([self.engine] if whole else []), ROOT]
        return os.pathsep.join(map(str, folders))

    def restore(self) -> None:
        """Go on from the dump of an earlier leg, if one was carried and no store is here yet."""
        pieces = sorted(self.packed.glob(f"carry/{DUMP}*"))
        if not pieces or (self.store / "store").exists():
            return
        whole = self.home / DUMP
        with whole.open("wb") as out:
            for piece in pieces:
                out.write(piece.read_bytes())
        code = self.campaign("db", "restore", str(whole), log="restore.log", limit_s=60.0)
        if code:
            sys.exit(f"leg.py: the dump was not restored: {(self.out / 'restore.log').read_text()}")

    @property
    def disk(self) -> str:
        """How full the disk is that everything is written to."""
        found = shutil.disk_usage(self.home)
        return f"disk: {found.free / GIB:.1f} GiB free of {found.total / GIB:.1f}"

    def campaign(self, *words: str, log: str, limit_s: float) -> int:
        """Run `campaign WORDS`, its output shown and kept; returns its exit code, 124 if late."""
        command = [sys.executable, "-m", "campaign", *words]
        with (self.out / log).open("ab") as kept:
            process = subprocess.Popen(
                command, cwd=ROOT, env={**self.environment, "PYTHONPATH": self.path},
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            reader = subprocess.Popen(["tee", "-a", kept.name], stdin=process.stdout)
            try:
                return process.wait(timeout=max(1.0, limit_s))
            except subprocess.TimeoutExpired:
                process.terminate()  # it gives back what it had in work
                try:
                    process.wait(timeout=GRACE_S + LEAVING_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                return 124
            finally:
                try:
                    reader.wait(timeout=5.0)
                except subprocess.TimeoutExpired:
                    reader.kill()

    def bring(self, name: str) -> None:
        """Write what the leg of this name left: the dump, the rows, logs, what this machine is."""
        whole = self.home / "after.dump"
        if (self.store / "store").exists():
            self.campaign("db", "dump", str(whole), log="after.log", limit_s=30.0)
            rows = str(self.out / "rows.csv")
            self.campaign("export", "-o", rows, log="after.log", limit_s=30.0)
        (self.out / "machine.json").write_text(json.dumps(self.machine(), indent=1) + "\n")
        logs = sorted(self.out.glob("*.log"))
        again = len(list(self.out.glob(f"logs-{name}*.tar.xz")))
        kept = f"logs-{name}{f'-{again + 1}' if again else ''}.tar.xz"
        with tarfile.open(self.out / kept, "x:xz") as archive:
            for file in (*logs, *sorted(self.store.glob("logs/**/*.log"))):
                archive.add(file, file.name)
        for file in logs:
            file.unlink()
        if whole.exists():
            self.split(whole)
        files = [path for path in self.out.rglob("*") if path.is_file()]
        for file in files:
            large = file.stat().st_size > MOST_BYTES
            said(f"{file.name:<24}{file.stat().st_size / MIB:7.2f} MiB{' TOO LARGE' * large}")
        if len(files) > MOST_FILES:
            said(f"{len(files)} files: {MOST_FILES} come back")

    def split(self, whole: Path) -> None:
        """Copy the dump to where it comes back from, in pieces where one would be too large."""
        content = whole.read_bytes()
        if len(content) <= MOST_BYTES:
            shutil.copyfile(whole, self.out / DUMP)
            return
        for number, start in enumerate(range(0, len(content), MOST_BYTES)):
            (self.out / f"{DUMP}.{number}").write_bytes(content[start : start + MOST_BYTES])

    def machine(self) -> dict[str, object]:
        """Return what ran here: versions and the board, and neither a host's name nor a user's."""
        packages = self.said(sys.executable, "-c", LIST).splitlines()
        board = self.said(
            "nvidia-smi", "--format=csv,noheader",
            "--query-gpu=name,driver_version,memory.total,power.limit,persistence_mode,"
            "mig.mode.current,ecc.mode.current,clocks.max.sm",
        )  # fmt: skip
        return {
            "python": sys.version.split()[0], "kernel": os.uname().release,
            "source_sha256": source_digest(),
            "cores": os.cpu_count(), "board": board, "packages": packages,
        }  # fmt: skip

    def said(self, *command: str) -> str:
        """Return what a program prints; nothing where it is not there or fails."""
        try:
            return subprocess.run(
                command, env={**self.environment, "PYTHONPATH": self.path}, check=True,
                timeout=20.0, capture_output=True, text=True,
            ).stdout.strip()  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return ""


def source_digest(root: Path = ROOT) -> str:
    """Return the digest of the program and its configuration, which git may not be there for."""
    files = (path for room in ROOMS for path in (root / room).rglob("*") if path.is_file())
    kept = (path for path in files if "__pycache__" not in path.parts)
    return digest_of({path.relative_to(root).as_posix(): path.read_bytes() for path in kept})


def digest_of(contents: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of files by their names."""
    whole = hashlib.sha256()
    for name, content in sorted(contents.items()):
        whole.update(name.encode() + b"\0" + content)
    return whole.hexdigest()


def name_of(words: Sequence[str]) -> str:
    """Return what a leg is called: its grid, or its verb."""
    grids = [word.partition("=")[2] for word in words if word.lstrip("+").startswith("grid=")]
    return re.sub(r"[^a-zA-Z0-9_]+", "-", (*grids, *words, "leg")[0].rpartition("/")[2]) or "leg"


def limits(left_s: float) -> list[str]:
    """Return what a run is told of its time: it must be gone before it is killed.

    The moment, not the seconds: those would count from when its packages are imported.
    """
    ends_at = datetime.now().astimezone() + timedelta(seconds=left_s)
    return [f"run.deadline={ends_at.isoformat()}", f"run.margin_s={MARGIN_S:.0f}",
            f"run.grace_s={GRACE_S:.0f}"]  # fmt: skip


def said(line: str) -> None:
    """Print a line at once."""
    print(f"leg: {line}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Do the leg; returns the exit code of `campaign`."""
    began_s = time.monotonic()
    parser = argparse.ArgumentParser(description="one leg of a campaign on an offline machine")
    parser.add_argument("--seconds", type=float, default=540.0, help="for all of it")
    parser.add_argument("--packed", type=Path, default=ROOT / ".offline", help="what was carried")
    parser.add_argument("--home", type=Path, default=Path("/tmp/campaign-offline"))  # noqa: S108
    parser.add_argument("--only-unpack", action="store_true")
    args, words = parser.parse_known_args(argv)
    leg = Leg(args.packed, args.home, Path(os.environ.get("OUT") or ROOT / ".offline" / "out"))
    leg.unpack()
    if args.only_unpack:
        return 0
    leg.restore()
    said(leg.disk)
    runs, name = words[:1] == ["run"], name_of(words)
    left_s = args.seconds - (time.monotonic() - began_s) - (AFTER_S if runs else MARGIN_S)
    words += limits(left_s) if runs else []
    said(f"{' '.join(words)}, {left_s:.0f} s")
    code = leg.campaign(*words, log="campaign.log", limit_s=left_s + (MARGIN_S if runs else 0.0))
    said(f"ended with {code} after {time.monotonic() - began_s:.0f} s; {leg.disk}")
    leg.bring(name)
    said(f"done after {time.monotonic() - began_s:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
