"""Weights: drawn like a real initialisation, whole or not at all, and only from safetensors."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from db.errors import EngineFault
from db.records import ModelSpec, Weights
from tests.engines.harness import ROOT, TINY, tiny
from tests.unit import hub
from workers.engines import drawn as cache_of_drawn
from workers.engines import snapshot, weights
from workers.engines.weights import materialize, vocabulary

pytestmark = pytest.mark.engines


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


@pytest.mark.parametrize("name", TINY)
def test_random_weights_are_spread_as_the_family_initialises(
    weights_cache: Path, name: str
) -> None:
    """Matrices around zero with the family's 0.02; norms one; biases zero."""
    found = tensors(materialize(tiny(name), "bfloat16", weights_cache))
    assert len(found) > 10
    for key, tensor in found.items():
        values = tensor.float()
        assert str(tensor.dtype) == "torch.bfloat16"
        if key.endswith("bias"):
            assert values.abs().max() == 0, key
        elif "norm" in key:
            assert (values == 1).all(), key
        else:
            assert values.std().item() == pytest.approx(0.02, rel=0.05), key
            assert abs(values.mean().item()) < 0.002, key


def test_the_folder_says_where_its_weights_come_from(weights_cache: Path) -> None:
    folder = materialize(tiny(), "bfloat16", weights_cache)
    told = json.loads((folder / weights.PROVENANCE).read_text())
    assert folder.is_absolute()
    assert told["weights"] == "random"
    assert told["architecture"] == TINY["llama"]
    assert told["software"]["transformers"]
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]


def test_the_tokenizer_stays_inside_the_vocabulary_and_keeps_text(weights_cache: Path) -> None:
    from transformers import AutoTokenizer

    folder = materialize(tiny(), "bfloat16", weights_cache)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) <= 1024
    text = "The mountain station measured 42 Ω — twice."
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_vocabulary_below_the_bytes_goes_without_a_tokenizer(tmp_path: Path) -> None:
    small = ModelSpec(
        name="small",
        weights=Weights.RANDOM,
        architecture={**TINY["llama"], "vocab_size": 100},
    )
    folder = materialize(small, "float32", tmp_path)
    assert not (folder / "tokenizer.json").exists()
    assert vocabulary(folder) == 100


def test_the_same_architecture_gives_the_same_bytes_wherever_it_is_drawn(
    weights_cache: Path, tmp_path: Path
) -> None:
    import torch

    torch.manual_seed(12345)
    before = torch.random.get_rng_state()
    folders = [materialize(tiny(), "bfloat16", cache) for cache in (weights_cache, tmp_path)]
    sums = {hashlib.sha256((f / "model.safetensors").read_bytes()).digest() for f in folders}
    assert len(sums) == 1
    assert torch.equal(torch.random.get_rng_state(), before)


def test_another_architecture_or_dtype_is_another_folder(weights_cache: Path) -> None:
    deeper = ModelSpec(
        name="tiny-llama",
        weights=Weights.RANDOM,
        architecture={**TINY["llama"], "num_hidden_layers": 3},
    )
    folders = {
        materialize(tiny(), "bfloat16", weights_cache),
        materialize(tiny(), "float32", weights_cache),
        materialize(deeper, "bfloat16", weights_cache),
    }
    assert len(folders) == 3


DRAWN = """
import json, os, sys
from pathlib import Path
from db.records import ModelSpec, Weights
from workers.engines.weights import materialize
for words in sys.stdin:
    asked = json.loads(words)
    model = ModelSpec(name="m", weights=Weights.RANDOM, architecture=asked)
    print(materialize(model, "float32", Path(sys.argv[1])), flush=True)
"""


class Drawing:
    """A process that draws weights when it is asked to, and uses them from then on."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", DRAWN, str(folder)], cwd=ROOT,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True)  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, architecture: Any) -> None:
        self._process.stdin.write(f"{json.dumps(architecture)}\n")
        self._process.stdin.flush()

    def answer(self) -> Path:
        return Path(self._process.stdout.readline().strip())

    def draw(self, layers: int) -> Path:
        self.ask({**TINY["llama"], "num_hidden_layers": layers})
        return self.answer()

    def end(self) -> None:
        self._process.communicate(timeout=60)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def drawing(tmp_path: Path) -> Iterator[Callable[[], Drawing]]:
    started: list[Drawing] = []

    def begin() -> Drawing:
        started.append(Drawing(tmp_path))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


def test_two_sessions_that_want_the_same_weights_draw_them_once(
    tmp_path: Path, drawing: Callable[[], Drawing], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that waited goes on while the one that drew still uses them."""
    drawn: list[str] = []
    other = drawing()
    initialised = weights._initialised

    def with_another(model: ModelSpec, dtype: str) -> Any:
        drawn.append(model.name)
        other.ask(model.architecture)
        waits_for_a_lock(other.pid)
        os.kill(other.pid, signal.SIGSTOP)  # it is late to see that the lock is free
        return initialised(model, dtype)

    monkeypatch.setattr(weights, "_initialised", with_another)
    folder = materialize(tiny(), "float32", tmp_path)
    inode = folder.stat().st_ino
    os.kill(other.pid, signal.SIGCONT)
    assert other.answer() == folder
    assert drawn == ["tiny-llama"]
    assert folder.stat().st_ino == inode  # not drawn once more


def waits_for_a_lock(pid: int, deadline_s: float = 120.0) -> None:
    """Wait until the kernel says that a process is in flock(2)."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        if any(re.match(rf"\d+: -> FLOCK .* {pid} ", line)
               for line in Path("/proc/locks").read_text().splitlines()):  # fmt: skip
            return
        time.sleep(0.02)
    raise AssertionError("it never asked for the lock")


def test_a_model_that_no_gpu_holds_alone_is_drawn_by_the_processor(
    tmp_path: Path, weights_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one for two boards does: `_drawn` on the first is what a GPU without room does."""
    import torch

    drawn, asked = weights._drawn, []

    def on_a_small_gpu(config: Any, dtype: str, device: str) -> Any:
        asked.append(device)
        if device == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 448.00 MiB.")
        return drawn(config, dtype, device)

    monkeypatch.setattr(weights, "drawn_on", lambda: "cuda")
    monkeypatch.setattr(weights, "_drawn", on_a_small_gpu)
    folder = materialize(tiny(), "bfloat16", tmp_path)
    assert asked == ["cuda", "cpu"]
    assert json.loads((folder / weights.PROVENANCE).read_text())["drawn_on"] == "cpu"
    monkeypatch.undo()
    usual = tensors(materialize(tiny(), "bfloat16", weights_cache))
    assert all(usual[name].equal(tensor) for name, tensor in tensors(folder).items())


def test_what_a_killed_session_left_half_written_is_replaced(tmp_path: Path) -> None:
    whole = materialize(tiny(), "bfloat16", tmp_path)
    half = whole.with_suffix(".partial")
    whole.rename(half)
    (half / "model.safetensors").write_bytes(b"half")
    assert materialize(tiny(), "bfloat16", tmp_path) == whole
    assert tensors(whole)
    assert not half.exists()


def test_a_default_token_outside_a_smaller_vocabulary_is_dropped(tmp_path: Path) -> None:
    gpt2 = {"model_type": "gpt2", "n_embd": 64, "n_layer": 1, "n_head": 2, "vocab_size": 300}
    model = ModelSpec(name="tiny-gpt2", weights=Weights.RANDOM, architecture=gpt2)
    config = json.loads((materialize(model, "float32", tmp_path) / "config.json").read_text())
    assert config.get("eos_token_id") is None


def test_an_architecture_nobody_knows_is_a_permanent_fault(tmp_path: Path) -> None:
    model = ModelSpec(name="odd", weights=Weights.RANDOM, architecture={"model_type": "no-such"})
    with pytest.raises(EngineFault) as caught:
        materialize(model, "bfloat16", tmp_path)
    assert (caught.value.kind, caught.value.permanent) == ("unsupported", True)
    assert "no-such" in str(caught.value)


# ---- a full disk -----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.getuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a small file system needs root")
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("foreseen", [True, False])
def test_a_full_disk_is_one_line_and_leaves_no_half_folder(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, foreseen: bool
) -> None:
    """Foreseen from the free space, or met while writing."""
    wide = {**TINY["llama"], "hidden_size": 512}
    model = ModelSpec(name="wide", weights=Weights.RANDOM, architecture=wide)
    if not foreseen:
        monkeypatch.setattr(cache_of_drawn, "LEAST_BYTES", -(1 << 40))
    with pytest.raises(EngineFault) as caught:
        materialize(model, "float32", small_disk)
    assert caught.value.kind == "disk_full"
    assert not caught.value.permanent
    assert "\n" not in str(caught.value)
    assert [p.suffix for p in small_disk.iterdir()] == [".turn"]


def test_weights_that_nobody_uses_make_room_and_those_in_use_stay(
    tmp_path: Path, drawing: Callable[[], Drawing]
) -> None:
    """No disk has the room that is wished for here: whatever may go goes."""
    users = [drawing() for _ in range(2)]
    old, used = (user.draw(layers) for layers, user in enumerate(users, 1))
    assert old.is_dir()
    assert used.is_dir()
    users[0].end()
    partial = tmp_path / "random-of-another.partial"
    partial.mkdir()
    assert cache_of_drawn.make_room(partial, 0)
    assert old.is_dir()  # there is room
    assert not cache_of_drawn.make_room(partial, 1 << 60)
    assert not old.exists()
    assert used.is_dir()
    assert partial.is_dir()
    assert users[1].draw(1) == old  # drawn again
    assert old.is_dir()


# ---- real weights ----------------------------------------------------------------------------


def real(folder: Path) -> ModelSpec:
    return ModelSpec(name="mine", weights=Weights.REAL, folder=str(folder))


def test_a_local_folder_is_used_as_it_is(weights_cache: Path, tmp_path: Path) -> None:
    source = materialize(tiny(), "bfloat16", weights_cache)
    folder = tmp_path / "mine"
    shutil.copytree(source, folder)
    assert materialize(real(folder), "bfloat16", tmp_path / "cache") == folder
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("gone", ["config.json", "model.safetensors", "."])
def test_a_folder_that_lacks_something_names_it(
    weights_cache: Path, tmp_path: Path, gone: str
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(materialize(tiny(), "bfloat16", weights_cache), folder)
    if gone == ".":
        shutil.rmtree(folder)
    else:
        (folder / gone).unlink()
    with pytest.raises(EngineFault) as caught:
        materialize(real(folder), "bfloat16", tmp_path)
    assert (caught.value.kind, caught.value.permanent) == ("missing_weights", True)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_never_loaded(weights_cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(materialize(tiny(), "bfloat16", weights_cache), folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EngineFault, match="pickles"):
        materialize(real(folder), "bfloat16", tmp_path)


def test_a_hub_that_does_not_answer_is_a_permanent_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model = ModelSpec(name="nobody/nothing-here", weights=Weights.REAL, commit="0" * 40)
    with pytest.raises(EngineFault) as caught:
        materialize(model, "bfloat16", tmp_path)
    assert (caught.value.kind, caught.value.permanent) == ("missing_weights", True)
    assert "nobody/nothing-here" in str(caught.value)


ASK = """
import sys
import time
from pathlib import Path
from db.errors import EngineFault
from db.records import ModelSpec, Weights
from workers.engines.weights import materialize
for name in sys.argv[2:]:
    model = ModelSpec(name=name, weights=Weights.REAL, commit=sys.argv[1])
    try:
        print("here", Path(materialize(model, "bfloat16", Path("unused"))).is_dir())
    except EngineFault as fault:
        print(fault.kind, fault.permanent, fault)
"""


def asked_for(given: hub.Hub, home: Path, *names: str, **variables: str) -> list[str]:
    """What a session, with the hub's environment from its start, says of each model."""
    environment = {**os.environ, **given.environment(home), **variables}
    return subprocess.run(
        [sys.executable, "-c", ASK, hub.COMMIT, *names], cwd=ROOT, env=environment, check=True,
        capture_output=True, text=True, timeout=120,
    ).stdout.splitlines()  # fmt: skip


def test_what_a_hub_refuses_is_a_permanent_fault_with_its_words(tmp_path: Path) -> None:
    """And HF_TOKEN opens what it may open."""
    files = {"config.json": b"{}", "model.safetensors": b"\x02" + bytes(7) + b"{}"}
    with hub.serving(files) as given:
        given.open, given.private, given.gated = {"a/open"}, {"a/private"}, {"a/gated"}
        names = ("a/open", "a/private", "a/gated", "a/gone")
        said = asked_for(given, tmp_path / "without", *names)
        assert said[0] == "here True"
        for line, name, words in (
            (said[1], "a/private", hub.NOBODY[2]),
            (said[2], "a/gated", hub.GATED[2]),
            (said[3], "a/gone", hub.NOBODY[2]),
        ):
            assert line.startswith(f"missing_weights True {name}: ")
            assert words in line
        said = asked_for(given, tmp_path / "with", "a/private", "a/gone", HF_TOKEN=hub.TOKEN)
        assert said[0] == "here True"
        assert "404" in said[1]
        assert hub.TOKEN not in "".join(said)


@pytest.mark.parametrize("gone", [True, False])
def test_a_hub_that_is_away_or_busy_is_asked_once_and_may_be_asked_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gone: bool
) -> None:
    from huggingface_hub import constants

    model = ModelSpec(name="nobody/nothing-here", weights=Weights.REAL, commit="0" * 40)
    with hub.serving({}) as given:
        given.refused = {model.name: hub.BUSY}
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9" if gone else given.url)
        with pytest.raises(EngineFault) as caught:
            materialize(model, "bfloat16", tmp_path)
    assert (caught.value.kind, caught.value.permanent) == ("missing_weights", False)
    assert len(given.asked) == (0 if gone else 1)


@pytest.fixture
def dripping(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[hub.Hub]:
    """A hub that gives a byte of each file and hangs up; its cache is a folder of this test's."""
    from huggingface_hub import constants

    with hub.serving({"config.json": b"{}", "model.safetensors": bytes(4_000_000)}) as given:
        given.dripping = {"a/slow"}
        for name, value in given.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(constants, "ENDPOINT", given.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        yield given


def test_a_download_that_stands_still_ends_in_one_line_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dripping: hub.Hub
) -> None:
    """The hub's own tools go on for as long as a byte comes now and then."""
    monkeypatch.setattr(snapshot, "STALL_S", 4.0)
    model = ModelSpec(name="a/slow", weights=Weights.REAL, commit=hub.COMMIT)
    with pytest.raises(EngineFault) as caught:
        materialize(model, "bfloat16", tmp_path)
    assert (caught.value.kind, caught.value.permanent) == ("missing_weights", False)
    assert "less than 1 MB came from" in str(caught.value)
    assert dripping.url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sum("GET /a/slow" in line for line in dripping.asked) > 2
    assert list(tmp_path.rglob("*.incomplete")) == []
    mine = psutil.Process().children(recursive=True)
    assert [p for p in mine if any("workers.engines.snapshot" in w for w in p.cmdline())] == []


def test_a_download_that_moves_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Bytes of the repository are what counts, not how long it takes."""
    held = iter(range(0, 9_000_000, 600_000))
    said = iter([*["waits"] * 12, "done"])
    monkeypatch.setattr(snapshot, "STALL_S", 2.5)
    monkeypatch.setattr(snapshot, "_bytes", lambda _: next(held))
    clock = itertools.count()
    steady = SimpleNamespace(monotonic=lambda: float(next(clock)))
    monkeypatch.setattr(snapshot, "time", steady)

    class Child:
        def communicate(self, timeout: float) -> tuple[str, None]:
            word = next(said)
            if word == "waits":
                raise subprocess.TimeoutExpired("download", timeout)
            return word, None

    child: Any = Child()
    assert snapshot._awaited(child, "a/slow", tmp_path) == "done"


def test_what_was_fetched_whole_asks_no_hub_and_a_part_of_it_does(tmp_path: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": b"\x02" + bytes(7) + b"{}"}
    with hub.serving(files) as given:
        given.open = {"a/open"}
        assert asked_for(given, tmp_path, "a/open") == ["here True"]
        before = len(given.asked)
        assert asked_for(given, tmp_path, "a/open") == ["here True"]
        assert len(given.asked) == before
        [lost] = tmp_path.rglob("snapshots/*/model.safetensors")
        lost.unlink()
        assert asked_for(given, tmp_path, "a/open") == ["here True"]
        assert lost.exists()
        assert len(given.asked) > before


def test_weights_of_no_known_commit_are_not_loaded(tmp_path: Path) -> None:
    """Else a row would name a model whose weights nobody can tell."""
    with pytest.raises(EngineFault, match="commit") as caught:
        materialize(ModelSpec(name="a/open", weights=Weights.REAL), "bfloat16", tmp_path)
    assert (caught.value.kind, caught.value.permanent) == ("missing_weights", True)


def test_prompts_leave_out_the_special_ids_at_the_end(weights_cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(materialize(tiny(), "bfloat16", weights_cache), folder)
    added = {"0": {"content": "<unk>"}, "1000": {"content": "<|end|>"}, "1001": {"content": "x"}}
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({"added_tokens_decoder": added}))
    assert vocabulary(folder) == 1000
