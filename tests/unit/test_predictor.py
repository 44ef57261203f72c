"""The predictor: what it learns of rows drawn from known parameters, and what it must not learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pandas import DataFrame

from campaign.analysis.columns import CATALOGUE_MODEL
from campaign.analysis.predictor import physics
from campaign.analysis.predictor.conformal import interval
from campaign.analysis.predictor.crossing import PHYSICS, Effort, crossed
from campaign.analysis.predictor.dataset import Dataset, dataset_of, inputs_of
from campaign.analysis.predictor.features import NAMES
from campaign.analysis.predictor.folds import folds, left_out
from campaign.analysis.predictor.influence import influence
from campaign.analysis.predictor.parts import PARTS, parts_of, roofline_j
from campaign.analysis.predictor.point import Points
from campaign.analysis.predictor.ranges import ranges_of
from campaign.analysis.predictor.regressors import (
    FOREST,
    LINEAR,
    REGRESSORS,
    XGB_LINEAR,
    XGB_TREES,
    one_thread_each,
)
from campaign.analysis.predictor.seen import names_of, new_of
from campaign.analysis.predictor.unseen import (
    FOREST_LOG,
    Learner,
    calibrated,
    coverage,
    held_out,
)
from campaign.catalogue.catalog import load_catalog
from db.errors import ConfigError
from db.records import EngineSpec, ModelSpec, Weights, Workload
from workers.costs.cost import estimate

CATALOG = load_catalog()
SMALL = ("Qwen/Qwen3-4B", "Qwen/Qwen3-8B", "google/gemma-2-2b", "google/gemma-2-9b",
         "meta-llama/Meta-Llama-3-8B", "meta-llama/Llama-3.2-3B", "microsoft/phi-4",
         "allenai/OLMo-2-1124-7B", "mistralai/Mistral-7B-v0.3")  # fmt: skip
LARGE = "meta-llama/Meta-Llama-3-70B"
#: What the parts of these rows really are.
TRUTH = {"weights": 1.6, "kv_cache": 1.3, "arithmetic": 1.2, "prompt": 1.4, "kernels": 2.0}
NOISE = 0.05
SAME = {"model": "Qwen/Qwen3-8B", CATALOGUE_MODEL: "Qwen/Qwen3-8B"}

#: Few folds, once: each still holds every kind of row.
QUICK = Effort(folds=3, repeats=1, threads=1, trees=20, regressors=(FOREST,))


def rows(count: int = 240, *, models: tuple[str, ...] = SMALL, seed: int = 0) -> list[dict]:
    """Points drawn at random, of the catalogue's models on one board."""
    random = np.random.default_rng(seed)
    return [
        {
            "model": (name := models[at % len(models)]),
            CATALOGUE_MODEL: name,
            "board": str(random.choice(["h100-sxm-80gb", "a100-sxm-80gb"])),
            "gpus": 1.0,
            "batch_size": float(random.integers(1, 257)),
            "input_tokens": float(random.integers(50, 1000)),
            "output_tokens": float(random.integers(50, 1000)),
            "backend": "vllm",
            "backend_version": "0.11",
        }
        for at in range(count)
    ]


def truth(points: list[dict]) -> np.ndarray:
    """Joules per output token without noise."""
    factors = np.array([TRUTH.get(name, 1.0) for name in PARTS])
    return inputs_of(points, CATALOG, range(len(points))).parts @ factors


def measured(points: list[dict], seed: int = 1) -> Dataset:
    noise = np.random.default_rng(seed).normal(0, NOISE, len(points))
    energies = truth(points) * np.exp(noise)
    return of(points, energies)


def of(points: list[dict], energies: np.ndarray) -> Dataset:
    frame = DataFrame(
        [{**p, "energy_j_per_output_token": e} for p, e in zip(points, energies, strict=True)]
    )
    return dataset_of(frame, CATALOG)


@pytest.fixture(scope="module")
def known() -> Dataset:
    return measured(rows())


def error(predicted: np.ndarray, true: np.ndarray) -> float:
    return float(np.median(np.abs(predicted / true - 1)))


def test_what_rows_differ_in_and_no_feature_reads_is_counted(known: Dataset) -> None:
    assert known.mixed == {}
    points = rows(40)
    for at, point in enumerate(points):
        if at % 3:
            point["declared_power_limit_w"] = 200.0 + at % 3
    points[0]["backend"] = "transformers"
    points[1]["options"] = '{"enforce_eager": true}'
    energies = truth(points)
    energies[1] = np.nan  # it is not learned from
    assert of(points, energies).mixed == {"backend": 2, "declared_power_limit_w": 3}


def test_what_runs_eagerly_is_a_feature_and_another_point() -> None:
    """Other flags are none: a line says that rows differ in them."""
    points = rows(40)
    for at, point in enumerate(points):
        flags = ['{"enforce_eager": true}', '{"enforce_eager": false}', None][at % 3]
        point["options"], point["workload"] = flags, "as asked"
    points[1] = points[0] | {"options": points[1]["options"], "mean_batch": 7.9}
    data = of(points, truth(points))
    assert "options" not in data.mixed
    eager = data.inputs.features[:, NAMES.index("eager")]
    assert eager.tolist() == [float(at % 3 == 0) for at in range(40)]
    assert data.same[0] != data.same[1]
    points[3]["options"] = '{"enforce_eager": true, "block_size": 32}'
    assert of(points, truth(points)).mixed == {"options": 2}


def test_flags_are_the_same_in_any_order_and_with_the_feature_among_them() -> None:
    points = rows(40)
    for at, point in enumerate(points):
        point["options"] = ['{"enforce_eager": true, "seed": 1}', '{"seed": 1}'][at % 2]
    assert of(points, truth(points)).mixed == {}


def test_rows_imported_before_their_options_were_looked_at_are_learned_from() -> None:
    points = rows(40)
    points[0]["options"] = "--enforce-eager"
    data = of(points, truth(points))
    assert not data.inputs.points[0].eager


def test_beams_and_weights_are_counted_and_lengths_are_not() -> None:
    points = rows(40)
    for at, point in enumerate(points):
        point["workload"] = f"{at}→8 x{at}{' decoding=beam beams=4' if at % 2 else ''}"
        point["weights"] = "random" if at % 4 else "real"
    assert of(points, truth(points)).mixed == {"workload": 2, "weights": 2}


@pytest.mark.parametrize(
    ("model", "gpus", "quantization"),
    [
        ("Qwen/Qwen3-8B", 1, None),
        ("Qwen/Qwen3-8B", 1, "fp8"),
        ("meta-llama/Meta-Llama-3-70B", 4, None),
        ("Qwen/Qwen3-30B-A3B", 1, None),
        ("Qwen/Qwen3-30B-A3B", 2, "fp8"),
        ("google/gemma-3-27b-pt", 2, None),
        ("Qwen/Qwen2.5-1.5B", 4, None),  # of two key-value heads
    ],
)
def test_the_parts_of_the_roofline_add_up_to_the_estimate(
    model: str, gpus: int, quantization: str | None
) -> None:
    row = {"model": model, CATALOGUE_MODEL: model, "board": "h100-sxm-80gb", "gpus": float(gpus),
           "batch_size": 16.0, "input_tokens": 300.0, "output_tokens": 400.0, "backend": "vllm",
           "backend_version": "0.11", "quantization": quantization}  # fmt: skip
    point = Points(CATALOG).of(row, "row 1")
    engine = EngineSpec(model=ModelSpec(name=model, weights=Weights.RANDOM), backend="vllm",
                        board=point.board.slug, board_count=gpus, tensor_parallel=gpus,
                        version="0.11", quantization=quantization)  # fmt: skip
    load = Workload(input_tokens=300, output_tokens=400, batch_size=16)
    cost = estimate(engine, point.build.frame, point.board, load)
    assert cost is not None
    assert cost.energy_j is not None
    assert roofline_j(parts_of(point)) == pytest.approx(cost.energy_j / 16 / 400, rel=0.02)


def test_without_a_pull_away_the_model_is_the_roofline() -> None:
    inputs = inputs_of(rows(40), CATALOG, range(40))
    model = physics.fit(inputs.parts, inputs.context, inputs.parts.sum(axis=1))
    assert model.factors == pytest.approx([1.0] * len(PARTS), abs=1e-3)


def test_known_parameters_are_recovered_for_models_never_seen(known: Dataset) -> None:
    points = rows(60, models=(LARGE, "Qwen/Qwen2.5-14B"), seed=7)
    inputs = known.inputs
    model = physics.fit(inputs.parts, inputs.context, known.joules)
    there = inputs_of(points, CATALOG, range(60))
    predicted = model.predict(there.parts, there.context)
    assert error(predicted, truth(points)) < 0.06
    assert error(there.roofline_j, truth(points)) > 0.2


def test_physics_extrapolates_where_trees_cannot(known: Dataset) -> None:
    points = rows(60, models=(LARGE,), seed=3)
    both = of([*rows(), *points], np.concatenate([known.joules, truth(points)]))
    train = np.arange(300) < 240
    guesses = Learner(data=both, setting={}, seed=0, threads=1).guesses()
    wrong = {
        name: error(guesses[name](train, ~train), truth(points)) for name in (PHYSICS, FOREST_LOG)
    }
    assert wrong[PHYSICS] < 0.1
    assert wrong[FOREST_LOG] > 0.4


def test_families_left_out_are_predicted_twice_as_well_as_by_the_roofline(known: Dataset) -> None:
    guess = Learner(data=known, setting={}, seed=0, threads=1).physics
    roofline = error(known.inputs.roofline_j, known.joules)
    assert error(held_out(known, guess, "family"), known.joules) < 0.5 * roofline


# ---- intervals -------------------------------------------------------------------------------

#: One model of each of so many families of the catalogue.
MANY = tuple({
    CATALOG.row(name)["family"]: name
    for name in CATALOG.models()
    if float(str(CATALOG.row(name)["params_b"])) < 40
}.values())  # fmt: skip
#: Of the logarithm of joules: what all rows of a family share, and what each has of its own.
SHARED, OWN = 0.2, 0.1


@pytest.fixture(scope="module")
def families() -> Dataset:
    """Rows of many families, each of which is off by a factor of its own."""
    points = rows(30 * len(MANY), models=MANY)
    random = np.random.default_rng(4)
    off = random.normal(0, SHARED, len(MANY))[np.arange(len(points)) % len(MANY)]
    return of(points, truth(points) * np.exp(off + random.normal(0, OWN, len(points))))


@pytest.mark.parametrize("kind", ["point", "model", "family"])
def test_intervals_of_90_percent_cover_90_percent_of_what_was_left_out(
    families: Dataset, kind: str
) -> None:
    guess = Learner(data=families, setting={}, seed=0, threads=2).physics
    found = {kind: {PHYSICS: held_out(families, guess, kind, 2)}}
    covered = coverage(families, found, PHYSICS, 0.9, kind)
    assert 0.85 <= covered["coverage"] <= 0.95
    spread = 1.645 * np.hypot(SHARED, OWN)
    assert covered["median_relative_width"] < 1.4 * (np.exp(spread) - np.exp(-spread))


@pytest.mark.parametrize(
    ("shared", "own", "count"), [(0.3, 0.05, 20), (0.05, 0.3, 20), (0.15, 0.15, 20), (0.3, 0.05, 5)]
)
def test_groups_never_seen_are_covered_whatever_their_rows_share(
    shared: float, own: float, count: int
) -> None:
    """So many groups calibrate, twenty others ask; over 60 worlds, since groups differ."""
    random, covered = np.random.default_rng(1), []
    groups = np.repeat(np.arange(count + 20), 25)
    for _ in range(60):
        off = random.normal(0, shared, count + 20)[groups] + random.normal(0, own, len(groups))
        seen, ones = groups < count, np.ones(len(groups))
        around = interval(np.exp(off[seen]), ones[seen], groups[seen], 0.9)
        covered.append(around.covers(np.exp(off[~seen]), ones[~seen]).mean())
    assert 0.87 <= np.mean(covered) <= 0.93


def test_one_odd_model_of_many_rows_does_not_widen_everybody_s_interval() -> None:
    truths, models = np.ones(200), np.repeat(np.arange(20), 10)
    predicted = np.where(models < 19, 1.1, 3.0)
    assert interval(truths, predicted, models, 0.8).factor == pytest.approx(1.1)
    crowd = np.concatenate([models, np.full(800, 19)])
    wide = interval(np.ones(1000), np.concatenate([predicted, np.full(800, 3.0)]), crowd, 0.8)
    assert wide.factor == pytest.approx(1.1)


def test_few_models_promise_less_than_was_asked_for() -> None:
    found = interval(np.ones(30), np.linspace(1, 2, 30), np.repeat(np.arange(3), 10), 0.9)
    assert (found.promised, found.groups) == (0.75, 3)
    assert found.factor > 1.8


def test_equal_points_never_stand_on_both_sides(known: Dataset) -> None:
    twice = of(rows() * 2, np.concatenate([known.joules, known.joules]))
    for test in folds(twice.same, 5, 0):
        assert not set(twice.same[test]) & set(twice.same[~test])


def test_a_model_is_left_out_with_all_its_forms() -> None:
    """Nine models, and twenty forms of one of them: nine groups, of which the forms are one."""
    forms = tuple(f"google/gemma-2-9b@layers={layers}" for layers in range(4, 24))
    points = rows(240, models=(*SMALL, *forms))
    found = of(points, truth(points))
    groups, names = found.labels("model")
    assert names == tuple(sorted(SMALL))
    assert {names[at] for at, point in zip(groups, points, strict=True)
            if point["model"] in forms} == {"google/gemma-2-9b"}  # fmt: skip
    learner = Learner(data=found, setting={}, seed=0, threads=1)
    predicted = {kind: {PHYSICS: held_out(found, learner.physics, kind)} for kind in ("model",)}
    assert calibrated(found, predicted, PHYSICS, 0.9)["model"].groups == len(SMALL)
    seen = names_of(found)
    assert forms[0] in seen["model"]
    form = {"model": "google/gemma-2-9b@layers=30", CATALOGUE_MODEL: "google/gemma-2-9b@layers=30"}
    (unseen,) = inputs_of([{**points[0], **form}], CATALOG, [1]).points
    assert new_of(unseen, seen) == ["model"]


def test_replicates_are_one_point_whatever_batch_each_reached() -> None:
    """A load reaches another one each time; rows that do not say what was asked stay apart."""
    asked = [{**one, "workload": f"load {at}"} for at, one in enumerate(rows(30))]
    again = [{**one, "mean_batch": one["batch_size"] * share} for share in (0.98, 0.99)
             for one in asked]  # fmt: skip
    found = of(again, truth(again))
    assert (found.same[:30] == found.same[30:]).all()
    assert len(set(found.same.tolist())) == 30
    unsaid = [{**one, "workload": None} for one in again]
    assert len(set(of(unsaid, truth(unsaid)).same.tolist())) == 60


def test_a_copy_of_a_row_across_folds_does_not_help() -> None:
    """Energies that nothing explains are learned by heart wherever a copy is on the other side."""
    points = rows(60)
    luck = np.random.default_rng(5).permutation(truth(points))
    table = crossed(of(points * 4, np.tile(luck, 4)), QUICK, lambda _: None)
    assert (table[FOREST]["r2"] or 0) < 0.5


def test_a_shuffled_target_gives_no_skill() -> None:
    points = [{**point, "output_tokens": 300.0} for point in rows(100)]
    energies = np.random.default_rng(2).permutation(truth(points))
    effort = replace(QUICK, regressors=tuple(REGRESSORS))
    with one_thread_each():  # solvers that stop at their limit are judged by their scores
        table = crossed(of(points, energies), effort, lambda _: None)
    for name, scores in table.items():
        assert (scores["r2"] or 0) < 0.15, name


def test_both_readings_of_the_boosted_linear_model_are_there(known: Dataset) -> None:
    effort = replace(QUICK, regressors=(LINEAR, XGB_LINEAR, XGB_TREES))
    table = crossed(known, effort, lambda _: None)
    linear, text, numbers = (table[name]["r2"] or 0 for name in effort.regressors)
    assert abs(text - linear) < 0.1
    assert numbers > linear + 0.05
    assert len(REGRESSORS) == 7


def test_what_was_measured_is_never_read(known: Dataset) -> None:
    told = [{**p, "power_w": 700.0, "itl_ms": 9.0, "ttft_ms": 50.0, "duration_s": 60.0,
             "energy_j": 4.0, "requests": 3.0} for p in rows(240)]  # fmt: skip
    there = inputs_of(told, CATALOG, range(240))
    assert np.array_equal(there.features, known.inputs.features)
    assert np.array_equal(there.parts, known.inputs.parts)


def test_influence_finds_what_energies_depend_on(known: Dataset) -> None:
    found = influence(known, {"max_features": 0.5, "n_estimators": 20}, parts=3, seed=0, threads=1)
    assert next(iter(found)) in {"batch size", "model size"}
    assert found["experts"] < 0.2 * found["batch size"]


def test_many_groups_are_left_out_in_parts() -> None:
    parts = list(left_out(np.arange(40)))
    assert len(parts) == 10
    assert np.array_equal(np.sum(parts, axis=0), np.ones(40))


@pytest.mark.parametrize(
    ("changed", "feature", "span"),
    [
        ({"batch_size": 5000.0}, "batch 5000", "training range"),
        ({"board": "b200-sxm"}, "board b200-sxm", "a100-sxm-80gb, h100-sxm-80gb"),
        ({"quantization": "awq"}, "quantization awq", "none"),
    ],
)
def test_what_lies_outside_the_training_range_is_named(
    known: Dataset, changed: dict, feature: str, span: str
) -> None:
    there = inputs_of([{**rows(1)[0], **changed}, rows(1)[0]], CATALOG, (1, 2))
    ranges = ranges_of(known.inputs)
    told = ranges.outside(there.features[0].tolist(), there.points[0])
    assert any(line.startswith(feature) and span in line for line in told)
    assert ranges.outside(there.features[1].tolist(), there.points[1]) == []


def test_a_model_without_a_catalogue_row_is_built_from_the_file_s_parameters() -> None:
    row = {**rows(1)[0], "model": "somebody/New-70B", CATALOGUE_MODEL: None}
    with pytest.raises(ConfigError, match="row 1: model somebody/New-70B"):
        inputs_of([row], CATALOG, (1,))
    given = inputs_of([{**row, "total_params_b": 70.5}, {**rows(1)[0], "model": LARGE,
                       CATALOGUE_MODEL: LARGE}], CATALOG, (1, 2))  # fmt: skip
    assert "the file's parameters" in given.points[0].build.origin
    assert given.roofline_j[0] == pytest.approx(given.roofline_j[1], rel=0.1)
    mixture = {**row, "total_params_b": 235.0, "active_params_b": 22.0, "architecture": "moe"}
    known_one = {**row, "model": "Qwen/Qwen3-235B-A22B", CATALOGUE_MODEL: "Qwen/Qwen3-235B-A22B"}
    both = inputs_of([mixture, known_one], CATALOG, (1, 2))
    assert both.roofline_j[0] == pytest.approx(both.roofline_j[1], rel=0.1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, e: (p[:10], e[:10]), "10 rows with energy"),
        (lambda p, e: ([{**one, **SAME} for one in p], e), "all rows are of Qwen/Qwen3-8B"),
        (lambda p, e: (p, np.full(len(e), 2.0)), "same energy"),
        (lambda p, e: (p, np.full(len(e), np.nan)), "0 rows with energy .240 rows without"),
        (lambda p, e: (p, np.where(np.arange(len(e)) < 5, e / 3600, e)), "another unit"),
        (lambda p, e: ([p[0], p[1]] * 20, np.tile(e[:2], 20)), "only 2 different points"),
        (lambda p, e: ([{**one, "batch_size": np.nan} for one in p], e), "row 1: no batch"),
        (lambda p, e: ([{**one, "board": "cpu:x:4"} for one in p], e), "row 1: board cpu:x:4"),
    ],
)
def test_rows_that_nothing_can_be_learned_from_are_one_line(change, words: str) -> None:
    points = rows()
    with pytest.raises(ConfigError, match=words) as caught:
        of(*change(points, truth(points)))
    assert "\n" not in str(caught.value)
