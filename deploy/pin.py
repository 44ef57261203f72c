"""Resolves pyproject.toml into deploy/pins/*.txt; it installs nothing.

Each file is what pip reads: `name==version`, a marker where machines differ, and never a hash,
an index or a path. The CPU flavour is resolved first and constrains the others, so one package
has one version wherever two files name it.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Final

from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT: Final = Path(__file__).resolve().parent.parent
PINS: Final = ROOT / "deploy" / "pins"
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
LINUX_X86: Final = ("linux", "Linux", "x86_64")
#: vLLM's requirements for GPUs disagree on machines nobody has; only this one is resolved.
GPU_SERVER: Final = ("--python-platform", "x86_64-manylinux_2_35", "--python-version", "3.11")
ANYWHERE: Final = (LINUX_X86, ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64"))
#: Left out of the meters to compare with: AMD's binding makes others believe in an AMD GPU.
AMD: Final = "amdsmi=="
#: Left out of an install without a GPU: their published builds load CUDA.
WITHOUT_CUDA: Final = ("--override", str(PINS / "overrides.txt"))


def environments(machines: Sequence[tuple[str, str, str]]) -> list[dict[str, str]]:
    """Marker environments of CPython on the machines a file is meant for."""
    answers = []
    for (platform, system, machine), version in product(machines, PYTHONS):
        environment = {key: str(x) for key, x in default_environment().items()}
        environment["sys_platform"], environment["platform_system"] = platform, system
        environment["platform_machine"], environment["os_name"] = machine, "posix"
        environment["python_version"] = version
        environment["python_full_version"] = f"{version}.9"
        environment["implementation_name"] = "cpython"
        environment["platform_python_implementation"] = "CPython"
        answers.append(environment)
    return answers


def relevant(lines: Sequence[str], machines: Sequence[tuple[str, str, str]]) -> list[str]:
    """Lines that some machine needs, their marker dropped when every machine does."""
    kept = []
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is None:
            kept.append(line)
            continue
        needed = [requirement.marker.evaluate(e) for e in environments(machines)]
        if all(needed):
            requirement.marker = None
        if any(needed):
            kept.append(str(requirement).replace(";", " ;"))
    return kept


def resolve(name: str, machines: Sequence[tuple[str, str, str]], *options: str) -> None:
    """Writes one pins file."""
    command = ["uv", "pip", "compile", "pyproject.toml", "--upgrade", "--quiet"]
    command += ["--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
    if options[-4:] != GPU_SERVER:
        command.append("--universal")
    answer = subprocess.run(
        [*command, *options], cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True
    )
    if answer.returncode:
        sys.exit(f"deploy/pin.py: {name} does not resolve; uv says why above")
    lines = relevant(answer.stdout.splitlines(), machines)
    if name == "hf":  # the plain name fits the builds of every machine, the CPU one included
        lines = [line.replace("+cpu", "") for line in lines]
    (PINS / f"{name}.txt").write_text("\n".join(lines) + "\n")
    print(f"deploy/pins/{name}.txt: {len(lines)} packages")


def after(*names: str) -> list[str]:
    """Options that hold a resolution to what these files already say."""
    return [option for name in names for option in ("--constraint", str(PINS / f"{name}.txt"))]


def main() -> None:
    """Resolves every flavour, the narrowest first."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    folder = os.environ.get("PIP_FIND_LINKS")
    torch = ["--find-links", folder] if folder else ["--torch-backend", "cpu"]
    resolve("cpu", (LINUX_X86,), "--extra", "cpu", *torch, *WITHOUT_CUDA)
    resolve("base", ANYWHERE, *after("cpu"))
    resolve("hf", ANYWHERE, "--extra", "hf", *torch, *WITHOUT_CUDA, *after("cpu"))
    resolve("cuda", (LINUX_X86,), "--extra", "cuda", *after("base"), *GPU_SERVER)
    resolve("dev", ANYWHERE, "--extra", "dev", *after("base"))
    resolve("bench", ANYWHERE, "--extra", "bench", *after("base", "cpu", "hf"))
    base = set((PINS / "base.txt").read_text().splitlines())
    for name in ("dev", "bench"):  # installed beside a flavour, which holds the base
        lines = (PINS / f"{name}.txt").read_text().splitlines()
        own = [x for x in lines if x not in base and not x.startswith(AMD)]
        (PINS / f"{name}.txt").write_text("\n".join(own) + "\n")


if __name__ == "__main__":
    main()
