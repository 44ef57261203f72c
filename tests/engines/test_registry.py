from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from db.errors import ConfigError, EngineFault, NodeUnfit
from db.readings import Loaded
from db.records import EngineSpec
from tests.engines.harness import LIMITS, spec_of
from workers.engines import registry
from workers.engines.faults import engine_fault, kind_of, task_fault
from workers.engines.registry import open_engine, require_board
from workers.engines.vllm_arguments import cores_of_workers, set_environment


def with_backend(name: str) -> EngineSpec:
    return EngineSpec(model=spec_of("vllm").model, backend=name, board="cpu:any:1")


@pytest.mark.parametrize(
    ("backend", "hint"),
    [("vlm", "did you mean vllm"), ("simulated", "cluster=simulated"), ("x", "vllm, transformers")],
)
def test_an_unknown_backend_is_answered_with_what_there_is(
    tmp_path: Path, backend: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=hint):
        open_engine(with_backend(backend), folder=tmp_path, limits=LIMITS)


@pytest.mark.parametrize(
    ("backend", "flavour"), [("vllm", "FLAVOUR=cpu"), ("transformers", "FLAVOUR=hf")]
)
def test_a_library_that_is_not_installed_names_what_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, flavour: str
) -> None:
    monkeypatch.setitem(
        registry.LIBRARIES, backend, ("no_such_library", registry.LIBRARIES[backend][1])
    )
    with pytest.raises(EngineFault) as caught:
        open_engine(with_backend(backend), folder=tmp_path, limits=LIMITS)
    assert (caught.value.kind, caught.value.permanent) == ("unsupported", True)
    assert flavour in str(caught.value)


@pytest.mark.parametrize(
    ("board", "resolved", "fit"),
    [
        ("l4", {"device": "cpu"}, False),
        ("l4", {"device_config": {"device": "cpu", "device_type": "cpu"}}, False),
        ("cpu:any:1", {"device": "cuda"}, False),
        ("l4", {"device": "cuda"}, True),
        ("l4", {"device_config": {"device_type": "cuda"}}, True),
        ("cpu:any:1", {"device": "cpu"}, True),
        ("l4", {}, True),  # the simulated engine computes nowhere
    ],
)
def test_an_engine_that_computes_elsewhere_than_is_metered_is_refused(
    board: str, resolved: dict[str, object], fit: bool
) -> None:
    spec = EngineSpec(model=spec_of("vllm").model, backend="vllm", board=board)
    loaded = Loaded(resolved=resolved, software={}, pid=1)
    if fit:
        require_board(spec, loaded)
        return
    with pytest.raises(NodeUnfit, match=f"and {board} would be metered: install"):
        require_board(spec, loaded)


@pytest.mark.parametrize(
    ("error", "kind", "permanent"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory", False),
        (ValueError("No available memory for the cache blocks."), "out_of_memory", False),
        (MemoryError(), "out_of_memory", False),
        (ValueError("dtype fp7 is not known"), "unsupported", True),
        (RuntimeError("kernel exploded"), "engine_error", False),
        (FileNotFoundError(2, "No such file or directory", "/w/m.safetensors"), "missing_weights",
         True),
        (FileNotFoundError(2, "No such file or directory", "config.json"), "missing_weights", True),
        (FileNotFoundError(2, "No such file or directory", "ninja"), "engine_error", False),
    ],
)  # fmt: skip
def test_exceptions_become_kinds_by_what_they_say(
    error: Exception, kind: str, permanent: bool
) -> None:
    assert kind_of(error) == (kind, permanent)
    assert engine_fault(error, "loading").kind == kind


def test_a_cause_that_ran_out_of_memory_is_found_behind_what_hides_it() -> None:
    hidden = RuntimeError("engine initialization failed")
    hidden.__cause__ = RuntimeError("torch.OutOfMemoryError: CUDA out of memory")
    assert kind_of(hidden)[0] == "out_of_memory"


DEAD = RuntimeError("Engine core initialization failed. See root cause above.")
LOG = "(EngineCore pid=7) ERROR 11-22 14:00:00 [core.py:1510] "


@pytest.mark.parametrize(
    ("lines", "raised"),
    [
        (["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"], True),
        (["Traceback (most recent call last):", "    x = empty(n)", "MemoryError"], True),
        (["ValueError: No available memory for the cache blocks.", "", "RuntimeError: and so on"],
         True),
        (["RuntimeError: kernel exploded"], False),
        (["memory is scarce; out of memory is near"], False),
        (['    raise RuntimeError("out of memory")'], False),
        ([], False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", LOG])
def test_what_ended_a_child_is_read_in_the_tracebacks_that_it_printed(
    lines: list[str], raised: bool, prefix: str
) -> None:
    printed = "".join(f"{prefix}{line}\n" for line in lines)
    kind = "out_of_memory" if raised else "engine_error"
    loading, generating = engine_fault(DEAD, "load", printed), task_fault(DEAD, "", printed=printed)
    assert (loading.kind, generating.kind) == (kind, kind)
    assert (loading.permanent, generating.sound) == (False, False)
    told = str(loading).partition("; there: ")
    assert told[0] == f"load: RuntimeError: {DEAD}"
    assert bool(told[2]) == raised
    assert "memory" in told[2].lower() or not raised


def test_what_an_exception_says_itself_is_not_overruled_by_what_was_printed() -> None:
    printed = "torch.OutOfMemoryError: CUDA out of memory\n"
    assert engine_fault(ValueError("dtype fp7 is not known"), "", printed).kind == "unsupported"


def test_the_library_s_words_survive_on_one_line() -> None:
    told = str(task_fault(RuntimeError("first\n  second"), "generating"))
    assert told == "generating: RuntimeError: first second"


@pytest.mark.parametrize("path", [None, "/usr/bin", f"/usr/bin:{Path(sys.executable).parent}"])
def test_vllm_finds_the_programs_beside_its_python(
    monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    """As ninja, which kernels are compiled with: an environment need not be activated."""
    monkeypatch.setattr(os, "environ", {} if path is None else {"PATH": path})
    set_environment(spec_of("vllm"))
    told = (path or os.defpath).split(os.pathsep)
    programs = str(Path(sys.executable).parent)
    assert os.environ["PATH"].split(os.pathsep) == [*(p for p in told if p != programs), programs]


def test_workers_share_the_asked_cores_equally() -> None:
    assert cores_of_workers([0, 1, 2, 3], 4, 2) == "0,1|2,3"
    assert cores_of_workers([4, 5, 6], 2, 1) == "4,5"
    assert cores_of_workers([0], 2, 2) == "nobind"
