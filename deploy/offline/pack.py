"""Packs what a machine without a network lacks into archives that are carried to it.

    python deploy/offline/pack.py [PART ...] [--into FOLDER]

Reads parts.toml beside it, fetches from the package index, and writes FOLDER/PART/PART.tar.xz with
the list of what is in it. Each folder is carried by itself; with the checkout it is refused beyond
what one transfer takes. It installs nothing where it runs. Needs uv.
"""

import argparse
import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent.parent
MIB: Final = 1 << 20
#: What one transfer takes, the tracked files of the checkout among it.
MOST_BYTES: Final = 64 * MIB
#: Machine code shrinks further once its jumps are made absolute.
FILTERS: Final = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 9}]


def resolved(part: Mapping[str, Any], machine: Mapping[str, Any], scratch: Path) -> list[str]:
    """Return the requirements of a part, exact, less what the machine holds already."""
    wanted, held, pinned = (scratch / f"{name}.txt" for name in ("needs", "holds", "pins"))
    wanted.write_text("\n".join(part["needs"]) + "\n")
    never = [f"{name} ; sys_platform == 'never'" for name in ("torchcodec", "pynvvideocodec")]
    held.write_text("\n".join([*machine["holds"], *never]) + "\n")
    pins = (ROOT / "deploy" / "pins" / "base.txt").read_text().splitlines()
    pinned.write_text("\n".join(pin for pin in pins if name_of(pin) not in machine["there"]) + "\n")
    lines = uv(
        "pip", "compile", "--no-header", "--no-annotate", *target(machine),
        "--constraint", str(pinned), "--override", str(held), str(wanted),
    ).splitlines()  # fmt: skip
    left_out = {*machine["there"], *part.get("without", ())}
    found = [line for line in lines if "==" in line and name_of(line) not in left_out]
    return [line for line in found if name_of(line) in part.get("only", [name_of(line)])]


def name_of(requirement: str) -> str:
    """Return the package of a requirement such as ``name==1.0``."""
    return requirement.partition("==")[0].partition("[")[0].strip().lower().replace("_", "-")


def target(machine: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the options that mean the other machine."""
    return (
        "--no-config", "--python-version", machine["python"],
        "--python-platform", machine["platform"],
    )  # fmt: skip


def uv(*words: str) -> str:
    """Run uv; returns what it prints. Ends the program where it fails."""
    beside = Path(sys.executable).with_name("uv")
    program = str(beside) if beside.exists() else shutil.which("uv")
    if program is None:
        sys.exit("pack.py: no uv beside this Python or on the PATH: pip install uv")
    command = [program, *words, "--quiet"]
    environ = {"UV_SYSTEM_CERTS": "1", **os.environ}
    answer = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, env=environ)
    if answer.returncode:
        sys.exit(f"pack.py: uv {words[1]} failed; it says why above")
    return answer.stdout


def kept(name: str, part: Mapping[str, Any]) -> bool:
    """Whether a file is carried, by its path below the folder of packages."""
    if "keep" in part:
        return any(fnmatch(name, pattern) for pattern in part["keep"])
    return not any(fnmatch(name, pattern) for pattern in part.get("drop", ()))


def files_of(site: Path, part: Mapping[str, Any]) -> Iterable[Path]:
    """Return what is carried of a folder of packages, in one order."""
    found = (path for path in site.rglob("*") if path.is_file() or path.is_symlink())
    return sorted(p for p in found if kept(p.relative_to(site).as_posix(), part))


def pack(name: str, part: Mapping[str, Any], machine: Mapping[str, Any], folder: Path) -> int:
    """Write one part; returns its bytes."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pack-") as place:
        scratch, site = Path(place), Path(place) / "site"
        lines = resolved(part, machine, scratch)
        uv("pip", "install", "--no-deps", "--target", str(site), *target(machine), *lines)
        made = scratch / name
        made.mkdir()
        file = made / f"{name}.tar.xz"
        with (
            lzma.open(file, "wb", filters=FILTERS) as out,
            tarfile.open(fileobj=out, mode="w|") as tar,
        ):
            for path in files_of(site, part):
                tar.add(path, path.relative_to(site).as_posix(), recursive=False, filter=nobody)
        (made / "packages.txt").write_text("\n".join(lines) + "\n")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        (made / "SHA256SUMS").write_text(f"{digest}  {file.name}\n")
        size = file.stat().st_size
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
    print(f"{name:<14}{size / MIB:6.1f} MiB  {len(lines):3} packages  "
          f"{time.monotonic() - began_s:4.0f} s", flush=True)  # fmt: skip
    return size


def nobody(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return an entry of the archive without who made it, and when."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry


def checkout_bytes() -> int:
    """Return the bytes of the files that travel with every part."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    files = [ROOT / name for name in listed.split("\0") if name]
    return sum(file.stat().st_size for file in files if file.is_file())


def main(argv: Sequence[str] | None = None) -> int:
    """Pack the parts that are named, or all; returns 1 where one is too large to be carried."""
    spoken = tomllib.loads((HERE / "parts.toml").read_text())
    parser = argparse.ArgumentParser(description="pack what a machine without a network lacks")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(spoken["parts"]))
    parser.add_argument("--into", type=Path, default=ROOT / ".offline", metavar="FOLDER")
    args = parser.parse_args(argv)
    unknown = set(args.parts) - set(spoken["parts"])
    if unknown:
        parser.error(f"{min(unknown)}: no such part; one of {', '.join(spoken['parts'])}")
    room, large = MOST_BYTES - checkout_bytes(), []
    for name in args.parts or spoken["parts"]:
        size = pack(name, spoken["parts"][name], spoken["machine"], args.into / name)
        if size > room:
            large.append(name)
            print(f"{name}: more than the {room / MIB:.1f} MiB a transfer has left beside the "
                  "checkout", file=sys.stderr)  # fmt: skip
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(main())
