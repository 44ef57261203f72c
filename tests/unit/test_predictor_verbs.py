"""`analyze predictor` and `predict` as they are typed, on rows that others measured."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from campaign import cli
from campaign.analysis.predictor import saved
from campaign.analysis.predictor.regressors import forest, keep, kept
from db.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
EXCERPT = ROOT / "tests" / "data" / "mlenergy_v3_excerpt.csv"
ROWS = ["--rows", str(EXCERPT), "--map", "mlenergy_v3"]
QUICK = [
    "--folds",
    "2",
    "--repeats",
    "1",
    "--threads",
    "1",
    "--trees",
    "3",
    "--regressors",
    "linear",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A predictor that was learned and saved."""
    found = tmp_path_factory.mktemp("predictor") / "saved"
    assert cli.main(["analyze", "predictor", *ROWS, *QUICK, "--save", str(found), "--json"]) == 0
    return found


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    capsys.readouterr()
    assert cli.main(["predict", *arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a refused command answers."""
    capsys.readouterr()
    assert cli.main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("campaign: ")]
    assert len(lines) == 1
    return lines[0]


def test_rows_that_no_feature_tells_apart_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with EXCERPT.open(encoding="utf-8") as stream:
        excerpt = list(csv.DictReader(stream))
    mixed = tmp_path / "mixed.csv"
    with mixed.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("model", "board", "gpus", "batch_size", "output_tokens", "backend",
                         "energy_j_per_output_token"))  # fmt: skip
        writer.writerows(
            ("Qwen/Qwen3-8B" if at % 2 else "Qwen/Qwen3-32B", "h100-sxm-80gb", 1, 8 * at, 100 + at,
             "vllm" if at < 15 else "sglang", float(row["energy_per_token_joules"]))
            for at, row in enumerate(excerpt, 1)
        )  # fmt: skip
    assert cli.main(["analyze", "predictor", "--rows", str(mixed), *QUICK, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["rows"]["differ_unread_in"] == {"backend": 2}
    assert "rows that differ in backend (2 values)" in err


def test_every_row_gets_one_prediction_with_its_interval(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = asked(capsys, "--model-dir", str(folder), *ROWS)
    assert [answer["row"] for answer in answers] == list(range(1, 31))
    with EXCERPT.open(encoding="utf-8") as stream:
        truths = [float(row["energy_per_token_joules"]) for row in csv.DictReader(stream)]
    within = 0
    for answer, truth in zip(answers, truths, strict=True):
        assert 0 < answer["low"] < answer["energy_j_per_output_token"] < answer["high"]
        assert answer["warnings"] == []
        assert answer["interval_for"] == "point"
        within += answer["low"] <= truth <= answer["high"]
    assert within >= 25


def test_the_forest_is_asked_as_well(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_physics = asked(capsys, "--model-dir", str(folder), *ROWS)
    by_forest = asked(capsys, "--model-dir", str(folder), *ROWS, "--by", "random_forest")
    assert by_forest[0]["energy_j_per_output_token"] != by_physics[0]["energy_j_per_output_token"]
    assert by_forest[0]["low"] < by_forest[0]["energy_j_per_output_token"]


def test_points_need_neither_energy_nor_a_catalogue_row(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    points = tmp_path / "points.csv"
    points.write_text(
        "model,total_params_b,active_params_b,architecture,board,gpus,batch_size,output_tokens\n"
        "somebody/New-700B,700,40,moe,h100-sxm-80gb,8,64,500\n"
    )
    (answer,) = asked(capsys, "--model-dir", str(folder), "--rows", str(points))
    assert "the file's parameters" in answer["sizes_from"]
    assert any(gap.startswith("input_tokens") for gap in answer["filled_in"])
    assert any("outside the training range" in line for line in answer["warnings"])
    # A family that was never seen: its interval is wider than that of another point.
    assert answer["interval_for"] == "family"
    seen = asked(capsys, "--model-dir", str(folder), *ROWS)[0]
    width, narrow = (one["high"] / one["low"] for one in (answer, seen))
    assert width > narrow


def test_what_nothing_is_known_of_has_the_widest_interval_and_says_so(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((copy / "predictor.json").read_text())
    del document["intervals"]["physics"]["board"]
    document["names"]["board"] = ["h100-sxm-80gb"]
    (copy / "predictor.json").write_text(json.dumps(document))
    widest = max(one["factor"] for one in document["intervals"]["physics"].values())
    answers = asked(capsys, "--model-dir", str(copy), *ROWS)
    new = [one for one in answers if one["board"] != "h100-sxm-80gb"]
    assert new
    for one in new:
        assert one["high"] / one["energy_j_per_output_token"] == pytest.approx(widest)
        assert any("no interval for a board never seen" in line for line in one["warnings"])


def test_a_card_and_no_pickle_are_kept(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"card.md", "forest.skops", "predictor.json"}
    text = (folder / "card.md").read_text(encoding="utf-8")
    for word in ("realities: external (30)", "Random folds", "Training range", "scikit-learn"):
        assert word in text.replace("not stated (30)", "external (30)")
    with zipfile.ZipFile(folder / "forest.skops") as parts:
        assert all(name.endswith((".npy", ".json")) for name in parts.namelist())


def test_a_second_predictor_replaces_the_first_whole(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (copy / "predictor.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saved, "keep", full)
    words = ["analyze", "predictor", *ROWS, *QUICK, "--save"]
    assert cli.main([*words, str(copy)]) == 2
    assert cli.main([*words, str(copy.with_name("new"))]) == 2
    assert (copy / "predictor.json").read_bytes() == before
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_nothing_but_a_predictor_is_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    line = refused(capsys, "analyze", "predictor", *ROWS, "--save", str(tmp_path))
    assert "holds no predictor" in line
    assert (tmp_path / "letters.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("predictor.json", "{", "is no predictor"),
        ("predictor.json", "[]", "is no predictor"),
        ("predictor.json", '{"format": "campaign-predictor-0"}', "another version"),
        ("predictor.json", None, "holds no predictor.json"),
        ("forest.skops", "PK", "is no forest of ours"),
    ],
)
def test_a_damaged_predictor_is_one_line(
    copy: Path, capsys: pytest.CaptureFixture[str], file: str, text: str | None, words: str
) -> None:
    if text is None:
        (copy / file).unlink()
    else:
        (copy / file).write_text(text)
    line = refused(capsys, "predict", "--model-dir", str(copy), *ROWS, "--by", "random_forest")
    assert words in line


def test_a_number_that_is_none_is_refused(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads((copy / "predictor.json").read_text())
    document["physics"]["factors"]["weights"] = "much"
    (copy / "predictor.json").write_text(json.dumps(document))
    assert "is no predictor" in refused(capsys, "predict", "--model-dir", str(copy), *ROWS)


def test_a_forest_of_a_foreign_type_is_never_loaded(copy: Path) -> None:
    path = copy / "forest.skops"
    with zipfile.ZipFile(path) as parts:
        kept_parts = {name: parts.read(name) for name in parts.namelist()}
    schema = json.loads(kept_parts["schema.json"])
    schema["__class__"], schema["__module__"] = "system", "os"
    with zipfile.ZipFile(path, "w") as parts:
        for name, content in kept_parts.items():
            parts.writestr(name, json.dumps(schema) if name == "schema.json" else content)
    with pytest.raises(ConfigError, match=r"os\.system"):
        kept(path, 33)


@pytest.mark.parametrize(("part", "number"), [("feature", 999), ("children_left", 10**6)])
def test_a_forest_whose_branches_lead_astray_is_never_asked(
    tmp_path: Path, part: str, number: int
) -> None:
    x = np.random.default_rng(0).normal(size=(30, 4))
    fitted = forest(x, x[:, 0], {"n_estimators": 2}, seed=0)
    keep(fitted, tmp_path / "good.skops")
    assert kept(tmp_path / "good.skops", 4)(x).shape == (30,)
    getattr(fitted.estimators_[0].tree_, part)[0] = number
    keep(fitted, tmp_path / "bad.skops")
    with pytest.raises(ConfigError, match="no forest of these features"):
        kept(tmp_path / "bad.skops", 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["analyze"], "analyze what? one of predictor"),
        (["analyze", "predicter"], "did you mean predictor?"),
        (["analyze", "predictor"], "which rows?"),
        (["analyze", "predictor", *ROWS, "--folds", "1"], "--folds 1: give 2 to 20"),
        (["analyze", "predictor", *ROWS, "--regressors", "oracle"], "--regressors oracle: one of"),
        (["analyze", "predictor", *ROWS, "--level", "1"], "--level 1: give 0.5 to 0.999"),
        (["analyze", "predictor", *ROWS, "--source", "x"], "leave the store's options out"),
        (["analyze", "predictor", "--rows", "none.csv"], "none.csv"),
    ],
)
def test_a_wrong_word_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert words in refused(capsys, *arguments)
