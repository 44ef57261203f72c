"""Sweet spots: known coefficients come back, optima are minima, and nothing is told too well."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from campaign.analysis.per_request import by_regime, samples_of
from campaign.analysis.setups import Setup
from campaign.analysis.sweet_spots.first_principles import known, roofline_j
from campaign.analysis.sweet_spots.forms import FLOPS, LINEAR, SIX, fit, mape
from campaign.analysis.sweet_spots.holdout import errors
from campaign.analysis.sweet_spots.optimum import (
    optimum,
    per_output_token,
    per_total_token,
)
from campaign.analysis.sweet_spots.resampling import resampled
from campaign.analysis.sweet_spots.spot import sweet_spots
from campaign.catalogue.catalog import load_catalog
from campaign.cli import main
from db.errors import ConfigError

Floats = NDArray[np.float64]

LENGTHS = np.array([64.0, 128, 256, 512, 1024, 2048, 4096])
N_IN, N_OUT = (axis.ravel() for axis in np.meshgrid(LENGTHS, LENGTHS, indexing="ij"))
#: Joules of an 8B model on one board, about; n* of 512 input tokens lies at 1,957.
THETA = np.array([2e-2, 3e-8, 6e-7, 2e-3, 4e-7, 0.5])
CLEAN_J = SIX.energy_j(THETA, N_IN, N_OUT)
MODEL, BOARD = "meta-llama/Llama-3.1-8B", "h100-sxm-80gb"


def noisy(seed: int, spread: float = 0.02) -> Floats:
    return CLEAN_J * (1 + spread * np.random.default_rng(seed).standard_normal(CLEAN_J.size))


def records(energy_j: Floats = CLEAN_J, **changes: object) -> list[dict[str, object]]:
    row = {"model": MODEL, "board": BOARD, "backend": "vllm", "batch_size": 8, **changes}
    return [
        {**row, "input_tokens": i, "output_tokens": o, "energy_j_per_request": joules}
        for i, o, joules in zip(N_IN, N_OUT, energy_j, strict=True)
    ]


def analysed(rows: Sequence[Mapping[str, object]]):
    return sweet_spots(samples_of(rows), load_catalog(), draws=100)


# ---- the fit ---------------------------------------------------------------------------------


def test_coefficients_of_data_without_noise_come_back() -> None:
    theta = fit(SIX, N_IN, N_OUT, CLEAN_J)
    assert theta == pytest.approx(THETA, rel=1e-9)
    assert errors(SIX, N_IN, N_OUT, CLEAN_J).longest_outputs == pytest.approx(0, abs=1e-6)


def test_noise_of_two_per_cent_is_fitted_to_less_than_the_paper_s_error() -> None:
    found = errors(SIX, N_IN, N_OUT, noisy(1))
    assert found.in_sample <= 1.79
    assert found.folds is not None
    assert found.in_sample < found.folds <= 2.2


def test_intervals_hold_the_coefficients_and_the_optimum_they_were_made_from() -> None:
    best, held = per_output_token(THETA, 512.0), []
    for seed in range(30):
        energy_j = noisy(seed, 0.05)
        theta = fit(SIX, N_IN, N_OUT, energy_j)
        draws = resampled(SIX, theta, (N_IN, N_OUT), energy_j, draws=200, seed=seed)
        low, high = np.quantile(draws, (0.025, 0.975), axis=0)
        found = optimum(per_output_token, theta, draws, 512.0, (1.0, 1e6))
        held.append([*((low <= THETA) & (high >= THETA)), found.low <= best <= found.high])
    assert np.mean(held) >= 0.88  # of 95 in 100, and these are 210 looks
    assert np.mean(held, axis=0).min() >= 0.75


def test_the_fit_is_not_drawn_towards_rows_that_came_out_low() -> None:
    found = [fit(SIX, N_IN, N_OUT, noisy(seed, 0.2)) for seed in range(40)]
    ratio = np.mean([SIX.energy_j(one, N_IN, N_OUT) / CLEAN_J for one in found])
    assert ratio == pytest.approx(1, abs=0.012)  # weights of 1/measured alone give 0.92


def test_no_coefficient_is_below_zero() -> None:
    shuffled = np.random.default_rng(4).permutation(CLEAN_J)
    assert (fit(SIX, N_IN, N_OUT, shuffled) >= 0).all()


# ---- what is held out ------------------------------------------------------------------------


def test_a_repeat_of_every_row_tells_nothing_about_what_is_held_out() -> None:
    energy_j = noisy(2, 0.1)
    once = errors(SIX, N_IN, N_OUT, energy_j)
    twice = errors(SIX, *(np.tile(one, 2) for one in (N_IN, N_OUT, energy_j)))
    assert twice.folds == pytest.approx(once.folds, rel=1e-6)
    assert twice.corners == pytest.approx(once.corners, rel=1e-6)


def test_a_shuffled_target_leaves_no_skill() -> None:
    shuffled = np.random.default_rng(5).permutation(CLEAN_J)
    found = errors(SIX, N_IN, N_OUT, shuffled)
    constant = mape(np.full_like(shuffled, np.median(shuffled)), shuffled)
    assert found.folds is not None
    assert found.folds > 0.5 * min(constant, 100)


@pytest.mark.parametrize("form", [LINEAR, FLOPS])
def test_a_form_that_lacks_terms_fails_where_it_was_not_fitted(form) -> None:
    energy_j = noisy(3)
    six, other = (errors(one, N_IN, N_OUT, energy_j) for one in (SIX, form))
    for held in ("folds", "corners", "longest_inputs", "longest_outputs"):
        assert getattr(six, held) < getattr(other, held)
    assert other.corners > 1.5 * other.in_sample


def test_what_leaves_too_little_to_fit_is_none_and_not_a_number() -> None:
    kept = N_OUT >= 2048
    found = errors(SIX, N_IN[kept][:8], N_OUT[kept][:8], CLEAN_J[kept][:8])
    assert found.longest_outputs is None


# ---- optima ----------------------------------------------------------------------------------

positive = st.floats(1e-9, 1e3)
coefficients = st.tuples(*[positive] * 6).map(np.array)


@settings(max_examples=300)
@given(coefficients, st.floats(1, 1e5))
def test_the_best_output_length_is_the_numeric_minimum(theta: Floats, n_in: float) -> None:
    best = per_output_token(theta, n_in)
    assert_is_minimum(lambda n: SIX.energy_j(theta, np.full_like(n, n_in), n) / n, best)


@settings(max_examples=300)
@given(coefficients, st.floats(1, 1e5))
def test_so_it_is_per_token_of_prompt_and_answer(theta: Floats, n_in: float) -> None:
    best = per_total_token(theta, n_in)

    def per_token(n: Floats) -> Floats:
        return SIX.energy_j(theta, np.full_like(n, n_in), n) / (n_in + n)

    if best > 1e-3 * n_in:
        assert_is_minimum(per_token, best)
    elif best == 0:
        rising = per_token(n_in * np.geomspace(1e-6, 1e3, 50))
        assert (np.diff(rising) >= -1e-9 * rising[1:]).all()


def assert_is_minimum(energy: Callable[[Floats], Floats], best: float) -> None:
    """The curve is least at `best`, to the flatness that floats leave."""
    around = best * np.geomspace(0.01, 100, 4001)
    numeric = around[int(np.argmin(energy(around)))]
    at_best, least = energy(np.array([best, numeric]))
    assert at_best <= least * (1 + 1e-9)


def test_an_optimum_outside_of_the_measured_range_is_clipped_and_says_so() -> None:
    far = THETA * [1, 1, 1, 1, 1e-3, 1]
    found = optimum(per_output_token, far, np.tile(far, (100, 1)), 512.0, (64.0, 4096.0))
    assert (found.where, found.output_tokens, found.low, found.high) == ("above", 4096, 4096, 4096)
    assert found.clipped
    assert found.unclipped == pytest.approx(per_output_token(far, 512.0))


def test_a_form_without_a_minimum_has_none() -> None:
    falling = THETA * [1, 1, 1, 1, 0, 1]
    found = optimum(per_output_token, falling, np.tile(falling, (100, 1)), 64.0, (64.0, 4096.0))
    assert (found.unclipped, found.where, found.output_tokens) == (None, "above", 4096)


def test_the_two_readings_are_kept_apart() -> None:
    (spot,) = analysed(records()).spots
    output, total = (
        {one.input_tokens: one for one in readings}
        for readings in (spot.per_output_token, spot.per_total_token)
    )
    assert output[512].output_tokens == pytest.approx(1956.95, rel=1e-4)
    assert total[512].where == "below"
    assert total[512].unclipped is None


# ---- regimes, architecture -------------------------------------------------------------------


def test_engines_and_batches_are_never_fitted_together() -> None:
    rows = [*records(), *records(2 * CLEAN_J, batch_size=1), *records(backend="transformers")]
    found = analysed(rows)
    assert len(found.spots) == 3
    assert all(one.errors.in_sample < 1e-6 for spot in found.spots for one in spot.forms[-1:])


def test_a_workload_s_arrivals_are_a_regime_of_their_own() -> None:
    rows = records(workload="64→64 x8 requests=10 arrival=at_once")
    rows += records(workload="64→64 x8 requests=1000 arrival=at_once")
    assert len(by_regime(samples_of(rows))) == 2


def test_a_setup_is_computed_on_its_own_boards_and_what_it_leaves_open_is_the_plain_case() -> None:
    catalog, board = load_catalog(), "h100-sxm-80gb"
    open_ = known(Setup(model="meta-llama/Llama-3.1-8B", board=board), catalog)
    assert not isinstance(open_, str)
    plain = (open_.engine.board_count, open_.engine.tensor_parallel, open_.engine.dtype)
    assert plain == (1, 1, catalog.board(board).dtype)
    assert open_.remark == "backend unknown: computed as vllm"
    setup = Setup(
        model="llama of mine", catalogue_model="meta-llama/Llama-3.1-8B", board=board, gpus=4,
        tensor_parallel=2, dtype="float16", quantization="fp8", backend="transformers",
        speculation="ngram", declared_power_limit_w=300.0,
    )  # fmt: skip
    told = known(setup, catalog)
    assert not isinstance(told, str)
    engine = told.engine
    assert (engine.model.name, engine.backend) == ("meta-llama/Llama-3.1-8B", "transformers")
    assert (engine.board_count, engine.tensor_parallel) == (4, 2)
    assert (engine.dtype, engine.quantization) == ("float16", "fp8")
    assert told.remark == "speculation ngram: computed without; limit of 300 W: computed without"
    whole = known(replace(setup, tensor_parallel=None), catalog)
    assert not isinstance(whole, str)
    assert whole.engine.tensor_parallel == 4


def test_the_roofline_recognises_itself() -> None:
    catalog = load_catalog()
    setup = samples_of(records()).usable[0].setup
    one = known(setup, catalog)
    assert not isinstance(one, str)
    told_j = roofline_j(one, 8, N_IN, N_OUT)
    assert told_j is not None
    (spot,) = analysed(records(3 * told_j)).spots
    assert spot.architecture is not None
    assert spot.architecture.scale == pytest.approx(3)
    assert spot.architecture.mape == pytest.approx(100 * 2 / 3)
    assert spot.architecture.scaled_mape == pytest.approx(0, abs=1e-9)
    fitted = spot.forms[-1].theta
    assert {term: value / 3 for term, value in fitted.items()} == pytest.approx(
        spot.architecture.theta, rel=1e-6, abs=1e-12
    )


def test_an_unknown_model_is_fitted_without_its_architecture() -> None:
    (spot,) = analysed(records(model="nobody/knows-3B")).spots
    assert spot.architecture is None
    assert "nobody/knows-3B" in (spot.without_architecture or "")
    assert [one.form for one in spot.forms] == ["linear", "flops", "six_terms"]


# ---- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        (records()[:5], "too few rows: 5 pairs"),
        ([row for row in records() if row["input_tokens"] in (64, 128)], "64, 128 alone"),
        (records(np.full_like(CLEAN_J, 7.0)), "every request takes 7 J"),
        (records(np.full_like(CLEAN_J, np.nan)), "none of 49 rows can be used (49 no_energy)"),
        ([*records()[:30], *records(CLEAN_J / 3600)[30:]], "mixed units"),
        ([{**row, "energy_j": 3.6, "requests": 1000} for row in records()], "mixed units"),
        (records(-CLEAN_J), "has to be more than 0"),
        (records(CLEAN_J * np.inf), "has to be more than 0"),
        (records(batch_size=2.5), "not a whole number"),
        (records(batch_size="many"), "'many', not a number"),
        (records(workload="64→64 x8 lengths=azure-2023-code"), "49 mixed_lengths"),
        ([], "none of 0 rows"),
    ],
)  # fmt: skip
def test_what_cannot_be_analysed_is_one_clear_line(rows, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        analysed(rows)
    assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_regime_that_lacks_rows_does_not_take_the_others_with_it() -> None:
    found = analysed([*records(), *records(batch_size=1)[:4]])
    assert [spot.batch_size for spot in found.spots] == [8]
    (why,) = found.skipped.values()
    assert "4 pairs" in why


def test_rows_without_energy_are_left_out_and_counted() -> None:
    energy_j = CLEAN_J.copy()
    energy_j[:3] = np.nan
    found = analysed(records(energy_j))
    assert found.dropped == {"no_energy": 3}
    assert found.spots[0].rows == 46


# ---- the command -----------------------------------------------------------------------------


def written(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_the_command_answers_with_the_optimum_and_writes_the_grid(tmp_path: Path, capsys) -> None:
    rows, grid = written(tmp_path / "rows.csv", records(noisy(6))), tmp_path / "grid.csv"
    told = ["analyze", "sweet-spot", "--rows", str(rows), "--draws", "100", "--grid", str(grid)]
    assert main([*told, "--json"]) == 0
    (spot,) = json.loads(capsys.readouterr().out)["spots"]
    best = {one["input_tokens"]: one for one in spot["per_output_token"]}[512]
    assert best["low"] <= 1956.95 <= best["high"]
    with grid.open(encoding="utf-8") as stream:
        cells = list(csv.DictReader(stream))
    assert len(cells) == 49
    first = cells[0]
    assert float(first["joules_per_output_token"]) == float(first["energy_j"]) / 64
    assert main(told) == 0
    shown = capsys.readouterr().out
    assert "least energy per token of prompt and answer" in shown
    assert "**" in shown


def test_the_grid_calls_set_ups_as_the_answer_does(tmp_path: Path, capsys) -> None:
    eager, graphs = ({"options": json.dumps({"enforce_eager": on})} for on in (True, False))
    both = [{**one, **setting} for setting in (eager, graphs) for one in records(noisy(6))]
    rows, grid = written(tmp_path / "rows.csv", both), tmp_path / "grid.csv"
    told = ["analyze", "sweet-spot", "--rows", str(rows), "--draws", "100", "--grid", str(grid)]
    assert main([*told, "--json"]) == 0
    spots = json.loads(capsys.readouterr().out)["spots"]
    with grid.open(encoding="utf-8") as stream:
        cells = list(csv.DictReader(stream))
    assert {f"{cell['set_up']}, batch {cell['batch_size']}" for cell in cells} == {
        spot["label"] for spot in spots
    }


def test_a_heat_map_is_drawn_of_every_batch(tmp_path: Path, capsys) -> None:
    both = [*records(noisy(6)), *records(noisy(7), batch_size=64)]
    rows, folder = written(tmp_path / "rows.csv", both), tmp_path / "made" / "figures"
    told = ["analyze", "sweet-spot", "--rows", str(rows), "--draws", "100"]
    assert main([*told, "--figures", str(folder)]) == 0
    assert "4 figures" in capsys.readouterr().err
    names = sorted(path.name for path in folder.iterdir())
    assert [name[:3] + name[-3:] for name in names] == ["01-png", "01-svg", "02-png", "02-svg"]
    assert (folder / names[0]).read_bytes().startswith(b"\x89PNG")
    drawn = (folder / names[1]).read_text()
    for word in (f"vllm {MODEL} on {BOARD}, batch 8", "4096", "best output length"):
        assert word in drawn
    assert main([*told, "--figures", str(rows)]) == 2
    assert "--figures" in capsys.readouterr().err


def test_bad_rows_leave_no_file_behind(tmp_path: Path, capsys) -> None:
    rows, grid = written(tmp_path / "rows.csv", records()[:5]), tmp_path / "grid.csv"
    figures = ["--figures", str(tmp_path / "figures")]
    assert main(["analyze", "sweet-spot", "--rows", str(rows), "--grid", str(grid), *figures]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize("words", [[], ["--rows", "a.csv", "word"], ["--source", "nobody"],
                                   ["--rows", "gone.csv", "--by", "colour"],
                                   ["--rows", "a.csv", "--draws", "0"]])  # fmt: skip
def test_a_wrong_command_is_one_line(words: list[str], capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CAMPAIGN_HOME", str(tmp_path))
    assert main(["analyze", "sweet-spot", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
