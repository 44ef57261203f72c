"""Workload estimates: bins, batches, baselines and savings, against arithmetic done by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign.analysis.per_request import Sample, Samples, samples_of
from campaign.analysis.setups import Setup
from campaign.analysis.sweet_spots.first_principles import Known, known
from campaign.analysis.workloads.answer import answer, measured
from campaign.analysis.workloads.energies import ComputedEnergies, Fitting, MeasuredEnergies
from campaign.analysis.workloads.estimated import estimate_of
from campaign.analysis.workloads.ideal import excess, ideal_j, ideals, saving
from campaign.analysis.workloads.replay import replayed
from campaign.analysis.workloads.traffic import (
    READINGS,
    Edges,
    Traffic,
    binned,
    lengths_of,
    traffic_of,
)
from campaign.analysis.workloads.validation import validated
from campaign.catalogue.catalog import load_catalog
from campaign.cli import main
from campaign.verbs.analyses.written import written
from db.errors import ConfigError
from db.records import Workload
from workers.costs.roofline import decode, prefill
from workers.shapes.shape import precision
from workers.workloads.traces import read_trace

DATA = Path(__file__).resolve().parents[1] / "data" / "traces"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "traces"
CATALOG = load_catalog()
MODEL, BOARD = "meta-llama/Llama-3.1-8B", "rtx-a6000"
SETUP = Setup(model=MODEL, board=BOARD, backend="vllm", dtype="bfloat16")
EDGES = Edges(inputs=(32, 128), outputs=(8, 16))


def traffic(*pairs: tuple[int, int]) -> Traffic:
    lengths = np.array(pairs, np.int64)
    return Traffic(
        inputs=lengths[:, 0], outputs=lengths[:, 1], counts=np.ones(len(pairs), np.int64)
    )


def rows_of(
    request_j: Callable[[int, int], float],
    batches: Iterable[int] = (4,),
    edges: Edges = EDGES,
    setup: Setup = SETUP,
) -> list[Sample]:
    return [
        Sample(setup=setup, batch_size=batch, input_tokens=i, output_tokens=o,
               energy_j=request_j(i, o))
        for i in edges.inputs for o in edges.outputs for batch in batches
    ]  # fmt: skip


def plane(i: float, o: float) -> float:
    return 2 + 0.5 * i + 3 * o + 0.01 * i * o


def llama(board: str = BOARD, backend: str = "vllm") -> Known:
    one = known(Setup(model=MODEL, board=board, backend=backend), CATALOG)
    assert isinstance(one, Known)
    return one


# ---- what the paper printed ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trace", "pytorch", "vllm", "saved"),
    [
        ("BurstGPT", 5.0652, 0.6375, 73.00),
        ("Azure Code", 1.0279, 0.2659, 37.58),
        ("Azure Conversation", 4.9023, 0.6422, 72.18),
    ],
)
def test_table_4_s_savings_follow_from_its_excesses(
    trace: str, pytorch: float, vllm: float, saved: float
) -> None:
    assert round(100 * saving(pytorch, vllm), 2) == saved


def test_an_ideal_flop_on_an_a6000_takes_the_paper_s_joules() -> None:
    assert ideal_j(1.0, 300.0, 309.7e12) == pytest.approx(0.9687e-12, rel=1e-4)
    assert ideal_j(1.0, 300.0, 154.8e12) == pytest.approx(1.938e-12, rel=1e-4)


# ---- bins ------------------------------------------------------------------------------------


def test_a_length_belongs_to_the_first_edge_that_holds_it() -> None:
    held = binned(traffic((1, 1), (32, 8), (33, 9), (128, 16)), EDGES)
    assert list(zip(held.rows, held.columns, strict=True)) == [(0, 0), (0, 0), (1, 1), (1, 1)]


def test_what_is_too_long_is_dropped_once_and_counted_in_tokens() -> None:
    held = binned(traffic((10, 8), (129, 8), (10, 17), (300, 300)), EDGES)
    assert held.dropped == {"over_input_edges": 2, "over_output_edges": 1}
    assert held.dropped_input_share == pytest.approx(1 - 10 / 449)
    assert held.dropped_output_share == pytest.approx(1 - 8 / 333)
    assert (held.input_inflation, held.output_inflation) == (3.2, 1.0)


def test_the_two_readings_differ_in_two_edges() -> None:
    assert set(READINGS["powers"]) - set(READINGS["printed"]) == {16, 64}
    assert set(READINGS["printed"]) <= set(READINGS["powers"])
    short = traffic((10, 8), (60, 8))
    printed, powers = (
        binned(short, Edges(inputs=READINGS[name])).input_inflation for name in READINGS
    )
    assert (printed, powers) == (160 / 70, 80 / 70)


@pytest.mark.parametrize("inputs", [(), (0, 8), (8, 8), (16, 8)])
def test_edges_that_do_not_rise_are_refused(inputs: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="input edges"):
        Edges(inputs=inputs)


# ---- estimates -------------------------------------------------------------------------------


def test_fractional_batches_are_the_paper_s_sum_and_whole_ones_round_up() -> None:
    energies = MeasuredEnergies(SETUP, rows_of(plane, batches=(1, 4)))
    held = binned(traffic(*[(30, 8)] * 6, (100, 12)), EDGES)
    found = estimate_of(held, EDGES, energies)
    batch_j = 4 * plane(32, 8), 4 * plane(128, 16)
    assert found.ceiling_j == pytest.approx(6 / 4 * batch_j[0] + 1 / 4 * batch_j[1])
    # 4 + 2 requests, the two as a batch of four, since no batch of two was measured; and one alone.
    assert found.ceiling_whole_j == pytest.approx(2 * batch_j[0] + plane(128, 16))
    assert [(one.batch_size, one.batches) for one in found.bins] == [(4, 1.5), (4, 0.25)]


def test_interpolation_is_exact_where_joules_are_linear_in_both_lengths() -> None:
    energies = MeasuredEnergies(SETUP, rows_of(plane))
    pairs = [(32, 8), (50, 9), (127, 15), (128, 16), (5, 2), (40, 3), (10, 12)]
    found = estimate_of(binned(traffic(*pairs), EDGES), EDGES, energies)
    assert found.interpolated_j == pytest.approx(sum(plane(*pair) for pair in pairs))
    assert found.ceiling_j > 1.2 * found.interpolated_j
    assert found.as_ceiling == 0
    ratio = found.interpolated_whole_j / found.interpolated_j
    assert 1 < ratio < 4


def test_requests_of_the_first_bin_alone_are_interpolated_too() -> None:
    found = estimate_of(
        binned(traffic((5, 2)), EDGES), EDGES, MeasuredEnergies(SETUP, rows_of(plane))
    )
    assert found.interpolated_j == pytest.approx(plane(5, 2))


def test_a_neighbour_without_joules_leaves_the_ceiling_and_says_so() -> None:
    rows = [s for s in rows_of(plane) if (s.input_tokens, s.output_tokens) != (32, 16)]
    held = binned(traffic((100, 12), (20, 12)), EDGES)
    found = estimate_of(held, EDGES, MeasuredEnergies(SETUP, rows))
    assert found.uncovered == {"not_measured": 1}
    assert found.as_ceiling == 1
    assert found.interpolated_j == found.ceiling_j == pytest.approx(plane(128, 16))


def test_a_single_edge_has_nothing_to_interpolate_with() -> None:
    edges = Edges(inputs=(64,), outputs=(8, 16))
    energies = MeasuredEnergies(SETUP, rows_of(plane, edges=edges))
    found = estimate_of(binned(traffic((20, 12)), edges), edges, energies)
    assert found.interpolated_j == pytest.approx(plane(64, 12))


def test_set_ups_are_compared_on_what_all_of_them_cover() -> None:
    other = Setup(model=MODEL, board=BOARD, backend="transformers")
    half = [s for s in rows_of(lambda i, o: 4 * plane(i, o), setup=other) if s.input_tokens == 32]
    both = Samples(usable=(*rows_of(plane), *half), rows=6, dropped={})
    held = binned(traffic((20, 8), (100, 8)), EDGES)
    found = answer(held, EDGES, measured(both, CATALOG, fit=False, most=1024), CATALOG)
    assert (found.requests, found.compared) == (2, 1)
    slow, fast = sorted(found.costed, key=lambda one: one.joules.ceiling, reverse=True)
    assert found.baseline == slow.label
    assert fast.saved.ceiling == pytest.approx(0.75)
    assert fast.estimate.uncovered == {"left_out_for_comparison": 1}
    assert slow.estimate.uncovered == {"not_measured": 1}


# ---- batches ---------------------------------------------------------------------------------


def test_the_largest_batch_fills_the_memory_and_no_more() -> None:
    one = llama()
    batch = Fitting(known=one, most=10**6).largest(4096, 512)
    kept = 2 * 2 * 32 * 8 * 128 * (4096 + 512)  # bf16 keys and values of 32 layers, 8 heads of 128
    room = 0.92 * 48 * 2**30 - 2 * one.shape.parameters
    assert batch * kept <= room < (batch + 1) * kept
    assert Fitting(known=one, most=8).largest(4096, 512) == 8
    assert Fitting(known=one).largest(200_000, 8) == 0  # beyond the model's positions
    assert Fitting(known=llama("t4")).largest(32, 8) == 0  # the weights alone are larger


def test_of_measured_batches_only_those_that_fit_count_where_that_is_asked() -> None:
    edges = Edges(inputs=(4096,), outputs=(512,))
    rows = rows_of(plane, batches=(1, 16, 512), edges=edges)
    samples = Samples(usable=tuple(rows), rows=3, dropped={})
    (free,), (bound,) = (measured(samples, CATALOG, fit=fit, most=1024) for fit in (False, True))
    assert (free.largest(4096, 512), bound.largest(4096, 512)) == (512, 16)
    (capped,) = measured(samples, CATALOG, fit=False, most=64)
    assert capped.largest(4096, 512) == 16


# ---- the idealised baseline ------------------------------------------------------------------


def test_the_baseline_counts_the_roofline_s_flops() -> None:
    one, numbers = llama(), precision("bfloat16")
    pairs, edges = [(100, 12), (7, 1), (128, 16)], EDGES
    found = ideals(traffic(*pairs), edges, one.shape, one.board, 8.6)
    assert not isinstance(found, str)
    by = {(ideal.peak, ideal.convention): ideal for ideal in found}
    flops = sum(
        phase(one.shape, numbers, Workload(input_tokens=i, output_tokens=o, batch_size=1)).flops
        for i, o in pairs
        for phase in (prefill, decode)
    )
    dense = by["dense", "2_per_mac"]
    assert dense.actual_flops == pytest.approx(flops)
    assert dense.actual_j == pytest.approx(300 / 154.8e12 * flops)
    assert dense.ceiling_flops > dense.actual_flops
    assert by["sparse", "2_per_mac"].actual_j == pytest.approx(dense.actual_j / 2)
    assert by["dense", "1_per_mac"].actual_j == pytest.approx(dense.actual_j / 2)
    heads = 2 * 4096 * 128256 * (99 + 6 + 127)
    everywhere = by["dense", "2_per_mac_head_everywhere"]
    assert everywhere.actual_flops - dense.actual_flops == pytest.approx(heads, rel=1e-6)


def test_boards_before_ampere_have_no_sparse_peak() -> None:
    one = llama("v100-sxm-16gb")
    found = ideals(traffic((8, 8)), EDGES, one.shape, one.board, 7.0)
    assert {ideal.peak for ideal in found if not isinstance(ideal, str)} == {"dense"}


def test_joules_below_the_dense_baseline_are_doubted() -> None:
    held = binned(traffic((100, 12)), EDGES)
    for factor, doubted in ((1.0, False), (1e-3, True)):
        rows = rows_of(lambda i, o, factor=factor: factor * plane(i, o))
        samples = Samples(usable=tuple(rows), rows=4, dropped={})
        found = answer(held, EDGES, measured(samples, CATALOG, fit=False, most=9), CATALOG)
        assert found.costed[0].below_bound is doubted


def test_excess_and_saving_are_each_other_s_arithmetic() -> None:
    assert saving(excess(10.0, 2.0), excess(4.0, 2.0)) == pytest.approx(1 - 4 / 10)


# ---- replay ----------------------------------------------------------------------------------


def test_requests_as_long_as_their_bin_replay_to_the_ceiling_in_whole_batches() -> None:
    fits = Fitting(known=llama(), most=8)
    pairs = [(32, 8)] * 20 + [(128, 16)] * 9
    energies = ComputedEnergies(setup=SETUP, fits=fits)
    told = estimate_of(binned(traffic(*pairs), EDGES), EDGES, energies)
    took = replayed(pairs, EDGES, fits, seed=3)
    assert (took.grouped_batches, took.requests) == (5, 29)
    assert took.grouped_j == pytest.approx(told.ceiling_whole_j, rel=0.06)
    assert took.grouped_j > 1.05 * told.ceiling_j  # fractional batches leave the ramps out


def test_a_short_trace_replays_between_its_interpolation_and_its_ceiling() -> None:
    trace = read_trace(DATA / "azure_2023_conv_30.csv")
    found = validated("it", SETUP, trace, Edges(), CATALOG, 30, 1024)
    estimate, replay = found.estimate, found.replay
    assert replay.requests == estimate.covered.requests == 30
    assert estimate.interpolated_j < replay.grouped_j < 1.06 * estimate.ceiling_whole_j
    assert replay.arrival_j > replay.grouped_j * 0.5


def test_batches_as_they_came_wait_for_the_longest() -> None:
    fits = Fitting(known=llama(), most=4)
    took = replayed([(8, 8), (100, 16)] * 8, EDGES, fits, seed=1)
    assert (took.grouped_batches, took.arrival_batches) == (4, 4)
    assert took.arrival_j > 1.2 * took.grouped_j


def test_one_long_request_makes_the_whole_batch_around_it_small() -> None:
    fits = Fitting(known=llama())
    edges = Edges(inputs=(32, 8192), outputs=(8, 512))
    few, many = fits.largest(8192, 512), fits.largest(32, 8)
    assert few < 50 < many
    took = replayed([(8192, 512), *[(8, 8)] * few], edges, fits)
    assert (took.grouped_batches, took.arrival_batches) == (2, 2)


# ---- the command -----------------------------------------------------------------------------


def told(*words: str) -> int:
    return main(["analyze", "workload", *words])


def file_of(path: Path, samples: Iterable[Sample]) -> Path:
    columns = ("model", "board", "backend", "batch_size", "input_tokens", "output_tokens",
               "energy_j_per_request")  # fmt: skip
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for one in samples:
            writer.writerow([one.setup.model, one.setup.board, one.setup.backend, one.batch_size,
                             one.input_tokens, one.output_tokens, one.energy_j])  # fmt: skip
    return path


def test_the_command_says_what_a_trace_costs_by_rows(tmp_path: Path, capsys) -> None:
    slow = Setup(model=MODEL, board=BOARD, backend="transformers")
    edges = Edges(inputs=(512, 8192), outputs=(16, 512))
    samples = [*rows_of(plane, edges=edges),
               *rows_of(lambda i, o: 2 * plane(i, o), edges=edges, setup=slow)]  # fmt: skip
    rows = file_of(tmp_path / "rows.csv", samples)
    trace, grid = str(DATA / "azure_2023_code_30.csv"), tmp_path / "bins.csv"
    words = (trace, "--rows", str(rows), "--bins", "rows", "--grid", str(grid))
    assert told(*words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["edges"] == {"inputs": [512, 8192], "outputs": [16, 512]}
    assert found["compared"] == 30
    fast = next(one for one in found["set_ups"] if "vllm" in one["label"])
    requests = read_trace(Path(trace))
    exact = sum(plane(i, o) for i, o in
                zip(requests.input_tokens, requests.output_tokens, strict=True))  # fmt: skip
    assert fast["joules"]["interpolated"] == pytest.approx(exact)
    assert fast["saved"]["ceiling"] == pytest.approx(0.5)
    assert len(fast["excesses"]) == 6
    with grid.open(encoding="utf-8") as stream:
        assert sum(int(row["requests"]) for row in csv.DictReader(stream)) == 60
    assert told(*words) == 0
    assert "savings are against transformers" in capsys.readouterr().out


def test_the_command_computes_and_replays_without_rows(capsys) -> None:
    trace = str(DATA / "azure_2023_conv_30.csv")
    words = ("--model", MODEL, "--board", BOARD, "--backend", "transformers,vllm")
    assert told(trace, *words, "--replay", "10", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["reality"] for one in found["set_ups"]} == {"estimated"}
    assert [one["replayed"]["requests"] for one in found["replays"]] == [10, 10]
    assert not any(one["below_bound"] for one in found["set_ups"])
    assert told(trace, *words, "--replay", "10") == 0
    assert "replay on simulated boards" in capsys.readouterr().out


COMPUTED = ("--model", MODEL, "--board", BOARD)


@pytest.mark.parametrize(
    ("words", "word"),
    [
        ((), "analyze workload TRACE"),
        (("azure-2023-cod", *COMPUTED), "azure-2023-code"),
        (("./gone.csv", *COMPUTED), "No such file"),
        (("azure-2023-code", *COMPUTED), "campaign fetch azure-2023-code"),
        (("TRACE",), "where do joules come from"),
        (("TRACE", "--model", "nobody/knows", "--board", BOARD), "nobody/knows"),
        (("TRACE", "--model", MODEL, "--board", "t5"), "t5"),
        (("TRACE", "--model", MODEL, "--board", "cpu:x:4"), "TDP or idle power are not known"),
        (("TRACE", *COMPUTED, "--backend", "tensorrt"), "vllm and transformers"),
        (("TRACE", *COMPUTED, "--input-edges", "8,x"), "--input-edges 8,x"),
        (("TRACE", *COMPUTED, "--input-edges", "128,32"), "rising"),
        (("TRACE", *COMPUTED, "--input-edges", "8", "--output-edges", "2"), "nothing of the trace"),
        (("TRACE", *COMPUTED, "--bins", "rows"), "for rows"),
        (("TRACE", *COMPUTED, "--reality", "real"), "--reality are for rows"),
        (("TRACE", *COMPUTED, "--only", "dtype=float16"), "--reality are for rows"),
        (("TRACE", "--rows", "ROWS", "--bins", "rows", "--only", "dtyp=x"), "--only dtyp=x"),
        (("TRACE", *COMPUTED, "--most-batch", "0"), "1 or more"),
        (("TRACE", "--rows", "ROWS"), "--bins rows"),
        (("TRACE", "--rows", "ROWS", "--bins", "rows", "--board", "h200"), "leave none of"),
        (("TRACE", "--model", MODEL, "--board", "t4"), "not one request of the trace fits"),
    ],
)
def test_a_wrong_question_is_one_line_and_writes_nothing(
    words: tuple[str, ...], word: str, capsys, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_HOME", str(tmp_path / "home"))
    off = Edges(inputs=(33, 100), outputs=(9, 20))
    rows = file_of(tmp_path / "rows.csv", rows_of(plane, edges=off))
    names = {"TRACE": str(DATA / "azure_2023_code_30.csv"), "ROWS": str(rows)}
    grid = tmp_path / "out" / "bins.csv"
    grid.parent.mkdir()
    assert told(*(names.get(w, w) for w in words), "--grid", str(grid)) == 2
    captured = capsys.readouterr()
    assert word in captured.err
    assert captured.err.count("\n") == 1
    assert list(grid.parent.iterdir()) == []


#: Of the traces of 2023: mean, standard deviation, median and 99th percentile of both lengths.
PUBLISHED = {
    "conv": [(1154.70, 1108.82, 1020, 4142), (211.13, 162.87, 129, 601)],
    "code": [(2047.85, 1973.88, 1469, 7436), (27.88, 59.86, 13, 251.46)],
}


@given(st.lists(st.tuples(st.integers(1, 9999), st.integers(1, 50)), min_size=1, max_size=20))
def test_lengths_are_summed_up_as_of_the_requests_one_by_one(counted) -> None:
    values, counts = (np.array(column) for column in zip(*counted, strict=True))
    each = np.repeat(values, counts)
    found = lengths_of(values, counts)
    assert found.mean == pytest.approx(each.mean())
    assert found.standard_deviation == pytest.approx(each.std(ddof=1) if len(each) > 1 else 0)
    assert (found.median, found.p99) == pytest.approx(tuple(np.quantile(each, [0.5, 0.99])))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the whole traces are not in a checkout")
@pytest.mark.parametrize(
    ("name", "requests", "kept", "inflation", "dropped"),
    [("code", 8819, 8792, (1.38, 1.41), 0.088), ("conv", 19366, 18803, (1.43, 1.31), 0.083)],
)
def test_the_real_traces_end_to_end(name, requests, kept, inflation, dropped, capsys) -> None:
    path = SHARED / f"AzureLLMInferenceTrace_{name}.csv"
    assert traffic_of(read_trace(path)).requests == requests
    assert told(str(path), *COMPUTED, "--backend", "transformers,vllm", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    held = found["readings"]["printed"]
    assert (found["compared"], held["requests"]) == (kept, kept)
    of = [
        tuple(round(n, 2) for n in found["lengths"][part].values()) for part in ("input", "output")
    ]
    assert of == PUBLISHED[name]
    shown = held["input_inflation"], held["output_inflation"]
    assert shown == pytest.approx(inflation, abs=0.006)
    assert held["dropped_output_share"] == pytest.approx(dropped, abs=0.001)
    for one in found["set_ups"]:
        joules = one["joules"]
        assert joules["interpolated"] < joules["ceiling"] < joules["ceiling_whole"]


def test_a_file_that_is_not_whole_is_no_file(tmp_path: Path) -> None:
    def breaks_off(path: Path) -> None:
        with written(path) as stream:
            stream.write("half")
            raise EOFError

    with pytest.raises(EOFError):
        breaks_off(tmp_path / "bins.csv")
    with pytest.raises(ConfigError, match="cannot be written"):
        breaks_off(tmp_path / "no" / "bins.csv")
    assert list(tmp_path.iterdir()) == []


def test_rows_of_an_import_become_samples_of_a_batch() -> None:
    row = {"model": MODEL, "board": BOARD, "input_tokens": 32, "output_tokens": 8, "energy_j": 12,
           "requests": 4, "batch_size": 4}  # fmt: skip
    (sample,) = samples_of([row]).usable
    assert MeasuredEnergies(sample.setup, [sample]).batch_j(32, 8, 4) == pytest.approx(12)
