from __future__ import annotations

import math
from dataclasses import replace

import pytest

from db.records import Board, Workload
from workers.roofline import (
    ASSUMED,
    CPU_CORE_BYTES_S,
    Cost,
    board_rates,
    decode,
    decode_step,
    estimate,
    kv_bytes_per_token,
    prefill,
    weight_bytes,
)
from workers.shape import Precision, Shape, precision, shape_of

LLAMA_8B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "vocab_size": 128256, "tie_word_embeddings": False, "max_position_embeddings": 131072,
}  # fmt: skip
QWEN_HALF_B = {
    "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864,
    "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
    "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip
OPT_125M = {
    "model_type": "opt", "hidden_size": 768, "ffn_dim": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "vocab_size": 50272, "word_embed_proj_dim": 768,
    "max_position_embeddings": 2048,
}  # fmt: skip
GPT2 = {
    "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257,
    "n_positions": 1024,
}  # fmt: skip
GEMMA_2B = {
    "model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384,
    "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256,
    "vocab_size": 256000,
}  # fmt: skip
MISTRAL_7B = {
    "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "vocab_size": 32000,
}  # fmt: skip
MIXTRAL = {**MISTRAL_7B, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}

A100 = Board(
    slug="a100-sxm-80gb",
    memory_bytes=80 * 2**30,
    memory_bandwidth_bytes_s=2.039e12,
    bf16_flops=312e12,
    fp16_flops=312e12,
    tdp_w=400,
    idle_w=50,
)
HALF = precision("bfloat16")


def shape(architecture: dict[str, object]) -> Shape:
    found = shape_of("model", architecture)
    assert found is not None
    return found


def work(n: int = 512, out: int = 128, batch: int = 8) -> Workload:
    return Workload(input_tokens=n, output_tokens=out, batch_size=batch)


def cost(board: Board = A100, workload: Workload | None = None, boards: int = 1) -> Cost:
    found = estimate(shape(LLAMA_8B), board, workload or work(), numbers=HALF, boards=boards)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("architecture", "published"),
    [
        (LLAMA_8B, 8_030_261_248),
        (QWEN_HALF_B, 494_032_768),
        (OPT_125M, 125_239_296),
        (GPT2, 124_439_808),
        (GEMMA_2B, 2_506_172_416),
        (MISTRAL_7B, 7_241_732_096),
        (MIXTRAL, 46_702_792_704),
    ],
    ids=lambda value: value.get("model_type") if isinstance(value, dict) else None,
)
def test_parameters_are_the_published_counts_but_for_norms_and_biases(
    architecture: dict[str, object], published: int
) -> None:
    assert shape(architecture).parameters == pytest.approx(published, rel=0.001)
    assert shape(architecture).parameters <= published


def test_an_architecture_that_cannot_be_told_has_no_shape() -> None:
    assert shape_of("m", {"model_type": "mamba", "hidden_size": 1}) is None
    assert shape_of("m", {"model_type": "llama", "hidden_size": 128}) is None


def test_grouped_queries_shrink_the_cache() -> None:
    # Llama-3.1-8B: 128 KiB per token in bfloat16.
    assert kv_bytes_per_token(shape(LLAMA_8B), HALF) == 131072


def test_quantized_weights_are_smaller_and_the_cache_is_not() -> None:
    eight, four = precision("bfloat16", "fp8"), precision("bfloat16", "awq")
    sizes = [weight_bytes(shape(LLAMA_8B), p) for p in (precision("float32"), HALF, eight, four)]
    assert [sizes[0] / size for size in sizes] == [1, 2, 4, 8]
    assert four.kv_bytes == HALF.kv_bytes


def test_flops_are_the_sum_over_tokens() -> None:
    """Every token attends to itself and all before it; counted one by one."""
    model, load = shape(QWEN_HALF_B), work(n=37, out=19, batch=3)
    head = 2 * model.head_parameters
    layers, per_layer = model.layers, 2 * model.active_layer_parameters
    width = 4 * model.heads * model.head_dim

    def token(context: int) -> int:
        return layers * (per_layer + width * context)

    assert prefill(model, HALF, load).flops == 3 * (sum(map(token, range(1, 38))) + head)
    contexts = range(38, 38 + 18)
    assert decode(model, HALF, load).flops == 3 * sum(token(c) + head for c in contexts)


def test_decode_bytes_are_the_sum_over_steps() -> None:
    model, load = shape(QWEN_HALF_B), work(n=37, out=19, batch=3)
    steps = [decode_step(model, HALF, 37 + t, 3).bytes for t in range(1, 19)]
    assert decode(model, HALF, load).bytes == pytest.approx(sum(steps), rel=1e-12)


def test_weights_are_read_once_for_a_batch() -> None:
    model = shape(LLAMA_8B)
    one, eight = (decode_step(model, HALF, 0, batch) for batch in (1, 8))
    assert eight.bytes - one.bytes == 7 * kv_bytes_per_token(model, HALF)
    assert eight.flops == 8 * one.flops


def test_a_mixture_computes_with_few_experts_and_reads_those_its_tokens_reach() -> None:
    mixture, dense = shape(MIXTRAL), shape(MISTRAL_7B)
    assert mixture.active_layer_parameters < 0.3 * mixture.layer_parameters
    one, many = (decode_step(mixture, HALF, 0, batch).bytes for batch in (1, 512))
    everything = weight_bytes(mixture, HALF) - mixture.head_parameters * HALF.weight_bytes
    assert decode_step(dense, HALF, 0, 1).bytes < one < 0.4 * everything
    assert many == pytest.approx(everything + 512 * kv_bytes_per_token(mixture, HALF), rel=1e-6)


def test_decode_of_one_request_is_bound_by_memory_and_a_long_prefill_by_arithmetic() -> None:
    found = cost(workload=work(n=4096, batch=1))
    assert found.prefill.bound == "compute"
    assert found.decode.bound == "memory"
    bytes_s = A100.memory_bandwidth_bytes_s or math.nan
    least = decode(shape(LLAMA_8B), HALF, work(n=4096, batch=1)).bytes / bytes_s
    assert least < found.decode.seconds < 2 * least


def test_batching_costs_less_energy_per_token() -> None:
    joules = []
    for batch in (1, 4, 16, 64):
        energy = cost(workload=work(batch=batch)).energy_j
        assert energy is not None
        joules.append(energy / batch)
    assert joules == sorted(joules, reverse=True)
    assert joules[0] > 5 * joules[-1]


def test_more_boards_are_faster_by_less_than_their_number_and_cost_more_energy() -> None:
    one, two, four = (cost(workload=work(batch=1), boards=n) for n in (1, 2, 4))
    assert one.e2e_s > two.e2e_s > one.e2e_s / 2
    assert two.e2e_s > four.e2e_s > one.e2e_s / 4
    assert one.energy_j is not None
    assert two.energy_j is not None
    assert one.energy_j < two.energy_j


def test_the_exchange_of_a_group_takes_longer_without_nvlink() -> None:
    pcie = replace(A100, slug="a100-pcie-80gb")
    assert cost(pcie, boards=2).e2e_s > cost(A100, boards=2).e2e_s
    assert cost(pcie).e2e_s == cost(A100).e2e_s


def test_power_lies_between_idle_and_tdp() -> None:
    for load in (work(batch=1), work(batch=256), work(n=8192, out=1), work(n=1, out=4)):
        found = cost(workload=load)
        for phase in (found.prefill, found.decode):
            assert phase.power_w is not None
            assert 50 <= phase.power_w <= 400


def test_one_output_token_comes_from_the_prefill_alone() -> None:
    found = cost(workload=work(out=1))
    assert found.decode.seconds == 0.0
    assert found.e2e_s == found.prefill.seconds


def test_energy_is_unknown_where_the_power_is() -> None:
    found = cost(replace(A100, idle_w=None))
    assert found.energy_j is None
    assert found.e2e_s == cost().e2e_s


def test_a_board_without_rates_has_no_estimate() -> None:
    unknown = Board(slug="some-board")
    assert estimate(shape(LLAMA_8B), unknown, work()) is None


def test_a_cpu_counts_its_threads() -> None:
    board = Board(slug="cpu:some:8")
    one, eight = (board_rates(board, HALF, threads) for threads in (1, 8))
    assert one is not None
    assert eight is not None
    assert eight[1] == 8 * one[1] == 8 * CPU_CORE_BYTES_S


def test_full_precision_is_slower() -> None:
    half, full = board_rates(A100, HALF), board_rates(A100, Precision(half=False))
    assert half is not None
    assert full is not None
    assert full[0] < half[0]


def test_better_efficiency_is_faster() -> None:
    perfect = replace(ASSUMED, compute=1.0, bandwidth=1.0, step_s=0.0)
    found = estimate(shape(LLAMA_8B), A100, work(), efficiency=perfect)
    assert found is not None
    assert found.e2e_s < cost().e2e_s
