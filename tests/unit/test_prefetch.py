"""`prefetch` through its real entry point, against a hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from campaign.catalogue.catalog import load_catalog
from tests.unit.hub import COMMIT, GATED, NOBODY, TOKEN, Hub, serving
from workers.engines.weights import materialize

pytest.importorskip("huggingface_hub")

ROOT = Path(__file__).parents[2]
FILES = {
    "config.json": b'{"model_type": "gpt2"}',
    "model.safetensors": b"\x02\0\0\0\0\0\0\0{}",
    "pytorch_model.bin": b"a pickle",
    "modeling.py": b"raise SystemExit",
}
OPEN, PRIVATE = "openai-community/gpt2", "openai-community/gpt2-medium"
GATED_ONE, GONE = "openai-community/gpt2-large", "facebook/opt-125m"
MINE = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 300, "max_position_embeddings": 64}  # fmt: skip


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(FILES) as made:
        made.open, made.private, made.gated = {OPEN}, {PRIVATE}, {GATED_ONE}
        yield made


def prefetch(
    home: Path, hub: Hub, *words: str, backend: str = "transformers", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the verb with a home and a hub of its own."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        **hub.environment(home / "hub"),
        "CAMPAIGN_HOME": str(home / "campaign"),
        "HF_TOKEN_PATH": str(home / "no-token"),
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-m", "campaign", "prefetch", f"engine.backend={backend}", *words],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What is said of each model, by name."""
    return {row["model"]: row for row in json.loads(done.stdout)["weights"]}


def test_what_the_hub_gives_is_here_and_what_it_refuses_is_a_line_with_its_words(
    tmp_path: Path, hub: Hub
) -> None:
    names = (OPEN, PRIVATE, GATED_ONE, GONE)
    done = prefetch(tmp_path, hub, f"model=[{','.join(names)}]", "weights=real", "--json")
    assert done.returncode == 4
    rows = told(done)
    assert set(rows) == set(names)
    assert (rows[OPEN]["error"], rows[OPEN]["commit"]) == (None, COMMIT)
    folder = Path(rows[OPEN]["folder"])
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert GATED[2] in rows[GATED_ONE]["error"]
    for name in (PRIVATE, GONE):
        assert NOBODY[2] in rows[name]["error"]
        assert "HF_TOKEN" in rows[name]["error"]
    assert [rows[n]["folder"] for n in (PRIVATE, GATED_ONE, GONE)] == [None] * 3
    lines = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    for number, name in enumerate(rows, 1):
        assert sum(line.startswith(f"[{number}/4] ") for line in lines) == 2, name
    assert lines[-1] == "weights of 1 model are here, 1 newly brought; 3 could not be had"
    assert json.loads(done.stdout)["brought"] == 1


def test_the_token_of_the_environment_opens_what_is_private_and_is_never_shown(
    tmp_path: Path, hub: Hub
) -> None:
    names = f"model=[{PRIVATE},{GONE}]"
    done = prefetch(tmp_path, hub, names, "weights=real", "--json", HF_TOKEN=TOKEN)
    rows = told(done)
    assert rows[PRIVATE]["error"] is None
    assert "404" in rows[GONE]["error"]
    assert TOKEN not in done.stdout + done.stderr
    kept = [f for f in tmp_path.rglob("*") if f.is_file() and TOKEN.encode() in f.read_bytes()]
    assert kept == []


def test_a_second_time_nothing_is_fetched_again_and_that_is_said(tmp_path: Path, hub: Hub) -> None:
    for brought in (1, 0):
        done = prefetch(tmp_path, hub, f"model={OPEN}", "weights=real", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["brought"] == brought
        *_, row, last = done.stderr.splitlines()
        assert row.endswith(", there already") == (not brought)
        assert last == f"weights of 1 model are here, {brought} newly brought"
    given = [line for line in hub.asked if line.startswith("GET /openai")]
    assert len(given) == 2  # its config and its weights


def test_a_hub_that_is_away_is_asked_once_for_what_describes_a_model(
    tmp_path: Path, hub: Hub
) -> None:
    """Its answer is a line; what was fetched before is returned."""

    def fetch(name: str, endpoint: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **hub.environment(tmp_path / "hub"), "HF_ENDPOINT": endpoint}
        return subprocess.run(
            [sys.executable, "-m", "campaign", "catalog", "fetch", name], cwd=ROOT, env=environment,
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    assert fetch(OPEN, hub.url).returncode == 0
    for name, code in (("acme/absent", 2), (OPEN, 0)):
        done = fetch(name, "http://127.0.0.1:9")
        assert done.returncode == code, done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert name in done.stderr
        assert ("refused" in done.stderr) == bool(code)


def test_a_hub_that_is_away_is_a_line_and_no_traceback(tmp_path: Path, hub: Hub) -> None:
    away = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    done = prefetch(tmp_path, hub, f"model={OPEN}", "weights=real", **away)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert "did not answer" in done.stderr
    assert "weights=random" in done.stderr


@pytest.mark.engines
def test_random_weights_are_drawn_where_a_run_looks_for_them(tmp_path: Path, hub: Hub) -> None:
    """Once per number format; a second time they are there."""
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "config.json").write_text(json.dumps(MINE))
    words = (f"model={mine}", "engine.dtype=[float32,bfloat16]", "workload.batch_size=[1,2]",
             "workload.input_tokens=8", "workload.output_tokens=4")  # fmt: skip
    done = prefetch(tmp_path, hub, *words, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["brought"], answer["failed"]) == (2, 0)
    assert {row["quantization"] for row in answer["weights"]} == {None}
    folders = [Path(row["folder"]) for row in answer["weights"]]
    assert {row["dtype"] for row in answer["weights"]} == {"float32", "bfloat16"}
    assert {f.parent for f in folders} == {tmp_path / "campaign" / "weights"}
    assert all((f / "model.safetensors").stat().st_size < row["bytes"]
               for f, row in zip(folders, answer["weights"], strict=True))  # fmt: skip
    assert hub.asked == []
    again = json.loads(prefetch(tmp_path, hub, *words, "--json").stdout)
    assert (again["brought"], again["failed"]) == (0, 0)
    assert [row["folder"] for row in again["weights"]] == [str(folder) for folder in folders]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("model=no/such-model",), 2, "no/such-model"),
        (("workload.arrival=at_once",), 3, "no_continuous_batching"),
        (("modle=x",), 2, "modle"),
    ],
)
def test_what_no_plan_would_take_is_said_as_plan_says_it(
    tmp_path: Path, hub: Hub, words: tuple[str, ...], code: int, said: str
) -> None:
    done = prefetch(tmp_path, hub, *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert all(line.startswith("campaign: ") for line in done.stderr.splitlines())


@pytest.mark.engines
def test_random_weights_are_brought_in_the_form_that_their_engine_reads(
    tmp_path: Path, hub: Hub
) -> None:
    """Each form once, whatever the method is called, and where `materialize` looks for it."""
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "config.json").write_text(json.dumps(MINE))
    words = (f"model={mine}", "engine.dtype=bfloat16", "board=h100-sxm-80gb",
             "engine.quantization=[null,awq,auto_awq,gptq,fp8]", "workload.input_tokens=8",
             "workload.output_tokens=4")  # fmt: skip
    done = prefetch(tmp_path, hub, *words, "--json", backend="vllm")
    assert done.returncode == 0, done.stderr
    rows = {row["quantization"]: row for row in json.loads(done.stdout)["weights"]}
    assert set(rows) == {None, "awq", "gptq"}
    assert "random weights in bfloat16, quantized as gptq, about" in done.stderr
    model = load_catalog().model(str(mine))
    for form, row in rows.items():
        told = json.loads((Path(row["folder"]) / "config.json").read_text())
        assert (told.get("quantization_config") or {}).get("quant_method") == form
        cache = tmp_path / "campaign" / "weights"
        assert str(materialize(model, "bfloat16", cache, form)) == row["folder"]
