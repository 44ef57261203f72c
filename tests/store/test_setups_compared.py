"""Set-ups through the analyses: engines stay apart, and so do measured and simulated rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from campaign.analysis.columns import BY_NAME
from campaign.analysis.factorial.runs import FIELDS, SAME
from campaign.analysis.per_request import by_regime, samples_of
from campaign.analysis.rows import records, stored_rows
from campaign.analysis.setups import names
from campaign.catalogue.catalog import load_catalog
from campaign.cli import main
from db.embedded import EmbeddedPostgres
from db.records import EngineSpec, Reality, Weights
from db.store import Store
from tests.store.measured import Row, insert
from tests.store.page import Page, maker
from tests.store.test_claims import engine, row
from tests.store.world import PROTOCOL, ground

pytestmark = pytest.mark.store

LLAMA, BOARD = "meta-llama/Llama-3.1-8B", "rtx-a6000"
BASE: EngineSpec = engine(LLAMA, BOARD, dtype="bfloat16", options={"enforce_eager": False})
#: Columns of `configurations` that say what was asked of the engine, or number it.
REQUEST = {"input_tokens", "output_tokens", "batch_size", "requests_asked", "lengths",
           "prefix_tokens", "arrival", "rate_rps", "decoding", "beams", "temperature",
           "top_p"}  # fmt: skip
NUMBERS = {"task_id", "engine_id", "protocol_id"}
RENAMED = {"board_count": "gpus", "power_limit_w": "declared_power_limit_w"}


@pytest.fixture
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store, "compared") as found:
        yield found


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """Ten requests of 128→8 tokens, and ten of 8192→512."""
    file = tmp_path / "trace.csv"
    lengths = [(128, 8)] * 10 + [(8192, 512)] * 10
    lines = [f"2023-11-16 18:15:{at:02d}.0,{i},{o}" for at, (i, o) in enumerate(lengths)]
    file.write_text("\n".join(("TIMESTAMP,ContextTokens,GeneratedTokens", *lines)))
    return str(file)


def short(spec: EngineSpec, joules: float) -> Row:
    return row(spec, 128, 8, 8, joules)


def simulated(one: Row) -> Row:
    return replace(one, reality=Reality.SIMULATED)


def asked(
    store: Store, capsys: pytest.CaptureFixture[str], verb: str, *words: str
) -> tuple[dict[str, Any], str]:
    """Return the JSON that an analysis of the campaign answers, and what it says beside it."""
    here = f"store.url='{store.url}'"
    assert main(["analyze", verb, *words, "--campaign", "mine", "--json", here]) == 0
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def joules(found: dict[str, Any]) -> dict[str, float]:
    """Return the joules of one request of each set-up."""
    return {one["label"]: one["joules"]["ceiling"] / found["compared"] for one in found["set_ups"]}


def columns(store: Store, view: str) -> Sequence[str]:
    with store.begin() as connection:
        return list(connection.exec_driver_sql(f"select * from {view} limit 0").keys())


# ---- engines ---------------------------------------------------------------------------------


def test_whatever_an_engine_can_differ_in_is_a_column_of_the_evidence(store: Store) -> None:
    of_engine = set(columns(store, "configurations")) - REQUEST - NUMBERS
    assert {RENAMED.get(name, name) for name in of_engine} <= set(BY_NAME)
    assert set(BY_NAME) - {"architecture", "total_params_b"} <= set(columns(store, "evidence"))


def test_engines_that_differ_are_never_one_set_up(
    store: Store, trace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    small = load_catalog().model("meta-llama/Llama-3.2-1B", "random")
    draft = replace(small, weights=Weights.REAL, commit="x")
    ahead = replace(BASE, speculation="draft_model", speculative_tokens=4, draft=draft)
    eager = replace(BASE, options={"enforce_eager": True})
    insert(store, "mine", [short(BASE, 100.0), short(ahead, 60.0), short(eager, 140.0),
                           short(replace(BASE, power_limit_w=200.0), 80.0),
                           short(replace(BASE, threads=4), 90.0)])  # fmt: skip
    samples = samples_of(list(records(stored_rows(store, campaign="mine"))))
    assert sorted(round(members[0].energy_j) for members in by_regime(samples).values()) == [
        60, 80, 90, 100, 140,
    ]  # fmt: skip
    assert len(set(names(one.setup for one in samples.usable).values())) == 5
    found, _ = asked(store, capsys, "workload", trace)
    each = joules(found)
    plain = "vllm 0.32.0 meta-llama/Llama-3.1-8B on rtx-a6000"
    of_draft = f"draft={small.name} speculation=draft_model speculative_tokens=4"
    assert each == pytest.approx({
        f"{plain} enforce_eager=false": 100,
        f"{plain} {of_draft} enforce_eager=false": 60,
        f"{plain} enforce_eager=true": 140,
        f"{plain} declared_power_limit_w=200 enforce_eager=false": 80,
        f"{plain} threads=4 enforce_eager=false": 90,
    })  # fmt: skip
    found, _ = asked(store, capsys, "workload", trace, "--only", "enforce_eager=false",
                     "--only", "speculation=none", "--only", "threads=none")  # fmt: skip
    assert sorted(joules(found).values()) == pytest.approx([80, 100])


def test_set_ups_are_compared_on_the_requests_that_each_of_them_covers(
    store: Store, trace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two formats with the same joules, of which one covers long requests, too."""
    insert(store, "mine", [short(replace(BASE, dtype="float16"), 100.0), short(BASE, 100.0),
                           row(BASE, 8192, 512, 8, 1000.0)])  # fmt: skip
    found, _ = asked(store, capsys, "workload", trace)
    assert found["compared"] == 10
    each = {label.rpartition("dtype=")[2]: value for label, value in joules(found).items()}
    assert each == pytest.approx({"float16": 100, "bfloat16": 100})
    assert [sum(one["requests"] for one in each["bins"]) for each in found["set_ups"]] == [10, 10]
    assert [one["saved"]["ceiling"] for one in found["set_ups"]] == [0, 0]
    assert main(["analyze", "workload", trace, "--campaign", "mine",
                 f"store.url='{store.url}'"]) == 0  # fmt: skip
    assert found["baseline"] in capsys.readouterr().out


# ---- realities -------------------------------------------------------------------------------


def test_measured_and_simulated_rows_are_compared_only_where_both_are_asked_for(
    store: Store, trace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    insert(store, "mine", [short(BASE, 100.0), simulated(short(BASE, 90.0)),
                           simulated(row(BASE, 8192, 512, 8, 900.0))])  # fmt: skip
    found, said = asked(store, capsys, "workload", trace)
    assert [one["reality"] for one in found["set_ups"]] == ["real"]
    assert "2 simulated rows left out: --reality simulated takes them" in said
    found, said = asked(store, capsys, "workload", trace, "--reality", "simulated")
    assert [(one["reality"], one["uncovered"]) for one in found["set_ups"]] == [("simulated", {})]
    assert "left out" not in said
    both = ("--reality", "simulated", "--reality", "real")
    found, _ = asked(store, capsys, "workload", trace, *both)
    assert sorted(label.rpartition(" ")[2] for label in joules(found)) == [
        "reality=real", "reality=simulated",
    ]  # fmt: skip
    assert found["compared"] == 10
    assert sorted(joules(found).values()) == pytest.approx([90, 100])


def test_a_sweet_spot_is_of_measured_rows_where_there_are_any(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = [(i, o, 2 + 0.01 * i + 0.3 * o + 0.001 * o * o)
            for i in (64, 128, 256) for o in (16, 64, 256)]  # fmt: skip
    measured = [row(BASE, i, o, 8, energy) for i, o, energy in grid]
    computed = [simulated(row(BASE, i, o, 8, 3 * energy)) for i, o, energy in grid]
    insert(store, "mine", [*measured, *computed])
    found, said = asked(store, capsys, "sweet-spot", "--draws", "100")
    assert [(one["setup"]["reality"], one["rows"]) for one in found["spots"]] == [("real", 9)]
    assert found["spots"][0]["setup"]["options"] == '{"enforce_eager": false}'
    assert "9 simulated rows left out" in said
    found, _ = asked(store, capsys, "sweet-spot", "--draws", "100", "--reality", "simulated")
    assert [one["setup"]["reality"] for one in found["spots"]] == ["simulated"]


def test_rows_whose_joules_are_in_doubt_are_said_to_count(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Marks say nothing of computed joules, and a short window nothing of any."""
    marks = iter((("aliased",), ("counter_disagrees", "short_window"), ("short_window",)))
    grid = [row(BASE, i, o, 8, 2 + 0.01 * i + 0.3 * o + 0.001 * o * o, marks=next(marks, ()))
            for i in (64, 128, 256) for o in (16, 64, 256)]  # fmt: skip
    computed = replace(simulated(grid[0]), marks=("aliased",))
    insert(store, "mine", [*grid, computed])
    said = "2 rows marked aliased, counter_disagrees, as of joules that may be wrong"
    found, told = asked(store, capsys, "sweet-spot", "--draws", "100")
    assert found["spots"][0]["rows"] == 9
    assert said in told
    lengths = ("--only", "input_tokens=64,128", "--only", "output_tokens=16,64")
    assert said in asked(store, capsys, "interactions", *lengths)[1]
    _, told = asked(store, capsys, "sweet-spot", "--draws", "100", "--reality", "real",
                    "--only", "protocol=quick")  # fmt: skip
    assert said in told


def test_a_predictor_learns_from_measured_rows_where_there_are_any(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    insert(store, "mine", [short(BASE, 100.0), *(simulated(row(BASE, 64 * k, 8, 8, 90.0))
                                                 for k in range(1, 31))])  # fmt: skip
    words = ["analyze", "predictor", "--campaign", "mine", f"store.url='{store.url}'"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "30 simulated rows left out: --reality simulated takes them" in said
    assert "1 row with energy" in said
    assert main([*words, "--reality", "simulated"]) == 2
    assert "all rows are of meta-llama/Llama-3.1-8B" in capsys.readouterr().err


# ---- interactions ----------------------------------------------------------------------------


def test_whatever_a_campaign_can_vary_is_a_factor_or_refused(store: Store) -> None:
    varied = set(columns(store, "configurations")) - NUMBERS - {"options", "workload"}
    assert varied <= {*FIELDS, *SAME}


def test_how_many_requests_were_asked_for_is_a_factor(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only one of the two: pooled, batch 64 would save 51 % instead of 60."""
    insert(store, "mine", [
        row(replace(BASE, quantization=fmt), 100, 100, batch, joules, arrival="at_once",
            requests=requests)
        for fmt, less in ((None, 1.0), ("fp8", 0.5))
        for batch, requests, joules in ((8, 64, 100 * less), (64, 64, 40 * less),
                                        (8, 1024, 50 * less), (64, 1024, 20 * less))
    ])  # fmt: skip
    found, _ = asked(store, capsys, "interactions")
    ratios = {tuple(one["effect"]): one["ratio"] for one in found["effects"]}
    assert ratios["requests_asked",] == pytest.approx(0.5)
    assert ratios["batch_size",] == pytest.approx(0.4)
    found, _ = asked(store, capsys, "interactions", "--only", "requests_asked=64")
    assert {one["name"] for one in found["factors"]} == {"quantization", "batch_size"}


def test_a_protocol_with_other_numbers_is_another_one_though_it_keeps_its_name(
    store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = [row(replace(BASE, quantization=fmt), 100, 100, batch, joules)
            for fmt, batch, joules in ((None, 8, 100.0), (None, 64, 50.0), ("fp8", 8, 80.0),
                                       ("fp8", 64, 40.0))]  # fmt: skip
    short_ = replace(PROTOCOL, window_s=0.1)
    insert(store, "mine", [*made, *(replace(one, protocol=short_) for one in made)])
    words = ["analyze", "interactions", "--campaign", "mine", f"store.url='{store.url}'"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "runs of protocol_id 1 and 2 are not put together" in said
    found, _ = asked(store, capsys, "interactions", "--only", "protocol_id=2")
    assert found["runs"] == 4
    frame = stored_rows(store)
    names_ = {str(name).partition("@")[0] for name in frame["protocol"]}
    assert (names_, frame["protocol"].nunique()) == ({PROTOCOL.name}, 2)
    assert len(by_regime(samples_of(list(records(frame))))) == 8
    points = Page(maker(store, tmp_path)()).points
    assert len({point["protocol"] for point in points}) == 2


def test_interactions_are_of_the_rows_asked_for(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [row(replace(BASE, quantization=fmt), 100, 100, batch, joules)
            for fmt, batch, joules in ((None, 8, 100.0), (None, 64, 50.0), ("fp8", 8, 80.0),
                                       ("fp8", 64, 40.0))]  # fmt: skip
    insert(store, "mine", [*made, *map(simulated, made[:2])])
    found, said = asked(store, capsys, "interactions")
    assert (found["reality"], found["runs"]) == ("real", 4)
    assert "2 simulated rows left out: --reality simulated takes them" in said
    words = ["analyze", "interactions", "--campaign", "mine", "--reality", "simulated"]
    assert main([*words, f"store.url='{store.url}'"]) == 2
    assert "two factors with two levels are needed" in capsys.readouterr().err
