"""Weights written in few bits read back as what they were made of, by each form's own rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from db.errors import EngineFault
from tests.engines.harness import tiny
from workers.engines.quantize import quantize
from workers.engines.weights import materialize

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


def test_experts_are_not_quantized_here(tmp_path: Path, weights_cache: Path) -> None:
    source = tmp_path / "mixture"
    source.mkdir()
    (source / "config.json").write_text(json.dumps({"num_local_experts": 8}))
    with pytest.raises(EngineFault, match="experts") as caught:
        quantize(source, tmp_path / "target", "awq")
    assert (caught.value.kind, caught.value.permanent) == ("unsupported", True)
