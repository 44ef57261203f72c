"""What a claim's statement sets against each other: rows that differ in what the claim is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from campaign.analysis.claims import lengths
from campaign.analysis.claims.claim import Claim, Interval
from campaign.analysis.claims.computed import Beside
from campaign.analysis.claims.judging import Verdict
from campaign.catalogue.catalog import load_catalog
from campaign.configuration.config import load
from campaign.grids.grid import expand
from db.claims import counted
from db.embedded import EmbeddedPostgres
from db.records import EngineSpec, Reality, Task
from db.store import Store
from tests.store.measured import Row, insert
from tests.store.test_claims import CLAIMS, LLAMA, TRACE, engine, parallel, row, traced, verdict_on
from tests.store.world import World, ground
from workers.workloads.traces import read_trace

pytestmark = pytest.mark.store

BOARD = "a100-pcie-80gb"
GRAPHS = "graphs_save_a100"


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "claims_alike") as found:
        yield found


@pytest.fixture
def empty(store: Store) -> Store:
    World(store)
    return store


def figures(store: Store, claim: Claim) -> list[float]:
    with counted(store, None) as rows:
        return [one.figure for one in rows.find(claim.id, claim.sql or "", claim.of)]


#: Beside graphs, what tells two engines or two works apart; joules differ by half as much again.
BESIDE: Mapping[str, tuple[dict[str, object], dict[str, object]]] = {
    "requests": ({}, {"arrival": "at_once", "requests": 1024}),
    "arrival": ({}, {"arrival": "closed", "requests": 16}),
    "lengths": ({}, {"lengths": "translation"}),
    "mode": ({"mode": "online"}, {}),
    "power limit": ({"power_limit_w": 200.0}, {}),
    "format": ({"dtype": "float16"}, {}),
    "option": ({"options": {"enable_prefix_caching": True}}, {}),
    "boards": ({"tensor_parallel": 2, "board_count": 2}, {}),
    "split": ({"board_count": 2}, {}),
    "commit": ({"model": replace(engine(LLAMA).model, commit="beef")}, {}),
}


@pytest.mark.parametrize("what", BESIDE)
def test_rows_that_differ_in_something_else_too_are_no_pair(what: str, empty: Store) -> None:
    of_engine, of_work = BESIDE[what]
    work = {"arrival": "at_once", "requests": 16}

    def pair(joules: float, fields: dict[str, object], asked: dict[str, object]) -> list[Row]:
        spec: EngineSpec = replace(engine(LLAMA, BOARD), **fields)
        return [
            row(replace(spec, options={**spec.options, "enforce_eager": eager}), 512, 64, 16,
                joules * times, **asked)
            for eager, times in ((True, 1.0), (False, 0.75))
        ]  # fmt: skip

    insert(empty, "pairs", [*pair(10.0, {}, work), *pair(15.0, of_engine, {**work, **of_work})])
    assert figures(empty, CLAIMS[GRAPHS]) == pytest.approx([0.75, 0.75])


def tasks(grid: str, *overrides: str) -> list[Task]:
    settings = replace(load([f"+grid={grid}", *overrides]), reality=Reality.REAL)
    return list(expand(settings, load_catalog(), []).tasks)


def test_the_grid_of_arrivals_answers_its_claims(empty: Store) -> None:
    """Requests that come at once are bounded by the engine, those of clients by themselves."""
    wanted = [
        one for one in tasks("energy_considerations/batching", "weights=random")
        if one.engine.backend == "vllm" and one.workload.batch_size in (4, 8, 64, 128)
    ]  # fmt: skip
    assert {task.engine.options.get("max_num_seqs") for task in wanted} == {None, 4, 8, 64, 128}
    times = {"static": 1.3, "at_once": 1.0, "closed": 0.95}
    insert(empty, "arrivals", [
        Row(engine=one.engine, workload=one.workload,
            energies_j=[1e4 * times[one.workload.arrival]])
        for one in wanted
    ])  # fmt: skip
    assert verdict_on(empty, "continuous_saves_large").verdict is Verdict.CONFIRMED
    assert verdict_on(empty, "continuous_costs_small").verdict is Verdict.DIFFERS
    assert figures(empty, CLAIMS["continuous_saves_large"]) == pytest.approx([0.95] * 4)


def test_depths_are_compared_with_all_else_equal(empty: Store) -> None:
    """Graphs of the full model beside its depths, all of which run with them, bend no line."""
    deep = [
        row(engine(f"google/gemma-7b@layers={n}", options={"enforce_eager": False}),
            300, 300, 10, 10.0 + n)
        for n in (4, 12, 20, 32, 40, 48)
    ]  # fmt: skip
    eager = row(engine("google/gemma-7b", options={"enforce_eager": True}), 300, 300, 10, 500.0)
    insert(empty, "depths", [*deep, eager])
    assert verdict_on(empty, "linear_in_layers").verdict is Verdict.CONFIRMED


def test_two_commits_of_a_model_are_never_fitted_together(empty: Store) -> None:
    """One takes twice what the other does: pooled, six terms would be a third off."""
    spec = engine(LLAMA, BOARD)
    other = replace(spec, model=replace(spec.model, commit="beef"))
    insert(empty, "commits", [
        row(one, i, o, 8, scale * (20 + 0.02 * i + 0.5 * o + 0.002 * o * o))
        for one, scale in ((spec, 1.0), (other, 2.0))
        for i in (64, 256, 1024)
        for o in (32, 128, 512)
    ])  # fmt: skip
    with counted(empty, None) as rows:
        found = lengths.fitted("six_terms_mape", lengths.error_of_six, rows, {})
    assert len({one.point for one in found}) == 2
    assert max(one.figure for one in found) < 0.1


def test_engines_of_a_trace_are_paired_with_all_else_equal(empty: Store) -> None:
    """A limit of its own makes another pair, not two more of unlike ones."""
    made = traced(1 - 0.7218)
    limited = [
        replace(one, engine=replace(one.engine, power_limit_w=200.0),
                energies_j=[j * 0.5 for j in one.energies_j if j is not None])
        for one in made
    ]  # fmt: skip
    insert(empty, "traced", [*made, *limited])
    beside = Beside(traces={"azure_chat_saving": read_trace(TRACE)})
    judged = verdict_on(empty, "azure_chat_saving", beside)
    assert judged.evidence is not None
    assert judged.evidence.figure == pytest.approx(72.18, rel=1e-6)
    assert judged.evidence.points == 2


# ---- intervals of what is not the joules of a run ----------------------------------------------


@pytest.mark.parametrize("claim", ["two_boards_latency", "four_boards_latency"])
def test_joules_of_a_run_say_nothing_of_its_time(claim: str, empty: Store) -> None:
    boards = 2 if claim.startswith("two") else 4
    rows = parallel(boards, 1.3, 0.5)
    insert(empty, "one", rows)
    judged = verdict_on(empty, claim)
    assert judged.evidence is not None
    assert (judged.evidence.half_width, judged.evidence.contains) == (
        None, "no interval: one session",
    )  # fmt: skip
    energy = verdict_on(empty, claim.replace("latency", "energy")).evidence
    assert energy is not None
    assert energy.half_width is not None
    World(empty)
    insert(empty, "three", [
        replace(one, replicate=n)
        for n, seconds in enumerate((0.49, 0.5, 0.51)) for one in parallel(boards, 1.3, seconds)
    ])  # fmt: skip
    evidence = verdict_on(empty, claim).evidence
    assert evidence is not None
    assert evidence.contains == "between sessions: 3 replicates"


def test_claims_of_a_time_or_of_a_part_have_no_interval_of_a_whole_run() -> None:
    other = ("e2e_s", "prefill_j", "decode_j", "host_j")
    asked = [c for c in CLAIMS.values() if c.sql and any(word in c.sql for word in other)]
    assert len(asked) > 5
    assert all(c.interval is Interval.REPLICATES or c.form == "value" for c in asked)
