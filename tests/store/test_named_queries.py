"""Every named query on one populated store: it runs, finds something, and its figures are right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from campaign.cli import main
from db.asking import shipped
from db.embedded import EmbeddedPostgres
from db.records import EngineSpec, Workload
from db.store import Store
from tests.store.filled import fill
from tests.store.measured import Row, insert
from tests.store.test_claims import engine, row
from tests.store.world import ground

pytestmark = pytest.mark.store

SMALL, LARGE = "facebook/opt-125m", "facebook/opt-1.3b"
#: It needs what is not made here: a stand-in's traces.
EMPTY = {"report_traces"}


def measured() -> list[Row]:
    """Two models, two boards, two backends, lengths, batches, formats, options and phases."""
    small, large = (engine(model, "a100-sxm-80gb") for model in (SMALL, LARGE))
    elsewhere = replace(small, board="h100-sxm-80gb")
    two = replace(small, tensor_parallel=2, board_count=2)
    ownerless = replace(engine("facebook/opt-2.7b", "l4"), model=replace(small.model, name="mine"))
    drawn = replace(small, board="t4", model=replace(small.model, name="drawn"))
    prompts = {"input_tokens": 8 * 137}
    eager = [replace(small, options={"enforce_eager": on}) for on in (True, False)]
    made = [
        row(small, 100, 100, 1, 40.0, phases=(10.0, 30.0), e2e_s=1.0),
        row(small, 100, 100, 8, 10.0, e2e_s=2.0, host_j=60.0),
        row(small, 900, 100, 8, 20.0),
        row(small, 500, 100, 8, 15.0),
        row(small, 100, 900, 8, 80.0),
        row(large, 100, 100, 8, 11.0, host_j=6.0),
        row(elsewhere, 100, 100, 8, 5.0, e2e_s=1.5),
        row(two, 100, 100, 8, 13.0, e2e_s=1.2),
        row(replace(small, quantization="fp8"), 100, 100, 8, 7.0),
        row(replace(small, backend="transformers"), 100, 100, 8, 30.0),
        row(ownerless, 100, 100, 8, 10.0),
        row(drawn, 4096, 100, 8, 10.0, lengths="generation", requests=8, windows=prompts),
        row(eager[0], 100, 100, 8, 10.0),
        row(eager[1], 100, 100, 8, 8.0, marks=["interval_wide"]),
    ]
    return [replace(one, replicate=n) for one in made for n in (0, 1)]


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "named_queries") as found:
        fill(found)
        insert(found, "measured", measured())
        with found.begin() as connection:
            connection.exec_driver_sql(EXTERNAL)
        yield found


EXTERNAL = """
insert into external_rows (digest, source, file_sha256, line, model, board, gpus, tensor_parallel,
                           batch_size, input_tokens, output_tokens, backend,
                           energy_j_per_output_token)
values ('d', 'others', 'f', 2, 'other-owner/OPT-125M', 'a100-sxm-80gb', 1, 1, 8, 110, 100, 'tgi',
        0.2),
       ('e', 'others', 'f', 3, 'other-owner/Mine', 'l4', 1, 1, 8, 110, 100, 'tgi', 0.2),
       ('g', 'others', 'f', 4, 'other-owner/', 'l4', 1, 1, 8, 110, 100, 'tgi', 0.2),
       ('h', 'others', 'f', 5, 'other-owner/Drawn', 't4', 1, 1, 8, 4000, 100, 'tgi', 0.2),
       ('i', 'others', 'f', 6, 'other-owner/Drawn', 't4', 1, 1, 8, 120, 100, 'tgi', 0.2)
"""


@pytest.fixture
def ask(store: Store, capsys: pytest.CaptureFixture[str]):
    def asked(name: str, *more: str) -> list[dict[str, Any]]:
        assert main(["query", name, "--json", *more, f"store.url='{store.url}'"]) == 0
        return json.loads(capsys.readouterr().out)

    return asked


def of_small(rows: list[dict[str, Any]], **wanted: object) -> dict[str, Any]:
    """The only row of the small model on one A100 that is so."""
    (found,) = (r for r in rows if r["model"] == SMALL and wanted.items() <= r.items())
    return found


@pytest.mark.parametrize("name", sorted(shipped()))
def test_a_named_query_runs_and_finds_something(name: str, ask) -> None:
    rows = ask(name)
    assert rows or name in EMPTY
    assert len(shipped()[name].purpose or "") > 20


def test_there_are_at_least_twenty_and_all_are_in_the_docs() -> None:
    assert len(shipped()) >= 20
    text = (Path(__file__).parents[2] / "docs" / "queries.md").read_text()
    missing = [n for n, q in shipped().items() if f"| `{n}` | {q.purpose} |" not in text]
    assert missing == []


PLAIN = {"quantization": None, "board": "a100-sxm-80gb", "board_count": 1, "backend": "vllm",
         "options": {}}  # fmt: skip
SHORT = {"input_tokens": 100, "output_tokens": 100}


def test_the_batching_curve_is_relative_to_one_prompt_alone(ask) -> None:
    rows = ask("batching_curve")
    at_8 = of_small(rows, batch_size=8, **PLAIN, **SHORT)
    assert at_8["times_less_than_alone"] == pytest.approx(4.0)
    assert at_8["replicates"] == 2
    assert of_small(rows, batch_size=1, **PLAIN, **SHORT)["times_less_than_alone"] == 1.0


def test_boards_are_relative_to_the_least(ask) -> None:
    rows = ask("energy_by_board")
    short = {"workload": "100→100 x8", "quantization": None, "backend": "vllm", "options": {}}
    found = {
        (r["board"], r["board_count"]): r["over_the_least"]
        for r in rows
        if short.items() <= r.items() and r["model"] == SMALL
    }
    assert found == pytest.approx(
        {("a100-sxm-80gb", 1): 2.0, ("h100-sxm-80gb", 1): 1.0, ("a100-sxm-80gb", 2): 2.6}
    )


def test_tensor_parallelism_costs_joules_and_saves_time(ask) -> None:
    (found,) = ask("tensor_parallel_cost")
    assert (found["fewest"], found["tensor_parallel"]) == (1, 2)
    assert found["energy_change_pct"] == pytest.approx(30.0)
    assert found["latency_change_pct"] == pytest.approx(-40.0)


def test_the_share_of_prefill(ask) -> None:
    found = [r for r in ask("prefill_share") if r["model"] == SMALL]
    assert [r["prefill_share"] for r in found] == pytest.approx([0.25, 0.25])


def test_formats_options_and_backends_are_compared_with_all_else_equal(ask) -> None:
    (fp8,) = ask("quantization_gain")
    assert fp8["energy_saved_pct"] == pytest.approx(30.0)
    (graphs,) = (r for r in ask("options_gain") if r["option"] == "enforce_eager")
    assert (graphs["from_value"], graphs["to_value"]) == (True, False)
    assert graphs["energy_saved_pct"] == pytest.approx(20.0)
    (backends,) = (r for r in ask("backends_compared") if not r["against_options"])
    assert (backends["backend"], backends["against"]) == ("transformers", "vllm")
    assert backends["energy_ratio"] == pytest.approx(3.0)


def test_the_front_holds_what_nothing_beats_in_both(ask) -> None:
    """Of 8 x (1 s, 40 J), (1.2 s, 13), (1.5 s, 5) only what takes less than all faster ones."""
    front = [r for r in ask("latency_energy_pareto") if r["model"] == SMALL and
             SHORT.items() <= r.items()]  # fmt: skip
    per_prompt = [r["joules_per_output_token"] * 100 for r in front]
    assert per_prompt == sorted(per_prompt, reverse=True)
    assert (front[-1]["board"], per_prompt[-1]) == ("h100-sxm-80gb", pytest.approx(5.0))
    assert all(r["board_count"] != 2 for r in front)  # 1.2 s and 13 J: 1 s and 7 J exist


def test_the_host_reorders_models(ask) -> None:
    """Small 10 + 2.5 J a prompt, large 11 + 0.25: the boards say one thing, the whole another."""
    rows = {r["model"]: r for r in ask("whole_system")}
    assert (rows[SMALL]["rank_of_boards"], rows[SMALL]["rank_of_whole"]) == (1, 2)
    assert (rows[LARGE]["rank_of_boards"], rows[LARGE]["rank_of_whole"]) == (2, 1)
    assert all(r["reordered"] for r in rows.values())
    assert rows[SMALL]["host_share"] == pytest.approx(0.2)


def test_net_energy_is_less_the_idle_board(ask) -> None:
    """80 J in 2 s at 2 W idle: a share of 4 in 80."""
    found = of_small(ask("gross_against_net"), workload="100→100 x8", **PLAIN)
    assert found["idle_share"] == pytest.approx(0.05, rel=1e-3)


def test_counter_and_integral(ask) -> None:
    (found,) = ask("counter_against_integral")
    assert found["mean_ratio"] == pytest.approx(1 / 1.01)
    assert found["beyond_both_uncertainties"] == 0


def test_external_rows_stand_beside_what_prompts_were_drawn_not_what_they_could_be(ask) -> None:
    found = [r for r in ask("external_against_own") if r["model"] == "other-owner/Drawn"]
    assert {(r["input_tokens"], r["workload"].partition(" ")[0]) for r in found} == {
        (120, "4096→100")
    }


def test_external_rows_stand_beside_our_own(ask) -> None:
    rows = ask("external_against_own")
    found = [r for r in rows if r["reality"] == "real" and r["backend"] == "vllm"]
    assert found
    assert min(r["own_over_external"] for r in found) == pytest.approx(0.4)  # with graphs, 8 J
    assert {r["model"] for r in found if r["board"] == "l4"} == {"other-owner/Mine"}


def test_progress_and_cost(ask) -> None:
    progress = {r["campaign"]: r for r in ask("progress")}
    assert progress["measured"]["done_pct"] == 100.0
    assert progress["quickstart"]["done"] == 6
    assert progress["quickstart"]["points_left_out"] == 4
    assert progress["empty"]["done_pct"] is None
    cost = [r for r in ask("cost_so_far") if r["campaign"] == "measured"]
    assert {r["board"] for r in cost} == {"a100-sxm-80gb", "h100-sxm-80gb", "l4", "t4"}
    assert all(r["measured_kwh"] > r["of_it_loading_kwh"] > 0 for r in cost)


# ---- the two analyses that stand on them -------------------------------------------------------


def test_carbon_is_a_range_and_says_where_it_has_none(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """8 J per output token of the small model at 8 prompts of 10 J: 1e6 tokens are 27.8 Wh."""
    here = f"store.url='{store.url}'"
    words = ["analyze", "carbon", "--intensity", "100", "--pue", "1,2", "--lifetime", "5",
             "--utilization", "0.5", "--json", here]  # fmt: skip
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    rows = document["configurations"]
    (a100,) = (
        r for r in rows
        if r["model"] == SMALL and r["board"] == "a100-sxm-80gb" and r["workload"] == "900→100 x8"
    )  # fmt: skip
    joules = 20.0 / 100 * 1e6
    assert a100["operational"]["low"] == pytest.approx(joules / 3.6e6 * 100)
    assert a100["operational"]["high"] == pytest.approx(joules / 3.6e6 * 200)
    seconds = 2.0 / 800 * 1e6
    per_hour = 150_000 / (5 * 0.5 * 8766)
    assert a100["embodied"]["low"] == pytest.approx(per_hour * seconds / 3600, rel=1e-6)
    cpu = next(r for r in rows if r["embodied"] is None)
    assert "no documented footprint" in cpu["reason"]
    assert main(["analyze", "carbon", here]) == 0
    said = capsys.readouterr()
    assert "Ember" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["carbon", "--pue", "0.5"], "--pue 0.5"),
        (["carbon", "--intensity", "9,1"], "--intensity 9,1"),
        (["carbon", "--intensity", "nan"], "--intensity nan"),
        (["carbon", "--utilization", "2"], "--utilization 2"),
        (["carbon", "--footprint", "a100"], "BOARD=LOW,HIGH"),
        (["carbon", "word"], "no word"),
        (["whole-system", "word"], "no word"),
        (["claims", "nope"], "no claim is called nope"),
        (["claims", "--campaign", "nope"], "no campaign is called nope"),
        (["interactions", "--campaign", "nope"], "no campaign is called nope"),
        (["interactions", "--campaign", "empty"], "0 measurements, none of them with"),
        (["interactions", "--campaign", "measured"], "levels"),
        (["interactions", "--response", "watts"], "--response watts"),
    ],
)
def test_a_bad_word_is_one_line_and_exit_2(
    words: list[str], said: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", *words, f"store.url='{store.url}'"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_the_whole_system_in_words(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", "whole-system", f"store.url='{store.url}'"]) == 0
    said = capsys.readouterr().err
    assert "in 1 group of models that can be compared, 2 of 2 places change" in said


def test_a_load_of_which_no_token_came_has_no_carbon_of_its_tokens(
    embedded_store: EmbeddedPostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = row(engine(SMALL), 100, 100, 8, 10.0, windows={"output_tokens": 0})
    with ground(embedded_store, "no_token") as found:
        insert(found, "measured", [slow])
        assert main(["analyze", "carbon", f"store.url='{found.url}'"]) == 0
    assert "no measurement with joules of output tokens yet" in capsys.readouterr().err


def test_replicates_of_one_session_have_no_spread_between_sessions(
    embedded_store: EmbeddedPostgres,
) -> None:
    made = [row(engine(SMALL), 100, 100, 8, 10.0 + n, replicate=n) for n in (0, 1)]

    def spread(found: Store) -> float | None:
        with found.begin() as connection:
            (one,) = connection.exec_driver_sql(shipped()["replicates_spread"].sql)
            return one.joules_relative_sd_between

    with ground(embedded_store, "one_session") as found:
        insert(found, "measured", made)
        assert spread(found) == pytest.approx(0.5**0.5 / 10.5)
        with found.begin() as connection:
            connection.exec_driver_sql(
                "update attempts set session_id = (select session_id from attempts limit 1)"
            )
            connection.exec_driver_sql(
                "update windows w set session_id = a.session_id from attempts a "
                "where a.id = w.attempt_id"
            )
        assert spread(found) is None


def test_two_models_in_three_settings_are_three_groups_and_no_six_models(
    embedded_store: EmbeddedPostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    """On two boards nothing changes: 10 + 0.1 J a prompt and 11 + 0.1."""
    settings = ({"tensor_parallel": 1}, {"dtype": "float16"}, {"tensor_parallel": 2})
    made = [
        row(engine(model, **setting), 100, 100, 8, joules,
            host_j=8 * 3 * (0.1 if setting.get("tensor_parallel") == 2 else host_j))
        for setting in settings
        for model, joules, host_j in ((SMALL, 10.0, 5.0), (LARGE, 11.0, 1.0))
    ]  # fmt: skip
    with ground(embedded_store, "whole_system") as found:
        insert(found, "measured", made)
        assert main(["analyze", "whole-system", f"store.url='{found.url}'"]) == 0
    said = capsys.readouterr().err
    assert "in 3 groups of models that can be compared, 4 of 6 places change" in said


def test_interactions_of_a_campaign(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """A 2^2 of format and batch: 0.5 and 0.25, and together 1.2 times their product."""
    spec = engine("facebook/opt-6.7b")
    base: EngineSpec = replace(spec, options={"enforce_eager": True})
    made = [
        Row(
            engine=replace(base, quantization="fp8") if fp8 else base,
            workload=Workload(input_tokens=100, output_tokens=100, batch_size=64 if big else 8),
            energies_j=[100.0 * (64 if big else 8) * 0.5**fp8 * 0.25**big * 1.2 ** (fp8 and big)],
            replicate=replicate,
        )
        for fp8 in (0, 1) for big in (0, 1) for replicate in (0, 1)
    ]  # fmt: skip
    insert(store, "factorial", made)
    words = ["analyze", "interactions", "--campaign", "factorial", "--json"]
    assert main([*words, f"store.url='{store.url}'"]) == 0
    found = json.loads(capsys.readouterr().out)
    ratios = {tuple(one["effect"]): one["ratio"] for one in found["effects"]}
    assert ratios["quantization", "batch_size"] == pytest.approx(1.2)
    assert ratios["quantization",] == pytest.approx(0.5 * 1.2**0.5)
    assert (found["reality"], found["resolution"]) == ("real", None)
