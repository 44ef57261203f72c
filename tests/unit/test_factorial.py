"""Factorial designs: known effects come back, aliases are told, and what is missing is said."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import product
from math import exp, log, prod
from pathlib import Path
from random import Random

import pytest

from campaign.analysis.factorial.design import Run, design_of
from campaign.analysis.factorial.effects import BETWEEN, WITHIN, effects_of
from campaign.analysis.factorial.runs import FIELDS, SAME, alike, only, stored_runs
from campaign.catalogue.catalog import load_catalog
from campaign.cli import main
from campaign.configuration.config import load
from campaign.grids.grid import expand
from db.errors import ConfigError

FACTORS = ("tensor_parallel", "arrival", "eager", "quantization", "speculation", "batch_size")
SECOND = {"tensor_parallel": 2, "arrival": "at_once", "eager": True, "quantization": "fp8",
          "speculation": "draft", "batch_size": 64}  # fmt: skip
FIRST = {"tensor_parallel": 1, "arrival": "static", "eager": False, "quantization": None,
         "speculation": None, "batch_size": 8}  # fmt: skip
TRUE = {("tensor_parallel",): 1.3, ("arrival",): 0.95, ("eager",): 1.2, ("quantization",): 0.7,
        ("speculation",): 0.8, ("batch_size",): 0.25, ("quantization", "speculation"): 1.15,
        ("speculation", "batch_size"): 1.6}  # fmt: skip


def fraction(
    *, replicates: int = 1, between: float = 0.0, within: float = 0.0, seed: int = 1
) -> list[Run]:
    """The grid joint_optimizations: an even number of the first five factors at their second level.

    A main effect of ratio r is ±ln r / 2, an interaction ±ln r / 4.
    """
    random, runs = Random(seed), []
    for replicate in range(replicates):
        for five in product((-1, 1), repeat=5):
            if sum(code > 0 for code in five) % 2:
                continue
            session = random.gauss(0, between)
            for batch in (-1, 1):
                codes = dict(zip(FACTORS, (*five, batch), strict=True))
                logarithm = 1.0 + session + random.gauss(0, within)
                for effect, ratio in TRUE.items():
                    logarithm += log(ratio) / 2 ** len(effect) * prod(codes[f] for f in effect)
                levels = {f: SECOND[f] if code > 0 else FIRST[f] for f, code in codes.items()}
                runs.append(
                    Run(levels=levels, response=exp(logarithm), replicate=replicate,
                        session=f"{replicate} {five}")
                )  # fmt: skip
    return runs


def test_known_effects_come_back_exactly() -> None:
    found = effects_of(design_of(fraction())).estimates
    assert len(found) == 6 + 15
    for one in found:
        assert one.ratio == pytest.approx(TRUE.get(one.effect, 1.0), rel=1e-9)
    largest_first = sorted(TRUE, key=lambda effect: abs(log(TRUE[effect])), reverse=True)
    assert [one.effect for one in found][: len(TRUE)] == largest_first


def test_the_alias_structure_is_read_from_the_runs() -> None:
    design = design_of(fraction())
    assert design.words == {FACTORS[:5]: -1}  # an even number of plus signs among five
    assert design.resolution == 5
    assert design.aliases(("tensor_parallel", "arrival")) == [FACTORS[2:5]]
    assert design.aliases(("batch_size",)) == []


def test_one_replicate_leaves_nothing_between_sessions_and_says_so() -> None:
    found = effects_of(design_of(fraction(within=0.01)))
    assert found.degrees == {BETWEEN: 0, WITHIN: 10}
    by_effect = {one.effect: one for one in found.estimates}
    assert by_effect["eager",].low is None
    assert "nothing is left" in by_effect["eager",].spread
    assert by_effect["batch_size",].low is not None


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Sessions 3 % apart, runs 0.5 %: 95 % of the intervals of both kinds hold the truth."""
    held = {BETWEEN: [], WITHIN: []}
    for seed in range(60):
        runs = fraction(replicates=2, between=0.03, within=0.005, seed=seed)
        for one in effects_of(design_of(runs)).estimates:
            assert one.low is not None
            held[one.spread].append(one.low <= TRUE.get(one.effect, 1.0) <= one.high)
    for spread, covered in held.items():
        share = sum(covered) / len(covered)
        assert 0.92 < share < 0.98, f"{spread}: {share:.3f}"


def test_sessions_that_differ_widen_only_what_is_the_same_throughout_one() -> None:
    runs = fraction(replicates=2, between=0.05, within=0.001)
    by_effect = {one.effect: one for one in effects_of(design_of(runs)).estimates}
    coarse, fine = by_effect["eager",], by_effect["batch_size",]
    assert coarse.high / coarse.low > 1.02
    assert fine.high / fine.low < 1.002


def test_the_spread_of_single_runs_is_told_between_sessions_and_within() -> None:
    """Both runs of a session share its deviation: as a variance of single runs it counts twice."""
    found = effects_of(design_of(fraction(replicates=20, between=0.05, within=0.001)))
    assert found.relative_sd[WITHIN] == pytest.approx(0.001, rel=0.1)
    assert found.relative_sd[BETWEEN] == pytest.approx(0.05 * 2**0.5, rel=0.1)


def test_runs_of_no_session_are_each_one_of_its_own() -> None:
    runs = [replace(run, session=None) for run in fraction(replicates=2)]
    found = effects_of(design_of(runs))
    assert found.sessions == len(runs)
    assert {one.spread for one in found.estimates} == {BETWEEN}


def test_factors_that_always_change_together_are_one_effect() -> None:
    runs = [
        Run(levels={"a": a, "b": a, "c": c}, response=exp(a + 2 * c), replicate=replicate)
        for a, c, replicate in product((0, 1), repeat=3)
    ]
    found = {one.effect: one for one in effects_of(design_of(runs)).estimates}
    assert set(found) == {("a",), ("c",), ("a", "c")}
    assert found["a",].aliases == (("b",),)


def test_confounded_effects_are_estimated_once_with_their_aliases() -> None:
    """A 2^(3-1): each factor is aliased with the interaction of the two others."""
    runs = [
        Run(levels={"a": a, "b": b, "c": a ^ b}, response=1.0 + a + b)
        for a, b in product((0, 1), repeat=2)
    ]
    found = effects_of(design_of(runs)).estimates
    assert {one.effect for one in found} == {("a",), ("b",), ("c",)}
    assert next(one for one in found if one.effect == ("a",)).aliases == (("b", "c"),)


def test_the_shipped_grid_is_of_resolution_five() -> None:
    tasks = expand(load(["+grid=joint_optimizations"]), load_catalog(), ()).tasks
    runs = [
        Run(
            levels={
                "tensor_parallel": task.engine.tensor_parallel,
                "arrival": task.workload.arrival,
                "eager": task.engine.options["enforce_eager"],
                "quantization": task.engine.quantization,
                "speculation": task.engine.speculation,
                "batch_size": task.workload.batch_size,
            },
            response=1.0,
        )
        for task in tasks
    ]
    assert len({tuple(run.levels.values()) for run in runs}) == 32
    assert design_of(runs).resolution == 5


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([], "no runs"),
        ([Run(levels={"a": 1}, response=1.0), Run(levels={"a": 2}, response=2.0)], "two factors"),
        ([Run(levels={"a": n, "b": n % 2}, response=1.0) for n in range(3)], "3 levels"),
        ([Run(levels={"a": 0, "b": 0, "c": 0}, response=1.0),
          Run(levels={"a": 1, "b": 0, "c": 1}, response=1.0),
          Run(levels={"a": 0, "b": 1, "c": 1}, response=1.0)], "3 of 8 combinations"),
        ([Run(levels={"a": 0}, response=1.0), Run(levels={"b": 0}, response=1.0)], "without"),
    ],
)  # fmt: skip
def test_a_design_that_cannot_be_analysed_is_one_line(runs: list[Run], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        effects_of(design_of(runs))
    assert "\n" not in str(caught.value)


def test_levels_can_be_chosen() -> None:
    runs = [
        Run(levels={"a": a, "b": b}, response=1.0 + a + b) for a in (0.0, 1.0, 2.0) for b in (1, 2)
    ]
    assert {run.levels["a"] for run in only(runs, ["a=0,2"])} == {0.0, 2.0}
    for bad in ("a=5,6", "z=1,2", "a"):
        with pytest.raises(ConfigError, match=r"--only"):
            only(runs, [bad])


def write(file: Path, runs: list[Run], **cells: str) -> Path:
    with file.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow([*FACTORS, "replicate", "session", "joules"])
        for run in runs:
            levels = ["" if v is None else v for v in run.levels.values()]
            rows.writerow([*levels, run.replicate, run.session, run.response])
    return file


def test_a_file_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "rows.csv", fraction(replicates=2, between=0.01, within=0.01))
    words = ["analyze", "interactions", "--rows", str(file), "--response", "joules"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["runs"], found["replicates"], found["resolution"]) == (64, 2, 5)
    assert found["effects"][0]["effect"] == ["batch_size"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "quantization x speculation" in said.out
    assert "resolution 5" in said.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b,joules\n1,2,x\n", "line 2"),
        ("a,b,joules\n1,2,-1\n", "line 2"),
        ("a,b,joules\n1,2,nan\n", "line 2"),
        ("a,b,joules\n1,2\n", "line 2"),
        ("a,b\n1,2\n", "no column joules"),
        ("", "no column joules"),
        ("a,b,joules\n", "no runs"),
        ("a,b,replicate,joules\n1,2,x,1\n", "replicate"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_2(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(content)
    words = ["analyze", "interactions", "--rows", str(file), "--response", "joules"]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


# ---- what is no factor -----------------------------------------------------------------------


def stored(**fields: object) -> dict[str, object]:
    """A row of the view `measurements`."""
    plain = dict.fromkeys((*FIELDS, *SAME))
    return {**plain, "options": {}, "replicate": 0, "session_id": "s", "joules_per_prompt": 1.0,
            "protocol": "quick", "model": "m", "backend": "vllm", "backend_version": "1",
            "model_commit": "c", **fields}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "other"), [("protocol", "full"), ("model_commit", "d"), ("backend_version", "2")]
)
def test_runs_of_two_protocols_or_versions_are_refused_until_one_is_kept(
    name: str, other: str
) -> None:
    runs = stored_runs([stored(), stored(**{name: other})], "joules_per_prompt")
    with pytest.raises(ConfigError, match=rf"not put together: keep one with --only {name}="):
        alike(runs)
    (kept,) = alike(only(runs, [f"{name}={other}"]))
    assert not set(SAME) & set(kept.levels)


def test_versions_may_differ_between_backends_and_commits_between_models() -> None:
    rows = [stored(), stored(model="n", model_commit="d"),
            stored(backend="transformers", backend_version="5")]  # fmt: skip
    assert len(alike(stored_runs(rows, "joules_per_prompt"))) == 3


def test_what_always_comes_with_another_field_is_no_factor_of_its_own() -> None:
    rows = [stored(speculation=how, speculative_tokens=tokens, draft=draft, tensor_parallel=count,
                   board_count=count)
            for how, tokens, draft in ((None, None, None), ("draft_model", 4, "d"))
            for count in (1, 2)]  # fmt: skip
    for run in alike(stored_runs(rows, "joules_per_prompt")):
        assert {"speculation", "tensor_parallel"} <= set(run.levels)
        assert not {"speculative_tokens", "draft", "board_count"} & set(run.levels)
    rows.append(stored(speculation="draft_model", speculative_tokens=4, draft="e",
                       tensor_parallel=1, board_count=1))  # fmt: skip
    assert all("draft" in run.levels for run in stored_runs(rows, "joules_per_prompt"))
