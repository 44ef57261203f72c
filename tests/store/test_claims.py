"""The reproduction table: every claim runs, and verdicts turn with the rows under them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from campaign.analysis.claims.claim import Claim, load_claims
from campaign.analysis.claims.computed import Beside
from campaign.analysis.claims.judging import Judged, Verdict, judge
from campaign.analysis.claims.shapes import sizes_of
from campaign.analysis.sweet_spots.forms import SIX
from campaign.analysis.workloads.traffic import OUTPUTS, READINGS
from campaign.catalogue.catalog import load_catalog
from campaign.cli import main
from db.claims import Counted, counted
from db.embedded import EmbeddedPostgres
from db.errors import ConfigError
from db.records import EngineSpec, Reality, Weights, Workload
from db.store import Store
from tests.store.measured import Row, insert
from tests.store.world import World, ground
from workers.workloads.traces import read_trace

pytestmark = pytest.mark.store

TRACE = Path(__file__).resolve().parents[1] / "data" / "traces" / "azure_2023_conv_30.csv"
CLAIMS = {claim.id: claim for claim in load_claims()}
LLAMA = "meta-llama/Llama-3.1-8B"
#: Five roots of arXiv:2511.05597, for claims that want a mean over models.
FIVE = ("facebook/opt-125m", "facebook/opt-1.3b", "google/gemma-2b", "microsoft/phi-2",
        "Qwen/Qwen2.5-0.5B")  # fmt: skip
TEN = (*FIVE, "facebook/opt-6.7b", "google/gemma-7b", "Qwen/Qwen2.5-7B", "meta-llama/Llama-2-7b-hf",
       "Qwen/Qwen1.5-4B")  # fmt: skip


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "claims") as found:
        yield found


@pytest.fixture
def empty(store: Store) -> Store:
    World(store)
    return store


def engine(model: str, board: str = "a100-sxm-80gb", **fields) -> EngineSpec:
    weights = fields.pop("weights", Weights.REAL)
    spec = load_catalog().model(model, "random")
    if weights is Weights.REAL:
        spec = replace(spec, weights=weights, commit="c0ffee")
    return EngineSpec(model=spec, backend=fields.pop("backend", "vllm"), board=board, **fields)


def row(
    spec: EngineSpec, input_tokens: int, output_tokens: int, batch_size: int, per_prompt_j: float,
    **fields,
) -> Row:  # fmt: skip
    """Three repeats, of which the middle one has exactly the joules, the others 1 % off."""
    beyond = {k: fields.pop(k) for k in ("arrival", "lengths", "requests") if k in fields}
    work = Workload(
        input_tokens=input_tokens, output_tokens=output_tokens, batch_size=batch_size, **beyond
    )
    joules = per_prompt_j * (work.requests or batch_size)
    return Row(
        engine=spec, workload=work, energies_j=[joules * k for k in (0.99, 1.0, 1.01)], **fields
    )


def verdict_on(store: Store, claim: str, beside: Beside | None = None) -> Judged:
    with counted(store, None) as rows:
        rows.tell_shapes(sizes_of)
        return judge(CLAIMS[claim], rows, beside)


# ---- worlds in which a claim holds, but for a factor -------------------------------------------


def lengths(longer: tuple[int, int], ratio: float, models: Sequence[str] = FIVE) -> list[Row]:
    return [
        made
        for model in models
        for made in (
            row(engine(model), 100, 100, 100, 10.0),
            row(engine(model), *longer, 100, 10.0 * ratio),
        )
    ]


def alone(ratios: Sequence[float]) -> list[Row]:
    return [
        made
        for model, ratio in zip(TEN, ratios, strict=True)
        for made in (
            row(engine(model), 300, 300, 100, 10.0),
            row(engine(model), 300, 300, 1, 10.0 * ratio),
        )
    ]


def speculated(batch_size: int, ratio: float, weights: Weights = Weights.REAL) -> list[Row]:
    plain = engine(LLAMA, "rtx-a6000", weights=weights)
    draft = engine("meta-llama/Llama-3.2-1B", weights=weights).model
    faster = replace(plain, speculation="draft_model", speculative_tokens=4, draft=draft)
    return [
        made
        for size in (batch_size, max(1, batch_size // 2))
        for made in (row(plain, 512, 64, size, 10.0), row(faster, 512, 64, size, 10.0 * ratio))
    ]


def parallel(boards: int, ratio: float, e2e_s: float = 1.0) -> list[Row]:
    many = engine(LLAMA, "rtx-a6000", tensor_parallel=boards, board_count=boards)
    return [
        row(engine(LLAMA, "rtx-a6000"), 512, 64, 1, 10.0),
        row(many, 512, 64, 1, 10.0 * ratio, e2e_s=e2e_s),
    ]


def optioned(board: str, backend: str, option: str, off: bool, ratio: float) -> list[Row]:
    """Rows with an option, and without, that take the ratio of them."""
    with_it = engine(LLAMA, board, backend=backend, options={option: True})
    without = engine(LLAMA, board, backend=backend, options={option: False})
    better, worse = (without, with_it) if off else (with_it, without)
    return [row(worse, 512, 64, 4, 10.0), row(better, 512, 64, 4, 10.0 * ratio)]


def experts(ratio: float) -> list[Row]:
    pair = ("allenai/OLMo-1B-hf", 1.0), ("allenai/OLMoE-1B-7B-0924", ratio)
    return [
        row(engine(model, "rtx-a6000"), 512, 64, size, 10.0 * times)
        for size in (1, 2, 4)
        for model, times in pair
    ]


def kv_heads(ratio: float) -> list[Row]:
    few, four = (engine(f"google/gemma-7b@kv_heads={n}", weights=Weights.RANDOM) for n in (1, 4))
    return [row(four, 300, 300, 10, 10.0), row(few, 300, 300, 10, 10.0 * ratio)]


def long_prompt(ratio: float) -> list[Row]:
    phi = engine("microsoft/Phi-3-mini-128k-instruct", "l4", tensor_parallel=2, board_count=2)
    return [row(phi, 300, 300, 1, 10.0), row(phi, 50_000, 300, 1, 10.0 * ratio)]


def arriving(batch_size: int, ratio: float) -> list[Row]:
    served = engine(LLAMA, "rtx-a6000", mode="online")
    offline = engine(LLAMA, "rtx-a6000")
    return [
        made
        for size in (batch_size, 2 * batch_size)
        for made in (
            row(offline, 512, 64, size, 10.0, arrival="at_once", requests=1024),
            row(served, 512, 64, size, 10.0 * ratio, arrival="closed", requests=1024),
        )
    ]


def hosted(share: float) -> list[Row]:
    return [
        row(engine(model), 300, 300, 8, 10.0, host_j=3 * 80.0 * share / (1 - share))
        for model in FIVE[:3]
    ]


def split(decode: float) -> list[Row]:
    return [
        row(engine(LLAMA, "rtx-a6000"), 512, 64, 8, 10.0, lengths=name,
            phases=(80.0 * (1 - decode), 80.0 * decode))
        for name in ("translation", "generation", "summarisation")
    ]  # fmt: skip


def layers(bend: float) -> list[Row]:
    """Energy of gemma-7b by layers: a line, or bent away from it."""
    return [
        row(engine(f"google/gemma-7b@layers={n}", weights=Weights.RANDOM), 300, 300, 10,
            10.0 + n + bend * (n - 24) ** 2)
        for n in (4, 12, 20, 32, 40, 48)
    ]  # fmt: skip


def parameters(noise: float) -> list[Row]:
    """Energy that follows the parameters but for a swing that has nothing to do with them."""
    catalog = load_catalog()
    return [
        row(engine(model), 300, 300, 100,
            float(str(catalog.row(catalog.model(model).name)["params_b"])) * 10
            + 40 + noise * (-1) ** n)
        for n, model in enumerate(TEN)
    ]  # fmt: skip


#: claim: (rows that confirm it, rows under which it differs)
TURNING: dict[str, tuple[Callable[[], list[Row]], Callable[[], list[Row]]]] = {
    "input_tokens_cost": (lambda: lengths((900, 100), 2.19), lambda: lengths((900, 100), 3.0)),
    "output_tokens_cost": (lambda: lengths((100, 900), 11.0), lambda: lengths((100, 900), 8.0)),
    "opt_30b_input_cost": (
        lambda: lengths((900, 100), 5.8, ["facebook/opt-30b"]),
        lambda: lengths((900, 100), 2.2, ["facebook/opt-30b"]),
    ),
    "batch_saves_least": (
        lambda: alone([12.7, 20, 22, 24, 26, 26, 30, 40, 60, 82]),
        lambda: alone([3.0, 20, 22, 24, 26, 26, 30, 40, 60, 82]),
    ),
    "batch_saves_median": (
        lambda: alone([12.7, 20, 22, 24, 26, 26, 30, 40, 60, 82]),
        lambda: alone([12.7, 13, 13, 14, 14, 15, 16, 40, 60, 82]),
    ),
    "batch_saves_most": (
        lambda: alone([12.7, 20, 22, 24, 26, 26, 30, 40, 60, 82]),
        lambda: alone([12.7, 20, 22, 24, 26, 26, 30, 40, 45, 50]),
    ),
    "long_prompt_cost": (lambda: long_prompt(3.25), lambda: long_prompt(12.0)),
    "linear_in_layers": (lambda: layers(0.0), lambda: layers(0.2)),
    "mqa_below_gqa": (lambda: kv_heads(0.8), lambda: kv_heads(1.2)),
    "host_share": (lambda: hosted(0.12), lambda: hosted(0.4)),
    "speculation_saves_small": (lambda: speculated(16, 0.71), lambda: speculated(16, 1.1)),
    "speculation_costs_large": (lambda: speculated(128, 1.26), lambda: speculated(128, 0.9)),
    "experts_cost": (lambda: experts(1.54), lambda: experts(0.8)),
    "two_boards_energy": (lambda: parallel(2, 1.293), lambda: parallel(2, 2.0)),
    "two_boards_latency": (lambda: parallel(2, 1.3, 0.6), lambda: parallel(2, 1.3, 0.95)),
    "four_boards_energy": (lambda: parallel(4, 1.55), lambda: parallel(4, 1.05)),
    "compile_saves_a100": (
        lambda: optioned("a100-pcie-80gb", "transformers", "torch_compile", False, 0.70),
        lambda: optioned("a100-pcie-80gb", "transformers", "torch_compile", False, 1.02),
    ),
    "graphs_save_a100": (
        lambda: optioned("a100-pcie-80gb", "vllm", "enforce_eager", True, 0.745),
        lambda: optioned("a100-pcie-80gb", "vllm", "enforce_eager", True, 0.97),
    ),
    "continuous_saves_large": (lambda: arriving(64, 0.95), lambda: arriving(64, 1.1)),
    "continuous_costs_small": (lambda: arriving(2, 1.1), lambda: arriving(2, 0.9)),
    "decode_dominates": (lambda: split(0.9), lambda: split(0.3)),
    "parameters_explain": (lambda: parameters(26.0), lambda: parameters(1.0)),
}  # fmt: skip


@pytest.mark.parametrize("claim", TURNING)
def test_a_verdict_turns_with_the_rows_under_it(claim: str, empty: Store) -> None:
    holds, fails = TURNING[claim]
    assert verdict_on(empty, claim).verdict is Verdict.NOT_MEASURED
    insert(empty, "holds", holds())
    held = verdict_on(empty, claim)
    assert (held.verdict, held.reality) == (Verdict.CONFIRMED, "real"), held
    World(empty)
    insert(empty, "fails", fails())
    assert verdict_on(empty, claim).verdict is Verdict.DIFFERS


def test_changing_the_joules_under_a_claim_turns_it(empty: Store) -> None:
    insert(empty, "holds", parallel(2, 1.293))
    assert verdict_on(empty, "two_boards_energy").verdict is Verdict.CONFIRMED
    with empty.begin() as connection:
        connection.exec_driver_sql(
            "update windows w set energy_j = energy_j * 2 from sessions s, engines e "
            "where s.id = w.session_id and e.id = s.engine_id and e.tensor_parallel = 2"
        )
    assert verdict_on(empty, "two_boards_energy").verdict is Verdict.DIFFERS


# ---- which rows count --------------------------------------------------------------------------


def test_simulated_rows_are_called_simulated_and_give_way_to_real_ones(empty: Store) -> None:
    made = [replace(one, reality=Reality.SIMULATED) for one in parallel(2, 1.293)]
    insert(empty, "simulated", made)
    assert verdict_on(empty, "two_boards_energy").reality == "simulated"
    insert(empty, "real", parallel(2, 2.0))
    judged = verdict_on(empty, "two_boards_energy")
    assert (judged.reality, judged.verdict) == ("real", Verdict.DIFFERS)


def test_rows_of_two_realities_never_make_one_figure(empty: Store) -> None:
    one, two = parallel(2, 1.293)
    insert(empty, "mixed", [one, replace(two, reality=Reality.SIMULATED)])
    assert verdict_on(empty, "two_boards_energy").verdict is Verdict.NOT_MEASURED


def test_random_weights_are_not_comparable_for_speculation(empty: Store) -> None:
    insert(empty, "random", speculated(16, 0.71, Weights.RANDOM))
    judged = verdict_on(empty, "speculation_saves_small")
    assert judged.verdict is Verdict.NOT_COMPARABLE
    assert "weights real" in judged.why
    assert judged.evidence is not None  # our figure stands beside it


def test_doubtful_rows_do_not_count_and_are_told(empty: Store) -> None:
    one, two = parallel(2, 1.293)
    insert(empty, "marked", [one, replace(two, marks=["short_window"])])
    with counted(empty, None) as rows:
        assert (len(rows.sources), rows.left_out) == (1, 1)
        assert judge(CLAIMS["two_boards_energy"], rows).verdict is Verdict.NOT_MEASURED


def test_an_unknown_campaign_is_one_line(empty: Store) -> None:
    with (
        pytest.raises(ConfigError, match=r"no campaign is called nope; known: proof"),
        counted(empty, "nope"),
    ):
        pass


# ---- intervals say what they contain -----------------------------------------------------------


def test_one_session_gives_the_propagated_half_width(empty: Store) -> None:
    """Repeats of 0.99, 1, 1.01: t(2) x 0.01 / sqrt 3 = 2.48 % of each; of the ratio, √2 as much."""
    insert(empty, "one", parallel(2, 1.293))
    evidence = verdict_on(empty, "two_boards_energy").evidence
    assert evidence is not None
    assert evidence.contains.startswith("within one session")
    assert evidence.half_width == pytest.approx(129.3 * 2**0.5 * 4.303 * 0.01 / 3**0.5, rel=1e-3)


def test_replicates_give_students_interval_between_sessions(empty: Store) -> None:
    made = [
        replace(one, replicate=n)
        for n, ratio in enumerate((1.28, 1.29, 1.30))
        for one in parallel(2, ratio)
    ]
    insert(empty, "three", made)
    evidence = verdict_on(empty, "two_boards_energy").evidence
    assert evidence is not None
    assert (evidence.contains, evidence.sessions) == ("between sessions: 3 replicates", 6)
    assert evidence.figure == pytest.approx(29.0)
    assert evidence.half_width == pytest.approx(4.303 * 1.0 / 3**0.5, rel=1e-3)


def test_an_interval_of_some_of_the_points_says_so(empty: Store) -> None:
    """A second replicate stopped before its second board: 29 and 89 %, of which one has it."""
    first = [*parallel(2, 1.28), *elsewhere(parallel(2, 1.89))]
    second = [replace(one, replicate=1) for one in parallel(2, 1.30)]
    insert(empty, "stopped", [*first, *second])
    evidence = verdict_on(empty, "two_boards_energy").evidence
    assert evidence is not None
    assert evidence.figure == pytest.approx((29 + 89) / 2)
    assert evidence.contains == "between sessions: 2 replicates, of 1 of 2 points"


def elsewhere(rows: Sequence[Row]) -> list[Row]:
    return [replace(one, engine=replace(one.engine, board="l4")) for one in rows]


def test_an_interval_that_is_too_wide_decides_nothing(empty: Store) -> None:
    made = [replace(one, replicate=n) for n, r in enumerate((0.9, 1.69)) for one in parallel(2, r)]
    insert(empty, "two", made)
    judged = verdict_on(empty, "two_boards_energy")
    assert judged.verdict is Verdict.NOT_MEASURED
    assert "too wide" in judged.why


# ---- claims that an analysis answers -----------------------------------------------------------

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
#: Joules of a request by its lengths, in the six-term form: its best lengths lie inside the grid.
THETA = np.array([2e-2, 3e-8, 6e-7, 2e-3, 4e-7, 0.5])


def grid(joules: Callable[[float, float], float], backend: str = "tensorrt_llm") -> list[Row]:
    """Return the grid of lengths, on three engines."""
    return [
        row(engine(model, "h100-sxm-80gb", backend=backend), i, o, 8, joules(i, o))
        for model in FIVE[:3]
        for i in LENGTHS
        for o in LENGTHS
    ]


def six_terms(n_in: float, n_out: float) -> float:
    return float(SIX.energy_j(THETA, np.array([n_in]), np.array([n_out]))[0])


def uneven(n_in: float, n_out: float) -> float:
    """Joules of which every other length is a fifth dearer: no smooth form follows them."""
    return six_terms(n_in, n_out) * (1.2 if LENGTHS.index(int(n_out)) % 2 else 0.8)


def dipped(n_in: float, n_out: float) -> float:
    """Joules with a dip at one length, which the smooth form's optimum misses."""
    return six_terms(n_in, n_out) * (0.7 if n_out == 256 else 1.0)


@pytest.mark.parametrize(
    ("claim", "holds", "fails"),
    [
        ("six_terms_mape", six_terms, uneven),
        ("optimum_formula", six_terms, dipped),
        ("linear_form_is_wrong", six_terms, lambda i, o: (0.5 + 1e-3 * i + 2e-2 * o)
         * (1.01 if LENGTHS.index(int(i)) % 2 else 0.99)),
    ],
)  # fmt: skip
def test_a_claim_about_lengths_is_answered_by_the_fit(
    empty: Store, claim: str, holds: Callable, fails: Callable
) -> None:
    insert(empty, "holds", grid(holds))
    judged = verdict_on(empty, claim)
    assert (judged.verdict, judged.why) == (Verdict.CONFIRMED, "")
    assert judged.evidence is not None
    assert (judged.evidence.points, len(judged.evidence.attempts)) == (3, 147)
    World(empty)
    insert(empty, "fails", grid(fails))
    assert verdict_on(empty, claim).verdict is Verdict.DIFFERS


def test_too_few_lengths_say_what_is_there_and_another_engine_is_not_compared(
    empty: Store,
) -> None:
    insert(empty, "few", grid(six_terms)[:3])
    judged = verdict_on(empty, "six_terms_mape")
    assert judged.verdict is Verdict.NOT_MEASURED
    assert judged.why.endswith("there are 3 rows in 1 of these, 3 pairs at most")
    World(empty)
    insert(empty, "one", grid(six_terms)[:1])
    assert verdict_on(empty, "six_terms_mape").why.endswith(
        "there is 1 row in 1 of these, 1 pair at most"
    )
    World(empty)
    insert(empty, "vllm", grid(six_terms, "vllm"))
    assert verdict_on(empty, "six_terms_mape").verdict is Verdict.NOT_COMPARABLE


def traced(ratio: float, outputs: Sequence[int] = OUTPUTS) -> list[Row]:
    return [
        row(engine(LLAMA, "rtx-a6000", backend=backend), i, o, 4, (i + 10 * o) * times)
        for backend, times in (("transformers", 1.0), ("vllm", ratio))
        for i in READINGS["printed"]
        for o in outputs
    ]


def test_a_saving_on_a_trace_is_computed_from_its_bins(empty: Store) -> None:
    beside = Beside(traces={"azure_chat_saving": read_trace(TRACE)})
    assert "--trace azure_chat_saving=TRACE" in verdict_on(empty, "azure_chat_saving").why
    insert(empty, "holds", traced(1 - 0.7218))
    judged = verdict_on(empty, "azure_chat_saving", beside)
    assert judged.verdict is Verdict.CONFIRMED
    assert judged.evidence is not None
    assert judged.evidence.figure == pytest.approx(72.18, rel=1e-6)
    World(empty)
    insert(empty, "fails", traced(0.9))
    assert verdict_on(empty, "azure_chat_saving", beside).verdict is Verdict.DIFFERS
    World(empty)
    insert(empty, "short", traced(1 - 0.7218, OUTPUTS[:3]))
    judged = verdict_on(empty, "azure_chat_saving", beside)
    assert judged.verdict is Verdict.NOT_MEASURED
    assert "24 rows of vllm with joules for " in judged.why


def found(r2: float, realities: Mapping[str, int]) -> Beside:
    scores = {"random_forest": {"r2_correlation": r2, "r2_correlation_sd": 0.01}}
    return Beside(findings={
        "rows": {"rows": 900, "realities": realities},
        "cross_validation": {"regressors": scores},
    })  # fmt: skip


@pytest.mark.parametrize(
    ("beside", "verdict"),
    [
        (None, Verdict.NOT_MEASURED),
        (found(0.97, {"real": 900}), Verdict.CONFIRMED),
        (found(0.8, {"simulated": 900}), Verdict.DIFFERS),
        (found(0.97, {"external": 900}), Verdict.NOT_COMPARABLE),
        (found(0.97, {"real": 800, "simulated": 100}), Verdict.NOT_COMPARABLE),
    ],
)
def test_a_claim_about_predictors_is_answered_by_a_saved_one(
    empty: Store, beside: Beside | None, verdict: Verdict
) -> None:
    judged = verdict_on(empty, "forest_cv_r2", beside)
    assert judged.verdict is verdict
    assert (judged.evidence is None) == (beside is None)
    assert "--model-dir" in judged.why or beside is not None
    assert verdict_on(empty, "held_out_model_mape", beside).verdict is Verdict.NOT_MEASURED


# ---- the claims themselves, and the verb -------------------------------------------------------


@pytest.fixture(scope="module")
def rows(store: Store) -> Iterator[Counted]:
    with counted(store, None) as found:
        yield found


@pytest.mark.parametrize("claim", [one for one in CLAIMS.values() if one.sql], ids=lambda c: c.id)
def test_every_statement_runs(claim: Claim, rows: Counted) -> None:
    rows.find(claim.id, claim.sql or "", claim.of)
    rows.find(claim.id, claim.sql or "", {})


def test_the_table_in_words_and_as_data(empty: Store, capsys: pytest.CaptureFixture[str]) -> None:
    insert(empty, "simulated", [
        replace(one, reality=Reality.SIMULATED) for one in parallel(2, 1.293)
    ])  # fmt: skip
    here = f"store.url='{empty.url}'"
    assert main(["analyze", "claims", "--json", here]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["claims"]) == len(CLAIMS)
    found = {one["id"]: one for one in document["claims"]}
    ours = found["two_boards_energy"]["ours"]
    assert (ours["reality"], ours["measurements"], len(ours["tasks"])) == ("simulated", 2, 2)
    assert ours["low"] < ours["figure"] < ours["high"]
    assert main(["analyze", "claims", "two_boards_energy", here]) == 0
    said = capsys.readouterr()
    assert "confirmed (simulated)" in said.out
    assert "1 claim: 1 confirmed; 2 measurements counted" in said.err
