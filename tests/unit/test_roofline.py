"""FLOPs and bytes of a batch, against sums over its tokens one by one."""

from __future__ import annotations

import pytest

from db.records import Workload
from workers.costs.roofline import (
    Work,
    cache_bytes,
    decode,
    kv_bytes_per_token,
    prefill,
    weight_bytes,
)
from workers.shapes.shape import Shape, precision, shape_of

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
WINDOWED = {**MISTRAL_7B, "sliding_window": 16}

HALF = precision("bfloat16")


def shape(architecture: dict[str, object]) -> Shape:
    found = shape_of("model", architecture)
    assert found is not None
    return found


def work(n: int = 512, out: int = 128, batch: int = 8) -> Workload:
    return Workload(input_tokens=n, output_tokens=out, batch_size=batch)


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
def test_the_weights_are_those_of_the_published_parameter_counts(
    architecture: dict[str, object], published: int
) -> None:
    assert weight_bytes(shape(architecture), HALF) == 2 * published


def test_grouped_queries_shrink_the_cache() -> None:
    # Llama-3.1-8B: 128 KiB per token in bfloat16.
    assert kv_bytes_per_token(shape(LLAMA_8B), HALF) == 131072


def test_a_window_bounds_what_a_sequence_keeps() -> None:
    windowed, whole = shape(WINDOWED), shape(MISTRAL_7B)
    kept = [cache_bytes(model, HALF, 64) for model in (windowed, whole)]
    assert kept == [16 * kv_bytes_per_token(whole, HALF), 64 * kv_bytes_per_token(whole, HALF)]


LATENT = {
    "model_type": "deepseek_v2", "hidden_size": 2048, "intermediate_size": 10944,
    "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16,
    "kv_lora_rank": 512, "q_lora_rank": None, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
    "v_head_dim": 128, "vocab_size": 102400, "moe_intermediate_size": 1408,
    "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "boards", "copies"),
    [(LLAMA_8B, 1, 1), (LLAMA_8B, 8, 1), (LLAMA_8B, 16, 2), (QWEN_HALF_B, 14, 7), (LATENT, 1, 1),
     (LATENT, 8, 8)],
)  # fmt: skip
def test_every_board_keeps_a_head_at_least_and_the_latents_of_all(
    architecture: dict[str, object], boards: int, copies: int
) -> None:
    """As vLLM's `ModelConfig.get_num_kv_heads` has it."""
    model = shape(architecture)
    assert model.kv_copies(boards) == copies
    each = cache_bytes(model, HALF, 100, model.kv_copies(boards))
    assert each == copies * 100 * kv_bytes_per_token(model, HALF)


def test_every_copy_of_keys_and_values_is_written_and_read() -> None:
    model, load = shape(QWEN_HALF_B), work(n=7, out=19, batch=3)
    one, four = (prefill(model, HALF, load, copies=copies) for copies in (1, 4))
    assert four.bytes - one.bytes == 3 * 3 * 7 * kv_bytes_per_token(model, HALF)
    one, four = (decode(model, HALF, load, copies=copies) for copies in (1, 4))
    moved = sum(range(8, 26)) + 18
    assert four.bytes - one.bytes == 3 * 3 * moved * kv_bytes_per_token(model, HALF)
    assert four.flops == one.flops


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

    def token(context: int) -> float:
        return layers * (per_layer + width * context)

    assert prefill(model, HALF, load).flops == 3 * (sum(map(token, range(1, 38))) + head)
    contexts = range(38, 38 + 18)
    assert decode(model, HALF, load).flops == 3 * sum(token(c) + head for c in contexts)


@pytest.mark.parametrize("architecture", [QWEN_HALF_B, MIXTRAL], ids=str)
def test_the_matrices_take_all_but_attention_and_the_output_matrix(
    architecture: dict[str, object],
) -> None:
    model, load = shape(architecture), work(n=37, out=19, batch=3)
    head, pair = 2 * model.head_parameters, model.layers * 4 * model.heads * model.head_dim
    first, more = prefill(model, HALF, load), decode(model, HALF, load)
    assert first.flops - first.matrix_flops == 3 * (head + pair * sum(range(1, 38)))
    assert more.flops - more.matrix_flops == 3 * (18 * head + pair * sum(range(38, 56)))
    assert more.times(2.0).matrix_flops == 2 * more.matrix_flops


@pytest.mark.parametrize("architecture", [QWEN_HALF_B, WINDOWED, MIXTRAL], ids=str)
def test_decoding_is_the_sum_over_its_steps(architecture: dict[str, object]) -> None:
    model, load = shape(architecture), work(n=7, out=19, batch=3)
    steps = [decode(model, HALF, work(n=7 + t, out=2, batch=3)) for t in range(18)]
    whole = decode(model, HALF, load)
    assert whole.matrix_flops == sum(step.matrix_flops for step in steps)
    assert whole.bytes == pytest.approx(sum(step.bytes for step in steps), rel=1e-12)
    assert whole.flops == pytest.approx(sum(step.flops for step in steps), rel=1e-12)
    assert (whole.tokens, whole.steps) == (54, 18)


def test_weights_are_read_once_for_a_batch() -> None:
    model = shape(LLAMA_8B)
    one, eight = (decode(model, HALF, work(n=1, out=2, batch=batch)) for batch in (1, 8))
    # Two tokens are read and one is written, of seven more requests.
    assert eight.bytes - one.bytes == 7 * 3 * kv_bytes_per_token(model, HALF)
    assert eight.flops == 8 * one.flops


def test_a_mixture_computes_with_few_experts_and_reads_those_its_tokens_reach() -> None:
    mixture, dense = shape(MIXTRAL), shape(MISTRAL_7B)
    assert mixture.active_layer_parameters < 0.3 * mixture.layer_parameters
    one, many = (decode(mixture, HALF, work(n=1, out=2, batch=b)).bytes for b in (1, 512))
    table = mixture.head_parameters * HALF.weight_bytes
    everything = weight_bytes(mixture, HALF) - table
    assert decode(dense, HALF, work(n=1, out=2, batch=1)).bytes < one < 0.4 * everything
    cached = 512 * 3 * kv_bytes_per_token(mixture, HALF)
    assert many == pytest.approx(everything + cached, rel=1e-6)


@pytest.mark.parametrize(("spread", "most"), [(1, 1.0), (2, 1.375), (4, 15 / 16)])
def test_of_experts_that_lie_whole_the_busiest_board_s_count(spread: int, most: float) -> None:
    """Four experts, of which a token reaches two: the mean of the most that one board reads.

    One board of all four reads two. Two boards of two: at most k are read with chances 1/16, 9/16,
    1. Four boards of one: none is read with a chance of 1/16.
    """
    four = shape({**MIXTRAL, "num_local_experts": 4})
    group = four.groups[0]
    token = work(n=1, out=2, batch=1)
    plain, read = (decode(four, HALF, token, boards).bytes for boards in (1, spread))
    expected = spread * most if spread > 1 else 2.0
    each = group.count * group.expert_parameters * HALF.weight_bytes
    assert read - plain == pytest.approx((expected - 2.0) * each)
    assert prefill(four, HALF, work(n=1, batch=1), spread).bytes - prefill(
        four, HALF, work(n=1, batch=1)
    ).bytes == pytest.approx((expected - 2.0) * each)


def test_an_answer_of_one_token_leaves_nothing_to_decode() -> None:
    nothing = Work(flops=0, matrix_flops=0, bytes=0, tokens=0, steps=0)
    assert decode(shape(LLAMA_8B), HALF, work(out=1)) == nothing
