"""Rows from files: what a good one becomes, and how a bad one is told."""

from __future__ import annotations

import csv
import json
import math
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from pandas import DataFrame
from pyarrow import parquet

from campaign.analysis import mapping
from campaign.analysis.columns import COLUMNS, ENERGIES
from campaign.analysis.export import Target, beside, target
from campaign.analysis.rows import read_file, read_rows, records
from campaign.analysis.sheet import guarded
from campaign.catalogue.catalog import load_catalog
from db.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
EXCERPT = ROOT / "tests" / "data" / "mlenergy_v3_excerpt.csv"
#: One hour-long second of 400 W: 100 requests of 40 tokens.
ROW: Mapping[str, object] = {
    "model": "Qwen/Qwen3-8B",
    "board": "h100-sxm-80gb",
    "gpus": 1,
    "requests": 100,
    "mean_output_tokens": 40.0,
    "duration_s": 10.0,
    "energy_j": 4000.0,
    "energy_j_per_output_token": 1.0,
    "energy_j_per_request": 40.0,
    "power_w": 400.0,
}


def write(path: Path, *rows: Mapping[str, object]) -> Path:
    """A file of rows, each `ROW` with some cells changed."""
    whole = [{**ROW, **row} for row in rows]
    names = list(dict.fromkeys(name for row in whole for name in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(whole)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


def problem(path: Path, **cells: object) -> str:
    """What is said of a good row and, below it, one with these cells."""
    with pytest.raises(ConfigError) as refused:
        read_rows(write(path, {}, cells))
    return str(refused.value)


# ---- good rows -------------------------------------------------------------------------------


def test_a_frame_has_every_column_and_nothing_where_nothing_stands(file: Path) -> None:
    frame = read_rows(write(file, {}))
    assert list(frame.columns) == [*(c.name for c in COLUMNS), "origin_reality", "catalogue_model"]
    (row,) = records(frame)
    expected = {**ROW, "origin_reality": "external", "catalogue_model": "Qwen/Qwen3-8B"}
    assert {name: cell for name, cell in row.items() if cell is not None} == expected
    assert frame["gpus"].dtype == frame["energy_j"].dtype == "float64"
    assert frame["quantization"].isna().all()
    assert math.isnan(frame["ttft_ms"].iloc[0])


def test_the_shipped_mapping_brings_every_row_of_the_excerpt() -> None:
    frame = read_rows(EXCERPT, mapping="mlenergy_v3")
    with EXCERPT.open(newline="") as stream:
        theirs = list(csv.DictReader(stream))
    assert len(frame) == len(theirs) == 30
    for row, other in zip(records(frame), theirs, strict=True):
        assert row["model"] == other["model_id"]
        assert row["energy_j_per_output_token"] == float(other["energy_per_token_joules"])
        assert row["board"] == {"H100": "h100-sxm-80gb", "B200": "b200-sxm"}[other["gpu_model"]]
        assert row["quantization"] == (None if other["weight_precision"] == "bfloat16" else "fp8")
        assert row["dtype"] == "bfloat16"
        assert row["input_tokens"] == {"lm-arena-chat": 634, "gpqa": 224}.get(other["task"])


def test_a_model_that_the_catalogue_lacks_keeps_the_parameters_of_the_file(file: Path) -> None:
    frame = read_rows(write(file, {"model": "lab/new", "total_params_b": 9, "active_params_b": 2}))
    assert frame["catalogue_model"].isna().all()
    assert frame["total_params_b"].tolist() == [9.0]


def test_a_name_of_a_model_is_never_a_path(file: Path) -> None:
    shape = dict(load_catalog().model("Qwen/Qwen3-8B", "random").architecture)
    (file.parent / "config.json").write_text(json.dumps(shape))
    names = (str(file.parent), f"{file.parent}@layers=4", "../../etc", "~root/x", "a@b=c")
    frame = read_rows(write(file, *({"model": name} for name in names)))
    assert frame["catalogue_model"].isna().all()


def test_csv_and_parquet_say_the_same(file: Path) -> None:
    from_csv = read_rows(write(file, {}, {"quantization": "fp8", "gpus": 2, "power_w": ""}))
    path = file.with_suffix(".parquet")
    found = [{**ROW}, {**ROW, "quantization": "fp8", "gpus": 2, "power_w": None}]
    parquet.write_table(pa.Table.from_pylist(found), path)
    columns = [name for name in ROW if name != "quantization"]
    assert read_rows(path)[columns].equals(from_csv[columns])


def test_rows_to_predict_need_no_energy(file: Path) -> None:
    none = dict.fromkeys((*ENERGIES, "power_w"), "")
    write(file, none)
    assert len(read_rows(file, energy=False)) == 1
    with pytest.raises(ConfigError, match="line 2: no energy"):
        read_rows(file)


@pytest.mark.parametrize("began", ["2026-01-31T12:00:00.123456Z", "2026-01-31 12:00", "2026-01-31"])
def test_a_time_may_be_told_in_the_forms_of_iso_8601(file: Path, began: str) -> None:
    row = {"measured_at": began, "options": '{"enforce_eager": true}'}
    assert read_rows(write(file, row))["measured_at"].tolist() == [began]


def test_a_missing_energy_with_its_reason_is_a_row(file: Path) -> None:
    none = dict.fromkeys((*ENERGIES, "power_w"), "")
    frame = read_rows(write(file, {**none, "reasons": "no_energy"}))
    assert frame["reasons"].tolist() == ["no_energy"]


# ---- bad rows --------------------------------------------------------------------------------

BAD = {
    "text for a number": ({"energy_j": "much"}, "energy_j 'much' is not a number"),
    "a unit in the cell": ({"energy_j": "1.1 Wh"}, "in joules, cells have no units"),
    "a thousands comma": ({"energy_j": "4,000"}, "no thousands"),
    "NaN": ({"energy_j": "nan"}, "energy_j is NaN; leave the cell empty"),
    "zero": ({"energy_j": "0"}, "must be above zero"),
    "negative": ({"ttft_ms": "-1"}, "must be above zero"),
    "infinite": ({"energy_j": "1e999"}, "finite"),
    "half a GPU": ({"gpus": "1.5"}, "not a whole number"),
    "no GPU": ({"gpus": "0"}, "at least 1"),
    "too many": ({"requests": "1e12"}, "not a whole number up to"),
    "python's digits": ({"energy_j": "4_000"}, "not a number"),
    "no model": ({"model": ""}, "model is missing"),
    "control characters": ({"model": "a\x1b[31mb"}, "cannot be printed"),
    "no board": ({"board": "H100"}, "board H100: not in the catalogue; did you mean h100-"),
    "a reality of its own": ({"reality": "reel"}, "did you mean real"),
    "no time": ({"measured_at": "yesterday"}, "is no time of ISO 8601; write 2026-01-31T12:00:00Z"),
    "flags that are no JSON": ({"options": "{bad"}, "is no JSON object; write {"),
    "flags that are no object": ({"options": "[1]"}, "is no JSON object"),
    "flags without end": ({"options": "[" * 5000}, "is no JSON object"),
    "watt-hours": ({"energy_j_per_request": 40 / 3600}, "3600 times apart: mixed units"),
    "milliwatts": ({"power_w": 4e5}, "mixed units? (a thousand among joules)"),
    "watt-hours in all": (
        {"energy_j": 4000 / 3600, "energy_j_per_output_token": "", "energy_j_per_request": "",
         "power_w": ""},
        "cannot draw",
    ),
    "more active than there are": ({"total_params_b": 8, "active_params_b": 9}, "is more than"),
    "more parallel than there are": ({"tensor_parallel": 2}, "is more than gpus 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_told_with_its_line(file: Path, name: str) -> None:
    cells, words = BAD[name]
    said = problem(file, **cells)
    first, fix = said.splitlines()
    assert first.startswith(f"{file}: line 3: ")
    assert words in first
    assert "--skip-bad" in fix


def test_lines_are_those_of_the_file_also_below_cells_of_two_lines(file: Path) -> None:
    said = 'model,board,energy_j\n\n"a\nb",t4,5\nx,t4,5\ny,t4\nz,t4,0\n'
    file.write_text(said)
    read = read_file(file, mapping=None)
    assert list(read.lines) == [5]
    assert list(read.bad) == [3, 6, 7]
    assert read.bad[6] == "2 cells below 3 columns"


def test_bad_rows_are_left_out_where_that_is_asked_for(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = read_rows(write(file, {}, {"gpus": 0}, {"gpus": 2}), skip_bad=True)
    assert frame["gpus"].tolist() == [1, 2]
    assert capsys.readouterr().err.startswith(f"left out: {file}: line 3: gpus '0'")


def test_many_bad_rows_are_not_a_wall_of_text(file: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        read_rows(write(file, *({"gpus": 0} for _ in range(100))))
    assert "and 80 more bad rows" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 22


# ---- bad files -------------------------------------------------------------------------------

FILES = {
    "empty": (b"", "rows.csv", "empty"),
    "a header alone": (b"model,board,energy_j\n", "rows.csv", "no rows below"),
    "no energy": (b"model,board\na,t4\n", "rows.csv", "no column of energy"),
    "an unknown column": (b"model,board,enrgy_j\na,t4,1\n", "rows.csv",
                          "enrgy_j: no such column; did you mean energy_j"),
    "other units": (b"model,board,energy_wh\na,t4,1\n", "rows.csv", "energy_wh: no such column"),
    "a column twice": (b"model,board,energy_j,energy_j\na,t4,1,1\n", "rows.csv", "two columns"),
    "a column without a name": (b"model,board,energy_j,\na,t4,1,1\n", "rows.csv", "has no name"),
    "latin-1": ("model,board,energy_j\né,t4,1\n".encode("latin-1"), "rows.csv", "UTF-8"),
    "an open quote": (b'model,board,energy_j\n"a,t4,1\n', "rows.csv", "line 2"),
    "no Parquet": (b"PAR1 and more", "rows.parquet", "no Parquet file, or cut short"),
    "another format": (b"{}", "rows.json", "only .csv and .parquet"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_table_of_rows_is_one_clear_line(tmp_path: Path, name: str) -> None:
    content, file, words = FILES[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(words)) as refused:
        read_rows(tmp_path / file)
    assert str(tmp_path / file) in str(refused.value)


def test_a_file_that_a_shipped_mapping_reads_is_told_so() -> None:
    with pytest.raises(ConfigError, match="add --map mlenergy_v3"):
        read_rows(EXCERPT)


# ---- mappings --------------------------------------------------------------------------------


def mapped(tmp_path: Path, yaml: str, csv_text: str) -> object:
    (tmp_path / "own.yaml").write_text(yaml)
    (tmp_path / "rows.csv").write_text(csv_text)
    return read_rows(tmp_path / "rows.csv", mapping=str(tmp_path / "own.yaml"))


def test_a_mapping_of_ones_own_renames_and_changes_units(tmp_path: Path) -> None:
    yaml = """
columns: {model: name, board: {is: t4}, energy_j: {from: wh, factor: 3600}, gpus: {is: 1}}
ignore: [note]
"""
    frame = mapped(tmp_path, yaml, "name,wh,note,duration_s\na,0.5,x,60\n")
    assert frame["energy_j"].tolist() == [1800.0]
    assert frame["board"].tolist() == ["t4"]


MAPPINGS = {
    "no YAML": ("a: [", "is not YAML"),
    "another key": ("column: {}", "nothing else"),
    "an unknown column": ("columns: {modle: a}", "did you mean mode or model"),
    "nothing": ("columns: {model: {}}", "is a column's name, or"),
    "both": ("columns: {model: {is: a, from: b}}", "either `from`"),
    "a factor of text": ("columns: {energy_j: {from: a, factor: x}}", "not a number above zero"),
    "a factor for text": ("columns: {model: {from: a, factor: 2}}", "a factor is for numbers"),
    "a list of values": ("columns: {model: {from: a, values: [b]}}", "a mapping from theirs"),
    "theirs is not there": ("columns: {model: nme}", "did you mean name"),
    "code": ("columns: !!python/object/apply:os.system ['true']", "is not YAML"),
}


@pytest.mark.parametrize("name", MAPPINGS)
def test_a_wrong_mapping_is_one_clear_line(tmp_path: Path, name: str) -> None:
    yaml, words = MAPPINGS[name]
    with pytest.raises(ConfigError, match=re.escape(words)):
        mapped(tmp_path, yaml, "name,energy_j\na,1\n")


def test_a_value_that_the_mapping_does_not_know_is_a_bad_row(tmp_path: Path) -> None:
    yaml = "columns: {board: {from: gpu, values: {T4: t4}}}"
    with pytest.raises(ConfigError, match="line 3: gpu 'T5' is in no value"):
        mapped(tmp_path, yaml, "model,gpu,energy_j\na,T4,1\na,T5,1\n")


def test_every_shipped_mapping_can_be_read() -> None:
    assert "mlenergy_v3" in mapping.shipped()
    for name in mapping.shipped():
        assert mapping.load(name).rules
    with pytest.raises(ConfigError, match="did you mean mlenergy_v3"):
        mapping.load("mlenergy")


# ---- writing ---------------------------------------------------------------------------------

HOSTILE = ["=1+1", "+a", "-b", "@c", "'quoted", "'=both", "a,b", 'say "x"', "ünï", "a|b"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_written_is_read_back_exactly(tmp_path: Path, file: Path, suffix: str) -> None:
    digits = {"ttft_ms": 0.1 + 0.2, "itl_ms": 1e-3 / 3, "warmup_batches": 0, "reality": "simulated"}
    write(file, *({**digits, "model": guarded(name)} for name in HOSTILE))
    frame = read_rows(file)
    path = tmp_path / f"out{suffix}"
    with target(path) as out:
        out.write(frame)
    back = read_rows(path)
    assert back["model"].tolist() == HOSTILE
    assert back.equals(frame)
    said = beside(path).read_text()
    assert all(f"`{column.name}`" in said for column in COLUMNS)


def test_no_cell_of_text_is_a_formula(tmp_path: Path, file: Path) -> None:
    frame = read_rows(write(file, {}))
    frame["model"] = "=cmd()"
    with target(tmp_path / "out.csv") as out:
        out.write(frame)
    with (tmp_path / "out.csv").open(newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert "'=cmd()" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_parquet_carries_units_and_meanings(tmp_path: Path, file: Path) -> None:
    with target(tmp_path / "out.parquet") as out:
        out.write(read_rows(write(file, {})))
    schema = parquet.read_schema(tmp_path / "out.parquet")
    for column in COLUMNS:
        told = schema.field(column.name).metadata
        assert told[b"meaning"].decode() == column.meaning
        assert told[b"unit"].decode() == (column.unit or "")


def interrupted(out: Target, frame: DataFrame) -> None:
    out.write(frame)
    raise KeyboardInterrupt


def test_a_file_that_fails_halfway_leaves_the_old_one_and_no_other(
    tmp_path: Path, file: Path
) -> None:
    frame = read_rows(write(file, {}))
    path = tmp_path / "out.csv"
    path.write_text("old")
    with pytest.raises(KeyError), target(path) as out:
        out.write(frame.drop(columns="itl_ms"))
    with pytest.raises(KeyboardInterrupt), target(path) as out:
        interrupted(out, frame)
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "rows.csv"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("none/out.csv", "cannot be written"), ("folder.csv", "is a folder"), ("out.txt", "name a")],
)
def test_a_path_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match=words), target(tmp_path / name):
        pytest.fail("the work began")


def test_importing_the_package_loads_no_library() -> None:
    code = (
        "import sys; import campaign; campaign.read; "
        "print([m for m in sys.modules if m.split('.')[0] not in sys.stdlib_module_names])"
    )
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "campaign" in said.stdout
    for library in ("pandas", "numpy", "pyarrow", "sqlalchemy", "hydra", "yaml", "campaign."):
        assert library not in said.stdout


def test_docs_name_every_column() -> None:
    text = (ROOT / "docs" / "import.md").read_text()
    assert [c.name for c in COLUMNS if f"`{c.name}`" not in text] == []
