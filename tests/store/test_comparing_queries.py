"""Named queries that compare: with engines as the command line makes them, one thing differs.

Every field of the rows here changes the joules by a factor of its own, so a comparison that holds
all others equal finds that factor in each of its rows, and one that does not finds something else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from campaign.catalogue.catalog import load_catalog
from campaign.cli import main
from campaign.configuration.config import load
from campaign.grids.grid import expand
from db.asking import shipped
from db.embedded import EmbeddedPostgres
from db.records import EngineSpec, Reality, Workload
from db.store import Store
from tests.store.measured import Row, insert
from tests.store.world import ground

pytestmark = pytest.mark.store

SMALL, LARGE = "facebook/opt-125m", "facebook/opt-1.3b"
#: What every value of a field does to the joules of a prompt; other values do nothing.
FACTORS: Mapping[str, Mapping[object, float]] = {
    "model": {LARGE: 1.7},
    "backend": {"transformers": 3.0},
    "board": {"h100-sxm-80gb": 0.5},
    "dtype": {"float16": 1.1},
    "quantization": {"fp8": 0.7},
    "tensor_parallel": {2: 1.3},
    "enforce_eager": {True: 1.25},
    "power_limit_w": {200.0: 0.9},
    "mode": {"online": 1.15},
    "batch_size": {1: 8.0},
    "arrival": {"static": 1.05, "poisson": 1.9},
    "requests": {64: 0.95},
    "rate_rps": {0.5: 4.0},
    "output_tokens": {900: 7.0, 500: 4.5},
    "prefix_tokens": {50: 0.8},
}
GRID = {
    "model": f"[{SMALL},{LARGE}]", "weights": "random", "board": "[l4,h100-sxm-80gb]",
    "engine.backend": "[vllm,transformers]", "engine.tensor_parallel": "[1,2]",
    "engine.options.vllm.enforce_eager": "[true,false]", "workload.input_tokens": "100",
    "workload.output_tokens": "100", "workload.batch_size": "[1,8]",
}  # fmt: skip
WORKS = (
    {"engine.quantization": "[null,fp8]", "engine.dtype": "[bfloat16,float16]",
     "engine.power_limit_w": "[null,200]", "workload.arrival": "[static,at_once]",
     "workload.requests": "[16,64]"},
    {"model": SMALL, "engine.backend": "vllm", "engine.tensor_parallel": "1",
     "workload.arrival": "poisson", "workload.rate_rps": "[0.5,8]", "workload.requests": "64",
     "workload.output_tokens": "[100,500,900]", "workload.prefix_tokens": "[0,50]"},
)  # fmt: skip
COMPARING = (
    "backends_compared", "batching_curve", "energy_by_board", "latency_energy_pareto",
    "lengths_energy", "loading", "models_ranked", "options_gain", "quantization_gain",
    "tensor_parallel_cost", "whole_system",
)  # fmt: skip
#: Columns that say what was measured, not what was found.
SAYING = {
    "model", "weights", "model_commit", "backend", "backend_version", "against", "against_version",
    "options", "against_options", "option", "from_value", "to_value", "dtype", "dtype_without",
    "quantization", "tensor_parallel", "threads", "mode", "speculation", "speculative_tokens",
    "draft", "power_limit_w", "board", "board_count", "reality", "protocol_id", "workload", "work",
    "conditions", "batch_size",
}  # fmt: skip


def factor(engine: EngineSpec, work: Workload) -> float:
    fields = {
        "model": engine.model.name, "backend": engine.backend, "board": engine.board,
        "dtype": engine.dtype, "quantization": engine.quantization, "mode": engine.mode,
        "tensor_parallel": engine.tensor_parallel, "power_limit_w": engine.power_limit_w,
        "enforce_eager": engine.options.get("enforce_eager"), "batch_size": work.batch_size,
        "arrival": work.arrival, "requests": work.requests, "rate_rps": work.rate_rps,
        "output_tokens": work.output_tokens, "prefix_tokens": work.prefix_tokens,
    }  # fmt: skip
    product = 1.0
    for name, value in fields.items():
        product *= FACTORS[name].get(value, 1.0)
    return product


def measured() -> list[Row]:
    made = []
    for work in WORKS:
        asked = [f"{key}={value}" for key, value in (GRID | work).items()]
        settings = replace(load(asked), reality=Reality.REAL)
        for task in expand(settings, load_catalog(), []).tasks:
            requests = task.workload.requests or task.workload.batch_size
            joules = 10.0 * requests * factor(task.engine, task.workload)
            made.append(
                Row(engine=task.engine, workload=task.workload, energies_j=[joules], host_j=1.0)
            )
    return made


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return measured()


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres, rows: list[Row]) -> Iterator[Store]:
    with ground(embedded_store, "comparing_queries") as found:
        insert(found, "measured", rows)
        yield found


@pytest.fixture
def ask(store: Store, capsys: pytest.CaptureFixture[str]):
    def asked(name: str) -> list[dict[str, Any]]:
        assert main(["query", name, "--json", f"store.url='{store.url}'"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found
        return found

    return asked


def test_the_rows_are_of_engines_as_the_program_makes_them(rows: list[Row]) -> None:
    """They have options by default, and a place for every request where none holds them back."""
    made = [row.engine.options for row in rows]
    assert {"attn_implementation": "sdpa"} in made
    assert all(options for options in made)
    assert {options.get("max_num_seqs") for options in made} == {None, 1, 8}


@pytest.mark.parametrize("name", COMPARING)
def test_no_two_rows_look_alike(name: str, ask) -> None:
    told = [json.dumps({k: v for k, v in row.items() if k in SAYING}) for row in ask(name)]
    assert len(told) == len(set(told))


def test_every_comparing_query_is_tried_here() -> None:
    """Whoever numbers engines by what they share, or sets rows against each other, compares."""
    words = ("as held", " over (", " over one", "regr_")
    comparing = {n for n, q in shipped().items() if any(word in q.sql for word in words)}
    assert {n for n in comparing if not n.startswith("report_")} <= set(COMPARING)


def test_an_option_is_compared_with_all_else_equal(ask) -> None:
    found = [row for row in ask("options_gain") if row["option"] == "enforce_eager"]
    assert {(row["from_value"], row["to_value"]) for row in found} == {(True, False)}
    assert [row["energy_saved_pct"] for row in found] == pytest.approx([20.0] * len(found))


def test_a_format_is_compared_with_all_else_equal(ask) -> None:
    found = ask("quantization_gain")
    assert [row["energy_saved_pct"] for row in found] == pytest.approx([30.0] * len(found))
    assert all(row["dtype"] == row["dtype_without"] for row in found)


def test_backends_are_compared_with_all_else_equal_and_their_options_told(ask) -> None:
    found = ask("backends_compared")
    assert {(row["backend"], row["against"]) for row in found} == {("transformers", "vllm")}
    for row in found:
        eager = row["against_options"]["enforce_eager"]
        assert row["energy_ratio"] == pytest.approx(3.0 / FACTORS["enforce_eager"].get(eager, 1.0))


def test_boards_are_compared_with_all_else_equal(ask) -> None:
    for row in ask("energy_by_board"):
        boards, parallel = FACTORS["board"], FACTORS["tensor_parallel"]
        own = boards.get(row["board"], 1.0) * parallel.get(row["tensor_parallel"], 1.0)
        assert row["over_the_least"] == pytest.approx(own / boards["h100-sxm-80gb"])


def test_models_are_ranked_with_all_else_equal(ask) -> None:
    places = {(row["model"], row["place"]) for row in ask("models_ranked") if row["workload"]
              .startswith("100→100") and "poisson" not in row["workload"]}  # fmt: skip
    assert places == {(SMALL, 1), (LARGE, 2)}
    compared = {row["compared"] for row in ask("whole_system") if "poisson" not in row["workload"]}
    assert compared == {2}


def test_parallelism_is_compared_with_all_else_equal(ask) -> None:
    found = [row["energy_change_pct"] for row in ask("tensor_parallel_cost")]
    assert found == pytest.approx([30.0] * len(found))


def test_a_batch_is_compared_with_one_prompt_of_the_same_work(ask) -> None:
    """Also where an engine is loaded for every batch anew, with as many places as it has."""
    found = ask("batching_curve")
    assert {row["options"].get("max_num_seqs") for row in found} == {None, 1, 8}
    for row in found:
        assert row["replicates"] == 1
        assert row["times_less_than_alone"] == pytest.approx(8.0 if row["batch_size"] == 8 else 1.0)


def test_lengths_are_compared_in_the_same_work(ask) -> None:
    found = ask("lengths_energy")
    assert {row["lengths"] for row in found} == {3}
    assert {row["measurements"] for row in found} == {3}
    assert all(row["worst_over_best"] == pytest.approx(9 / 7) for row in found)


def test_what_is_alike_in_both_is_on_the_front_together(
    embedded_store: EmbeddedPostgres, rows: list[Row]
) -> None:
    made = [
        replace(rows[0], engine=replace(rows[0].engine, threads=threads), e2e_s=e2e_s,
                energies_j=[joules])
        for threads, e2e_s, joules in ((1, 1.0, 8.0), (2, 1.0, 8.0), (3, 1.0, 9.0), (4, 2.0, 8.0))
    ]  # fmt: skip
    with ground(embedded_store, "front") as store:
        insert(store, "measured", made)
        with store.begin() as connection:
            front = connection.exec_driver_sql(shipped()["latency_energy_pareto"].sql).all()
    assert [row.threads for row in front] == [1, 2]


def test_the_front_is_of_one_work(ask) -> None:
    """All take the same time, so of each work exactly the least is on the front."""
    works = [(row["model"], row["work"]) for row in ask("latency_energy_pareto")]
    assert len(works) == len(set(works)) == 2 * 4 + 2 * 3 * 2
