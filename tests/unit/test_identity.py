"""The identity of a task: pinned bytes, and what does and does not change it."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.identity import canonical, engine_digest, task_key
from db.records import EngineSpec, MeasurementProtocol, ModelSpec, Reality, Weights, Workload

LLAMA = {
    "model_type": "llama",
    "architectures": ("LlamaForCausalLM",),
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "tie_word_embeddings": True,
}
RANDOM = EngineSpec(
    model=ModelSpec(name="a/b", weights=Weights.RANDOM, architecture=LLAMA),
    backend="vllm",
    board="cpu:amd-epyc:2",
    threads=2,
    options={"enforce_eager": True, "max_num_seqs": 16},
)
REAL = EngineSpec(
    model=ModelSpec(name="a/b", weights=Weights.REAL, commit="0123abcd", folder="/some/where"),
    backend="transformers",
    board="h100-sxm-80gb",
    board_count=2,
    tensor_parallel=2,
    version="5.19.0",
    dtype="float16",
    quantization="fp8",
)
SERVER = replace(
    REAL, mode="online", speculation="draft_model", speculative_tokens=4, power_limit_w=250.0,
    draft=ModelSpec(name="a/small", weights=Weights.REAL, commit="4567cdef"),
)  # fmt: skip
WORKLOAD = Workload(input_tokens=64, output_tokens=32, batch_size=8)
LOAD = replace(
    WORKLOAD, requests=256, lengths="alpaca", prefix_tokens=16, arrival="poisson", rate_rps=2.5,
    decoding="sample", temperature=0.7, top_p=0.9,
)  # fmt: skip
QUICK = MeasurementProtocol(
    name="quick", window_s=2.0, repeats=3, repeats_max=3, interval_target=0.05, warmup_max=4,
    warmup_agree=2, warmup_tolerance=0.2, idle_s=2.0,
)  # fmt: skip
LONG = replace(QUICK, name="publication", window_s=30.0, energy="measured")
THOROUGH = replace(LONG, phases="both")


def key(
    engine: EngineSpec = RANDOM,
    workload: Workload = WORKLOAD,
    protocol: MeasurementProtocol = QUICK,
    reality: Reality = Reality.REAL,
    replicate: int = 0,
) -> str:
    return task_key(engine_digest(engine), workload, protocol, reality, replicate)


@pytest.mark.parametrize(
    ("found", "pinned"),
    [
        (key(), "v1:0bdbb6bc676d6093bd2e01b9ceb9f6ce3b21a71cdb6490e4d53baf650a2c3d7b"),
        (
            key(REAL, protocol=LONG),
            "v1:873c8491950086cb3b5489fd28f5b4efbc3f5a453de912710507b6f14c6a65c8",
        ),
        (
            key(REAL, protocol=THOROUGH),
            "v1:22e9765d7b76fa1a73b82e6e005046967318aa3a26ee8a37c1855b3add723867",
        ),
        (key(SERVER, LOAD), "v1:2e623fe59106f3717cd59428068ba26606d97ed1193a2a411c73780acf67dc1e"),
        (
            key(reality=Reality.SIMULATED, replicate=3),
            "v1:89ef24b2a0b051c39c99de41fa24d21bd87ebc2eb536d4056ff0a3720a9ca0f6",
        ),
    ],
)
def test_keys_are_what_they_have_always_been(found: str, pinned: str) -> None:
    assert found == pinned


def test_a_field_that_was_added_later_leaves_out_its_default() -> None:
    chosen = {f.name: f.default for f in fields(Workload)[3:]}
    assert key(workload=replace(WORKLOAD, **chosen)) == key()
    assert key(replace(RANDOM, mode="offline", speculation=None, draft=None)) == key()


@given(st.permutations(sorted(LLAMA)), st.permutations(sorted(RANDOM.options)))
def test_the_order_of_keys_does_not_matter(names: list[str], flags: list[str]) -> None:
    model = replace(RANDOM.model, architecture={name: LLAMA[name] for name in names})
    options = {flag: RANDOM.options[flag] for flag in flags}
    assert key(replace(RANDOM, model=model, options=options)) == key()


@given(st.integers(-(2**53), 2**53))
def test_an_integral_float_is_the_integer(number: int) -> None:
    assert canonical({"x": float(number)}) == canonical({"x": number})


@given(st.integers(1, 2**31), st.integers(1, 2**31), st.integers(1, 2**31))
def test_different_workloads_have_different_keys(i: int, o: int, b: int) -> None:
    other = Workload(input_tokens=i, output_tokens=o, batch_size=b)
    assert (key(workload=other) == key()) == (other == WORKLOAD)


CHANGES = {
    "backend": "transformers", "board": "t4", "board_count": 2, "version": "1",
    "dtype": "float16", "quantization": "awq", "tensor_parallel": 2, "threads": 1,
    "options": {"enforce_eager": False, "max_num_seqs": 16},
    "model": replace(RANDOM.model, architecture={**LLAMA, "hidden_size": 577}),
    "mode": "online", "speculation": "ngram", "speculative_tokens": 4, "draft": RANDOM.model,
    "power_limit_w": 200.0,
}  # fmt: skip
WORK_CHANGES = {
    "input_tokens": 65, "output_tokens": 33, "batch_size": 9, "requests": 64, "lengths": "alpaca",
    "prefix_tokens": 4, "arrival": "poisson", "rate_rps": 2.5, "decoding": "sample", "beams": 4,
    "temperature": 0.7, "top_p": 0.9,
}  # fmt: skip


def test_every_field_of_an_engine_changes_the_key() -> None:
    assert set(CHANGES) == {f.name for f in fields(EngineSpec)}
    keys = {key(replace(RANDOM, **{name: value})) for name, value in CHANGES.items()}
    assert len(keys | {key()}) == len(CHANGES) + 1


def test_every_field_of_a_workload_changes_the_key() -> None:
    assert set(WORK_CHANGES) == {f.name for f in fields(Workload)}
    keys = {key(workload=replace(WORKLOAD, **{n: value})) for n, value in WORK_CHANGES.items()}
    assert len(keys | {key()}) == len(WORK_CHANGES) + 1


def test_a_draft_is_its_commit_or_its_shape_like_any_model() -> None:
    real = replace(REAL, draft=REAL.model)
    drafts = [None, REAL.model, replace(REAL.model, commit="4567"), RANDOM.model]
    assert len({key(replace(REAL, draft=draft)) for draft in drafts}) == len(drafts)
    assert key(replace(real, draft=replace(REAL.model, folder="/else/where"))) == key(real)


def test_every_number_of_the_protocol_changes_the_key() -> None:
    words = {"energy": "measured", "phases": "both"}
    numbers = {f.name for f in fields(MeasurementProtocol)} - {"name", *words}
    changes = {**words, **{name: getattr(QUICK, name) + 1 for name in numbers}}
    changed = {key(protocol=replace(QUICK, **{n: value})) for n, value in changes.items()}
    assert len(changed | {key()}) == len(changes) + 1


def test_reality_and_replicate_change_the_key() -> None:
    assert len({key(), key(reality=Reality.SIMULATED), key(replicate=1)}) == 3


def test_the_commit_and_the_name_of_real_weights_change_the_key() -> None:
    models = [replace(REAL.model, commit="4567"), replace(REAL.model, name="c/d"), REAL.model]
    assert len({key(replace(REAL, model=model)) for model in models}) == 3


def test_what_is_not_measured_does_not_change_the_key() -> None:
    renamed = replace(RANDOM.model, name="another/name")  # random weights are their architecture
    moved = replace(REAL.model, folder="/else/where")
    assert key(protocol=replace(QUICK, name="my-own")) == key()
    assert key(replace(RANDOM, model=renamed)) == key()
    assert key(replace(REAL, model=moved)) == key(REAL)


def test_a_value_that_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"x": float("nan")})
