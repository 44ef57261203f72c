"""What an estimate says of speculation: steps that keep more tokens, the draft's work, the unknown.

Published: 2504.17674 measured an 8B target with a 1B draft that proposes 4 tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from campaign import cli
from campaign.catalogue.catalog import load_catalog
from campaign.configuration.config import load
from campaign.forecast.hours import Efforts
from campaign.forecast.outlook import check_budget, describe
from campaign.forecast.planshow import show
from campaign.grids.grid import expand
from db.costs import MeasuredCost
from db.errors import Infeasible
from db.records import Board, EngineSpec, Scalar, Weights, Workload
from workers.costs.calibration import corrections
from workers.costs.constants import Constants
from workers.costs.cost import Cost, estimate, memory_filled, running_together
from workers.costs.roofline import decode, weight_bytes
from workers.costs.speculation import KEPT, assumption, kept, unknown
from workers.shapes.shape import precision, shape_of

CATALOG = load_catalog()
A100 = CATALOG.board("a100-pcie-80gb")
TARGET = replace(CATALOG.model("meta-llama/Llama-3.1-8B"), weights=Weights.REAL)
DRAFT = replace(CATALOG.model("meta-llama/Llama-3.2-1B"), weights=Weights.REAL)
PLAIN = EngineSpec(model=TARGET, backend="vllm", board=A100.slug, version="0.6")
DRAFTED = replace(PLAIN, speculation="draft_model", speculative_tokens=4, draft=DRAFT)
LOOKUP = replace(PLAIN, speculation="ngram", speculative_tokens=4)


def synthetic(length: Scalar, spec: EngineSpec = LOOKUP) -> EngineSpec:
    options: Mapping[str, Scalar] = {
        "rejection_sample_method": "synthetic", "synthetic_acceptance_length": length,
    }  # fmt: skip
    return replace(spec, options={**spec.options, **options})


def load_of(batch: int = 1, n: int = 512, out: int = 257) -> Workload:
    return Workload(input_tokens=n, output_tokens=out, batch_size=batch)


def cost(spec: EngineSpec, workload: Workload | None = None, board: Board = A100) -> Cost:
    shape = shape_of(spec.model.name, spec.model.architecture)
    assert shape is not None
    found = estimate(spec, shape, board, workload or load_of())
    assert found is not None
    return found


def joules(found: Cost) -> float:
    assert found.energy_j is not None
    return found.energy_j


# ---- steps -----------------------------------------------------------------------------------


def test_steps_read_the_weights_as_often_as_tokens_are_kept_and_compute_all_that_is_proposed() -> (
    None
):
    shape, numbers = shape_of("m", TARGET.architecture), precision("bfloat16")
    assert shape is not None
    plain = decode(shape, numbers, load_of(3))
    ahead = decode(shape, numbers, load_of(3), proposed=4, kept=2.0)
    assert (plain.steps, ahead.steps) == (256, 128)
    assert ahead.flops == pytest.approx(5 / 2 * plain.flops)
    assert ahead.matrix_flops == 5 / 2 * plain.matrix_flops
    assert ahead.tokens == 128 * 5 * 3
    written = 3 * shape.kv_elements_per_token * numbers.kv_bytes
    assert ahead.bytes == pytest.approx(
        (plain.bytes - 256 * written) / 2 + 128 * 5 * written, rel=1e-12
    )


def test_one_more_token_takes_one_step_however_many_a_step_keeps() -> None:
    shape = shape_of("m", TARGET.architecture)
    assert shape is not None
    work = decode(shape, precision("bfloat16"), load_of(out=2), proposed=4, kept=5.0)
    assert (work.steps, work.tokens) == (1, 5)


def test_more_experts_are_reached_by_what_is_proposed() -> None:
    mixture = CATALOG.model("mistralai/Mixtral-8x7B-v0.1")
    shape = shape_of("m", mixture.architecture)
    assert shape is not None
    numbers = precision("bfloat16")
    plain, ahead = (
        decode(shape, numbers, load_of(n=1, out=2), proposed=tokens) for tokens in (0, 4)
    )
    assert ahead.bytes > 2 * plain.bytes


def test_a_lookup_that_keeps_all_saves_most_where_memory_is_the_bound() -> None:
    plain, ahead = cost(PLAIN).decode, cost(synthetic(5.0)).decode
    assert plain.bound == "memory"
    assert 4.0 < plain.seconds / ahead.seconds < 5.0


def test_what_is_proposed_in_vain_costs_time_and_energy() -> None:
    for batch in (1, 16, 128):
        plain, vain = cost(PLAIN, load_of(batch)), cost(synthetic(1.0), load_of(batch))
        assert vain.decode.seconds > plain.decode.seconds
        assert joules(vain) > joules(plain)
        assert vain.prefill == plain.prefill


def test_a_longer_kept_run_takes_less() -> None:
    spent = [cost(synthetic(length)).e2e_s for length in (1, 2.0, 3.5, 5)]
    assert spent == sorted(spent, reverse=True)
    assert len(set(spent)) == 4


# ---- drafts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "out"), [(512, 64), (512, 256), (64, 512)])
@pytest.mark.parametrize("slug", ["a100-pcie-80gb", "rtx-a6000"])
def test_a_draft_saves_and_costs_as_published(slug: str, n: int, out: int) -> None:
    """Saves up to 29 % at batches up to 16, costs 26 % more at 128: section 2.6 of its tables."""
    board = CATALOG.board(slug)
    ratio = {}
    for batch in (1, 2, 4, 8, 16, 128):
        workload = load_of(batch, n, out)
        plain, drafted = (
            cost(replace(spec, board=slug), workload, board) for spec in (PLAIN, DRAFTED)
        )
        ratio[batch] = joules(drafted) / joules(plain)
    assert min(ratio.values()) == pytest.approx(1 - 0.2914, abs=0.05)
    assert list(ratio.values()) == sorted(ratio.values())
    assert ratio[8] < 1.0
    assert 1.15 < ratio[128] < 1.5


def test_a_larger_draft_costs_more_and_a_lookup_nothing() -> None:
    larger = replace(CATALOG.model("meta-llama/Llama-3.2-3B"), weights=Weights.REAL)
    lookup, small, large = (
        cost(synthetic(2.0, spec)) for spec in (LOOKUP, DRAFTED, replace(DRAFTED, draft=larger))
    )
    assert lookup.e2e_s < small.e2e_s < large.e2e_s
    assert lookup.prefill.seconds < small.prefill.seconds < large.prefill.seconds
    assert joules(lookup) < joules(small) < joules(large)


@pytest.mark.parametrize(("backend", "loops"), [("vllm", 1), ("transformers", 1 + 4)])
def test_generate_has_a_loop_of_its_own_for_a_draft_and_vllm_none(backend: str, loops: int) -> None:
    """What an engine spends per step outside of the kernels, with its steps and without."""
    spec = replace(DRAFTED, backend=backend, options={"torch_compile": True})
    shape = shape_of("m", TARGET.architecture)
    assert shape is not None
    still = replace(Constants(), step_s=0.0, request_s=0.0)
    spent = [
        estimate(spec, shape, A100, load_of(), constants)
        for constants in (still, replace(still, step_s=1e-3))
    ]
    assert spent[0] is not None
    assert spent[1] is not None
    per_step_s = spent[1].decode.seconds - spent[0].decode.seconds
    assert per_step_s == pytest.approx(loops * 1e-3 * 256 / (kept(DRAFTED) or 0.0))


def test_a_draft_is_not_quantized() -> None:
    """It takes as long beside a target of 4 bits as beside a whole one."""
    kept_as_assumed = synthetic(kept(DRAFTED))
    whole, four = (
        cost(replace(DRAFTED, quantization=kind)).e2e_s
        - cost(replace(kept_as_assumed, quantization=kind)).e2e_s
        for kind in (None, "awq")
    )
    assert four == pytest.approx(whole)


def test_a_draft_takes_memory() -> None:
    shape, draft = shape_of("m", TARGET.architecture), shape_of("d", DRAFT.architecture)
    assert shape is not None
    assert draft is not None
    one = load_of()
    more = memory_filled(DRAFTED, shape, A100, one) - memory_filled(PLAIN, shape, A100, one)
    assert weight_bytes(draft, precision("bfloat16")) < more < 3e9
    crowd = load_of(2000, 512, 512)
    plain, drafted = (running_together(s, shape, A100, crowd) for s in (PLAIN, DRAFTED))
    assert 0 < drafted < 0.85 * plain


def test_a_draft_s_name_changes_nothing() -> None:
    renamed = replace(DRAFTED, draft=replace(DRAFT, name="acme/qwen-0.5b-moe"))
    assert cost(renamed) == cost(DRAFTED)


# ---- what is not known -----------------------------------------------------------------------


def test_how_many_tokens_are_kept_is_told_assumed_or_unknown() -> None:
    assert kept(PLAIN) == 1.0
    assert kept(synthetic(2.5)) == 2.5
    assert kept(DRAFTED) == pytest.approx(1 + KEPT + KEPT**2 + KEPT**3 + KEPT**4)
    assert kept(synthetic(2.5, DRAFTED)) == 2.5
    unheard = replace(DRAFT, architecture={"model_type": "no-such"})
    for spec in (LOOKUP, replace(DRAFTED, draft=unheard),
                 *(synthetic(wrong) for wrong in (None, 0.5, 5.5, "2"))):  # fmt: skip
        assert kept(spec) is None
        assert unknown(spec)
        shape = shape_of("m", TARGET.architecture)
        assert shape is not None
        assert estimate(spec, shape, A100, load_of()) is None
    assert [unknown(spec) for spec in (PLAIN, DRAFTED, synthetic(2.5))] == [None] * 3


def test_only_a_draft_s_estimate_assumes_something() -> None:
    assumed = "assumed: a target keeps 60% of a draft's tokens, so 2.3 of a step's 5 tokens"
    assert assumption(DRAFTED) == assumed
    silent = (PLAIN, LOOKUP, synthetic(2.5), synthetic(2.5, DRAFTED))
    assert [assumption(spec) for spec in silent] == [None] * 4


def test_what_rests_on_an_assumption_corrects_nothing() -> None:
    def rows(spec: EngineSpec) -> int:
        one = MeasuredCost(engine=spec, workload=load_of(), batch_s=9.0, energy_j=9.0)
        return sum(found.rows for found in corrections([(one, A100)]).values())

    assert [rows(spec) for spec in (PLAIN, synthetic(2.5), DRAFTED, LOOKUP)] == [1, 1, 0, 0]


def planned(*overrides: str) -> tuple[Any, Any]:
    settings = load(("board=h100-sxm-80gb", "model=meta-llama/Llama-3.1-8B", "weights=real",
                     "engine.speculative_tokens=4", *overrides))  # fmt: skip
    grid = expand(settings, CATALOG, [])
    return settings, describe(settings, grid, {}, None, Efforts(grid.boards))


def test_a_plan_takes_a_lookup_for_the_most_it_can_cost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    overrides = ("engine.speculation=[null,ngram,meta-llama/Llama-3.2-1B]",
                 "workload.batch_size=[1,2]")  # fmt: skip
    settings, plan = planned(*overrides, "budget.kwh=100")
    doubt = "how many tokens of a lookup in the text are kept depends on the text; as if none were"
    assert (plan["tasks"], plan["without_energy"], plan["at_most"]) == (6, {}, {doubt: 2})
    show({**plan, "source": "physics", "energy_source": "physics"})
    assert f"at most    2 tasks: {doubt}\n" in capsys.readouterr().err
    check_budget(settings, plan)
    with pytest.raises(Infeasible, match=r"takes up to .* kWh, more than budget\.kwh=0\.01"):
        check_budget(planned(*overrides, "budget.kwh=0.01")[0], plan)


def test_no_text_makes_a_lookup_cost_more_than_its_bound() -> None:
    shape = shape_of("m", TARGET.architecture)
    assert shape is not None
    for batch in (1, 16, 128):
        bound = estimate(LOOKUP, shape, A100, load_of(batch), at_most=True)
        assert bound is not None
        for length in (1, 1.5, 3, 5):
            found = cost(synthetic(length), load_of(batch))
            assert found.e2e_s <= bound.e2e_s
            assert joules(found) <= joules(bound)
        assert joules(bound) > joules(cost(PLAIN, load_of(batch)))
    assert estimate(DRAFTED, shape, A100, load_of(), at_most=True) == cost(DRAFTED)


def test_a_plan_knows_a_set_rate_and_loads_a_draft() -> None:
    told = ("engine.options.vllm.rejection_sample_method=synthetic",
            "engine.options.vllm.synthetic_acceptance_length=2.5")  # fmt: skip
    _, plan = planned("engine.speculation=ngram", *told)
    assert plan["without_energy"] == {}
    assert plan["kwh"] > 0
    grid = expand(load(("model=meta-llama/Llama-3.1-8B", "board=l4")), CATALOG, [])
    (task,) = grid.tasks
    plain, drafted = (
        Efforts(grid.boards).load(replace(task.engine, **more), task.protocol).seconds
        for more in ({}, {"speculation": "draft_model", "draft": DRAFT})
    )
    assert drafted - plain == pytest.approx(2.47e9 / 2e9, rel=0.01)


# ---- the verb --------------------------------------------------------------------------------

WORDS = ("estimate", "--model", "meta-llama/Llama-3.1-8B", "--board", "a100-pcie-80gb")


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert cli.main([*WORDS, *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_verb_is_asked_who_proposes(capsys: pytest.CaptureFixture[str]) -> None:
    plain = asked(capsys, "--version", "0.6")
    drafted = asked(capsys, "--version", "0.6", "--speculation", "meta-llama/Llama-3.2-1B")
    workload = load_of(n=300, out=300)
    assert drafted["energy_j"] == pytest.approx(joules(cost(DRAFTED, workload)))
    assert drafted["energy_j"] < plain["energy_j"]
    assert drafted["memory_bytes"] > plain["memory_bytes"] + 2e9
    assert drafted["reason"] == assumption(DRAFTED)
    told = asked(capsys, "--version", "0.6", "--speculation", "ngram", "--acceptance-length", "3")
    assert told["energy_j"] == pytest.approx(joules(cost(synthetic(3.0), workload)))
    assert told["reason"] is None
    further = asked(capsys, "--version", "0.6", "--speculation", "ngram", "--acceptance-length",
                    "3", "--speculative-tokens", "8")  # fmt: skip
    assert further["energy_j"] > told["energy_j"]


def test_the_verb_knows_nothing_of_a_lookup(capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, "--speculation", "ngram")
    assert (found["fits"], found["seconds"], found["energy_j"]) == (True, None, None)
    assert found["reason"] == unknown(LOOKUP)


def test_the_verb_tells_a_draft_of_another_vocabulary(capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, "--speculation", "Qwen/Qwen2.5-0.5B")
    assert found["fits"] is False
    assert found["reason"].startswith("draft_vocabulary: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--acceptance-length", "2"), "--acceptance-length: has no use without --speculation"),
        (("--speculative-tokens", "2"), "--speculative-tokens: has no use without --speculation"),
        (("--speculation", "ngram", "--acceptance-length", "5.5"), "keeps from 1 to 5 tokens"),
        (("--speculation", "ngram", "--acceptance-length", "nan"), "keeps from 1 to 5 tokens"),
        (("--speculation", "ngram", "--acceptance-length", "0"), "keeps from 1 to 5 tokens"),
        (("--speculation", "ngram", "--acceptance-length", "two"), "invalid float value: 'two'"),
        (("--speculation", "ngram", "--speculative-tokens", "300"), "300: at most 256"),
        (("--speculation", "ngram", "--speculative-tokens", "0"), "0: give a whole number"),
        (("--speculation", "no/such"), "model no/such: not in the catalogue"),
        (("--backend", "transformers", "--speculation", "ngram", "--acceptance-length", "2"),
         "--acceptance-length: counts for vLLM alone"),
        (("engine.speculation=ngram",), "engine.speculation: write --speculation"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert cli.main([*WORDS, *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
