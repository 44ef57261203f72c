"""The catalogue: names, families and the shapes they become."""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from campaign.catalogue.architecture import FAMILIES
from campaign.catalogue.catalog import Catalog, load_catalog
from campaign.catalogue.hub import cache_folder, cached_config
from campaign.catalogue.sheets import ablation_rows
from campaign.cli import main
from campaign.configuration.overrides import CONF
from db.errors import ConfigError
from db.records import EngineSpec, Weights, Workload
from workers.costs.cost import estimate
from workers.shapes.families import Config
from workers.shapes.shape import shape_of
from workers.shapes.stack import impossible


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


ROWS = {row["hf_id"]: row for row in rows_of(CONF / "catalog" / "models.csv")}
#: The facts that the files were made from, where they lie beside the checkout.
SHARED = Path(__file__).parents[3] / "shared" / "catalog"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


def refused(catalog: Catalog, name: str, weights: str = "auto") -> str:
    with pytest.raises(ConfigError) as caught:
        catalog.model(name, weights)
    return str(caught.value)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B"),
        ("qwen/qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B"),
        ("SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M"),
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("Qwen/Qwen3-VL-8B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"),
    ],
)
def test_a_model_goes_by_id_alias_and_last_part(catalog: Catalog, asked: str, found: str) -> None:
    model = catalog.model(asked)
    assert model.name == found
    assert model.weights is Weights.RANDOM
    assert model.architecture["hidden_size"]


def test_an_alias_has_the_architecture_of_its_row(catalog: Catalog) -> None:
    alias = catalog.model("meta-llama/Llama-3.1-8B-Instruct")
    assert alias.architecture == catalog.model("meta-llama/Meta-Llama-3.1-8B").architecture


def test_every_row_is_a_model(catalog: Catalog) -> None:
    assert len(ROWS) == 187
    assert set(catalog.models()) == set(ROWS)
    for name, row in ROWS.items():
        assert catalog.model(name).architecture["model_type"]
        assert row["family"] in FAMILIES


def test_an_unknown_model_is_answered_with_near_ones(catalog: Catalog) -> None:
    assert "did you mean Qwen/Qwen2.5-0.5B" in refused(catalog, "Qwen/Qwen2.5-0.6B")


def test_real_weights_of_a_hub_have_no_commit_yet(catalog: Catalog) -> None:
    model = catalog.model("Qwen/Qwen2.5-0.5B", "real")
    assert (model.weights, model.commit) == (Weights.REAL, None)


def test_sizes_are_those_of_the_catalogue(catalog: Catalog) -> None:
    """Official counts have as few as two digits; biases of idle experts are not active."""
    errors = []
    for name, row in ROWS.items():
        shape = shape_of(name, catalog.model(name).architecture)
        assert shape is not None
        assert shape.parameters == pytest.approx(float(row["params_b"]) * 1e9, rel=1e-3), name
        active = float(row["active_params_b"]) * 1e9
        assert shape.active_parameters == pytest.approx(active, rel=0.007), name
        assert 2 * shape.kv_elements_per_token == int(row["kv_bytes_per_token_bf16"]), name
        assert (shape.layers, shape.heads) == (int(row["layers"]), int(row["heads"])), name
        official = float(row["params_official_b"]) * 1e9
        errors.append(abs(shape.parameters / official - 1))
    assert max(errors) < 0.01
    assert statistics.median(errors) < 1e-4


def test_windows_are_those_of_the_catalogue(catalog: Catalog) -> None:
    for name, row in ROWS.items():
        shape = shape_of(name, catalog.model(name).architecture)
        assert shape is not None
        windows = {group.window for group in shape.groups} - {None}
        assert windows == ({int(row["sliding_window"])} if row["sliding_window"] else set()), name
    assert sum(bool(row["sliding_window"]) for row in ROWS.values()) > 15


def test_a_family_that_is_not_mapped_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    row = {**ROWS["HuggingFaceTB/SmolLM2-135M"], "family": "rwkv"}
    file.write_text(json.dumps({"models": {"acme/x": row}}))
    with pytest.raises(ConfigError, match=r"family rwkv cannot be built.*supported: .*llama3"):
        load_catalog(file).model("acme/x")


# ---- folders ----------------------------------------------------------------------------------

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
    "intermediate_size": 172, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 512,
    "rope_parameters": {"rope_theta": 10000.0}, "transformers_version": "5.0.0",
}  # fmt: skip


def safetensors(data: bytes) -> bytes:
    """Return a safetensors file of one tensor."""
    tensor = {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "x": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_a_folder_without_weights_is_a_random_model(catalog: Catalog, folder: Path) -> None:
    model = catalog.model(str(folder))
    assert (model.name, model.weights) == (folder.name, Weights.RANDOM)
    assert model.architecture["architectures"] == ("LlamaForCausalLM",)
    assert "transformers_version" not in model.architecture
    assert shape_of("x", model.architecture) is not None


def test_a_folder_with_weights_is_a_real_model_unless_asked(catalog: Catalog, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(safetensors(b"0" * 1000))
    model = catalog.model(str(folder))
    assert (model.weights, model.folder) == (Weights.REAL, str(folder))
    assert catalog.model(str(folder), "random").weights is Weights.RANDOM


def test_other_weights_in_a_folder_are_another_commit(catalog: Catalog, folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(safetensors(b"0" * 4_000_000))
    before = catalog.model(str(folder)).commit
    assert catalog.model(str(folder)).commit == before
    weights.write_bytes(safetensors(b"0" * 3_999_000 + b"1" * 1000))
    assert catalog.model(str(folder)).commit != before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is missing"),
        ("{", "is not JSON"),
        ("[]", "names no model_type"),
        ('{"hidden_size": 4}', "names no model_type"),
        ('{"model_type": "llava", "text_config": {"a": 1}}', "names no model_type"),
        ('{"model_type": "llama", "rope": {"a": 1}}', "rope is nested"),
        ('{"model_type": "llama", "hidden_size": 64}', "lacks vocab_size, num_attention_heads or"),
        ('{"model_type": "llama", "hidden_size": "4"}', "hidden_size is '4', not a whole number"),
    ],
)
def test_a_broken_folder_is_one_line(
    catalog: Catalog, tmp_path: Path, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    message = refused(catalog, str(tmp_path))
    assert says in message
    assert "\n" not in message


def test_a_missing_folder_and_missing_weights_say_so(catalog: Catalog, folder: Path) -> None:
    assert refused(catalog, "./no/such").endswith("no such folder")
    assert "holds no *.safetensors" in refused(catalog, str(folder), "real")


def test_weights_of_which_some_files_are_missing_are_refused(
    catalog: Catalog, folder: Path
) -> None:
    """They would be taken for the whole of it, or, where none is there, for none to be used."""
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict(enumerate(shards))}))
    assert f"2 of 2 files of {index.name} are missing, such as {shards[0]}" in refused(
        catalog, str(folder)
    )
    (folder / shards[0]).write_bytes(safetensors(b"0" * 1000))
    assert f"such as {shards[1]}" in refused(catalog, str(folder))
    assert catalog.model(str(folder), "random").weights is Weights.RANDOM
    (folder / shards[1]).write_bytes(safetensors(b"0" * 1000))
    assert catalog.model(str(folder)).weights is Weights.REAL
    index.write_text("[]")
    assert f"{index.name} cannot be read" in refused(catalog, str(folder))
    (folder / "model.safetensors").write_bytes(safetensors(b"0" * 1000))  # needs no index
    assert catalog.model(str(folder)).weights is Weights.REAL


@pytest.mark.parametrize("config", [True, False])
def test_an_adapter_alone_is_no_model(catalog: Catalog, folder: Path, config: bool) -> None:
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(safetensors(b"0" * 1000))
    if not config:
        (folder / "config.json").unlink()
    assert "merge it into its base (`merge_and_unload` of peft)" in refused(catalog, str(folder))
    if config:
        (folder / "model.safetensors").write_bytes(safetensors(b"0" * 1000))
        assert catalog.model(str(folder)).weights is Weights.REAL


@pytest.mark.parametrize(
    "content", [safetensors(b"0" * 1000)[:-1], safetensors(b"")[:20], b"", b"0" * 1000]
)
def test_weights_cut_short_are_refused_before_anything_starts(
    catalog: Catalog, folder: Path, content: bytes
) -> None:
    (folder / "model.safetensors").write_bytes(content)
    assert "model.safetensors is cut short" in refused(catalog, str(folder))
    assert catalog.model(str(folder), "random").weights is Weights.RANDOM


def test_pickled_weights_are_not_silently_random(catalog: Catalog, folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"0")
    assert "its weights are pickles" in refused(catalog, str(folder))
    assert catalog.model(str(folder), "random").weights is Weights.RANDOM


# ---- boards and a user's own ------------------------------------------------------------------


def test_a_board_has_the_numbers_of_its_data_sheet(catalog: Catalog) -> None:
    board = catalog.board("H100-SXM-80GB")
    assert board.nvml_name == "NVIDIA H100 80GB HBM3"
    assert board.memory_bytes == 80 * 2**30
    assert board.bf16_flops == pytest.approx(989.4e12)
    assert board.fp8_flops == pytest.approx(1978.9e12)
    assert catalog.board("t4").bf16_flops is None
    assert catalog.board("a100-sxm-80gb").fp8_flops is None
    assert len(catalog.boards()) == 31


def test_an_unknown_board_is_answered_with_near_ones(catalog: Catalog) -> None:
    with pytest.raises(ConfigError, match="did you mean h100-"):
        catalog.board("h100")


def test_models_and_boards_of_ones_own_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        """
models:
  acme/small: {family: llama3, layers: 2, hidden_size: 64, intermediate_size: 128, heads: 4,
               kv_heads: 2, head_dim: 16, vocab: 512, max_position: 2048, tied_embeddings: 1}
  acme/raw:
    architecture: {model_type: gpt2, n_embd: 64, n_layer: 2, n_head: 4, vocab_size: 512}
  Qwen/Qwen2.5-0.5B:
    architecture: {model_type: qwen2, hidden_size: 56, intermediate_size: 8, num_hidden_layers: 1,
                   num_attention_heads: 7, vocab_size: 9}
boards:
  Acme-1: {nvml_name: ACME One, memory_gb: 24, bf16_dense_tflops: 100}
"""
    )
    own = load_catalog(file)
    assert own.model("small").architecture["num_key_value_heads"] == 2
    assert own.model("acme/raw").architecture["n_embd"] == 64
    assert own.model("Qwen/Qwen2.5-0.5B").architecture["hidden_size"] == 56
    assert own.board("acme-1").memory_bytes == 24 * 2**30
    assert own.board("t4").slug == "t4"


#: Columns of a row whose key-value heads do not divide its heads.
SMALL_ROW = (
    "layers: 2, hidden_size: 64, intermediate_size: 128, heads: 8, kv_heads: 3, head_dim: 8, "
    "vocab: 512, max_position: 2048, tied_embeddings: 1"
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models: [", "is not YAML"),
        ("model: {}", "must hold `models:` and `boards:`"),
        ("models: {a: 3}", "must map each name to its fields"),
        ("boards: {a: {memory_gb: much}}", "memory_gb is 'much', not a number"),
        ("boards: {a: {memory_gb: -80}}", "memory_gb is -80, not a number above zero"),
        ("boards: {a: {tdp_w: .nan}}", "tdp_w is nan, not a number above zero"),
        ("boards: {a: {mem_bw_gbs: 0}}", "mem_bw_gbs is 0, not a number above zero"),
        ("models: {a/b: {family: llama3, layers: -1}}", "layers is -1, not a whole number"),
        ("models: {a/b: {family: llama3, layers: 2}}", "model a/b lacks hidden_size"),
        ("models: {a/b: {layers: 2}}", "model a/b lacks family; supported: apertus, "),
        ("models: {a/b: {family: banana}}", "family banana cannot be built from the catalogue"),
        (f"models: {{a/b: {{family: llama3, {SMALL_ROW}, typo: 3}}}}", "models.a/b.typo: no such"),
        (f"models: {{a/b: {{family: llama3, {SMALL_ROW}, kv_head: 2}}}}", "did you mean kv_heads"),
        ("boards: {x: {memory: 24}}", "boards.x.memory: no such column; did you mean memory_"),
        (
            f"models: {{a/b: {{family: llama3, {SMALL_ROW}}}}}",
            "model a/b: 3 key-value heads do not divide num_attention_heads=8",
        ),
        ("models: {a/b: {architecture: {model_type: whisper}}}", "model_type whisper is not supp"),
        ("models: {a/b: {architecture: {n: 1}}}", "names no model_type"),
        ("models: {a/b: {architecture: {model_type: mamba}}}", "lacks hidden_size or n_embd"),
        ("models: {a/b: {architecture: {model_type: llama, hidden_size: 0}}}", "is 0, not a whole"),
        ("models: {a/b: {architecture: {model_type: llama, head_dim: true}}}", "is True, not a"),
    ],
)
def test_a_broken_catalogue_of_ones_own_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_catalog(file).model("a/b")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "whisper"}, "model_type whisper is not supported; supported: apertus, "),
        ({"hidden_size": 250, "num_attention_heads": 8, "num_key_value_heads": 8},
         "8 heads do not divide hidden_size=250"),
        ({"num_attention_heads": 8, "num_key_value_heads": 3},
         "3 key-value heads do not divide num_attention_heads=8"),
        ({"hidden_size": 8, "head_dim": 16}, "hidden_size=8 is less than one head's 16"),
        ({"num_hidden_layers": 100_000_000_000}, "100000000000 layers are more than any model has"),
    ],
)  # fmt: skip
def test_a_folder_of_no_possible_model_is_refused(
    catalog: Catalog, tmp_path: Path, change: dict[str, object], says: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | change))
    message = refused(catalog, str(tmp_path))
    assert says in message
    assert "\n" not in message


def test_every_shipped_model_is_possible(catalog: Catalog) -> None:
    for name in catalog.models():
        assert impossible(Config(catalog.model(name).architecture)) is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("google/gemma-7b@hidden_size=1", "hidden_size=1 is less than one head's 256"),
        ("google/gemma-7b@layers=100000000000", "at most 10000"),
    ],
)
def test_an_ablation_to_a_size_that_cannot_be_is_refused(
    catalog: Catalog, name: str, says: str
) -> None:
    assert says in refused(catalog, name)


def test_here_is_no_board_outside_of_a_grid(catalog: Catalog) -> None:
    with pytest.raises(ConfigError, match="name a board of"):
        catalog.board("here")


def test_the_board_that_the_documentation_shows_has_joules(tmp_path: Path) -> None:
    text = (CONF / "catalog" / "README.md").read_text(encoding="utf-8")
    file = tmp_path / "mine.yaml"
    file.write_text(text.split("```yaml\n")[1].split("```")[0])
    own = load_catalog(file)
    board = own.board("acme-accelerator")
    spec = EngineSpec(model=own.model("acme/small"), backend="vllm", board=board.slug)
    shape = shape_of("small", spec.model.architecture)
    assert shape is not None
    found = estimate(spec, shape, board, Workload(input_tokens=8, output_tokens=8, batch_size=1))
    assert found is not None
    assert found.energy_j is not None


# ---- shipped facts ------------------------------------------------------------------------------

#: Where a row says other than the facts: what an official count is met with alone, and a draft
#: model that the facts have as a note.
CORRECTED = {
    *(("tiiuae/falcon-180B", column)
      for column in ("tied_embeddings", "params_b", "active_params_b", "embed_params_b",
                     "rel_err_pct", "notes")),
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "aliases"),
}  # fmt: skip


@pytest.mark.skipif(not SHARED.is_dir(), reason="the facts are not here")
def test_the_shipped_files_are_the_facts() -> None:
    facts = rows_of(SHARED / "models.csv")
    assert [row["hf_id"] for row in facts] == list(ROWS)
    unequal = {
        (row["hf_id"], column)
        for row in facts
        for column, value in row.items()
        if ROWS[row["hf_id"]][column] != value
    }
    assert unequal == CORRECTED
    assert rows_of(SHARED / "gpus.csv") == rows_of(CONF / "catalog" / "boards.csv")
    counted = [(row["board"], row["count"]) for row in rows_of(SHARED / "gpu_configs_21.csv")]
    shipped = rows_of(CONF / "catalog" / "configurations.csv")
    assert [(row["board"], row["count"]) for row in shipped] == counted


def test_there_are_21_configurations_of_which_17_are_attested(catalog: Catalog) -> None:
    found = rows_of(CONF / "catalog" / "configurations.csv")
    assert len({(row["board"], row["count"]) for row in found}) == 21
    assert sum(row["attested"] == "1" for row in found) == 17
    assert {catalog.board(row["board"]).slug for row in found} <= {b.slug for b in catalog.boards()}


def test_the_papers_have_155_architectures(catalog: Catalog) -> None:
    roots = [name for name, row in ROWS.items() if "C" in row["papers"]]
    changed = [f"{r['base']}@{r['size']}={r['value']}" for r in ablation_rows()]
    assert (len(roots), len(changed), len(set(changed))) == (55, 100, 100)
    identities = {json.dumps(dict(catalog.model(name).architecture)) for name in changed}
    assert len(identities) == 100
    assert not identities & {json.dumps(dict(catalog.model(name).architecture)) for name in roots}
    assert all(shape_of(name, catalog.model(name).architecture) for name in changed)


# ---- ablations ----------------------------------------------------------------------------------


def test_an_ablation_is_a_model_with_one_size_changed(catalog: Catalog) -> None:
    base = shape_of("base", catalog.model("google/gemma-7b").architecture)
    model = catalog.model("gemma-7b@layers=42")
    found = shape_of(model.name, model.architecture)
    assert (model.name, model.weights) == ("google/gemma-7b@layers=42", Weights.RANDOM)
    assert base is not None
    assert found is not None
    assert found.layers == 42
    assert found.layer_parameters == base.layer_parameters
    assert found.parameters > base.parameters


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("google/gemma-7b@heads=4", {"num_attention_heads": 4, "num_key_value_heads": 4,
                                     "head_dim": 256, "hidden_size": 3072}),
        ("google/gemma-7b@kv_heads=1", {"num_attention_heads": 16, "num_key_value_heads": 1}),
        ("google/gemma-7b@hidden_size=384", {"hidden_size": 384, "head_dim": 256}),
        ("meta-llama/Meta-Llama-3-70B@heads=32", {"num_attention_heads": 32,
                                                  "num_key_value_heads": 8}),
        ("facebook/opt-125m@hidden_size=384", {"hidden_size": 384, "word_embed_proj_dim": 384}),
        ("openai-community/gpt2@intermediate_size=96", {"n_inner": 96, "n_embd": 768}),
    ],
)  # fmt: skip
def test_what_must_follow_the_size_that_changed_does(
    catalog: Catalog, name: str, fields: dict[str, int]
) -> None:
    architecture = catalog.model(name).architecture
    assert {key: architecture[key] for key in fields} == fields


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("google/gemma-7b@layer=42", "layer cannot be changed; did you mean layers"),
        ("google/gemma-7b@layers=0", "'0' is not a whole number from 1 up"),
        ("google/gemma-7b@layers=", "'' is not a whole number"),
        ("google/gemma-7b@kv_heads=3", "3 key-value heads do not divide num_attention_heads=16"),
        ("Qwen/Qwen2.5-0.5B@hidden_size=500", "14 heads do not divide hidden_size=500"),
        ("bigscience/bloom-3b@intermediate_size=9", "its family (bloom) does not state it"),
        ("google/gemma-7@layers=2", "model google/gemma-7: not in the catalogue; did you mean"),
    ],
)
def test_an_ablation_that_cannot_be_is_one_line(catalog: Catalog, name: str, says: str) -> None:
    message = refused(catalog, name)
    assert says in message
    assert "\n" not in message


def test_an_ablation_has_no_real_weights(catalog: Catalog) -> None:
    assert "has no real weights" in refused(catalog, "google/gemma-7b@layers=2", "real")


def test_a_folder_can_be_changed_too(catalog: Catalog, folder: Path) -> None:
    listed = {**CONFIG, "layer_types": ["full_attention"] * 2}
    (folder / "config.json").write_text(json.dumps(listed))
    model = catalog.model(f"{folder}@layers=1")
    assert model.architecture["layer_types"] == ("full_attention",)
    assert "names 2 layers and no more" in refused(catalog, f"{folder}@layers=3")


# ---- the hub's local cache ----------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub as its own tools lay it out, with one repository in it."""
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    repository = tmp_path / "hub" / "models--acme--unlisted"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123")
    (repository / "snapshots" / "abc123").mkdir(parents=True)
    (repository / "snapshots" / "abc123" / "config.json").write_text(json.dumps(CONFIG))
    return repository


def test_an_unlisted_model_is_found_in_the_hubs_cache(catalog: Catalog, hub: Path) -> None:
    model = catalog.model("acme/unlisted")
    assert (model.name, model.weights) == ("acme/unlisted", Weights.RANDOM)
    assert shape_of("x", model.architecture) is not None
    real = catalog.model("acme/unlisted", "real")
    assert (real.weights, real.commit, real.folder) == (Weights.REAL, None, None)


def test_the_cache_is_where_the_hubs_own_variables_say(
    hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cached_config("acme/unlisted") == hub / "snapshots" / "abc123" / "config.json"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "other"))
    assert cache_folder() == tmp_path / "other"
    assert cached_config("acme/unlisted") is None
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "huggingface" / "hub"


def test_a_model_that_is_nowhere_says_where_was_looked_and_what_helps(
    catalog: Catalog, hub: Path
) -> None:
    message = refused(catalog, "acme/absent")
    assert str(hub.parent) in message
    assert "campaign catalog fetch acme/absent" in message
    assert "\n" not in message
    (hub / "snapshots" / "abc123" / "config.json").write_text('{"model_type": "llama"}')
    assert "lacks hidden_size or n_embd, vocab_size" in refused(catalog, "acme/unlisted")


def test_a_model_of_several_inputs_is_its_text_part(catalog: Catalog, folder: Path) -> None:
    nested = {"model_type": "llava", "vision_config": {"a": 1}, "text_config": CONFIG,
              "tie_word_embeddings": True}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(nested))
    architecture = catalog.model(str(folder)).architecture
    assert (architecture["model_type"], architecture["tie_word_embeddings"]) == ("llama", True)


# ---- the verb -----------------------------------------------------------------------------------


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    assert main(["catalog", *words, "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_the_catalogue_is_listed_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(listed(capsys, "models")) == 187
    assert len(listed(capsys, "boards")) == 31
    assert len(listed(capsys, "configurations")) == 21
    assert len(listed(capsys, "ablations")) == 100
    (model,) = listed(capsys, "models", "Llama-3.1-8B-Instruct")
    assert model["model"] == "meta-llama/Meta-Llama-3.1-8B"
    assert model["aliases"] == ["meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct"]
    assert model["papers"] == ["2511.05597", "2504.17674", "2602.05695?"]
    assert (model["parameters"], model["kv_bytes_per_token"]) == (8_030_261_248, 131_072)


def test_filters_choose(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert len(listed(capsys, "models", "paper=2511.05597")) == 55
    both = listed(capsys, "models", "paper=2511.05597", "family=llama")
    assert {row["family"] for row in both} == {"llama1", "llama2", "llama3"}
    assert len(listed(capsys, "configurations", "attested=false")) == 4
    assert len(listed(capsys, "ablations", "size=heads", "value=1")) == 1
    file = tmp_path / "mine.yaml"
    sizes = "n_embd: 64, n_layer: 2, n_head: 4, vocab_size: 512"
    file.write_text(f"models: {{acme/m: {{architecture: {{model_type: gpt2, {sizes}}}}}}}")
    (own,) = listed(capsys, "models", "acme", f"catalog_file={file}")
    assert (own["source"], own["model_type"]) == ("catalog_file", "gpt2")
    assert listed(capsys, "models", "no-such-name") == []


def test_the_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "boards", "a100"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "NVIDIA A100-SXM4-80GB" in shown.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "catalog takes what to list; known: ablations, boards, configurations"),
        (["model"], "model: no part of the catalogue; did you mean models"),
        (["boards", "tdp=3"], "tdp=3: no such column; did you mean tdp_w"),
        (["models", "zzz=3"], "zzz=3: no such column; known: active_b, "),
        (["fetch"], "catalog fetch takes one hub id"),
        (["fetch", "gemma"], "model gemma: not a hub id; write owner/model"),
    ],
)
def test_a_wrong_word_is_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert main(["catalog", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_listing_needs_nothing_heavy() -> None:
    code = (
        "import sys; from campaign.cli import main; main(['catalog', 'models', '--json']);"
        "heavy = {'torch', 'transformers', 'ray', 'vllm', 'sqlalchemy', 'hydra', 'omegaconf',"
        " 'huggingface_hub', 'yaml'} & set(sys.modules);"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
