"""The catalogue: names, families and the shapes they become."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from campaign.architecture import FAMILIES, architecture
from campaign.catalog import Catalog, load_catalog
from campaign.overrides import CONF
from db.errors import ConfigError
from db.records import Weights
from workers.shape import shape_of

ROWS = {
    row["hf_id"]: row
    for row in csv.DictReader((CONF / "catalog" / "models.csv").read_text().splitlines())
}
SUPPORTED = [name for name, row in ROWS.items() if row["family"] in FAMILIES]


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


def test_every_row_is_a_model_or_says_what_is_supported(catalog: Catalog) -> None:
    assert set(catalog.models()) == set(ROWS)
    for name in ROWS:
        if name in SUPPORTED:
            assert catalog.model(name).architecture["model_type"]
        else:
            assert "supported: " in refused(catalog, name)


def test_an_unknown_model_is_answered_with_near_ones(catalog: Catalog) -> None:
    assert "did you mean Qwen/Qwen2.5-0.5B" in refused(catalog, "Qwen/Qwen2.5-0.6B")


def test_real_weights_of_a_hub_have_no_commit_yet(catalog: Catalog) -> None:
    model = catalog.model("Qwen/Qwen2.5-0.5B", "real")
    assert (model.weights, model.commit) == (Weights.REAL, None)


def test_the_parameter_formula_agrees_with_the_catalogue(catalog: Catalog) -> None:
    for name in SUPPORTED:
        shape = shape_of(name, catalog.model(name).architecture)
        assert shape is not None
        expected = float(ROWS[name]["params_b"]) * 1e9
        assert shape.parameters == pytest.approx(expected, rel=0.02), name
        kv_bytes = 2 * shape.kv_elements_per_token
        assert kv_bytes == int(ROWS[name]["kv_bytes_per_token_bf16"]), name


def counted(name: str, layers: int) -> int:
    """Parameters that transformers builds for a model of the catalogue with so many layers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    model = load_catalog().model(name)
    fields = dict(model.architecture)
    depth = next(key for key in ("num_hidden_layers", "n_layer") if key in fields)
    fields |= {depth: layers, "architectures": list(fields["architectures"])}
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(config)
    assert type(built).__name__ == fields["architectures"][0]
    return sum(p.numel() for p in built.parameters())


def test_what_transformers_builds_has_the_parameters_of_the_catalogue() -> None:
    pytest.importorskip("transformers")
    unequal = {}
    seen: dict[str, float] = {}
    for name in SUPPORTED:
        row = ROWS[name]
        shape = json.dumps(dict(load_catalog().model(name).architecture))
        if shape not in seen:  # layers are equal, so two of them tell what all weigh
            one, two = counted(name, 1), counted(name, 2)
            seen[shape] = one + (int(row["layers"]) - 1) * (two - one)
        if seen[shape] != pytest.approx(float(row["params_b"]) * 1e9, rel=0.01):
            unequal[name] = (seen[shape], row["params_b"])
    assert not unequal


def test_a_family_that_is_not_mapped_is_refused() -> None:
    shape = shape_of("x", load_catalog().model("SmolLM2-135M").architecture)
    assert shape is not None
    with pytest.raises(ConfigError, match=r"family rwkv cannot be built.*supported: .*llama3"):
        architecture(replace(shape, family="rwkv"))


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
        ('{"model_type": "llava", "text_config": {"a": 1}}', "text_config is nested"),
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
    assert catalog.board("t4").bf16_flops is None
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
  Qwen/Qwen2.5-0.5B: {architecture: {model_type: qwen2, hidden_size: 7}}
boards:
  Acme-1: {nvml_name: ACME One, memory_gb: 24, bf16_dense_tflops: 100}
"""
    )
    own = load_catalog(file)
    assert own.model("small").architecture["num_key_value_heads"] == 2
    assert own.model("acme/raw").architecture["n_embd"] == 64
    assert own.model("Qwen/Qwen2.5-0.5B").architecture["hidden_size"] == 7
    assert own.board("acme-1").memory_bytes == 24 * 2**30
    assert own.board("t4").slug == "t4"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models: [", "is not YAML"),
        ("model: {}", "must hold `models:` and `boards:`"),
        ("models: {a: 3}", "must map each name to its fields"),
        ("boards: {a: {memory_gb: much}}", "memory_gb is 'much', not a number"),
        ("models: {a/b: {family: llama3, layers: -1}}", "layers is -1, not a whole number"),
        ("models: {a/b: {architecture: {n: 1}}}", "names no model_type"),
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


def test_a_shape_that_cannot_be_told_is_none() -> None:
    assert shape_of("x", {"model_type": "mamba", "hidden_size": 4}) is None
    assert shape_of("x", {"model_type": "llama"}) is None
