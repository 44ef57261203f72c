"""Weights written in few bits read back as what they were made of, by each form's own rule."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from campaign.catalogue.catalog import load_catalog
from db.errors import EngineFault
from db.records import ModelSpec, Weights
from tests.engines.harness import LIMITS, spec_of, tiny
from workers.engines import vllm_arguments
from workers.engines.quantize import FAMILIES, _is_layer, group_of, quantize, why_not
from workers.engines.weights import materialize
from workers.shapes.shape import shape_of

pytestmark = pytest.mark.engines
torch = pytest.importorskip("torch")
LAYER = "model.layers.0.mlp.down_proj"
GROUP = 128


def written(weights_cache: Path, method: str | None) -> dict[str, Any]:
    from safetensors.torch import load_file

    folder = materialize(tiny(), "bfloat16", weights_cache, method)
    return load_file(folder / "model.safetensors")


def nibbles(words: Any) -> Any:
    """Rows of words as rows of their eight four-bit parts, lowest first."""
    return torch.stack([(words >> (4 * bit)) & 15 for bit in range(8)], -1).flatten(1)


def awq(tensors: dict[str, Any]) -> Any:
    """Weights as AWQ's kernels read them: of eight outputs the order is 0 4 1 5 2 6 3 7."""
    read = (0, 4, 1, 5, 2, 6, 3, 7)

    def plain(words: Any) -> Any:
        return nibbles(words).reshape(len(words), -1, 8)[:, :, read].flatten(1)

    steps, zeros = (plain(tensors[f"{LAYER}.{name}"]) for name in ("qweight", "qzeros"))
    zeros = zeros.repeat_interleave(GROUP, 0)
    return ((steps - zeros) * tensors[f"{LAYER}.scales"].float().repeat_interleave(GROUP, 0)).t()


def gptq(tensors: dict[str, Any]) -> Any:
    """Weights as GPTQ's kernels read them: eight inputs a word, a zero point less one."""
    steps = nibbles(tensors[f"{LAYER}.qweight"].t().contiguous()).t()
    group = tensors[f"{LAYER}.g_idx"].long()
    zeros = nibbles(tensors[f"{LAYER}.qzeros"])[group] + 1
    return ((steps - zeros) * tensors[f"{LAYER}.scales"].float()[group]).t()


def compressed(tensors: dict[str, Any]) -> Any:
    return tensors[f"{LAYER}.weight"].float() * tensors[f"{LAYER}.weight_scale"]


@pytest.mark.parametrize(
    ("method", "read", "steps"),
    [("awq", awq, 15), ("gptq", gptq, 14), ("compressed-tensors", compressed, 254)],
)
def test_what_is_written_reads_back_within_half_a_step(
    weights_cache: Path, method: str, read: Any, steps: int
) -> None:
    plain = written(weights_cache, None)[f"{LAYER}.weight"].float()
    found = read(written(weights_cache, method))
    assert found.shape == plain.shape
    # Half a step of the widest group, and what scales in bfloat16 lose.
    assert (found - plain).abs().max() < 0.6 * 2 * plain.abs().max() / steps
    assert (found - plain).abs().max() > 0


@pytest.mark.parametrize("method", ["awq", "gptq", "compressed-tensors"])
def test_only_layers_are_quantized_and_the_configuration_says_how(
    weights_cache: Path, method: str
) -> None:
    plain, found = written(weights_cache, None), written(weights_cache, method)
    kept = [name for name in plain if ".layers." not in name or "norm" in name]
    assert kept
    assert all(torch.equal(plain[name], found[name]) for name in kept)
    folder = materialize(tiny(), "bfloat16", weights_cache, method)
    told = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert told["quant_method"] == method
    assert (folder / "tokenizer.json").exists()


def test_methods_that_quantize_while_loading_read_the_weights_as_drawn(weights_cache: Path) -> None:
    plain = materialize(tiny(), "bfloat16", weights_cache)
    assert materialize(tiny(), "bfloat16", weights_cache, "fp8") == plain
    assert materialize(tiny(), "bfloat16", weights_cache, "awq") != plain


@pytest.mark.parametrize(
    ("name", "form"),
    [("auto_awq", "awq"), ("awq_marlin", "awq"), ("auto_gptq", "gptq"), ("gptq_marlin", "gptq")],
)
def test_other_names_of_a_form_read_the_same_weights(
    weights_cache: Path, name: str, form: str
) -> None:
    found = materialize(tiny(), "bfloat16", weights_cache, name)
    assert found == materialize(tiny(), "bfloat16", weights_cache, form)


def test_the_tensors_have_the_names_types_and_shapes_that_vllm_reads(weights_cache: Path) -> None:
    """As the linear methods of AutoAWQ and AutoGPTQ in vLLM 0.32 create them, inputs x outputs."""
    outputs, inputs = written(weights_cache, None)[f"{LAYER}.weight"].shape
    groups, word, half = inputs // GROUP, torch.int32, torch.bfloat16
    packed_outputs = {"qzeros": (word, (groups, outputs // 8)), "scales": (half, (groups, outputs))}
    for method, expected in (
        ("awq", {"qweight": (word, (inputs, outputs // 8)), **packed_outputs}),
        ("gptq", {"qweight": (word, (inputs // 8, outputs)), **packed_outputs,
                  "g_idx": (word, (inputs,))}),
        ("compressed-tensors", {"weight": (torch.int8, (outputs, inputs)),
                                "weight_scale": (torch.float32, (outputs, 1))}),
    ):  # fmt: skip
        found = written(weights_cache, method)
        layer = {name.removeprefix(f"{LAYER}."): tensor for name, tensor in found.items()
                 if name.startswith(f"{LAYER}.")}  # fmt: skip
        assert {n: (t.dtype, tuple(t.shape)) for n, t in layer.items()} == expected, method


@pytest.mark.parametrize(("flags", "fit"), [("sse avx2", False), ("avx2 avx512f amx", True)])
def test_four_bits_on_a_cpu_without_a_kernel_are_refused_before_anything_is_loaded(
    weights_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, fit: bool
) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text(f"model name\t: some\nflags\t\t: fpu {flags}\n")
    monkeypatch.setattr(vllm_arguments, "CPU_INFO", told)
    monkeypatch.setattr(vllm_arguments.platform, "machine", lambda: "x86_64")
    for method, four in (("awq", True), ("gptq_marlin", True), ("compressed-tensors", False)):
        spec = spec_of("vllm", quantization=method)
        folder = materialize(tiny(), "bfloat16", weights_cache, method)
        if fit or not four:
            given = vllm_arguments.engine_arguments(spec, LIMITS, folder, on_cpu=True)
            assert given["quantization"] == method
            continue
        with pytest.raises(EngineFault, match="AVX-512") as caught:
            vllm_arguments.engine_arguments(spec, LIMITS, folder, on_cpu=True)
        assert (caught.value.kind, caught.value.permanent) == ("unsupported", True)
        vllm_arguments.engine_arguments(spec, LIMITS, folder, on_cpu=False)


def test_weights_without_a_layer_that_is_known_are_not_called_quantized(tmp_path: Path) -> None:
    gpt2 = {"model_type": "gpt2", "n_embd": 64, "n_layer": 1, "n_head": 2, "vocab_size": 300}
    model = ModelSpec(name="tiny-gpt2", weights=Weights.RANDOM, architecture=gpt2)
    with pytest.raises(EngineFault, match="no inputs") as caught:
        materialize(model, "float16", tmp_path, "awq")
    assert (caught.value.kind, caught.value.permanent) == ("unsupported", True)
    assert not list(tmp_path.glob("*.partial"))


def one_of_each_family() -> dict[str, Any]:
    """Of every family in the catalogue a model, with as few layers as its kinds of them allow."""
    found: dict[str, Any] = {}
    catalog = load_catalog()
    for name in catalog.models():
        architecture = dict(catalog.model(name).architecture)
        layers = next(k for k in ("num_hidden_layers", "n_layer", "n_layers") if k in architecture)
        if not isinstance(architecture.get("layer_types"), tuple):
            architecture[layers] = 1
        found.setdefault(str(architecture["model_type"]), architecture)
    return found


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_layers_of_the_families_are_found_and_every_one_of_them(family: str) -> None:
    """By the names transformers gives them; what the plan takes for their inputs is so."""
    from transformers import AutoConfig, AutoModelForCausalLM

    architecture = one_of_each_family()[family]
    fields = {k: v for k, v in architecture.items() if k not in ("architectures", "model_type")}
    with torch.device("meta"):
        config = AutoConfig.for_model(family, **fields)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float16)
    shape = shape_of(family, architecture)
    assert shape is not None
    taken = {n: p for n, p in model.named_parameters() if _is_layer(n, p.dim())}
    assert sum(p.numel() for p in taken.values()) == shape.layer_parameters * shape.layers
    widths = {p.shape[1] for p in taken.values()}
    assert widths == {shape.hidden, shape.heads * shape.head_dim, shape.intermediate}
    assert (why_not(shape) is None) == (group_of(widths) is not None)


def test_what_the_plan_leaves_out_is_not_written() -> None:
    """Experts, families whose layers have other names, inputs that are no groups."""
    found = {family: shape_of(family, a) for family, a in one_of_each_family().items()}
    others = {family for family, shape in found.items() if shape and why_not(shape)}
    assert others >= {"gpt2", "mixtral", "deepseek_v2", "falcon", "bloom"}
    llama = found["llama"]
    assert llama is not None
    assert why_not(llama) is None
    assert why_not(replace(llama, intermediate=llama.intermediate + 16)) is not None
    assert why_not(replace(llama, intermediate=128 * 6), 2) is None
    assert why_not(replace(llama, intermediate=128 * 6), 4) is not None


def test_experts_are_not_quantized_here(tmp_path: Path, weights_cache: Path) -> None:
    source = tmp_path / "mixture"
    source.mkdir()
    (source / "config.json").write_text(json.dumps({"num_local_experts": 8}))
    with pytest.raises(EngineFault, match="experts") as caught:
        quantize(source, tmp_path / "target", "awq")
    assert (caught.value.kind, caught.value.permanent) == ("unsupported", True)
