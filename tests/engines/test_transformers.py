"""Each option of transformers, by what it does: tokens, steps and kernels of tiny random models.

One process: the adapter of the project around the real library, on a clock that ticks once per
look at it. The models have an output layer of their own: with tied embeddings random ones repeat
their last token, and every proposal would be right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from db.errors import EngineFault, TaskFault
from db.readings import Batch
from db.records import EngineSpec, ModelSpec, Weights
from tests.engines.harness import LIMITS, TINY, spec_of
from workers.engines.engine import GREEDY, Decoding, Request, alike
from workers.engines.registry import Limits
from workers.engines.transformers import TransformersEngine
from workers.validity import check_batch

pytestmark = pytest.mark.engines

Tokens = list[list[int]]
SAMPLE = Decoding(method="sample")
BEAMS = Decoding(method="beam", beams=4)
MIXED = (
    Request(prompt=[5] * 7, output_tokens=3),
    Request(prompt=[9, 8, 7, 6] * 3, output_tokens=10),
    Request(prompt=[3], output_tokens=1),
)
ONE = alike([[5, 6, 7, 8]], 20)
TICK_S = 1e-3


def untied(name: str = "untied", **changes: Any) -> ModelSpec:
    """Weights wide enough apart that one token is clearly likelier than the next."""
    shape = TINY["llama"] | {"tie_word_embeddings": False, "initializer_range": 0.2} | changes
    return ModelSpec(name=name, weights=Weights.RANDOM, architecture=shape)


#: Its past is a state, of which no token can be taken back.
MAMBA = ModelSpec(
    name="state", weights=Weights.RANDOM,
    architecture={"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 2,
                  "state_size": 8, "vocab_size": 1024},
)  # fmt: skip


def other() -> ModelSpec:
    return untied("other", num_hidden_layers=1)


class Ticks:
    """A clock on which every look takes a millisecond."""

    def __init__(self) -> None:
        self.looks = 0

    def now_ns(self) -> int:
        self.looks += 1
        return self.looks * 1_000_000

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nothing here sleeps {seconds} s")


@dataclass
class Watched:
    """An engine, and the rows of token ids that its library returned."""

    engine: TransformersEngine
    rows: list[Any] = field(default_factory=list)

    def generate(
        self, requests: Sequence[Request], decoding: Decoding = GREEDY
    ) -> tuple[Batch, Tokens]:
        """Return a batch that passed the gate of token counts, and each request's own tokens."""
        batch = self.engine.generate(requests, decoding)
        check_batch(
            batch, [(len(r.prompt), r.output_tokens) for r in requests], prefix_caching=False
        )
        start = max(len(r.prompt) for r in requests)
        found = zip(requests, self.rows[-1][:, start:].tolist(), strict=True)
        return batch, [row[: r.output_tokens] for r, row in found]


Opener = Callable[..., Watched]


@pytest.fixture(scope="module")
def opened(weights_cache: Path) -> Opener:
    """Engines by their specs, each loaded once unless `fresh`."""
    found: dict[str, Watched] = {}

    def loaded(*, fresh: bool = False, **changes: Any) -> Watched:
        spec = spec_of("transformers", **{"model": untied(), "dtype": "float32", **changes})
        if fresh or repr(spec) not in found:
            engine = TransformersEngine(spec, weights_cache, LIMITS, Ticks())
            engine.load()
            watched = Watched(engine)
            model: Any = engine._model
            library = model.generate

            def kept(**arguments: Any) -> Any:
                watched.rows.append(library(**arguments))
                return watched.rows[-1]

            model.generate = kept
            found[repr(spec)] = watched
        return found[repr(spec)]

    return loaded


def alone(engine: Watched, requests: Sequence[Request], decoding: Decoding = GREEDY) -> Tokens:
    """The tokens of each request in a batch of its own."""
    return [engine.generate([request], decoding)[1][0] for request in requests]


# ---- static batches --------------------------------------------------------------------------


def test_padding_on_the_left_changes_no_token(opened: Opener) -> None:
    engine = opened()
    assert engine.generate(MIXED)[1] == alone(engine, MIXED)


def test_a_request_ends_with_its_own_last_token_and_waits_for_the_longest(opened: Opener) -> None:
    batch, _ = opened().generate(MIXED)
    assert [r.ttft_s for r in batch.requests] == pytest.approx([TICK_S] * 3)
    assert [r.e2e_s for r in batch.requests] == pytest.approx([3 * TICK_S, 10 * TICK_S, TICK_S])
    assert [r.itl_s for r in batch.requests][:2] == pytest.approx([TICK_S, TICK_S])
    assert batch.duration_s == pytest.approx(11 * TICK_S)


def test_what_padding_and_idle_places_cost_is_counted(opened: Opener) -> None:
    batch, _ = opened().generate(MIXED)
    assert batch.running_mean == pytest.approx((3 + 10 + 1) / 10)
    assert batch.counters == {
        "forward_passes": 10,
        "forward_positions": 3 * 12 + 3 * 9,
        "padded_prompt_tokens": 5 + 11,
        "idle_slot_steps": 7 + 9,
    }


def test_equal_lengths_leave_no_place_idle(opened: Opener) -> None:
    batch, _ = opened().generate(alike([[5, 6], [7, 8]], 6))
    assert batch.running_mean == 2
    assert (batch.counters["padded_prompt_tokens"], batch.counters["idle_slot_steps"]) == (0, 0)


# ---- decoding --------------------------------------------------------------------------------


def likelihood(engine: Watched, prompt: Sequence[int], tokens: Sequence[int]) -> float:
    """The log-probability of tokens after a prompt."""
    import torch

    model: Any = engine.engine._model
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0].log_softmax(-1)
    start = len(prompt) - 1
    return math.fsum(float(logits[start + n, token]) for n, token in enumerate(tokens))


def test_beams_are_computed_beside_each_other_and_find_likelier_tokens(opened: Opener) -> None:
    engine = opened()
    requests = alike([[n, n + 1, n + 2] for n in range(20, 60, 10)], 8)
    plain, greedy = engine.generate(requests)
    searched, best = engine.generate(requests, BEAMS)
    for name in ("forward_positions", "forward_passes"):
        ratio = searched.counters[name] / plain.counters[name]
        assert ratio == (4 if name == "forward_positions" else 1)
    found = zip(requests, best, greedy, strict=True)
    gains = [likelihood(engine, r.prompt, b) - likelihood(engine, r.prompt, g) for r, b, g in found]
    assert max(gains) > 0.1
    assert searched.running_mean == len(requests)


def test_a_beam_search_of_unequal_lengths_is_that_of_each_request_alone(opened: Opener) -> None:
    engine = opened()
    batch, tokens = engine.generate(MIXED, BEAMS)
    assert tokens == alone(engine, MIXED, BEAMS)
    assert [r.e2e_s for r in batch.requests] == pytest.approx([3 * TICK_S, 10 * TICK_S, TICK_S])


def test_samples_are_seeded_with_the_load_and_fresh_in_every_batch(opened: Opener) -> None:
    first, again = opened(fresh=True), None
    drawn = [first.generate(ONE, SAMPLE)[1] for _ in range(3)]
    again = opened(fresh=True)
    assert [again.generate(ONE, SAMPLE)[1] for _ in range(3)] == drawn
    assert len({str(tokens) for tokens in drawn}) == 3


@pytest.mark.parametrize("narrow", [{"temperature": 0.001}, {"top_p": 1e-6}])
def test_a_cold_or_narrow_sample_is_the_greedy_one(
    opened: Opener, narrow: dict[str, float]
) -> None:
    engine = opened()
    greedy = engine.generate(ONE)[1]
    assert engine.generate(ONE, Decoding(method="sample", **narrow))[1] == greedy  # type: ignore[arg-type]
    assert engine.generate(ONE, SAMPLE)[1] != greedy


def test_a_sample_draws_from_the_whole_vocabulary(opened: Opener) -> None:
    """Not from the 50 likeliest tokens, the library's own choice; a hot sample knows no order."""
    requests = alike([[5, 6, 7]] * 200, 1)
    _, tokens = opened().generate(requests, Decoding(method="sample", temperature=100.0))
    assert len({row[0] for row in tokens}) > 100
    _, tokens = opened().generate(requests, Decoding(method="sample", temperature=100.0, top_p=0.1))
    assert len({row[0] for row in tokens}) < 110


# ---- speculation -----------------------------------------------------------------------------


def drafted(model: ModelSpec, **changes: Any) -> dict[str, Any]:
    return {"speculation": "draft_model", "speculative_tokens": 4, "draft": model, **changes}


def test_a_draft_that_is_the_model_is_always_right(opened: Opener) -> None:
    """Five tokens a pass: four proposed, one more of the model itself."""
    batch, tokens = opened(**drafted(untied())).generate(ONE)
    assert tokens == opened().generate(ONE)[1]
    assert batch.counters == {
        "forward_passes": 4,
        "forward_positions": 4 + 4 * 4 + 3,
        "padded_prompt_tokens": 0,
        "idle_slot_steps": 0,
        "draft_tokens_proposed": 16,
        "draft_tokens_accepted": 16,
        "draft_forward_passes": 16,
    }


def test_a_draft_that_knows_nothing_is_computed_in_vain(opened: Opener) -> None:
    """Four tokens are looked ahead however unsure the draft is; near the end fewer are left."""
    batch, tokens = opened(**drafted(other())).generate(ONE)
    assert tokens == opened().generate(ONE)[1]
    counted = batch.counters
    assert counted["draft_tokens_accepted"] == 20 - counted["forward_passes"] <= 2
    assert counted["draft_tokens_proposed"] > 3.2 * counted["forward_passes"]
    assert counted["draft_forward_passes"] == counted["draft_tokens_proposed"]
    last = batch.requests[0]
    assert last.e2e_s == pytest.approx(counted["forward_passes"] * TICK_S)


@pytest.mark.parametrize("ahead", [2, 4])
def test_ngrams_of_the_prompt_are_looked_ahead_as_far_as_asked(opened: Opener, ahead: int) -> None:
    engine = opened(speculation="ngram", speculative_tokens=ahead)
    repeated = alike([[5, 6, 7, 8, 9, 10] * 4], 12)
    batch, tokens = engine.generate(repeated)
    assert tokens == opened().generate(repeated)[1]
    counted = batch.counters
    assert counted["draft_tokens_proposed"] >= ahead  # the prompt's own continuation
    assert counted["draft_tokens_accepted"] == 12 - counted["forward_passes"]
    assert "draft_forward_passes" not in counted


@pytest.mark.parametrize("how", ["draft_model", "ngram"])
def test_assisted_samples_have_exactly_the_asked_tokens(opened: Opener, how: str) -> None:
    changes = drafted(other(), speculation=how)
    for tokens in (1, 2, 5, 13):
        opened(**changes).generate(alike([[5, 6, 5, 6, 5]], tokens), SAMPLE)


def test_assisted_generation_takes_one_request_and_no_beams(opened: Opener) -> None:
    engine = opened(speculation="ngram", speculative_tokens=4).engine
    for requests, decoding, words in (
        (alike([[5], [6]], 2), GREEDY, "one request at a time"),
        (ONE, BEAMS, "beam search"),
    ):
        with pytest.raises(TaskFault, match=words) as caught:
            engine.generate(requests, decoding)
        assert (caught.value.kind, caught.value.permanent) == ("unsupported", True)


# ---- options ---------------------------------------------------------------------------------


def kernels(engine: Watched) -> set[str]:
    """Names of the operators that a batch ran."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        engine.generate(alike([[5, 6, 7]], 2))
    return {event.key for event in profile.key_averages()}


def test_the_attention_that_was_asked_for_computes(opened: Opener) -> None:
    fused = "aten::scaled_dot_product_attention"
    assert fused in kernels(opened(options={"attn_implementation": "sdpa"}))
    assert fused not in kernels(opened(options={"attn_implementation": "eager"}))


def test_a_static_cache_is_written_in_place(opened: Opener) -> None:
    """And is no reason to compile: that is torch_compile's alone."""
    engine, plain = opened(options={"cache_implementation": "static"}), opened(options={})
    assert "aten::index_copy_" in kernels(engine)
    assert "aten::index_copy_" not in kernels(plain)
    assert engine.generate(ONE)[1] == plain.generate(ONE)[1]


def test_compiling_is_seen_in_the_batch_that_pays_for_it(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler's front end as it is; its back end, minutes of C++ on a CPU, left out."""
    import torch

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    engine = opened(fresh=True, options={"torch_compile": True})
    first, tokens = engine.generate(ONE)
    second, _ = engine.generate(ONE)
    assert first.counters["compiled_graphs"] > 0
    assert second.counters["compiled_graphs"] == 0
    assert second.counters["compiled_forward_passes"] == second.counters["forward_passes"] > 0
    assert tokens == opened().generate(ONE)[1]
    assert "compiled_graphs" not in opened().generate(ONE)[0].counters


def test_what_was_asked_is_in_the_resolved_configuration(weights_cache: Path) -> None:
    options = {"attn_implementation": "eager", "cache_implementation": "dynamic"}
    spec = spec_of("transformers", model=untied(), options=options, **drafted(other()))
    told: Any = TransformersEngine(spec, weights_cache, LIMITS, Ticks()).load().resolved
    assert told["attn_implementation"] == "eager"
    assert told["generation"]["cache_implementation"] == "dynamic"
    assert told["generation"]["num_assistant_tokens"] == 4
    assert (told["speculation"], told["speculative_tokens"]) == ("draft_model", 4)
    assert told["draft"]["num_hidden_layers"] == 1
    assert told["torch_compile"] is False
    assert str(weights_cache) not in str(told)


def test_what_a_model_prefers_is_not_what_a_workload_asks(
    weights_cache: Path, tmp_path: Path
) -> None:
    """A generation_config.json may stop early, repeat less or sample; none of it is measured."""
    import shutil

    from workers.engines.weights import materialize

    folder = tmp_path / "mine"
    shutil.copytree(materialize(untied(), "float32", weights_cache), folder)
    (folder / "generation_config.json").write_text(
        '{"do_sample": true, "top_k": 3, "repetition_penalty": 9.0, "eos_token_id": [7, 8]}'
    )
    mine = ModelSpec(name="mine", weights=Weights.REAL, folder=str(folder))
    spec = spec_of("transformers", model=mine, dtype="float32")
    told: Any = TransformersEngine(spec, weights_cache, LIMITS, Ticks()).load().resolved
    names = ("do_sample", "top_k", "repetition_penalty", "eos_token_id")
    assert [told["generation"][name] for name in names] == [None] * 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"options": {"cache_implementation": "no_such"}}, "no_such"),
        ({"options": {"cache_implementation": "static"}, **drafted(other())}, "static cache"),
        (drafted(untied("wider", vocab_size=2048)), "2048 tokens, its target's 1024"),
        (drafted(untied("short", max_position_embeddings=100)), "100 positions"),
        (drafted(other(), draft=None), "without a draft"),
        (drafted(other(), speculative_tokens=None), "speculative_tokens"),
        (drafted(other(), speculation="eagle"), "eagle"),
        ({"model": MAMBA, "speculation": "ngram", "speculative_tokens": 4, "options": {}},
         "from the state of MambaForCausalLM"),
    ],
)  # fmt: skip
def test_what_it_cannot_do_is_a_permanent_fault_of_the_load(
    weights_cache: Path, changes: dict[str, Any], words: str
) -> None:
    spec: EngineSpec = spec_of("transformers", **{"model": untied(), **changes})
    limits = Limits(context_tokens=200, batch_size=1)
    with pytest.raises(EngineFault, match=words) as caught:
        TransformersEngine(spec, weights_cache, limits, Ticks()).load()
    assert (caught.value.kind, caught.value.permanent) == ("unsupported", True)
    assert "\n" not in str(caught.value)
